"""The node over the real simulated world: asking, latest, subscribing, terms, budget."""

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec
import numpy as np
import pytest

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId, digest_of
from kuberml.exchange import wire
from kuberml.exchange.node import Node, OverBudget
from kuberml.knowledge.card import PPM, BlobRef, SignedCard, Terms
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.pack import make
from kuberml.knowledge.signing import sign_card
from kuberml.knowledge.verdict import Verdict, sign_verdict
from kuberml.knowledge.want import Offer, Want
from kuberml.worlds.simulated.faults import Fault
from tests.exchange.town import BASIS, HUB, Town, data, keys, publishes, statistics, stay

PEERS = ("a", "b", "c")
STATS = statistics(data("123"))
ANY = Want("digits")


def weights(number: float, size: int = 4) -> Weights:
    return Weights({"state": np.full(size, number, np.float32)})


def number(content: Any) -> float:
    return float(content.tensors["state"][0])


async def first(node: Node) -> Offer:
    """The only offer, when it has reached the hub."""
    await node.sleep(1)
    return (await node.find(ANY))[0]


# --- ask and serve ------------------------------------------------------------------------------------------------------------


def answers(value: float, after_s: float = 0.0) -> Any:
    async def main(node: Node) -> None:
        async def fit(asker: NodeId, about: Offer | None) -> Offer:
            await node.sleep(after_s)
            given = number(await node.fetch(about)) if about else 0.0
            return await node.publish(weights(value + given), slot="answer", version=0, listed=False)

        node.serve(fit=fit)

    return main


def test_answers_come_in_the_order_of_the_question_not_of_arrival() -> None:
    async def me(node: Node) -> list[tuple[str, float]]:
        await node.sleep(0.1)
        base = await node.publish(weights(0.5), slot="base", version=0, listed=False)
        order = (NodeId("c"), NodeId("a"), NodeId("b"))
        return [(o.holders[0], number(await node.fetch(o))) async for o in node.ask(order, "fit", base, timeout_s=60)]

    found = Town("me", *PEERS).run(me=me, a=answers(1, 9), b=answers(2), c=answers(3, 20))["me"]
    assert found == [("c", 3.5), ("a", 1.5), ("b", 2.5)]


def test_who_is_late_gone_silent_or_refuses_is_left_out_and_recorded() -> None:
    async def refuses(node: Node) -> None:
        async def fit(asker: NodeId, about: Offer | None) -> Offer:
            raise RemoteError("not today")

        node.serve(fit=fit)

    async def nothing(node: Node) -> None:
        async def fit(asker: NodeId, about: Offer | None) -> None:
            return None

        node.serve(fit=fit)

    async def me(node: Node) -> tuple[list[str], float]:
        await node.sleep(0.1)
        names = [NodeId(name) for name in ("late", "gone", "silent", "refuses", "nothing", "good")]
        found = [o.holders[0] async for o in node.ask(names, "fit", None, timeout_s=10)]
        return found, node.clock.now_ns() / 1e9

    here = Town(
        "me", "late", "gone", "silent", "refuses", "nothing", "good", faults=[Fault(at_s=0.0, what="leave", nodes=("gone",))]
    )
    found, when_s = here.run(
        me=me, late=answers(1, 100), silent=stay, refuses=refuses, nothing=nothing, good=answers(2)
    )["me"]  # fmt: skip
    assert found == ["good"]
    assert when_s == pytest.approx(10.1, abs=0.2)  # all at once: patience is not added up
    why = {note["of"]: note["why"] for note in here.notes["me"].of("unanswered")}
    assert set(why) == {"late", "gone", "silent", "refuses"}
    assert "not today" in why["refuses"]


