"""Own networks and soft labels over the real world: what a teacher brings, and that it cannot do harm."""

from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import RemoteError
from kuberml.core.values import digest
from kuberml.exchange.desk import Desk
from kuberml.exchange.exact_head import ExactHead
from kuberml.exchange.node import Node
from kuberml.exchange.own_network import OwnNetwork
from kuberml.exchange.soft_head import SoftHead
from kuberml.exchange.trial import TrialPlan
from kuberml.knowledge.kinds.probe import Probe, probe_from, probe_of
from kuberml.knowledge.soften import soften
from kuberml.learning.datasets import samples
from kuberml.learning.evaluation import score
from kuberml.learning.predictor import Network
from kuberml.learning.soft_head import solve_soft
from kuberml.learning.types import FitPlan
from kuberml.worlds.simulated.faults import Fault
from tests.exchange.town import EXTRACTOR, LABELS, LEARNER, Town, data

PLAN = FitPlan(lr=0.3, epochs=30)
MINE = data("01234", train=12, heldout=8)
ALL = data("0123456789", part=1, train=20)
WRONG = data("0123456789", part=1, train=20, relabel={label: LABELS[(i + 1) % 10] for i, label in enumerate(LABELS)})


def some_probe() -> Probe:
    part = samples(data("0123456789", part=2, train=20).train)
    return probe_from(part.x_N, None, levels=16)


PROBE = some_probe()


def teacher(local: Any) -> Network:
    return Network(LEARNER, LEARNER.fit(LEARNER.init(0), samples(local.train), PLAN, 1))


def taught(by: Network, trial: TrialPlan) -> tuple[bool, float, float, float, Town, Any]:
    """(kept, own recall before and after, recall of all labels after, the town, memory) of one lesson."""
    here = Town("me", me={"data": MINE})

    async def me(node: Node) -> Any:
        own = OwnNetwork(node, PROBE, PLAN, trial)
        first = await own.train()
        kept = await own.learn(by, [])
        after = Network(LEARNER, node.memory.network)
        held, every = samples(MINE.heldout), samples(data("0123456789", part=4).train)
        scores = [score(first, held), score(after, held), score(after, every)]
        return kept, *(one.accuracy for one in scores), digest(first), digest(after)

    kept, before, after, all_after, *models = here.run(me=me)["me"]
    return kept, before, after, all_after, here, models


def test_a_good_teacher_is_learned_from() -> None:
    kept, before, after, everything, here, models = taught(teacher(ALL), TrialPlan())
    assert kept
    assert after >= before - 0.1
    assert everything > 0.75  # labels that it never saw
    assert len(here.notes["me"].of("deployed")) == 2
    assert models[0] != models[1]


@pytest.mark.parametrize("tolerance", [0.1, 1.0])
def test_a_bad_teacher_does_no_harm(tolerance: float) -> None:
    """Whether distillation itself stops, or the trial: own labels are answered as before."""
    trial = TrialPlan(tolerance=tolerance)
    kept, before, after, _, here, models = taught(teacher(WRONG), trial)
    assert after >= before - 0.1
    if not kept:
        assert models[0] == models[1]
        assert len(here.notes["me"].of("deployed")) == 1
        assert "worse" in here.notes["me"].of("not taught")[0]["why"]


def test_a_network_survives_a_crash() -> None:
    here = Town("me", me={"data": MINE}, faults=[Fault(at_s=50.0, what="crash", nodes=("me",))])
    seen: list[str] = []

    async def me(node: Node) -> str:
        own = OwnNetwork(node, PROBE, PLAN, TrialPlan())
        network = await own.train()
        seen.append(digest(network))
        if len(seen) == 1:
            await own.learn(teacher(ALL), [])
            seen.append(digest(Network(LEARNER, node.memory.network)))
            await node.sleep(100)
        return seen[-1]

    here.run(me=me)
    assert len(seen) == 3
    assert seen[2] == seen[1] != seen[0]  # what was learned from others is still there


def soft(by: Network, known: str) -> Any:
    counts = dict.fromkeys(known, 20)
    return soften(by.predict(PROBE.inputs()), LABELS, known=counts, probe=probe_of(PROBE), sample_ids_N=np.arange(len(PROBE)))


def test_soft_labels_bring_labels_that_i_lack_and_a_liar_s_are_refused() -> None:
    async def honest(node: Node) -> None:
        await node.publish(soft(teacher(ALL), "0123456789"), slot="soft", version=0)

    async def liar(node: Node) -> None:
        await node.publish(soft(teacher(WRONG), "0123456789"), slot="soft", version=0)

    async def witness(node: Node) -> None:
        desk = Desk(node, SoftHead(node, PROBE), TrialPlan())
        await desk.open()
        await node.sleep(5)
        for _ in range(3):
            await desk.look()
            await node.sleep(20)

    async def me(node: Node) -> Desk:
        desk = Desk(node, SoftHead(node, PROBE), TrialPlan())
        await desk.open()
        await node.sleep(5)
        for _ in range(3):
            await desk.look()
            await node.sleep(20)
        return desk

    here = Town("me", "a", "liar", "w", me={"data": MINE}, w={"data": data("0123456789", part=3)})
    desk = here.run(me=me, a=honest, liar=liar, w=witness)["me"]
    assert len(desk.refused) == 1
    assert len(desk.kept) == 1
    every = samples(data("0123456789", part=4).train)
    assert score(desk.model, every).accuracy > 0.7
    (parcel,) = desk.kept.values()
    same = solve_soft(LABELS, MINE.train, PROBE, [parcel.content])
    assert digest(desk.model) == digest(same)  # to the last bit the model of the honest teacher alone


def test_an_exact_head_refuses_what_is_no_statistics() -> None:
    async def me(node: Node) -> None:
        head = await ExactHead.describe(node, EXTRACTOR, 5)
        with pytest.raises(RemoteError):
            await head.read(soft(teacher(ALL), "123"))

    Town("me", me={"data": MINE}).run(me=me)
