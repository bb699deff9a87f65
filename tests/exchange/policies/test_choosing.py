"""Whom a server asks: rewards by hand, the rule for the rarest, secret draws."""

from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.ids import NodeId
from kuberml.exchange.node import Node
from kuberml.exchange.policies.choosing import availability, choosing, rewards
from kuberml.exchange.policies.offloading import cost, decided
from kuberml.exchange.policies.options import Choice, Energy, Late, Offload
from kuberml.exchange.policies.status import Status, utility
from kuberml.exchange.policies.table import check
from kuberml.exchange.steps.options import Steps
from kuberml.learning.datasets import samples
from kuberml.learning.head_learner import HeadLearner
from kuberml.learning.predictor import Network
from tests.exchange.town import LEARNER, Town, data

NAMES = [NodeId(f"c{i}") for i in range(4)]


def test_rewards_by_hand() -> None:
    """Worths 100, 50 x (2 / 4)^2, 80 on mains: shares 1, 0.125, 0.8; what is left 1000, 3000, all: shares 1 / 3, 1, 1."""
    known = {
        NAMES[0]: Status(100.0, 2.0, 500.0, 1500.0),
        NAMES[1]: Status(50.0, 4.0, 1000.0, 4000.0),
        NAMES[2]: Status(80.0, 1.0, 0.0, None),
    }
    found = rewards(known, Energy(mix=0.75))
    expected = [0.75 + 0.25 / 3, 0.75 * 0.125 + 0.25, 0.75 * 0.8 + 0.25]
    np.testing.assert_allclose([found[name] for name in NAMES[:3]], expected)
    assert rewards({}, Energy()) == {}
    assert max(rewards(known, Energy(mix=0.0)), key=lambda name: rewards(known, Energy(mix=0.0))[name]) in NAMES[1:3]


def test_a_client_whose_charge_would_not_last_is_left_out() -> None:
    assert not Status(1.0, 1.0, 500.0, 500.0).lasts
    assert Status(1.0, 1.0, 499.0, 500.0).lasts
    assert Status(1.0, 1.0, 1e9, None).lasts
    assert not Status(-1.0, 0.0, 0.0, 100.0).known


def test_the_rule_of_succession() -> None:
    assert [availability(0, 0), availability(2, 2), availability(1, 4)] == [1 / 2, 3 / 4, 2 / 6]


def test_utility_is_oorts() -> None:
    """|B| sqrt(mean of squared losses) = sqrt(|B| sum of squared losses); a model that knows nothing loses ln 10 a sample."""
    assert isinstance(LEARNER, HeadLearner)
    local = data("123").train
    network = Network(LEARNER, LEARNER.init(0))
    own = samples(local)
    loss_N = -network.predict(own.x_N)[np.arange(len(own)), own.y_N]
    assert utility(network, local) == pytest.approx(len(own) * np.sqrt(np.mean(loss_N**2)), rel=1e-5)


def chosen(choice: Choice, rounds: int = 40, **places: Any) -> list[list[str]]:
    async def server(node: Node) -> list[list[str]]:
        await node.sleep(0.1)
        policy = choosing(node, choice)
        return [await policy.choose(number, NAMES, 2) for number in range(rounds)]

    async def client(node: Node) -> None:
        await node.sleep(0)

    roles = {"server": "server", **dict.fromkeys(NAMES, "client")}
    return Town("server", *NAMES, roles=roles, **places).run(server=server, **dict.fromkeys(NAMES, client))["server"]


def test_by_coin_each_is_drawn_by_itself() -> None:
    cohorts = chosen(Choice(policy="poisson", share=0.5), 400)
    sizes = [len(cohort) for cohort in cohorts]
    assert {0, 1, 2, 3, 4} == set(sizes)
    assert np.mean(sizes) == pytest.approx(2.0, abs=5 * 1.0 / 20)


def test_what_privacy_counts_on_cannot_be_foreseen_from_the_seed() -> None:
    """Two servers of one seed draw the same, but for a run with noise, whose secrets are the system's."""
    assert chosen(Choice()) == chosen(Choice())
    assert chosen(Choice(secretly=True)) != chosen(Choice(secretly=True))


def test_the_rarest_come_first() -> None:
    """c0 7 of 7 looks, c1 5 of 6 since it was first seen, c2 2 of 2, c3 1 of 1: 8 / 9, 6 / 8, 3 / 4 and 2 / 3."""

    async def server(node: Node) -> list[str]:
        await node.sleep(0.1)
        policy = choosing(node, Choice(policy="available"))
        for number in range(6):
            await policy.choose(number, NAMES[: 1 + number % 2 + (number >= 4)], 1)
        return await policy.choose(6, NAMES, 2)

    async def client(node: Node) -> None:
        await node.sleep(0)

    made = Town("server", *NAMES, roles={"server": "server", **dict.fromkeys(NAMES, "client")})
    found = made.run(server=server, **dict.fromkeys(NAMES, client))["server"]
    assert found in (["c1", "c3"], ["c2", "c3"])


@pytest.mark.parametrize(
    ("charge_mj", "here", "away", "weight", "where"),
    [
        (None, None, None, 0.0, "here"),  # on mains
        (900, None, None, 0.0, "here"),  # the first time
        (900, (5.0, 100.0), None, 0.0, "away"),  # the second
        (900, (5.0, 100.0), (9.0, 10.0), 0.0, "away"),  # less energy
        (900, (5.0, 100.0), (9.0, 10.0), 1.0, "here"),  # less time
        (250, (5.0, 100.0), (9.0, 500.0), 0.0, "away"),  # the reserve
        (150, None, None, 0.0, "away"),
    ],
)
def test_where_training_runs(charge_mj: int | None, here: Any, away: Any, weight: float, where: str) -> None:
    async def client(node: Node) -> str:
        costs = {place: list(one) for place, one in (("here", here), ("away", away)) if one}
        node.memory.update(offload=costs, charge_at_first=1000)
        return decided(node, Offload(to="cloud", reserve=0.2, time_weight=weight))

    assert Town("c0", c0={"charge_mj": lambda: charge_mj}).run(c0=client)["c0"] == where


def test_costs_by_hand() -> None:
    assert cost((2.0, 10.0), (4.0, 5.0), Offload(time_weight=0.5)) == 0.5 * 0.5 + 0.5 * 1.0
    assert cost((0.0, 0.0), (0.0, 0.0), Offload()) == 0.0


@pytest.mark.parametrize(
    ("names", "collects", "offloads", "policy", "why"),
    [
        (("masks",), "sum", True, "uniform", "cannot go with the step 'masks'"),
        (("clip", "dp"), "sum", True, "uniform", "cannot go with the step 'dp'"),
        ((), "sum", False, "uniform", "train in a way of their own"),
        ((), "stream", True, "poisson", "'poisson' cannot go with an asynchronous paradigm"),
        ((), "own", False, "energy", "chooses in a way of its own"),
    ],
)
def test_what_cannot_be_together(names: Any, collects: Any, offloads: bool, policy: Any, why: str) -> None:
    offload = Offload(to="cloud" if policy == "uniform" else "")
    with pytest.raises(ConfigError) as raised:
        check(policy, Late(), offload, Steps(names=names), collects, offloads=offloads)
    assert why in str(raised.value)