def test_a_forged_card_in_an_answer_is_ignored() -> None:
    card = make("weights", weights(9), keys=keys("b"), task="digits", slot="answer", version=0, learned_at_ms=0).card
    forged = SignedCard(card, sign_card(card, keys("a")).signature)  # signed by a, and says it is by b

    async def forges(node: Node) -> None:
        async def fit(asker: NodeId, about: Offer | None) -> Offer:
            return Offer(forged, (node.id,), 0, 0, 0)

        node.serve(fit=fit)

    async def me(node: Node) -> list[str]:
        await node.sleep(0.1)
        return [o.holders[0] async for o in node.ask([NodeId("a"), NodeId("b")], "fit", None, timeout_s=10)]

    here = Town("me", "a", "b")
    assert here.run(me=me, a=forges, b=answers(1))["me"] == ["b"]
    assert "signature" in here.notes["me"].of("unanswered")[0]["why"]


def test_a_forged_card_in_a_question_is_refused_by_who_is_asked() -> None:
    card = make("weights", weights(9), keys=keys("b"), task="digits", slot="x", version=0, learned_at_ms=0).card
    forged = Offer(SignedCard(card, bytes(64)), (NodeId("me"),), 0, 0, 0)

    async def me(node: Node) -> int:
        await node.sleep(0.1)
        return len([o async for o in node.ask([NodeId("a")], "fit", forged, timeout_s=10)])

    here = Town("me", "a")
    assert here.run(me=me, a=answers(1))["me"] == 0
    assert "signature" in here.notes["me"].of("unanswered")[0]["why"]


# --- latest -------------------------------------------------------------------------------------------------------------------


def writes(*versions: tuple[float, int], slot: str = "model") -> Any:
    """Publishes versions at times."""

    async def main(node: Node) -> None:
        for at_s, version in versions:
            await node.sleep(at_s - node.clock.now_ns() / 1e9)
            await node.publish(weights(version), slot=slot, version=version, listed=False)

    return main


def test_latest_is_in_node_order_and_of_a_late_peer_the_cached_copy() -> None:
    cut = Fault(at_s=10.0, what="partition", nodes=("b",), until_s=1000.0)

    async def me(node: Node) -> list[list[tuple[str, int]]]:
        found = []
        for at_s in (5.0, 50.0):
            await node.sleep(at_s - node.clock.now_ns() / 1e9)
            near = await node.latest([NodeId("c"), NodeId("b"), NodeId("a")], slot="model", timeout_s=20)
            found.append([(o.holders[0], o.signed.card.version) for o in near])
        return found

    here = Town("me", *PEERS, faults=[cut])
    found = here.run(me=me, a=writes((0, 0), (30, 1)), b=writes((0, 0), (20, 1)), c=writes((0, 0), (40, 1)))["me"]
    assert found == [[("c", 0), ("b", 0), ("a", 0)], [("c", 1), ("b", 0), ("a", 1)]]


def test_at_least_waits_for_a_version_and_no_longer_than_patience() -> None:
    async def me(node: Node) -> tuple[list[int], float, list[int]]:
        found = await node.latest([NodeId("a")], slot="model", timeout_s=100, at_least=2)
        when_s = node.clock.now_ns() / 1e9
        none = await node.latest([NodeId("b")], slot="model", timeout_s=5, at_least=2)
        return [o.signed.card.version for o in found], when_s, [o.signed.card.version for o in none]

    found = Town("me", "a", "b").run(me=me, a=writes((0, 0), (10, 1), (30, 2)), b=writes((0, 1)))["me"]
    assert found[0] == [2]
    assert 30 <= found[1] < 31
    assert found[2] == []


def test_a_peer_that_never_wrote_is_left_out() -> None:
    async def me(node: Node) -> list[str]:
        await node.sleep(1)
        return [o.holders[0] for o in await node.latest([NodeId("a"), NodeId("b")], slot="model", timeout_s=5)]

    assert Town("me", "a", "b").run(me=me, a=stay, b=writes((0, 0)))["me"] == ["b"]


