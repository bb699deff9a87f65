"""The cloud model over a real hub: whatever arrives, in whatever order, it is the model of the set."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.ids import NodeId
from kuberml.core.rng import rng
from kuberml.exchange import wire
from kuberml.exchange.continual import intake
from kuberml.exchange.continual.cloud import Cloud
from kuberml.exchange.continual.served import Served
from kuberml.exchange.node import Node
from kuberml.knowledge.algebra import merge_all
from kuberml.knowledge.kinds.statistics import Statistics, solve
from kuberml.knowledge.withdrawal import SignedWithdrawal, Withdrawal, sign_withdrawal
from kuberml.vault.folder import FolderStore
from tests.exchange.continual.edges import cloud, edge, packets, probe, running, town
from tests.exchange.town import keys

A, B, C, D = packets("01", "23", "45", "6789")
GROWN = packets("01", train=19)[0]
PUBLIC = probe()


def sums(here: Cloud) -> Statistics:
    assert here._model.sums is not None
    return here._model.sums


def served(here: Cloud) -> Served:
    assert here.served is not None
    return here.served


def gap(predictor: Any, ridge: float, *parts: Statistics) -> float:
    """Largest difference of a weight to a head that was trained on everything at once."""
    return float(np.abs(predictor.head.weights_dC - solve(merge_all(parts), ridge).weights_dC).max())


def run(**mains: Any) -> Cloud:
    found: Cloud = town(*(name for name in mains if name != "cloud")).run(**{"cloud": cloud(public=PUBLIC), **mains})["cloud"]
    return found


def test_classes_that_come_one_after_another_are_served_as_if_they_had_come_at_once() -> None:
    seen: list[Served] = []
    here = run(cloud=cloud(public=PUBLIC, on_served=seen.append), a=edge(A, C), b=edge(B, D, first_s=4.0))
    assert sums(here).digest == merge_all([A, B, C, D]).digest
    assert gap(served(here).predictor, here._history.state.ridge, A, B, C, D) < 1e-9
    assert [len(one.predictor.labels) for one in seen] == [2, 4, 6, 10]
    assert [one.number for one in seen] == [1, 2, 3, 4]
    measured = here.history[-1].measures
    assert measured is not None
    assert measured.gap_to_joint == 0.0
    assert measured.accuracy is not None
    assert measured.accuracy > 0.8
    assert measured.forgetting is not None
    assert here._history.state.refused == {}
    assert {one.author for one in seen[-1].taught["4"]} == {keys("a").public}


def test_any_order_any_number_of_edges_late_and_twice_it_is_the_same_model() -> None:
    many = packets("01", "23", "45", "67", "89", "0123456789", "13579", "02468")
    wanted = merge_all(many).digest
    ridges, manifests = set(), set()
    for k, edges in enumerate((1, 3, 8)):
        order = rng(5, "order", k).permutation(len(many))
        hands = [[many[i] for i in order[e::edges]] for e in range(edges)]
        mains = {f"e{e}": edge(*some, every_s=1.0 + e, first_s=0.5 * e) for e, some in enumerate(hands)}
        mains["copy"] = edge(many[order[0]], many[order[1]], first_s=20.0)  # somebody else's copies, late
        here = run(**mains)
        assert sums(here).digest == wanted
        assert served(here).predictor.labels == tuple("0123456789")
        assert gap(served(here).predictor, here._history.state.ridge, *many) < 1e-9
        ridges.add(here._history.state.ridge)
        manifests.add(served(here).manifest)
    assert len(ridges) == len(manifests) == 1


def test_ten_edges_that_learn_at_one_instant_do_not_wait_for_each_other_s_round_trips() -> None:
    many = packets("01", "12", "23", "34", "45", "56", "67", "78", "89", "90")
    runs = [run(**{f"e{k}": edge(one) for k, one in enumerate(many)}) for _ in range(2)]
    first, last = runs[0].history[0], runs[0].history[-1]
    assert (len(first.added), len(runs[0].history)) == (1, 2)
    assert last.at_ms - first.at_ms < 200  # virtual; a round trip takes 40
    assert runs[0].history == runs[1].history
    assert sums(runs[0]).digest == merge_all(many).digest


def test_a_new_version_of_a_slot_takes_the_place_of_the_old_one() -> None:
    async def grows(node: Node) -> None:
        await node.publish(A, slot="stage-0", version=0)
        await node.sleep(20)
        await node.publish(GROWN, slot="stage-0", version=1)
        await node.sleep(60)

    here = run(a=grows, b=edge(B))
    assert sums(here).digest == merge_all([GROWN, B]).digest


def test_any_version_is_rebuilt_from_its_manifest() -> None:
    async def every(here: Cloud) -> None:
        parts = {1: [A], 2: [A, B], 3: [A, B, C]}
        for entry in here.history:
            again = await here.rebuild(entry.manifest)
            assert gap(again, entry.ridge, *parts[entry.number]) < 1e-9
            assert merge_all(parts[entry.number]).digest == entry.sums

    here = run(cloud=cloud(public=PUBLIC, then=every), a=edge(A, B, C))
    assert len(here.history) == 3


def test_a_removed_contributor_leaves_no_trace_and_does_not_come_back() -> None:
    seen: list[Served] = []

    async def forget(here: Cloud) -> None:
        content = {e.content for e in here._history.state.made_of.entries if e.author == keys("a").public}
        after = await here.remove(keys("a").public)
        assert not content & here._history.contents(after.number)
        assert keys("a").public not in {one.author for parts in after.taught.values() for one in parts}
        await running(here, 60)
        with pytest.raises(ConfigError, match="removed since"):
            await here.rollback(here.history[after.number - 2].manifest)
        with pytest.raises(ConfigError, match="nothing to remove"):
            await here.remove(keys("a").public)

    here = run(cloud=cloud(then=forget, on_served=seen.append), a=edge(A, C, GROWN, every_s=30.0), b=edge(B, D))
    assert sums(here).digest == merge_all([B, D]).digest
    assert gap(served(here).predictor, here._history.state.ridge, B, D) < 1e-9
    assert served(here) is seen[-1]
    assert set(served(here).predictor.labels) == set("236789")


def take_back(slot: str, version: int, *, forged: bool = False, after_s: float) -> Any:
    """An edge that publishes B, and later takes back a slot of its own, or says so of another's."""

    async def main(node: Node) -> None:
        await node.publish(B, slot="stage-0", version=0)
        await node.sleep(after_s)
        own = sign_withdrawal(Withdrawal(node.author, node.task, slot, version), node.place.keys)
        if forged:
            own = SignedWithdrawal(Withdrawal(keys("a").public, node.task, slot, version), own.signature)
            await node.place.transport.announce(f"withdrawn/{node.task}", wire.write(own))
        else:
            await node.place.transport.ask(NodeId("hub"), "withdraw", wire.write(own), timeout_s=10)
        await node.sleep(60)

    return main


