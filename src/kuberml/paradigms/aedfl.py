"""AEDFL, a reconstruction: no server, no rounds; nodes pull models, weigh them by staleness, and train sparsely.

J. Liu, T. Che, Y. Zhou, R. Jin, H. Dai, D. Dou, P. Valduriez: AEDFL: Efficient Asynchronous Decentralized Federated Learning
with Heterogeneous Devices. SDM 2024, arXiv 2312.10935 (2023). This is a reconstruction: from its abstract, from the same
group's FedASMU (arXiv 2312.05770) and FedAP (arXiv 2204.11536), and from our own analysis of whom such averages favour. The
paper's figures are not figures of this file. Three parts: (1) pulling with fair weights, the step divided by what bias is left
(`learning.mixing`); (2) weights by staleness, with learned parameters (`learning.staleness`); (3) sparse training
(`learning.sparsity`): what it saves is charged to the device by the multiply-adds that are left, though dense kernels do not
become faster by a mask.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np

from kuberml.core.ranges import NonNegative, Whole
from kuberml.core.rng import seed_of
from kuberml.core.units import NS
from kuberml.exchange.node import Node, OverBudget
from kuberml.exchange.pulled import Pulled, packed, pull
from kuberml.learning.jobs import fit, init_state
from kuberml.learning.mixing import Floats, metropolis, next_average, next_ratio, step_factor
from kuberml.learning.predictor import Network
from kuberml.learning.sparse_jobs import fit_sparse, look, thin
from kuberml.learning.sparsity import Masks, mean_of_holders
from kuberml.learning.staleness import Control, adjusted, by_staleness
from kuberml.learning.types import Array
from kuberml.paradigms.options import Unpaced

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""


class Config(Unpaced, frozen=True, kw_only=True):
    """Options; `corrected`, `staleness`, `learned` and `sparse` are switches, for ablations.

    Attributes:
        weights: of the average without `staleness`: "metropolis" is fair to slow nodes, "uniform" is not.
        corrected: divide the step by the node's share in what the whole system minimises, between 0.2 and 5 times (part 1).
        staleness, learned: weigh by staleness; learn its parameters, at the rate `lr_control` (part 2). `mu`: how strongly.
        sparse: train sparsely (part 3); `masks`: when and how.
        peers: neighbours pulled from in one iteration, drawn anew; 0: all.
        patience_s: with a neighbour; then the last that it gave is used.
        look: samples of one's own held-out data that loss and gradient for (2) and (3) are taken on.
        wire: "fp16" halves the bytes, rounding once.
    """

    weights: Literal["metropolis", "uniform"] = "metropolis"
    corrected: bool = True
    staleness: bool = True
    learned: bool = True
    lr_control: NonNegative = 0.05
    mu: NonNegative = 1.0
    sparse: bool = True
    masks: Masks = Masks()
    peers: Whole = 0
    patience_s: NonNegative = 10.0
    look: Whole = 32
    wire: Literal["fp32", "fp16"] = "fp32"

    def share(self, samples: int) -> float:
        """What a node counts: its samples, if all train equally long; where they train by epochs that has happened already."""
        return max(1, samples) if self.steps else 1


async def peer(node: Node, cfg: Config) -> None:
    """Publish, pull, mix, adjust, train, over and over; at last, mix. Everybody starts from the same point."""
    start = await node.compute(init_state, node.learner, seed_of(node.place.seed, "aedfl", "init"))
    node.memory.setdefault(round=0, version=0, state=start, mask=None, density=1.0, thinned=0, losses=[], ratio=1.0,
                           average=dict.fromkeys(node.neighbours, 0.0), began_ns=node.clock.now_ns(),
                           control=Control())  # fmt: skip
    memory, cache, goes_on = node.memory, dict[str, Pulled](), True
    try:
        while goes_on:
            package = packed(memory.state, memory.mask, memory.ratio, memory.average, node.data.counts, cfg.wire)
            await node.publish(package, slot="model", version=memory.version, keep=2, listed=False)
            goes_on = cfg.goes_on(memory.round, memory.began_ns, node.clock.now_ns())
            await iteration(node, cfg, cache, trains=goes_on)
    except OverBudget as error:
        node.record("spent", why=str(error))


async def iteration(node: Node, cfg: Config, cache: dict[str, Pulled], *, trains: bool) -> None:
    """Take in what neighbours have, serve it, and train on; all that changes is committed at the end, in one transaction."""
    memory, r = node.memory, node.memory.round
    near, fresh = await pull(node, cache, len(memory.state), some=cfg.peers, turn=r, patience_s=cfg.patience_s)
    behind_S = np.array([max(0, memory.version - one.version) for one in near], np.float64)
    share_S = np.array([cfg.share(one.samples) for one in near], np.float64)
    own, weights_S = weigh(node, cfg, near, behind_S, share_S)
    parts = [(one.state_P, one.mask_P, float(weight)) for one, weight in zip(near, weights_S, strict=True)]
    mixed_P, total_P = mean_of_holders([(memory.state, memory.mask, own), *parts], memory.state)
    new: dict[str, Any] = {"round": r + 1, "version": 1 + max([memory.version, *(one.version for one in near)])}
    learns = cfg.staleness and cfg.learned and bool(near)
    if trains and (cfg.sparse or learns) and r % cfg.masks.every == 0:
        seen = await node.compute(look, node.learner, mixed_P, node.data.heldout, cfg.look, node.seed("look", r))
        new["losses"] = [*memory.losses, seen.loss][-2 * cfg.masks.warm_up :]
        others = [(one.state_P, one.mask_P) for one in near]
        if learns:
            new["control"] = adjusted(memory.control, behind_S, share_S, seen.gradient_P, mixed_P, total_P, others,
                                      mu=cfg.mu, lr=cfg.lr_control)  # fmt: skip
        new |= await masked(node, cfg, mixed_P, new["losses"]) if cfg.sparse else {}
    mask_P = new.get("mask", memory.mask)
    kept_P = mixed_P if mask_P is None else np.where(mask_P, mixed_P, np.float32(0))
    node.deploy(Network(node.learner, kept_P), learned=fresh)
    if not trains:
        return
    is_biased = cfg.staleness or cfg.weights == "uniform"
    plan = msgspec.structs.replace(cfg.plan, lr=cfg.lr * step_factor(memory.ratio if cfg.corrected and is_biased else 1.0))
    fitting = (node.learner, kept_P, node.data.train, plan, node.seed("fit", r))
    if mask_P is None:
        new["state"] = await node.compute(fit, *fitting)
    else:
        new["state"] = await node.compute(fit_sparse, *fitting, mask_P, new.get("density", memory.density))
    given = {str(one.node): float(weight) / (own + weights_S.sum()) for one, weight in zip(near, weights_S, strict=True)}
    mine, new["average"] = cfg.share(samples(node)), next_average(memory.average, given, r + 1)
    told = {str(one.node): (one.ratio, one.weight, cfg.share(one.samples) / mine) for one in cache.values()}
    memory.update(**new, ratio=next_ratio(memory.ratio, new["average"], told))
    state = memory.control
    node.record("mixed", control=[state.lam, state.sigma, state.iota], ratio=memory.ratio, density=memory.density)


def weigh(node: Node, cfg: Config, near: list[Pulled], behind_S: Floats, share_S: Floats) -> tuple[float, Floats]:
    """One's own weight and those of the neighbours [S]; only their proportions count."""
    if cfg.staleness and near:
        return 1.0, by_staleness(node.memory.control, behind_S, share_S, cfg.mu)
    if cfg.weights == "uniform":
        return 1.0, np.ones(len(near))
    degrees = [(float(share), one.degree) for share, one in zip(share_S, near, strict=True)]
    return metropolis(cfg.share(samples(node)), len(node.neighbours), degrees)


async def masked(node: Node, cfg: Config, mixed_P: Array, losses: list[float]) -> dict[str, Any]:
    """What another mask changes, if it is time for one. It is chosen on the mixed model, so others' values may come back."""
    memory, masks = node.memory, cfg.masks
    spent = (node.clock.now_ns() - memory.began_ns) / NS / cfg.for_s if cfg.for_s else memory.round / cfg.rounds
    since = None if memory.mask is None else memory.round - memory.thinned
    if not masks.are_due(losses, since=since, spent=spent):
        return {}
    plan = (cfg.batch, masks.batches, masks.least, masks.regrow, masks.rise * losses[-1])
    found = await node.compute(thin, node.learner, mixed_P, node.data.train, *plan, node.seed("thin", memory.round))
    return {"mask": found.mask_P, "density": found.density, "thinned": memory.round}


def samples(node: Node) -> int:
    """Training samples here."""
    return sum(node.data.counts.values())
