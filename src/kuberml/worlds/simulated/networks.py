"""Seeded draws of links from the shipped tables, delays between cities, and (from `graphs`) who is whose neighbour.

Link tables: "flash-wifi", "3g", "lte", "5g", "5g-driving", "lan", "wan". Sources, and what is assumed: docs/tables.md.
A `LinkSpec` is constant: it holds the mean of one drawn session. `cellular.rates_bps` gives the session second by second.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from kuberml.core.errors import ConfigError, nearest
from kuberml.worlds.simulated import tables
from kuberml.worlds.simulated.cellular import rates_bps
from kuberml.worlds.simulated.devices import LinkSpec
from kuberml.worlds.simulated.graphs import Graph, graph, metropolis

__all__ = ["CITIES", "SESSION_S", "Graph", "graph", "latency_ns", "link", "link_tables", "metropolis", "radio_of"]

CITIES = 227
"""Cities of the delay table, numbered 0..226: the source gives no names."""
SESSION_S = 300
"""Length of the session whose mean rate a cellular LinkSpec has, seconds."""


def link_tables() -> list[str]:
    """Names that `link` knows, sorted."""
    return sorted(tables.settings("links"))


def radio_of(table: str) -> str:
    """Which radio a device on this kind of link has (`Device.radio`).

    Raises:
        ConfigError: there is no such table; the message names the nearest.
    """
    return str(_table(table)["radio"])


def link(table: str, rng: np.random.Generator) -> LinkSpec:
    """Draw a node's access to the network. The same generator state gives the same link on every machine.

    Losses are in the measured rates already, so `loss_ppm` is 0.

    Raises:
        ConfigError: there is no such table; the message names the nearest.
    """
    facts = _table(table)
    if table == "wan":
        return LinkSpec(facts["bps"], facts["bps"], _to_the_middle_ns(int(rng.integers(CITIES))))
    if "bps" in facts:
        return LinkSpec(facts["bps"], facts["bps"], facts["delay_ns"])
    if "up" in facts:
        up_bps, down_bps = _mean_bps(facts["up"], rng), _mean_bps(facts["down"], rng)
    else:
        up_bps, down_bps = _flash(rng)
    return LinkSpec(up_bps, down_bps, _delay_ns(facts["delay"], rng))


def latency_ns(city_a: int, city_b: int) -> int:
    """One-way delay from one city to another, nanoseconds, to a tenth of a millisecond; not quite symmetric.

    Raises:
        ConfigError: no such city.
    """
    for city in (city_a, city_b):
        if not 0 <= city < CITIES:
            raise ConfigError(f"cities are numbered 0 to {CITIES - 1}, not {city}")
    return int(tables.matrix("cities")[city_a, city_b]) * 100_000


def _table(name: str) -> dict[str, Any]:
    known = tables.settings("links")
    if name not in known:
        raise ConfigError(f"unknown link table {name!r}; {nearest(name, known)}")
    return known[name]  # type: ignore[no-any-return]


def _flash(rng: np.random.Generator) -> tuple[int, int]:
    """(up, down) of one of the 19 phones, normal around its mean; draws under a tenth of the mean are drawn again."""
    rows = tables.numbers("flash_links")
    at = int(rng.integers(len(rows["up_mean"])))
    return _normal_bps(rows["up_mean"][at], rows["up_sd"][at], rng), _normal_bps(
        rows["down_mean"][at], rows["down_sd"][at], rng
    )


def _normal_bps(mean: float, sd: float, rng: np.random.Generator) -> int:
    drawn = 0.0
    while drawn < mean / 10:
        drawn = mean + sd * rng.standard_normal()
    return round(drawn * 8000)


def _mean_bps(family: str, rng: np.random.Generator) -> int:
    return max(1, int(rates_bps(family, rng, SESSION_S).sum()) // SESSION_S)


def _delay_ns(column: str, rng: np.random.Generator) -> int:
    delays = tables.numbers("delays")[column]
    below, part = divmod(rng.random() * (len(delays) - 1), 1)
    return round((delays[int(below)] * (1 - part) + delays[int(below) + 1] * part) * 1_000_000)


@functools.cache
def _to_the_middle_ns(city: int) -> int:
    others = np.delete(tables.matrix("cities")[city], city)
    return int(np.sort(others)[len(others) // 2]) * 50_000