def test_another_slot_or_an_older_version_is_not_the_newest() -> None:
    """A peer that answers with something else, or with what it said before, does not displace what is known."""

    async def cheat(node: Node) -> None:
        old = await node.publish(weights(1), slot="model", version=1, listed=False)
        new = await node.publish(weights(5), slot="model", version=5, listed=False)
        other = await node.publish(weights(7), slot="other", version=7, listed=False)
        said = iter([new, old, other])

        async def answer(asker: NodeId, body: bytes) -> bytes:
            return wire.write(wire.Reply(next(said).signed))

        node.place.transport.serve("latest", answer)

    async def me(node: Node) -> list[tuple[str, int]]:
        await node.sleep(1)
        found = []
        for _ in range(3):
            offers = await node.latest([NodeId("a")], slot="model", timeout_s=5)
            found += [(o.signed.card.slot, o.signed.card.version) for o in offers]
        return found

    assert Town("me", "a").run(me=me, a=cheat)["me"] == [("model", 5)] * 3


def test_what_was_published_is_served_again_after_a_crash() -> None:
    """A process that comes back serves what its store holds, before it publishes anything new."""

    async def writes_once(node: Node) -> None:
        if "written" not in node.memory:
            await node.publish(weights(4), slot="model", version=4, listed=False)
            node.memory.written = True
        await node.sleep(100)

    async def me(node: Node) -> list[int]:
        await node.sleep(20)
        return [o.signed.card.version for o in await node.latest([NodeId("a")], slot="model", timeout_s=5, at_least=4)]

    here = Town("me", "a", faults=[Fault(at_s=10.0, what="crash", nodes=("a",), until_s=12.0)])
    assert here.run(me=me, a=writes_once)["me"] == [4]


# --- find, fetch, terms -------------------------------------------------------------------------------------------------------


def test_what_one_publishes_another_finds_and_opens() -> None:
    async def me(node: Node) -> Any:
        offer = await first(node)
        assert await node.fetch(offer) is not None
        assert node.received_bytes > offer.signed.card.size_bytes
        assert list(node.place.store.cards()) == [offer.signed.digest]
        return await node.fetch(offer)

    found = Town("me", "a").run(me=me, a=publishes(STATS))["me"]
    np.testing.assert_array_equal(found.gram_dd, STATS.gram_dd)


def test_own_knowledge_is_not_offered_back() -> None:
    async def me(node: Node) -> list[str]:
        await node.publish(STATS, slot="shard", version=0)
        await node.sleep(1)
        return [o.signed.card.author for o in await node.find(ANY)]

    assert Town("me", "a").run(me=me, a=publishes(STATS))["me"] == [keys("a").public]


def test_without_a_hub_nothing_is_found_and_work_goes_on() -> None:
    async def me(node: Node) -> Any:
        await node.publish(STATS, slot="shard", version=0)
        return await node.find(ANY), await node.verdicts([], 7)

    here = Town("me", faults=[Fault(at_s=0.0, what="leave", nodes=(HUB,))])
    assert here.run(me=me)["me"] == ([], ([], 7))
    assert {note["asked"] for note in here.notes["me"].of("hub")} == {"announce", "find", "verdicts"}


FORBIDDEN = [Terms(purposes=("research",)), Terms(regions=("eu",)), Terms(expires_at_ms=1500), Terms(licence="secret")]


@pytest.mark.parametrize("terms", FORBIDDEN)
def test_terms_are_enforced_when_something_is_found(terms: Terms) -> None:
    async def me(node: Node) -> list[Offer]:
        await node.sleep(2)
        return await node.find(ANY)

    here = Town("me", "a", me={"purpose": "advertising", "region": "us", "licences": ("CC-BY-4.0",)})
    assert here.run(me=me, a=publishes(STATS, terms=terms))["me"] == []


