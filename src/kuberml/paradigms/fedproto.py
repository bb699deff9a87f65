"""FedProto: clients with networks of their own share the mean features of their labels, and learn towards everybody's means.

Y. Tan, G. Long, L. Liu, T. Zhou, Q. Lu, J. Jiang, C. Zhang: FedProto: Federated Prototype Learning across Heterogeneous
Clients. AAAI 2022 (arXiv 2105.00243), algorithm 1: a client goes down CE + weight * MSE(features, global prototype of the
label), then hands in its class means; the server takes their mean over the clients that have the label, weighted by their
samples of it (equation 6 without its factor 1 / |N_j|, which would shrink it); the authors' code has a plain mean
(`by_samples = false`).
A label is answered by the nearest prototype (`answer = "prototypes"`) or by the network itself ("network").

Architectures may differ as long as the last layer takes equally many features. Prototypes travel as weights [C, d].
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from kuberml.core.errors import RemoteError
from kuberml.core.ranges import Share, Whole
from kuberml.exchange.node import Node
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.want import Offer
from kuberml.knowledge.withholding import MIN_CLASS_COUNT
from kuberml.learning.feature_prototypes import Nearest, Prototypes, class_means, featured, fit_towards
from kuberml.learning.jobs import init_state
from kuberml.learning.predictor import Network
from kuberml.learning.types import Array
from kuberml.paradigms.options import Handing


class Config(Handing, frozen=True, kw_only=True):
    """Options. A round's cohort is a share of the clients that are present, at least one.

    The mean of a label with fewer than `min_class_count` samples, which would show them, is neither sent nor taken.
    """

    rounds: Whole = 20
    cohort: Share = 1.0
    min_class_count: Annotated[int, Meta(ge=1)] = MIN_CLASS_COUNT
    weight: Annotated[float, Meta(ge=0)] = 1.0
    by_samples: bool = True
    answer: Literal["prototypes", "network"] = "prototypes"


async def server(node: Node, cfg: Config) -> None:
    """Hand out the prototypes, take the means of those that come back. A restarted server does its round again."""
    learner = featured(node.learner)
    shape = (len(learner.labels), learner.feature_count)
    node.memory.setdefault(round=0, means=np.zeros(shape, np.float32), known=np.zeros(shape[0], np.bool_))
    for r in range(node.memory.round, cfg.rounds):
        clients = node.peers("client")
        size = max(1, round(cfg.cohort * len(clients)))
        cohort = sorted(node.rng("cohort", r).choice(clients, size, replace=False).tolist()) if clients else []
        base = await node.publish(_packed(node.memory), slot="prototypes", version=r, keep=2, listed=False)
        sums_Cd, weight_C = np.zeros(shape), np.zeros(shape[0])
        async for offer in node.ask(cohort, "fit", base, timeout_s=cfg.deadline_s):
            came = await node.take(offer, Weights)
            if came is None or (means_Cd := came.tensors.get("means")) is None or means_Cd.shape != shape:
                node.record("refused", card=offer.signed.digest, why=f"no class means {list(shape)} are in it")
                continue
            if min(came.labels.values(), default=cfg.min_class_count) < cfg.min_class_count:
                node.record("refused", card=offer.signed.digest, why=f"a mean of fewer than {cfg.min_class_count} samples")
                continue
            count_C = np.array([came.labels.get(label, 0) for label in learner.labels], np.float64)
            each_C = count_C if cfg.by_samples else (count_C > 0).astype(np.float64)
            sums_Cd += each_C[:, None] * means_Cd
            weight_C += each_C
        fresh_C = weight_C > 0
        new_Cd = np.where(fresh_C[:, None], sums_Cd / np.maximum(weight_C, 1)[:, None], node.memory.means)
        node.memory.update(round=r + 1, means=new_Cd.astype(np.float32), known=node.memory.known | fresh_C)
    final = await node.publish(_packed(node.memory), slot="prototypes", version=cfg.rounds, keep=2, listed=False)
    async for _ in node.ask(node.peers("client"), "adopt", final, timeout_s=cfg.deadline_s):
        pass


async def client(node: Node, cfg: Config) -> None:
    """Train one's own network towards the prototypes; a round that is asked for again is done again from where it began.

    Raises:
        RemoteError: to the server, where what it sent are no prototypes of these labels and features.
    """
    learner = featured(node.learner)
    shape = (len(learner.labels), learner.feature_count)
    node.memory.setdefault(state=await node.compute(init_state, learner, node.seed("init")), before=None, fitted=-1)

    async def read(base: Offer | None) -> Prototypes:
        came = await node.fetch(base) if base is not None else None
        tensors = came.tensors if isinstance(came, Weights) else {}
        means_Cd, known_C = tensors.get("means"), tensors.get("known")
        if means_Cd is None or known_C is None or means_Cd.shape != shape or known_C.shape != shape[:1]:
            raise RemoteError(f"prototypes: float32 {list(shape)} and bool [{shape[0]}] were needed")
        return Prototypes(means_Cd.astype(np.float32), known_C.astype(np.bool_), cfg.weight)

    def serve(base: Offer, prototypes: Prototypes) -> None:
        own, by_prototypes = node.memory.state, cfg.answer == "prototypes" and bool(prototypes.known_C.any())
        model = Nearest(learner, own, prototypes) if by_prototypes else Network(learner, own)
        node.deploy(model, learned=[base.signed])

    async def fit(_: str, base: Offer | None) -> Offer:
        prototypes = await read(base)
        assert base is not None, "prototypes came out of it"
        r, memory = base.signed.card.version, node.memory
        start = memory.before if memory.fitted == r else memory.state
        inputs = (learner, start, node.data.train, cfg.plan, node.seed("fit", r), prototypes)
        state = await node.compute(fit_towards, *inputs)
        means_Cd, _count_C = await node.compute(class_means, learner, state, node.data.train)
        memory.update(state=state, before=start, fitted=r)
        serve(base, prototypes)
        return await node.publish(_shown(node, cfg, means_Cd, r), slot="update", version=r, listed=False)

    async def adopt(_: str, base: Offer | None) -> None:
        prototypes = await read(base)
        assert base is not None, "prototypes came out of it"
        serve(base, prototypes)

    node.serve(fit=fit, adopt=adopt)
    await node.until_done()


def _shown(node: Node, cfg: Config, means_Cd: Array, r: int) -> Weights:
    """The means that may be shown; zeros in place of the others, which are counted and said in round 0."""
    counts = {label: count for label, count in node.data.counts.items() if count >= cfg.min_class_count}
    withheld = {label: count for label, count in node.data.counts.items() if label not in counts}
    if withheld and r == 0:
        node.record("withheld", labels=withheld)
    known_C = np.array([label in counts for label in node.learner.labels])
    return Weights({"means": np.where(known_C[:, None], means_Cd, np.float32(0))}, counts)


def _packed(memory: Any) -> Weights:
    return Weights({"means": memory.means, "known": memory.known})
