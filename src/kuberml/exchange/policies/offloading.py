"""Where a client's training runs: on the device, at a neighbour on mains (the edge), or at the server (the cloud).

After EAFL+ (Computer Communications 2024, 10.1016/j.comcom.2024.04.012), which off-loads to an approximately optimal target
among terminal, edge and cloud. Its formulas were not to be had: the rule here is ours. A device trains itself the first time,
and off-loads once; then it goes where (1 - w) x energy of its battery + w x time, each as a share of the larger one, is least.
It never trains itself when that would leave less than a reserve. Where training runs changes no number: the samples travel as
they are, once, and the seed with them. They are then *seen* there: this is for data that may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from kuberml.core.errors import RemoteError
from kuberml.core.ids import LabelId, NodeId
from kuberml.core.jobs import job
from kuberml.core.units import NS
from kuberml.exchange.node import Node
from kuberml.exchange.policies.options import Offload
from kuberml.exchange.states import fetch_state, packed, take_state
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.want import Offer
from kuberml.learning.datasets import samples
from kuberml.learning.jobs import fit, training_flops
from kuberml.learning.learner import Learner, State
from kuberml.learning.types import Array, FitPlan, IntArray, Samples

HERE, AWAY = "here", "away"
PATIENCE_S = 60.0


@job(flops=lambda learner, state, x_N, y_N, labels, plan, seed: training_flops(learner, plan, len(y_N)))
def fit_given(
    learner: Learner, state: State, x_N: Array, y_N: IntArray, labels: tuple[str, ...], plan: FitPlan, seed: int
) -> State:
    """As `fit`, on samples that somebody sent."""
    return learner.fit(state, Samples(x_N, y_N, labels), plan, seed)


class Training(Protocol):
    """Of a paradigm's options: where its training may run, how it trains, and its patience."""

    @property
    def offload(self) -> Offload:
        """Where."""
        ...

    @property
    def plan(self) -> FitPlan:
        """How."""
        ...

    @property
    def deadline_s(self) -> float:
        """Seconds for each answer."""
        ...


def serve(node: Node, cfg: Training, learner: Learner, *, cloud: bool) -> None:
    """Train for others from now on where that is allowed, at the server or on mains; else they get a RemoteError."""

    async def fit_for(asker: str, wish: Offer | None) -> Offer:
        if not cloud and node.place.charge_mj() is not None:
            raise RemoteError(f"{node.id} trains for nobody: it runs on its battery")
        seed, number = await _read(node, wish)
        given = await _samples_of(node, NodeId(asker))
        state = await _weights_of(node, number, cloud=cloud)
        made = await node.compute(fit_given, learner, state, *given, cfg.plan, seed)
        node.record("trained for", node=asker, samples=len(given[1]))
        return await node.publish(packed(made), slot=f"for-{asker}", version=number, listed=False)

    if cfg.offload.to:
        node.serve(fit_for=fit_for)


async def trained(node: Node, cfg: Training, learner: Learner, state: State, seed: int, number: int) -> State:
    """The state after training on this node's data, wherever that runs. Where nobody takes it, it runs here."""
    options, plan = cfg.offload, cfg.plan
    if not options.to:
        return await node.compute(fit, learner, state, node.data.train, plan, seed)
    where = decided(node, options)
    began_ns, before_mj = node.clock.now_ns(), node.place.charge_mj()
    made: State = None
    if where == AWAY:
        made = await _away(node, options, state, seed, number, timeout_s=cfg.deadline_s)
    place = HERE if made is None else AWAY
    if made is None:
        made = await node.compute(fit, learner, state, node.data.train, plan, seed)
    after_mj = node.place.charge_mj()
    spent_mj = 0.0 if before_mj is None or after_mj is None else float(before_mj - after_mj)
    took_s = (node.clock.now_ns() - began_ns) / NS
    costs = {**node.memory.get("offload", {}), place: [took_s, spent_mj]}
    node.memory.update(offload=costs, charge_at_first=node.memory.get("charge_at_first", before_mj))
    node.record("trained", where=place, took_s=took_s, spent_mj=spent_mj)
    return made