@pytest.mark.parametrize("terms", FORBIDDEN)
def test_a_hub_that_does_not_care_about_terms_is_not_believed(terms: Terms) -> None:
    """The want that goes out says nothing of who asks, so the hub lets the card through; the node does not."""

    async def me(node: Node) -> tuple[list[Offer], str]:
        await node.sleep(2)
        offer = Offer(here.catalog.card(next(here.catalog.cards()).digest), (NodeId("a"),), 0, 0, 0)  # type: ignore[arg-type]
        body = wire.write(wire.Query(Want("digits", purpose="research", region="eu")))
        assert wire.read(await node.place.transport.ask(HUB, "find", body, timeout_s=9), wire.Offers).offers or (
            terms.expires_at_ms is not None
        )
        with pytest.raises(RemoteError) as error:
            await node.fetch(offer)
        assert node.received_bytes == 0  # before a byte was moved
        return await node.find(Want("digits", purpose="research", region="eu")), str(error.value)

    here = Town("me", "a", me={"purpose": "advertising", "region": "us", "licences": ("CC-BY-4.0",)})
    found, why = here.run(me=me, a=publishes(STATS, terms=terms))["me"]
    assert found == []
    assert "terms" in why


def test_terms_that_allow_it_let_it_through() -> None:
    async def me(node: Node) -> Any:
        await node.sleep(2)
        return await node.fetch((await node.find(Want("digits", purpose="research", region="eu")))[0])

    terms = Terms(licence="CC-BY-4.0", purposes=("research",), regions=("eu", "us"), expires_at_ms=10**9)
    who = {"purpose": "research", "region": "eu", "licences": ("CC-BY-4.0", "MIT")}
    assert Town("me", "a", me=who).run(me=me, a=publishes(STATS, terms=terms))["me"]


def test_what_does_not_open_leaves_no_trace() -> None:
    """Bytes that are what the author signed, and still no package: NaN where statistics must be."""
    good = make("weights", weights(1), keys=keys("a"), task="digits", slot="s", version=0, learned_at_ms=0)
    bad = sign_card(msgspec.structs.replace(good.card, kind="statistics", basis=BASIS), keys("a"))

    async def cheat(node: Node) -> None:
        for blob in good.blobs:
            node.place.store.put(blob)

    async def me(node: Node) -> None:
        await node.sleep(0.1)
        with pytest.raises(RemoteError):
            await node.fetch(Offer(bad, (NodeId("a"),), 0, 0, 0))
        assert list(node.place.store.cards()) == []
        assert node.place.store.size_bytes(bad.card.blobs[0].digest) is None

    Town("me", "a").run(me=me, a=cheat)


REF = BlobRef(Digest("0" * 64), 10, (10,), bytes(32))


@pytest.mark.parametrize(
    "ref",
    [
        BlobRef(REF.digest, 0, (), b""),
        BlobRef(REF.digest, 10, (), b""),
        BlobRef(REF.digest, 10, (5, 5, 10), bytes(96)),
        BlobRef(REF.digest, 10, (10, 5, 10), bytes(96)),
        BlobRef(REF.digest, 10, (-5, 10), bytes(64)),
        BlobRef(REF.digest, 10, (10,), b"short"),
        BlobRef(REF.digest, 1 << 60, (1 << 60,), bytes(32)),
        BlobRef(Digest("../../etc/passwd"), 10, (10,), bytes(32)),
    ],
)
def test_a_card_that_cannot_be_is_refused_before_a_byte_is_asked_for(ref: BlobRef) -> None:
    good = make("weights", weights(1), keys=keys("a"), task="digits", slot="s", version=0, learned_at_ms=0)
    bad = sign_card(msgspec.structs.replace(good.card, blobs=(ref,)), keys("a"))

    async def me(node: Node) -> None:
        await node.sleep(0.1)
        with pytest.raises(RemoteError):
            await node.fetch(Offer(bad, (NodeId("a"),), 0, 0, 0))
        assert node.received_bytes == 0

    Town("me", "a").run(me=me, a=stay)


# --- the budget ---------------------------------------------------------------------------------------------------------------


def test_a_budget_ends_delivery_and_is_never_passed_by_more_than_one_window() -> None:
    async def me(node: Node) -> tuple[int, int | None]:
        await node.sleep(2)
        offer = (await node.find(ANY))[0]
        with pytest.raises(OverBudget, match="its budget is 9000"):
            await node.fetch(offer)
        assert list(node.place.store.cards()) == []
        with pytest.raises(OverBudget):  # and nothing more afterwards
            await node.find(ANY)
        return node.received_bytes, node.left_bytes

    here = Town("me", "a", me={"budget_bytes": 9000})
    received, left = here.run(me=me, a=publishes(weights(1, 4000)))["me"]
    assert left == 0
    assert received > 9000


