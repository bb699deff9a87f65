"""KUber: no rounds, no central model. Whoever learned something publishes it; whoever lacks something asks, tries, absorbs.

    learn -> pack -> publish                      (whoever has learned something)
    want  -> offers -> deliver -> trial -> absorb (whoever needs something)

After A. M. Abdelmoniem: Leveraging the Edge-to-Cloud Continuum for Scalable Machine Learning on Decentralized Data
(arXiv 2306.10848), and A. M. A. Sayed's KUber project: sharing is a job of its own, apart from training. The published
material names no algorithm; what stands here is our own.
"""

from __future__ import annotations

import msgspec

from kuberml.exchange.desk import Desk, Integrator
from kuberml.exchange.distilled import Distilled, distil_head
from kuberml.exchange.exact_head import ExactHead
from kuberml.exchange.node import Node, OverBudget
from kuberml.exchange.public import public
from kuberml.exchange.trial import TrialPlan
from kuberml.paradigms.options import Training


class Config(Training, frozen=True, kw_only=True):
    """Options.

    Attributes:
        own_network: serve one's own network, taught by what was learned; else the head on the shared extractor.
        light: architectures that cannot carry the extractor: they learn from soft labels on the public probe.
        looks, every_s: how often to look for offers, and how long to wait between.
        min_class_count: samples of a class below which it is not published.
    """

    epochs: int = 20
    own_network: bool = False
    light: tuple[str, ...] = ()
    looks: int = 4
    every_s: float = 30.0
    min_class_count: int = 5
    trial: TrialPlan = TrialPlan()


async def peer(node: Node, cfg: Config) -> None:
    """The one loop."""
    integrator = await learn(node, cfg)
    desk = Desk(node, integrator, cfg.trial)
    await desk.open()
    try:
        for _ in range(cfg.looks):
            for offer in await node.find(desk.want()):
                await desk.take(offer)
            if await desk.settle() and cfg.own_network:
                await teach(node, cfg, integrator, desk)
            await node.sleep(cfg.every_s)
    except OverBudget as error:
        node.record("spent", why=str(error))
    await node.until_done()