def decided(node: Node, options: Offload) -> str:
    """HERE or AWAY."""
    costs, charge_mj = node.memory.get("offload", {}), node.place.charge_mj()
    if charge_mj is None:
        return HERE
    first_mj = node.memory.get("charge_at_first", charge_mj) or charge_mj
    spent_mj = costs[HERE][1] if HERE in costs else 0.0
    if charge_mj - spent_mj < options.reserve * first_mj:
        return AWAY
    if HERE not in costs:
        return HERE
    return (
        AWAY if AWAY not in costs or cost(costs[AWAY], costs[HERE], options) < cost(costs[HERE], costs[AWAY], options) else HERE
    )


def cost(one: Sequence[float], other: Sequence[float], options: Offload) -> float:
    """Of (seconds, millijoules), each as a share of the larger of two places."""
    shares = [a / max(a, b) if max(a, b) > 0 else 0.0 for a, b in zip(one, other, strict=True)]
    return options.time_weight * shares[0] + (1 - options.time_weight) * shares[1]


async def _away(node: Node, options: Offload, state: Array, seed: int, number: int, *, timeout_s: float) -> Array | None:
    own = samples(node.data.train)
    if node.own("samples") is None:
        content = Weights({"x": own.x_N, "y": own.y_N}, outputs=own.labels)
        await node.publish(content, slot="samples", version=0, listed=False)
    wish = await node.publish(Weights({"seed": np.array([seed], np.int64)}), slot="wish", version=number, listed=False)
    for helper in _helpers(node, options):
        async for offer in node.ask([helper], "fit_for", wish, timeout_s=timeout_s):
            made = await take_state(node, offer, state)
            if made is not None:
                return made
    return None


def _helpers(node: Node, options: Offload) -> list[NodeId]:
    edge = [name for name in node.neighbours if name in node.peers("client")] if options.to in ("edge", "best") else []
    return [*edge, *(node.peers("server") if options.to in ("cloud", "best") else ())]


async def _read(node: Node, wish: Offer | None) -> tuple[int, int]:
    """(seed, round) of a wish."""
    content = None if wish is None else await node.fetch(wish)
    found = content.tensors.get("seed") if isinstance(content, Weights) else None
    if wish is None or found is None or found.shape != (1,) or found.dtype != np.int64:
        raise RemoteError("a seed is needed, and none was sent")
    return int(found[0]), wish.signed.card.version


async def _weights_of(node: Node, number: int, *, cloud: bool) -> State:
    """The weights that a round begins with: who is late gets nothing, not other weights."""
    if cloud:
        if node.memory.get("round") != number:
            raise RemoteError(f"round {number} is over")
        return node.memory.weights
    offers = await node.latest(node.peers("server"), slot="global", timeout_s=PATIENCE_S)
    if not offers or offers[0].signed.card.version != number:
        raise RemoteError(f"the weights of round {number} are not to be had")
    return await fetch_state(node, offers[0])


async def _samples_of(node: Node, asker: NodeId) -> tuple[Array, IntArray, tuple[LabelId, ...]]:
    """A client's samples; what came once is here."""
    offers = await node.latest([asker], slot="samples", timeout_s=PATIENCE_S)
    content = await node.fetch(offers[0]) if offers else None
    tensors = content.tensors if isinstance(content, Weights) else {}
    if content is None or set(tensors) != {"x", "y"}:
        raise RemoteError(f"{asker} has sent no samples")
    x_N, y_N = tensors["x"], tensors["y"]
    fits = x_N.dtype == np.float32 and y_N.dtype == np.int64 and x_N.ndim > 1 and y_N.shape == (len(x_N),)
    if not fits or (len(y_N) and not 0 <= int(y_N.min()) <= int(y_N.max()) < len(content.outputs)):
        raise RemoteError(f"samples {x_N.dtype} {x_N.shape} with labels {y_N.dtype} {y_N.shape}")
    return x_N, y_N, content.outputs
