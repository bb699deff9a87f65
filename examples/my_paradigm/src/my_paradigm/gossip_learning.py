"""Gossip learning: no server, no rounds. Each node merges with one random neighbour after the other, by the age of the models.

I. Hegedus, G. Danner, M. Jelasity: Gossip Learning as a Decentralized Alternative to Federated Learning. DAIS 2019,
algorithm 1: w <- (t w + t' w') / (t + t'), t <- max(t, t'), then train. Here the neighbour's model is read, not sent.
"""

from kuberml.core.ranges import Positive, Whole
from kuberml.core.rng import seed_of
from kuberml.exchange.node import Node, OverBudget
from kuberml.knowledge.kinds.weights import Weights
from kuberml.learning.averaging import Mean
from kuberml.learning.jobs import fit, init_state
from kuberml.learning.predictor import Network
from kuberml.paradigms.options import Training

COMMON_MODEL = True  # models are merged, so everybody gets the scenario's common architecture


class Config(Training, frozen=True, kw_only=True):
    """What a scenario may set besides `lr`, `epochs` and the like: cycles, and patience with a neighbour."""

    cycles: Whole = 10
    patience_s: Positive = 60.0


async def peer(node: Node, cfg: Config) -> None:
    """Train, share, merge. The age of a model, how often it was trained along its oldest line, is its version."""
    start = seed_of(node.place.seed, "gossip-learning", "init")  # the same for all: models of one start can be averaged
    node.memory.setdefault(cycle=0, age=0, state=await node.compute(init_state, node.learner, start))
    for cycle in range(node.memory.cycle, cfg.cycles):
        state = await node.compute(fit, node.learner, node.memory.state, node.data.train, cfg.plan, node.seed("fit", cycle))
        age = node.memory.age + 1
        await node.publish(Weights({"state": state}), slot="model", version=age, keep=2, listed=False)
        other = str(node.rng("neighbour", cycle).choice(node.neighbours))
        near = await node.latest([other], slot="model", timeout_s=cfg.patience_s)
        for offer in near:
            try:
                theirs = await node.fetch(offer)
            except OverBudget:
                return
            mean = Mean()
            mean.add(state, age)
            mean.add(theirs.tensors["state"], offer.signed.card.version)
            state, age = mean.result(state), max(age, offer.signed.card.version)
        node.memory.update(cycle=cycle + 1, age=age, state=state)  # all or nothing: after a crash this goes on where it was
        node.deploy(Network(node.learner, state), learned=[offer.signed for offer in near])