def test_what_an_error_lost_hold_of_is_looked_up_again() -> None:
    async def interrupted(here: Cloud) -> None:
        await here.node.sleep(30)
        await here._intake.look()
        assert here._intake._offers
        here._intake._offers.clear()  # an error came while they were delivered
        await running(here, 60)

    assert sums(run(cloud=cloud(0.0, then=interrupted), a=edge(A, C))).digest == merge_all([A, C]).digest


def test_what_gives_way_to_newcomers_while_others_are_delivered_is_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def flooded(here: Cloud) -> None:
        await here.node.sleep(30)
        await here._intake.look()
        first, second = here._intake._offers.values()
        monkeypatch.setattr(intake, "WAITING_MAX", 1)
        taking = asyncio.ensure_future(here._intake.take())
        await here.node.sleep(0.001)
        here._intake._add(second)
        here._intake._add(first)
        assert list(here._intake._offers) == [first.signed.digest]
        assert here._intake._since == 0
        assert [one.signed for one in await taking] == [first.signed, second.signed]
        monkeypatch.undo()
        await running(here, 60)

    assert sums(run(cloud=cloud(0.0, then=flooded), a=edge(A, C))).digest == merge_all([A, C]).digest


def test_what_its_author_takes_back_leaves_the_model_exactly_and_only_its_author_can() -> None:
    seen: list[Served] = []
    here = run(cloud=cloud(public=PUBLIC, on_served=seen.append), a=edge(A, C), b=take_back("stage-0", 0, after_s=30.0))
    assert sums(here).digest == merge_all([A, C]).digest
    assert gap(served(here).predictor, here._history.state.ridge, A, C) < 1e-9
    assert set("23") <= {label for one in seen for label in one.predictor.labels}
    assert "took back stage-0" in here.history[-1].why
    assert keys("b").public not in {one.author for parts in served(here).taught.values() for one in parts}
    with pytest.raises(ConfigError, match="took it back since"):
        asyncio.run(here.rollback(next(e for e in here.history if "2" in e.labels).manifest))
    forged = run(a=edge(A, C), b=take_back("stage-0", 0, forged=True, after_s=30.0))
    assert sums(forged).digest == merge_all([A, B, C]).digest


