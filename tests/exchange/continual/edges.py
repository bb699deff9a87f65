"""A cloud and edges in a small simulated world: real links and bytes, digits as data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kuberml.exchange.continual.cloud import Cloud
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.continual.served import Served
from kuberml.exchange.node import Node
from kuberml.exchange.place import LocalData
from kuberml.knowledge.kinds.probe import Probe, probe_from
from kuberml.knowledge.kinds.statistics import Statistics
from kuberml.learning.datasets import samples
from kuberml.learning.types import DataRef
from tests.exchange.town import EXTRACTOR, Main, Town, data, statistics

RULES = Rules(every_s=5.0)


def probe() -> Probe:
    """Public digits with labels: samples that no edge has."""
    part = samples(DataRef("digits", "public", np.arange(200, dtype=np.int32)))
    return probe_from(part.x_N, [part.labels[y] for y in part.y_N], levels=16)


def packets(*labels: str, train: int = 14) -> list[Statistics]:
    """One packet for each group of labels, each of other samples."""
    return [statistics(data(group, part=part % 5, train=train)) for part, group in enumerate(labels)]


def edge(*contents: Statistics, every_s: float = 10.0, first_s: float = 1.0) -> Main:
    """An edge that meets one stage after another, and publishes each in a slot of its own."""

    async def main(node: Node) -> None:
        await node.sleep(first_s)
        for k, content in enumerate(contents):
            await node.publish(content, slot=f"stage-{k}", version=0)
            await node.sleep(every_s)
        await node.sleep(60)

    return main


def cloud(
    seconds: float = 60.0,
    *,
    rules: Rules = RULES,
    public: Probe | None = None,
    then: Callable[[Cloud], Any] | None = None,
    on_served: Callable[[Served], None] = lambda served: None,
) -> Main:
    """A node that runs a cloud for so long, then does something else with it, and returns it."""

    async def main(node: Node) -> Cloud:
        here = Cloud(node, EXTRACTOR, rules, public, on_served)
        await here.open()
        await running(here, seconds)
        if then is not None:
            await then(here)
        return here

    return main


async def running(here: Cloud, seconds: float) -> None:
    import asyncio

    task = asyncio.ensure_future(here.run())
    try:
        await here.node.sleep(seconds)
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def town(*edges: str, **places: dict[str, Any]) -> Town:
    return Town("cloud", *edges, roles={"cloud": "server", **dict.fromkeys(edges, "client")}, **places)


def local(labels: str, **options: Any) -> LocalData:
    return data(labels, **options)