def test_a_crash_does_not_give_the_budget_back() -> None:
    async def me(node: Node) -> tuple[int, int]:
        before = node.received_bytes
        await node.sleep(2 if not before else 0)
        await node.fetch((await node.find(ANY))[0])
        node.memory.update(times=node.memory.get("times", 0) + 1)
        if node.memory.times == 1:
            await node.sleep(100)
        return before, node.received_bytes

    here = Town("me", "a", me={"budget_bytes": 100_000}, faults=[Fault(at_s=10.0, what="crash", nodes=("me",))])
    before, after = here.run(me=me, a=publishes(STATS))["me"]
    assert before > 3000
    assert after > before
    assert after < 2 * before  # the blob itself is in the store already


def test_everything_that_is_received_counts() -> None:
    """Requests, answers, cards and blobs: within a header of what the network carried."""

    async def me(node: Node) -> int:
        node.serve(fit=lambda asker, about: asyncio.sleep(0))
        await node.publish(weights(0), slot="model", version=0, listed=False)
        offer = await first(node)
        await node.fetch(offer)
        await node.latest([NodeId("a")], slot="shard", timeout_s=5)
        await node.sleep(5)
        return node.received_bytes

    async def a(node: Node) -> None:
        await node.publish(STATS, slot="shard", version=0)
        await node.sleep(3)
        [o async for o in node.ask([NodeId("me")], "fit", None, timeout_s=5)]
        await node.latest([NodeId("me")], slot="model", timeout_s=5)

    here = Town("me", "a")
    counted = here.run(me=me, a=a)["me"]
    traffic = here.world.traffic(NodeId("me"))
    carried = traffic.received_control + traffic.received_blob
    assert carried - 12 * 200 < counted <= carried


# --- subscribe ----------------------------------------------------------------------------------------------------------------


def test_a_subscription_yields_what_fits_the_want_and_nothing_else() -> None:
    want = Want("digits", {"3": PPM}, kinds=("statistics",), bases=(BASIS,), standing=True, newer_than_ms=1)

    async def me(node: Node) -> list[str]:
        heard = []
        await node.publish(STATS, slot="mine", version=0)
        async for offer in node.subscribe(want):
            heard.append(offer.holders[0] + offer.signed.card.slot)
            if len(heard) == 2:
                return heard
        return heard

    async def noise(node: Node) -> None:
        await node.sleep(1)
        await node.publish(statistics(data("78")), slot="other-labels", version=0)
        await node.publish(weights(3), slot="other-kind", version=0)
        await node.publish(statistics(data("38")), slot="good", version=0)
        await node.publish(STATS, slot="forbidden", version=0, terms=Terms(purposes=("war",)))
        await node.publish(STATS, slot="old", version=0, learned_at_ms=0)
        await node.place.transport.announce("cards/digits", b"noise")
        await node.place.transport.announce("cards/digits", wire.write(wire.Announcement(forged(), node.id)))
        await node.publish(STATS, slot="good2", version=0)

    def forged() -> SignedCard:
        card = make("statistics", STATS, keys=keys("b"), task="digits", slot="forged", version=0, learned_at_ms=5).card
        return SignedCard(card, bytes(64))

    here = Town("me", "a")
    assert here.run(me=me, a=noise)["me"] == ["agood", "agood2"]
    assert len(here.notes["me"].of("ignored")) == 3  # the noise, the forged card, the forbidden one


def test_who_stops_listening_is_sent_nothing_any_more() -> None:
    async def me(node: Node) -> list[int]:
        received = []
        for _ in range(3):
            async with aclosing(node.subscribe(Want("digits"))) as heard:  # type: ignore[type-var]
                async for _ in heard:
                    break
            before = here.world.traffic(node.id).received_control
            await node.sleep(50)
            received.append(here.world.traffic(node.id).received_control - before)
        return received

    async def other(node: Node) -> None:
        for version in range(20):
            await node.sleep(10)
            await node.publish(STATS, slot="slot", version=version)

    here = Town("me", "a")
    assert here.run(me=me, a=other)["me"] == [0, 0, 0]


