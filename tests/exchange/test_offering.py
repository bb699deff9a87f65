"""More on offer than goes into one answer: what a shortlist is, and that who wants everything is given everything."""

from itertools import chain

import msgspec
import pytest

from kuberml.core.ids import Digest, NodeId
from kuberml.exchange import wire
from kuberml.exchange.broker import rank
from kuberml.exchange.continual.intake import Intake
from kuberml.exchange.desk import Desk
from kuberml.exchange.exact_head import ExactHead
from kuberml.exchange.gatherer import Gatherer
from kuberml.exchange.majority import Majority
from kuberml.exchange.node import Node
from kuberml.exchange.trial import TrialPlan
from kuberml.knowledge.card import SignedCard, Terms
from kuberml.knowledge.grid import Grid
from kuberml.knowledge.pack import make
from kuberml.knowledge.signing import sign_card
from kuberml.knowledge.want import Want
from tests.exchange.continual.edges import RULES
from tests.exchange.test_desk import MINE, publishes
from tests.exchange.town import BASIS, EXTRACTOR, HUB, Town, data, keys, statistics

MANY = 1500
EVERYTHING = Want("digits", limit=wire.OFFERED)
BASE = make("statistics", statistics(data("123")), keys=keys("a"), task="digits", slot="s", version=0, learned_at_ms=0).card


def cards(count: int, **changes: object) -> list[SignedCard]:
    """Cards by three authors, all held by x."""
    return [
        sign_card(msgspec.structs.replace(BASE, author=keys(name).public, slot=f"s{k}", **changes), keys(name))
        for k in range(count)
        for name in "abc"[k % 3]
    ]


def town(signed: list[SignedCard], *nodes: str, **places: dict[str, object]) -> Town:
    here = Town("x", *nodes, **places)
    for one in signed:
        here.catalog.add(one, NodeId("x"))
    return here


async def found(node: Node, want: Want, since: int) -> wire.Offers:
    body = wire.write(wire.Query(want, since))
    return wire.read(await node.place.transport.ask(HUB, "find", body, timeout_s=60), wire.Offers)


async def paged(node: Node, want: Want) -> list[list[Digest]]:
    """What is handed out to somebody who asks on, as a client of any age does, until nothing comes."""
    pages, since = list[list[Digest]](), 0
    while (answer := await found(node, want, since)).offers:
        pages.append([offer.signed.digest for offer in answer.offers])
        since = answer.upto
    return pages


def test_who_wants_everything_is_given_every_card_once() -> None:
    many = cards(MANY)
    pages = town(many, "me").run(me=lambda node: paged(node, EVERYTHING))["me"]
    assert [len(page) for page in pages] == [512, 512, MANY - 1024]
    assert sorted(chain(*pages)) == sorted(one.digest for one in many)
    assert pages[0] != [one.digest for one in many[:512]], "best first, within a page"


def test_a_shortlist_is_the_best_of_all_and_passes_over_the_rest() -> None:
    async def main(node: Node) -> None:
        answer = await found(node, Want("digits", limit=8), 0)
        assert [offer.signed for offer in answer.offers] == [offer.signed for offer in best]
        assert answer.upto == here.catalog.newest_number

    here, nobody = town(cards(100), "me"), Majority()
    best = rank(Want("digits", limit=8), here.catalog.candidates(EVERYTHING, 0), nobody.outcomes, nobody.rank_ppm)
    here.run(me=main)


@pytest.mark.parametrize("limit", [32, wire.OFFERED])
def test_what_found_no_room_in_one_answer_comes_with_the_next(limit: int) -> None:
    large = cards(20, labels={f"{k:04d} {'x' * 20}": 5 for k in range(8000)})
    assert sum(len(signed.encoded) for signed in large) > wire.LIMIT_BYTES
    pages = town(large, "me").run(me=lambda node: paged(node, Want("digits", limit=limit)))["me"]
    assert len(pages) > 1
    assert sorted(chain(*pages)) == sorted(one.digest for one in large)