def test_what_was_taken_back_while_nobody_listened_is_forgotten_afterwards() -> None:
    async def away(here: Cloud) -> None:
        assert sums(here).digest == merge_all([A, B, C]).digest
        await here.node.sleep(30)  # it is said meanwhile
        await running(here, 5)
        assert sums(here).digest == merge_all([A, C]).digest
        versions, heard = len(here.history), here.node.memory.get("cloud.heard")
        await here.catch_up()
        assert (len(here.history), here.node.memory.get("cloud.heard")) == (versions, heard)
        assert heard[1] > 0

    run(cloud=cloud(25.0, then=away), a=edge(A, C), b=take_back("stage-0", 0, after_s=40.0))


def test_the_last_contributor_cannot_be_removed() -> None:
    async def forget(here: Cloud) -> None:
        with pytest.raises(ConfigError, match="only contributor"):
            await here.remove(keys("a").public)

    assert sums(run(cloud=cloud(then=forget), a=edge(A))).digest == A.digest


def test_a_rollback_shows_what_it_costs_against_the_model_of_everything() -> None:
    async def back(here: Cloud) -> None:
        await here.rollback()

    here = run(cloud=cloud(public=PUBLIC, then=back), a=edge(A, B))
    whole, rolled = (entry.measures for entry in here.history[-2:])
    assert whole is not None
    assert rolled is not None
    assert whole.gap_to_joint == 0.0
    assert rolled.gap_to_joint == pytest.approx(whole.accuracy - rolled.accuracy)
    assert rolled.gap_to_joint > 0.3


def test_what_was_rolled_back_stays_out_until_it_is_readmitted_also_after_a_restart(tmp_path: Path) -> None:
    async def back(here: Cloud) -> None:
        before = await here.rollback()
        assert before.manifest == here.history[-3].manifest
        await running(here, 30)
        assert sums(here).digest == A.digest

    async def again(here: Cloud) -> None:
        assert sums(here).digest == A.digest  # the hub still offers the other
        await here.readmit()
        await running(here, 30)

    with FolderStore(tmp_path) as store:
        first = town("a", cloud={"store": store}).run(cloud=cloud(then=back), a=edge(A, B))["cloud"]
    with FolderStore(tmp_path) as store:
        here = town("a", cloud={"store": store}).run(cloud=cloud(then=again), a=edge(A, B))["cloud"]
        assert sums(here).digest == merge_all([A, B]).digest
    assert [entry.why.split()[0] for entry in here.history] == ["absorbed", "absorbed", "rolled", "absorbed"]
    assert here.history[:3] == first.history


