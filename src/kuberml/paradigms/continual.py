"""Continual: edges meet new classes or domains over time; the cloud's model is the exact sum of what they say, always.

E. Fani, R. Camoriano, B. Caputo, M. Ciccone: Accelerating Heterogeneous Federated Learning with Closed-form Classifiers, ICML
2024 (Fed3R), and M. McDonnell et al.: RanPAC, NeurIPS 2023 (arXiv 2307.02251): a ridge head on a frozen extractor, solved from
sums, equals training on everything at once. Edges that meet tasks in different orders, without rounds: the setting of D. Shenaj
et al., Asynchronous Federated Continual Learning, arXiv 2304.03626, 2023 (FedSpace).
What is ours is that the model is named by the set that it is made of, so that it can be rebuilt, rolled back, and cleared of
a contributor (`exchange.continual`).
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from kuberml.core.ranges import Whole
from kuberml.core.tasks import end_all
from kuberml.exchange.continual.cloud import Cloud
from kuberml.exchange.continual.examination import Examiner
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.node import Node
from kuberml.exchange.public import RETRY_S, public
from kuberml.knowledge.kinds.probe import Probe
from kuberml.knowledge.want import Offer, Want
from kuberml.learning.jobs import describe_own

PUBLIC = ("extractor", "probe")
"""Public things that it uses; a world has them published."""

PROBE_TRIES = 5
Seconds = Annotated[float, Meta(gt=0)]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options.

    Attributes:
        rules: what the cloud takes in.
        min_class_count: samples of a class below which an edge does not publish it.
        deadline_s: how long the server waits, at most, until every edge has met its last stage.
        quiet_s: how long it waits after that for what is still on its way.
    """

    rules: Rules = Rules(evaluate=True)
    min_class_count: Whole = 5
    deadline_s: Seconds = 86400.0
    quiet_s: Seconds = 10.0


async def server(node: Node, cfg: Config) -> None:
    """Keep the cloud's model fresh until every edge says that it has met its last stage."""
    cloud = Cloud(node, await public(node, "extractor"), cfg.rules, await _probe(node))
    running, ending = asyncio.ensure_future(cloud.run()), asyncio.ensure_future(_until_learned(node, cfg))
    try:
        await asyncio.wait([running, ending], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()  # it goes on for ever unless something breaks
    finally:
        await end_all((running, ending))
    if cfg.rules.evaluate:
        await cloud.examine()  # the last word: nothing is served that edges have not tried


async def client(node: Node, cfg: Config) -> None:
    """Describe every stage of one's data as it comes; serve what the cloud serves, and say how it does here."""
    learned = asyncio.Event()
    ready: asyncio.Future[Examiner] = asyncio.get_running_loop().create_future()

    async def examine(asker: str, about: Offer | None) -> None:
        await (await asyncio.shield(ready)).examine(asker, about)  # type: ignore[arg-type]

    async def finished(_: str, __: Offer | None) -> None:
        await learned.wait()

    node.serve(examine=examine, finished=finished)
    extractor = await public(node, "extractor")
    ready.set_result(Examiner(node, extractor))
    stages = 0
    async for stage in node.arriving():
        await describe(node, cfg, extractor, stage.data.train, stages)
        stages += 1
    learned.set()
    await node.until_done()


async def describe(node: Node, cfg: Config, extractor: Any, data: Any, k: int) -> None:
    """Publish the statistics of the k-th stage in a slot of its own: nothing waits for what comes later."""
    grid = cfg.rules.step_log2
    shared, _, withheld = await node.compute(describe_own, extractor, data, cfg.min_class_count, grid)
    if withheld:
        node.record("withheld", labels=withheld)
    if shared.labels:
        await node.publish(shared, slot=f"stage-{k}", version=0)


async def _until_learned(node: Node, cfg: Config) -> None:
    async for _ in node.ask(node.peers("client"), "finished", None, timeout_s=cfg.deadline_s):
        pass
    await node.sleep(cfg.quiet_s)


async def _probe(node: Node) -> Probe | None:
    """The public probe, if somebody offers one; without it updates are not judged on samples."""
    for _ in range(PROBE_TRIES):
        if await node.find(Want(task=node.task, kinds=("probe",))):
            probe: Probe = await public(node, "probe")
            return probe
        await node.sleep(RETRY_S)
    return None