# --- the hub is somebody else too ---------------------------------------------------------------------------------------------


def test_verdicts_are_asked_for_from_the_beginning_when_the_clock_of_the_hub_was_ahead_and_is_put_right() -> None:
    asked: list[int] = []

    async def hub_without_clock(node: Node) -> None:
        async def board(asker: NodeId, body: bytes) -> bytes:
            asked.append(wire.read(body, wire.About).since_ms)
            return wire.write(wire.Board((), 1_000))

        node.place.transport.serve("verdicts", board)

    async def me(node: Node) -> Any:
        await node.sleep(0.1)
        return await node.verdicts([], 500), await node.verdicts([], 9_000_000)

    here = Town("me", "clock", me={"hub": NodeId("clock")})
    assert here.run(me=me, clock=hub_without_clock)["me"] == (([], 1_000), ([], 1_000))
    assert asked == [500, 9_000_000, 0]


def test_verdicts_on_more_cards_than_a_message_can_name_are_heard() -> None:
    """A receiver that has seen 70,000 packages asks about them in several questions."""

    async def witness(node: Node) -> None:
        card = (await first(node)).signed
        word = Verdict(card.digest, card.card.author, node.author, {"1": 7}, {"1": 7}, node.now_ms)
        await node.testify(sign_verdict(word, node.place.keys))

    async def me(node: Node) -> Any:
        await node.sleep(5)
        others = [digest_of(str(each).encode()) for each in range(70_000)]
        return await node.verdicts([(await first(node)).signed.digest, *others])

    heard, as_of_ms = Town("me", "a", "w").run(me=me, a=publishes(STATS), w=witness)["me"]
    assert [one.verdict.witness for one in heard] == [keys("w").public]
    assert as_of_ms > 0


@pytest.mark.parametrize("answer", [b"", b"\0", b"noise", wire.write(wire.Reply())])
def test_a_hub_that_talks_nonsense_is_as_good_as_none(answer: bytes) -> None:
    async def false_hub(node: Node) -> None:
        async def nonsense(asker: NodeId, body: bytes) -> bytes:
            return answer

        for name in ("announce", "find", "verdicts"):
            node.place.transport.serve(name, nonsense)

    async def me(node: Node) -> Any:
        await node.sleep(0.1)
        await node.publish(STATS, slot="shard", version=0)
        return await node.find(ANY), await node.verdicts([], 7)

    here = Town("me", "false", me={"hub": NodeId("false")})
    assert here.run(me=me, **{"false": false_hub})["me"] == ([], ([], 7))


def test_nobody_there_to_fetch_from_is_unreachable() -> None:
    offer = make("weights", weights(1), keys=keys("a"), task="digits", slot="s", version=0, learned_at_ms=0)

    async def me(node: Node) -> None:
        with pytest.raises(Unreachable):
            await node.fetch(Offer(offer.signed, (NodeId("nobody"),), 0, 0, 0))

    Town("me").run(me=me)


def test_a_card_whose_pieces_are_not_those_of_a_blob_that_is_here_is_refused() -> None:
    good = make("weights", weights(1), keys=keys("a"), task="digits", slot="s", version=0, learned_at_ms=0)
    wrong = msgspec.structs.replace(good.card.blobs[0], pieces=bytes(len(good.card.blobs[0].pieces)))
    bad = sign_card(msgspec.structs.replace(good.card, blobs=(wrong,)), keys("a"))

    async def me(node: Node) -> None:
        node.place.store.put(good.blobs[0])
        with pytest.raises(RemoteError, match="is not what its author signed"):
            await node.fetch(Offer(bad, (NodeId("a"),), 0, 0, 0))
        assert list(node.place.store.cards()) == []

    Town("me", "a").run(me=me, a=stay)
