"""KUber: no rounds, no central model. Whoever learned something publishes it; whoever lacks something asks, tries, absorbs.

    learn -> pack -> publish                      (whoever has learned something)
    want  -> offers -> deliver -> trial -> absorb (whoever needs something)

After A. M. Abdelmoniem: Leveraging the Edge-to-Cloud Continuum for Scalable Machine Learning on Decentralized Data
(arXiv 2306.10848), and A. M. A. Sayed's KUber project: sharing is a job of its own, apart from training. The published
material names no algorithm; what stands here is our own.
"""

from __future__ import annotations

from typing import Any

from kuberml.core.ranges import Count, NonNegative, Positive, Whole
from kuberml.exchange.claims import claims_on
from kuberml.exchange.desk import Desk
from kuberml.exchange.exact_head import ExactHead
from kuberml.exchange.gatherer import Gatherer
from kuberml.exchange.integrator import Integrator
from kuberml.exchange.node import Node, OverBudget
from kuberml.exchange.own_network import OwnNetwork
from kuberml.exchange.public import public
from kuberml.exchange.soft_head import SoftHead
from kuberml.exchange.trial import TrialPlan
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.grid import StepLog2
from kuberml.knowledge.kinds.probe import Probe
from kuberml.learning.jobs import soft_labels
from kuberml.paradigms.options import Training

PUBLIC = ("extractor", "probe")
"""Public things that it uses; a world has them published."""


class Config(Training, frozen=True, kw_only=True):
    """Options.

    Attributes:
        own_network: serve one's own network, taught by what was learned; else the head on the shared extractor.
        light: architectures that learn from soft labels on the public probe: a hundredth of the bytes of statistics.
        looks, every_s: how often to look for offers, and how long to wait between.
        min_class_count: samples of a class below which it is not published.
        claims: say on the card what the package scores on the labelled public probe, and run others' claims again.
        trial: how strict a trial is.
        step_log2: features are rounded to multiples of 2^-step_log2: a smaller one makes smaller packets.
        ridge: of every head; None chooses it from the packets by generalised cross-validation, at ten times the work.
        gather: the library adds up what is published, and learners wait for that instead of fetching everybody's packets.
        tries: packages that are fetched and tried in one look at most; 0: all that are offered.
        patience_s: how long the library waits for those who are missing, from the first packet on that is not in its sum.
    """

    epochs: Count = 20
    own_network: bool = False
    light: tuple[str, ...] = ()
    looks: Whole = 4
    every_s: NonNegative = 30.0
    min_class_count: Whole = 5
    claims: bool = False
    trial: TrialPlan = TrialPlan()
    step_log2: StepLog2 = 8
    ridge: Positive | None = None
    gather: bool = False
    tries: Whole = 0
    patience_s: NonNegative = 600.0

    @property
    def needs_probe(self) -> bool:
        """Whether it asks for public samples."""
        return bool(self.own_network or self.claims or self.light)


async def peer(node: Node, cfg: Config) -> None:
    """The one loop. Whose budget does not reach as far as the public extractor has no part in it."""
    try:
        await take_part(node, cfg)
    except OverBudget as error:
        node.record("spent", why=str(error))


async def take_part(node: Node, cfg: Config) -> None:
    """Learn, pack, publish; then want, offers, deliver, trial, absorb, as long as there is something to gain."""
    probe = await public(node, "probe") if cfg.needs_probe else None
    network = await learn(node, cfg, probe) if cfg.own_network and probe else None
    integrator = await describe(node, cfg, probe)
    desk = Desk(node, integrator, cfg.trial, probe if cfg.claims else None, gathered=cfg.gather, tries=cfg.tries)
    await serve(node, await desk.open(), network, [])
    learned: list[SignedCard] = []
    for look in range(cfg.looks):
        fresh = await desk.look()
        learned += fresh
        if fresh:
            await teach(node, integrator, desk, network, look)
        if learned and (network is None or not fresh or desk.is_spent or look == cfg.looks - 1):
            # A network is taught when no more comes in, since that costs; and again, from another start, if it would forget.
            learned = [] if await serve(node, desk.model, network, learned) else learned
        if (desk.is_spent or desk.is_served) and not learned:
            break
        await node.sleep(cfg.every_s)


async def library(node: Node, cfg: Config) -> None:
    """What the keeper of public things does besides: add up what is published, if it is asked to."""
    extractor = node.own("extractor")
    if cfg.gather and extractor is not None:
        gatherer = Gatherer(node, extractor.signed.card.blobs[0].digest, ridge=cfg.ridge)
        await gatherer.run(learners="peer", every_s=cfg.every_s, patience_s=cfg.patience_s)


async def learn(node: Node, cfg: Config, probe: Probe) -> OwnNetwork:
    """Train one's own network on one's own data."""
    network = OwnNetwork(node, probe, cfg.plan, cfg.trial)
    await network.train()
    return network


async def describe(node: Node, cfg: Config, probe: Probe | None) -> Integrator:
    """Say what one's data hold, so that others can use it; and choose how to take in what others say."""
    extractor = await public(node, "extractor")
    head = await ExactHead.describe(node, extractor, cfg.min_class_count, step_log2=cfg.step_log2, ridge=cfg.ridge)
    if head.shared.labels:
        claims = await claims_on(node, head.shared, probe if cfg.claims else None, head.extractor)
        head.published((await node.publish(head.shared, slot="shard", version=0, claims=claims)).signed)
    if probe is not None and getattr(node.learner, "architecture", "") in cfg.light:
        return SoftHead(node, probe)
    return head


async def serve(node: Node, model: Any, network: OwnNetwork | None, fresh: list[SignedCard]) -> bool:
    """Answer with what is known now: the model itself, or one's own network taught by it. Whether that is so now."""
    if network is not None:
        return not fresh or await network.learn(model, fresh)
    node.deploy(model, learned=fresh)
    return True


async def teach(node: Node, integrator: Integrator, desk: Desk, network: OwnNetwork | None, version: int) -> None:
    """Pass it on in a few bytes: soft labels of the model on the public probe."""
    if network is None or not isinstance(integrator, ExactHead):
        return
    known = integrator.counts(desk.kept.values())
    soft = await node.compute(soft_labels, desk.model, network.probe, known, "top")
    await node.publish(soft, slot="soft", version=version, parents=tuple(sorted(desk.kept)))
