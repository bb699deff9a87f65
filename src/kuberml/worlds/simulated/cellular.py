"""Bandwidth of cellular links, second by second: a seeded generator fitted to real traces (which are not shipped).

A family ("lte-down") is one small model, its parameters in tables/cellular.toml:

    z_t = sqrt(level) * session + sqrt(1 - level) * walk_t       session ~ N(0, 1), walk an AR(1) with variance 1
    rate_t = 0 in an outage (a two-state Markov chain), else marginal(z_t)

`marginal` joins the measured quantiles at z = -3 .. 3 by straight lines: a log-normal would need `exp`, whose last bit
differs between machines; lines give the same integers everywhere, and fit better.
"""

from __future__ import annotations

import functools

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError, nearest
from kuberml.worlds.simulated import tables


class Cellular(msgspec.Struct, frozen=True):
    """One family's model.

    Attributes:
        z_K: standard normal scores of the knots, increasing.
        rate_bytes_s_K: bytes a second at the knots, outages left out.
        level: share of the variance that is fixed for a session (where it stands, which operator), 0..1.
        phi: correlation of the walk from one second to the next, 0..1.
        outage_starts: chance that a second without outage is followed by one with.
        outage_s: mean length of an outage, seconds, >= 1.
    """

    z_K: tuple[float, ...]
    rate_bytes_s_K: tuple[int, ...]
    level: float
    phi: float
    outage_starts: float
    outage_s: float

    def rates(self, rng: np.random.Generator, seconds: int) -> npt.NDArray[np.int64]:
        """One session: bytes a second, int64 [seconds]. 0 where there is an outage."""
        session, walk = rng.standard_normal(), rng.standard_normal()
        step_T = rng.standard_normal(seconds).tolist()
        flip_T = rng.random(seconds + 1).tolist()
        ends, noise = 1 / self.outage_s, float(np.sqrt(1 - self.phi**2))
        out = flip_T[seconds] * (self.outage_starts + ends) < self.outage_starts
        z_T, up_T = np.empty(seconds), np.empty(seconds, bool)
        for t in range(seconds):
            z_T[t], up_T[t] = walk, not out
            walk = self.phi * walk + noise * step_T[t]
            out = flip_T[t] < (1 - ends if out else self.outage_starts)
        z_T = np.sqrt(self.level) * session + np.sqrt(1 - self.level) * z_T
        return np.where(up_T, self._marginal(z_T), 0).astype(np.int64)

    def _marginal(self, z_T: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Lines between the knots, flat outside. Not `np.interp`: a fused multiply-add inside it may change the last bit."""
        z_K, rate_bytes_s_K = np.array(self.z_K), np.array(self.rate_bytes_s_K, np.float64)
        k_T = np.clip(np.searchsorted(z_K, z_T) - 1, 0, len(z_K) - 2)
        part_T = np.clip((z_T - z_K[k_T]) / (z_K[k_T + 1] - z_K[k_T]), 0, 1)
        part_T *= rate_bytes_s_K[k_T + 1] - rate_bytes_s_K[k_T]
        return rate_bytes_s_K[k_T] + part_T  # type: ignore[no-any-return]


@functools.cache
def family(name: str) -> Cellular:
    """The fitted model called `name`.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    known = tables.settings("cellular")
    if name not in known:
        raise ConfigError(f"unknown family of cellular links {name!r}; {nearest(name, known)}")
    fitted = known[name]
    return Cellular(
        z_K=tuple(fitted["z"]),
        rate_bytes_s_K=tuple(fitted["rate"]),
        level=fitted["level"],
        phi=fitted["phi"],
        outage_starts=fitted["outage_starts"],
        outage_s=fitted["outage_s"],
    )


def rates_bps(name: str, rng: np.random.Generator, seconds: int) -> npt.NDArray[np.int64]:
    """One session of the family `name`, second by second: bits a second, int64 [seconds]; 0 in an outage.

    Raises:
        ConfigError: unknown family, or seconds < 1.
    """
    if seconds < 1:
        raise ConfigError(f"a session lasts 1 second or more, not {seconds}")
    return family(name).rates(rng, seconds) * 8