def test_dear_cards_do_not_keep_the_affordable_out_of_sight() -> None:
    dear = cards(wire.OFFERED + 50, learned_at_ms=9)  # newer, so the catalog names them first
    blob = msgspec.structs.replace(BASE.blobs[0], size_bytes=1, cuts=(1,), pieces=bytes(32))
    small = sign_card(msgspec.structs.replace(BASE, slot="small", blobs=(blob,)), keys("a"))
    want = Want("digits", budget_bytes=100)
    assert town([*dear, small], "me").run(me=lambda node: paged(node, want))["me"] == [[small.digest]]


def test_a_cloud_hears_of_every_packet_in_one_look() -> None:
    many, heard = cards(MANY), list[Digest]()

    def wanted(signed: SignedCard) -> bool:
        heard.append(signed.digest)
        return False

    async def main(node: Node) -> None:
        await Intake(node, BASIS, 64, RULES, wanted=wanted, refuse=lambda signed, why: None).look()

    town(many, "me").run(me=main)
    assert sorted(heard) == sorted(one.digest for one in many)


def test_a_cloud_asks_for_no_more_than_it_has_room_for_and_goes_on_when_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from kuberml.exchange.continual import intake

    monkeypatch.setattr(intake, "WAITING_MAX", 1200)
    grid = Grid.of(RULES.clip, RULES.step_log2)
    facts = {"dims": 64, "step_log2": grid.step_log2, "clip": grid.clip, "profile": "exact"}
    many, refused = cards(MANY, facts={**BASE.facts, **facts}), list[str]()

    async def main(node: Node) -> int:
        here = Intake(node, BASIS, 64, RULES, wanted=lambda signed: True, refuse=lambda signed, why: refused.append(why))
        await here.look()
        assert len(told.of("found")) == 2
        await here.look()
        return len(told.of("found"))

    town_of_many = town(many, "me")
    told = town_of_many.notes["me"]
    assert town_of_many.run(me=main)["me"] == 3
    assert refused == []


def test_a_library_is_told_of_every_packet_in_one_look() -> None:
    many = cards(MANY, terms=Terms(licence="CC-BY-4.0"))  # none that it adds: only what it hears of counts here
    here = town(many, "me")
    here.run(me=lambda node: Gatherer(node, BASIS).look())
    assert sum(len(note["offers"]) for note in here.notes["me"].of("found")) == MANY


def test_a_desk_hears_of_what_stands_behind_the_best_when_those_are_dealt_with() -> None:
    async def main(node: Node) -> Desk:
        desk = Desk(node, await ExactHead.describe(node, EXTRACTOR, 5), TrialPlan())
        await desk.open()
        await node.sleep(30)
        for expected in (32, 40, 40):
            await desk.look()
            assert len(desk.offers) == expected
            await node.sleep(30)
        return desk

    here = Town("me", "a", me={"data": MINE})
    slots = tuple(f"slot-{k:02d}" for k in range(40))
    desk = here.run(me=main, a=publishes(statistics(data("34567", part=1)), slots=slots))["me"]
    assert len(desk.kept) + len(desk.waiting) + len(desk.refused) == 40
    assert len(here.notes["me"].of("found")) == 4, "once for each look, and once for the rest"


def test_a_hub_of_an_earlier_version_is_not_asked_for_ever() -> None:
    """It hands out 512 and says that this is all: then nothing more is to be had of it."""
    here = town(cards(600, terms=Terms(licence="CC-BY-4.0")), "me")

    async def main(node: Node) -> None:
        world, nobody = here.world.transport(HUB), Majority()

        async def find(asker: NodeId, body: bytes) -> bytes:
            query = wire.read(body, wire.Query)
            candidates = here.catalog.candidates(query.want, 0, since=query.since or 0)
            offers = rank(query.want, candidates, nobody.outcomes, nobody.rank_ppm)
            return wire.write(wire.Offers(tuple(offers), here.catalog.newest_number))

        world.serve("find", find)
        await Gatherer(node, BASIS).look()

    here.run(me=main)
    assert [len(note["offers"]) for note in here.notes["me"].of("found")] == [512, 0]
