"""A hub whose list never ends: whoever reads it page after page stops, and says so."""

import itertools
from collections.abc import Awaitable, Callable

import pytest

from kuberml.cli.find import _asked
from kuberml.core.ids import NodeId
from kuberml.exchange import paging, wire
from kuberml.exchange.continual.intake import Intake
from kuberml.exchange.gatherer import Gatherer
from kuberml.exchange.node import Node
from kuberml.knowledge.card import Terms
from kuberml.knowledge.want import Offer, Want
from kuberml.worlds.member.seat import Seat
from tests.exchange.continual.edges import RULES
from tests.exchange.test_offering import cards
from tests.exchange.town import BASIS, HUB, LABELS, Town, keys

MOST = 7
NAMED = tuple(Offer(signed, (NodeId("x"),), 0, 0, 0) for signed in cards(600, terms=Terms(licence="CC-BY-4.0")))

Reads = Callable[[Node], Awaitable[object]]


async def cloud(node: Node) -> None:
    await Intake(node, BASIS, 64, RULES, wanted=lambda signed: False, refuse=lambda signed, why: None).look()


async def library(node: Node) -> None:
    await Gatherer(node, BASIS).look()


async def member(node: Node) -> None:
    seat = Seat(node.place, keys("me"), task="digits", labels=LABELS, kind="statistics", heldout=0.2, min_class_count=5,
                purpose="", region="", seed=0)  # type: ignore[arg-type]  # fmt: skip
    assert await seat._behind(Want("digits"), {offer.signed.digest for offer in NAMED}) == []


async def command(node: Node) -> None:
    want = Want("digits", limit=wire.OFFERED + 1)
    assert len(await _asked(node.place, want)) == want.limit  # type: ignore[arg-type]


@pytest.mark.parametrize(("furthest", "pages"), [(1 << 60, MOST), (1, 2)])
@pytest.mark.parametrize("reads", [cloud, library, member, command])
def test_a_list_that_never_ends_is_left(
    reads: Reads, furthest: int, pages: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paging, "PAGES_MAX", MOST)
    here, asked = Town("x", "me"), itertools.count(1)

    async def main(node: Node) -> None:
        async def find(asker: NodeId, body: bytes) -> bytes:
            return wire.write(wire.Offers(NAMED[: wire.OFFERED], min(next(asked), furthest)))

        here.world.transport(HUB).serve("find", find)
        await reads(node)

    here.run(me=main)
    assert next(asked) == pages + 1
    why = [note["why"] for note in here.notes["me"].of("hub")] or capsys.readouterr().err.splitlines()
    assert [("the hub's list" in one) for one in why] == [True]


def test_what_is_remembered_of_a_hub_that_says_too_much_at_once_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "PAGES_MAX", 1)
    here = Town("x", "me")

    async def main(node: Node) -> int:
        async def find(asker: NodeId, body: bytes) -> bytes:
            return wire.write(wire.Offers(NAMED, 1))

        here.world.transport(HUB).serve("find", find)
        return len(await _asked(node.place, Want("digits", limit=1 << 20)))  # type: ignore[arg-type]

    assert here.run(me=main)["me"] == wire.OFFERED
