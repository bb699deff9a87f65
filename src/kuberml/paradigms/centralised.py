"""Centralised training: everybody sends its raw data to a server, which trains one model and sends it back.

The reference that federated learning avoids: the most accurate, at the price of everybody's data leaving home. The data
travel as `Probe` packages, so their bytes count like any others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kuberml.core.jobs import job
from kuberml.core.ranges import Count, Positive
from kuberml.exchange.node import Node
from kuberml.exchange.states import fetch_state, packed
from kuberml.knowledge.kinds.probe import Probe, probe_from
from kuberml.knowledge.want import Offer
from kuberml.learning.datasets import samples
from kuberml.learning.jobs import init_state
from kuberml.learning.predictor import Network
from kuberml.learning.types import DataRef, FitPlan, Samples
from kuberml.paradigms.options import Training

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""


class Config(Training, frozen=True, kw_only=True):
    """Options."""

    deadline_s: Positive = 3600.0
    epochs: Count = 20


@job(flops=lambda data: 0)
def reveal(data: DataRef) -> Probe:
    """Private samples as a package anybody can read: 8 bits a value, which images have anyway."""
    local = samples(data)
    return probe_from(local.x_N, [local.labels[y] for y in local.y_N])


def _flops(learner: Any, state: Any, probes: list[Probe], plan: FitPlan, seed: int) -> int:
    return int(3 * learner.flops_per_sample * plan.epochs * sum(len(probe) for probe in probes))


@job(flops=_flops)
def fit_pooled(learner: Any, state: Any, probes: list[Probe], plan: FitPlan, seed: int) -> Any:
    """Train on everything that was revealed."""
    names = [probe.labels[y] for probe in probes if probe.y_N is not None for y in probe.y_N]
    y_N = np.array([learner.labels.index(name) for name in names], np.int64)
    return learner.fit(state, Samples(np.concatenate([probe.inputs() for probe in probes]), y_N, learner.labels), plan, seed)


async def server(node: Node, cfg: Config) -> None:
    """Collect, train, hand out."""
    offers = [offer async for offer in node.ask(node.peers("client"), "reveal", None, timeout_s=cfg.deadline_s)]
    pool = [data for offer in offers if (data := await node.take(offer, Probe)) is not None]
    if not pool:
        return
    start = await node.compute(init_state, node.learner, node.seed("init"))
    state = await node.compute(fit_pooled, node.learner, start, pool, cfg.plan, node.seed("fit"))
    model = await node.publish(packed(state), slot="global", version=0, listed=False)
    async for _ in node.ask(node.peers("client"), "adopt", model, timeout_s=cfg.deadline_s):
        pass


async def client(node: Node, cfg: Config) -> None:
    """Give everything away, serve what comes back."""

    async def give(_: str, __: Offer | None) -> Offer:
        return await node.publish(await node.compute(reveal, node.data.train), slot="data", version=0, listed=False)

    async def adopt(_: str, model: Offer | None) -> None:
        state = await fetch_state(node, model)
        node.deploy(Network(node.learner, state), learned=[model.signed] if model else [])

    node.serve(reveal=give, adopt=adopt)
    await node.until_done()