def test_an_author_who_is_readmitted_is_taken_in_again_and_nothing_else() -> None:
    async def again(here: Cloud) -> None:
        a, b = keys("a").public, keys("b").public
        await here.remove(a)
        await here.remove(b[:12])  # the beginning of a key suffices, where only one begins so
        with pytest.raises(ConfigError, match="nothing that begins with 'zz'"):
            await here.readmit(a, "zz")
        await here.readmit(a[:12])
        await running(here, 60)

    here = run(cloud=cloud(then=again), a=edge(A), b=edge(B), c=edge(C))
    assert sums(here).digest == merge_all([A, C]).digest
    assert here._history.state.removed == (keys("b").public,)


def test_whom_to_remove_must_be_said_clearly() -> None:
    async def unclear(here: Cloud) -> None:
        with pytest.raises(ConfigError, match="nothing of 'zz' is in what is served"):
            await here.remove("zz")
        with pytest.raises(ConfigError, match="name an author"):
            await here.remove("")

    here = run(cloud=cloud(then=unclear), a=edge(A), b=edge(B))
    assert sums(here).digest == merge_all([A, B]).digest


def test_what_its_author_took_back_is_not_readmitted_nor_rolled_back_to() -> None:
    async def again(here: Cloud) -> None:
        taken_back = here.history[-1]
        assert "took back" in taken_back.why
        await here.readmit()
        with pytest.raises(ConfigError, match="took it back since"):
            await here.rollback(here.history[taken_back.number - 2].manifest)
        await running(here, 60)

    here = run(cloud=cloud(then=again), a=edge(A), b=take_back("stage-0", 0, after_s=20.0), c=edge(B, first_s=40.0))
    assert sums(here).digest == A.digest, "nor is somebody else's copy"


@pytest.mark.parametrize("killed_s", [1.3, 2.61, 11.4, 12.62, 21.5])
def test_killed_at_any_time_it_serves_what_it_served(tmp_path: Path, killed_s: float) -> None:
    """Between two virtual instants of an absorption, which take some hundredths of a second here."""
    seen: list[Served] = []
    with FolderStore(tmp_path) as store:
        here = town("a", cloud={"store": store})
        here.run(cloud=cloud(killed_s, public=PUBLIC, on_served=seen.append), a=edge(A, B, C))

    async def reopened(node: Node) -> Cloud:
        from tests.exchange.continual.edges import EXTRACTOR, RULES

        cloud = Cloud(node, EXTRACTOR, RULES, PUBLIC, lambda served: None)
        opened = await cloud.open()
        assert (opened is None) == (not seen)
        if opened is not None:
            last = seen[-1]
            assert (opened.number, opened.manifest, opened.model, opened.taught) == (
                last.number, last.manifest, last.model, last.taught
            )  # fmt: skip
        await running(cloud, 60)
        return cloud

    with FolderStore(tmp_path) as store:
        cloud_ = town("a", cloud={"store": store}).run(cloud=reopened, a=edge(A, B, C))["cloud"]
        assert sums(cloud_).digest == merge_all([A, B, C]).digest


def test_integers_that_the_disk_lost_are_added_up_again(tmp_path: Path) -> None:
    many = packets(*["0123456789"] * 5, *["01234"] * 5, *["56789"] * 5, "024", "135")
    assert len({one.digest for one in many}) == 17
    with FolderStore(tmp_path) as store:
        here = town("a", cloud={"store": store}).run(cloud=cloud(), a=edge(*many, every_s=1.0))["cloud"]
        assert here._history.state.saved == 16
        store.delete(here._history.state.blob)
    with FolderStore(tmp_path) as store:
        again = town(cloud={"store": store}).run(cloud=cloud(1.0))["cloud"]
        assert sums(again).digest == merge_all(many).digest
