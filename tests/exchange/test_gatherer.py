"""The gatherer adds what others publish, once each, and offers the sum and its head in place of twenty packets."""

from typing import Any

import numpy as np

from kuberml.core.ids import NodeId
from kuberml.core.units import NS
from kuberml.exchange.desk import Desk
from kuberml.exchange.exact_head import ExactHead
from kuberml.exchange.gatherer import Gatherer
from kuberml.exchange.heads import unpacked
from kuberml.exchange.node import Node
from kuberml.exchange.trial import TrialPlan
from kuberml.knowledge.card import Terms
from kuberml.knowledge.kinds.statistics import Merged, merge_all, solve
from kuberml.knowledge.want import Want
from kuberml.worlds.simulated.devices import LinkSpec
from tests.exchange.town import BASIS, EXTRACTOR, Town, data, publishes, statistics, stay

A, B = statistics(data("01")), statistics(data("23"))


async def gather(node: Node) -> None:
    await Gatherer(node, BASIS).run(learners="peer", every_s=5, patience_s=60)


def reader(after_s: float) -> Any:
    async def main(node: Node) -> dict[str, Any]:
        await node.sleep(after_s)
        offers = await node.find(Want("digits"))
        derived = {offer.signed.card.slot: offer for offer in offers if offer.signed.card.parents}
        return {slot: await node.fetch(offer) for slot, offer in derived.items()}

    return main


ROLES = {"hub1": "library", "reader": "reader"}


def test_sum_and_head_are_those_of_everybody() -> None:
    town = Town("a", "b", "hub1", "reader", roles=ROLES)
    mains = {"a": publishes(A), "b": publishes(B), "reader": reader(30)}
    found = town.world.run(
        {NodeId("hub"): town._hub, **{NodeId(n): _main(town, n, m) for n, m in {**mains, "hub1": gather}.items()}},
        until_s=60, wait_for=["reader"],
    ).results[NodeId("reader")]  # fmt: skip
    assert isinstance(found["merge"], Merged)
    np.testing.assert_array_equal(found["merge"].statistics.gram_dd, merge_all([A, B]).gram_dd)
    assert len(found["merge"].contributions) == 2
    np.testing.assert_array_equal(unpacked(found["head"]).weights_dC, solve(merge_all([A, B])).weights_dC)


def test_a_packet_with_terms_is_not_added() -> None:
    town = Town("a", "b", "hub1", "reader", roles=ROLES)
    mains = {"a": publishes(A), "b": publishes(B, terms=Terms(licence="CC-BY-4.0")), "hub1": gather, "reader": reader(90)}
    outcome = town.world.run(
        {NodeId("hub"): town._hub, **{NodeId(n): _main(town, n, m) for n, m in mains.items()}}, until_s=120, wait_for=["reader"]
    )
    assert outcome.results[NodeId("reader")]["merge"].statistics.labels == A.labels


def test_it_waits_for_those_who_are_missing_but_not_for_ever() -> None:
    town = Town("a", "late", "hub1", "reader", roles=ROLES)
    mains = {"a": publishes(A), "late": stay, "hub1": gather}
    for after_s, slots in ((30, set()), (90, {"merge", "head"})):
        again = Town("a", "late", "hub1", "reader", roles=ROLES)
        outcome = again.world.run(
            {NodeId("hub"): again._hub,
             **{NodeId(n): _main(again, n, m) for n, m in {**mains, "reader": reader(after_s)}.items()}},
            until_s=120, wait_for=["reader"],
        )  # fmt: skip
        assert set(outcome.results[NodeId("reader")]) == slots
    assert town.roles["hub1"] == "library"


def test_it_does_not_wait_for_ever_where_something_comes_all_the_time() -> None:
    def after(wait_s: float, part: int) -> Any:
        async def main(node: Node) -> None:
            await node.sleep(wait_s)
            await node.publish(statistics(data("01", part=part)), slot="shard", version=0)

        return main

    names = ["a", "b", "c", "d"]
    town = Town(*names, "late", "hub1", "reader", roles=ROLES)
    mains = {**{name: after(20 * i, i) for i, name in enumerate(names)}, "late": stay, "hub1": gather, "reader": reader(90)}
    outcome = town.world.run(
        {NodeId("hub"): town._hub, **{NodeId(n): _main(town, n, m) for n, m in mains.items()}}, until_s=120, wait_for=["reader"]
    )
    assert set(outcome.results[NodeId("reader")]) == {"merge", "head"}


def test_it_holds_no_packets_but_those_that_it_has_added() -> None:
    held: list[tuple[int, int]] = []

    async def refines(node: Node) -> None:
        for version, train in enumerate((14, 19, 21)):  # the last changes too little to be shown
            await node.publish(statistics(data("01", train=train)), slot="shard", version=version)
            await node.sleep(20)

    async def library(node: Node) -> None:
        here = Gatherer(node, BASIS)
        for _ in range(3):
            await node.sleep(15)
            await here.look()
            held.append((sum(here.made_of.counts.values()), len(here._packets)))

    town = Town("a", "hub1", roles=ROLES)
    town.run(a=refines, hub1=library)
    assert held == [(28, 1), (38, 1), (38, 1)]


def test_it_does_not_wait_for_one_slow_link_after_the_other() -> None:
    names = [f"n{i:02d}" for i in range(32)]
    far = {name: LinkSpec(10**9, 10**9, NS // 2) for name in names}  # a second from asking to the answer's first byte
    took_s: list[float] = []

    async def library(node: Node) -> None:
        here = Gatherer(node, BASIS)
        await node.sleep(30)  # all are announced by then
        since_ms = node.now_ms
        await here.look()
        took_s.append((node.now_ms - since_ms) / 1000)
        assert len(here.made_of.contents) == 32

    town = Town(*names, "hub1", roles=ROLES, links=far)
    town.run(**{name: publishes(statistics(data("01", part=i))) for i, name in enumerate(names)}, hub1=library)
    assert took_s[0] < 8, "32 packets by 16 at a time: two round trips of each sort, and not 32"


def test_a_receiver_fetches_the_head_and_nothing_else() -> None:
    async def receive(node: Node) -> tuple[set[str], int]:
        head = await ExactHead.describe(node, EXTRACTOR, 5)
        desk = Desk(node, head, TrialPlan(), gathered=True)
        head.published((await node.publish(head.shared, slot="shard", version=0)).signed)
        await desk.open()
        while not desk.is_served:
            await desk.look()
            await node.sleep(5)
        return {parcel.signed.card.slot for parcel in desk.kept.values()}, len(desk.model.labels)

    places = {name: {"data": data("0123", part=i)} for i, name in enumerate("abc")}
    town = Town("a", "b", "c", "hub1", roles=ROLES | {"reader": "peer"}, **places)
    mains = {"a": receive, "b": receive, "c": receive, "hub1": gather}
    outcome = town.world.run(
        {NodeId("hub"): town._hub, **{NodeId(n): _main(town, n, m) for n, m in mains.items()}}, until_s=600, wait_for=["peer"]
    )
    assert outcome.finished
    assert [outcome.results[NodeId(n)] for n in "abc"] == [({"head"}, 4)] * 3
    fetched = {note["card"] for n in "abc" for note in town.notes[n].of("fetched")}
    assert len(fetched) == 1


def _main(town: Town, name: str, main: Any) -> Any:
    return lambda: main(Node(town.standpoint(name)))
