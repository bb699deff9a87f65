"""The hub over the real simulated world: who may say what there, and what it passes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kuberml.core import canonical
from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest, NodeId
from kuberml.exchange import hub as hubs
from kuberml.exchange import wire
from kuberml.exchange.node import Node
from kuberml.knowledge.card import PPM, Card, Claim, Knowledge, SignedCard
from kuberml.knowledge.fraud import SignedFraudProof, accuse
from kuberml.knowledge.kinds.probe import Probe, probe_from, probe_of
from kuberml.knowledge.pack import make
from kuberml.knowledge.signing import Keys, sign_card
from kuberml.knowledge.verdict import SignedVerdict, Verdict, sign_verdict
from kuberml.knowledge.want import Want
from kuberml.knowledge.withdrawal import SignedWithdrawal, Withdrawal, sign_withdrawal
from kuberml.learning.datasets import samples
from kuberml.vault import board as boards
from kuberml.vault.board import Board
from kuberml.vault.catalog import Catalog
from tests.exchange.town import HUB, Town, data, keys, statistics, stay

STATS = statistics(data("123"))
ANY = Want("digits")


def package(author: str = "a", version: int = 0, claims: tuple[Claim, ...] = ()) -> Knowledge:
    return make(
        "statistics", STATS, keys=keys(author), task="digits", slot="shard", version=version, learned_at_ms=0, claims=claims
    )


def announcement(signed: SignedCard, holder: str, keep: int = 1) -> bytes:
    return wire.write(wire.Announcement(signed, NodeId(holder), keep))


async def tell(node: Node, name: str, body: bytes) -> bytes:
    return await node.place.transport.ask(HUB, name, body, timeout_s=9)


async def offered(node: Node) -> list[tuple[int, tuple[str, ...]]]:
    answer = wire.read(await tell(node, "find", wire.write(wire.Query(ANY))), wire.Offers)
    return [(offer.signed.card.version, offer.holders) for offer in answer.offers]


def verdict(about: Card, witness: str = "w", right: int = 9, at_ms: int = 0, author: str = "") -> SignedVerdict:
    return sign_verdict(
        Verdict(about.digest, author or about.author, keys(witness).public, {"1": 10}, {"1": right}, at_ms), keys(witness)
    )


def alone(main: Callable[[Node], Any]) -> Town:
    here = Town("a", "b")
    here.run(a=main, b=stay)
    return here


# --- announcements ------------------------------------------------------------------------------------------------------------


def test_a_node_announces_only_what_it_holds_itself() -> None:
    async def main(node: Node) -> None:
        with pytest.raises(RemoteError, match="announces for b"):
            await tell(node, "announce", announcement(package().signed, "b"))
        assert await offered(node) == []

    alone(main)


def test_a_copy_may_be_announced_by_who_holds_it() -> None:
    async def main(node: Node) -> None:
        await tell(node, "announce", announcement(package("b").signed, "a"))
        await tell(node, "announce", announcement(package("c").signed, "a"))

    assert sum(1 for _ in alone(main).catalog.cards()) == 2


def test_a_replay_changes_nothing_and_a_downgrade_is_refused() -> None:
    async def main(node: Node) -> None:
        for version in (0, 1):
            await tell(node, "announce", announcement(package("b", version).signed, "a"))
        await tell(node, "announce", announcement(package("b", 1).signed, "a"))  # again
        with pytest.raises(RemoteError, match="older than version 1"):
            await tell(node, "announce", announcement(package("b", 0).signed, "a"))

    assert [signed.card.version for signed in alone(main).catalog.cards()] == [1]


def test_a_second_card_of_one_version_is_refused() -> None:
    other = sign_card(msgspec.structs.replace(package().card, learned_at_ms=7), keys("a"))

    async def main(node: Node) -> None:
        await tell(node, "announce", announcement(package().signed, "a"))
        with pytest.raises(RemoteError, match="the first stays"):
            await tell(node, "announce", announcement(other, "a"))

    assert next(alone(main).catalog.cards()) == package().signed


IMPOSSIBLE: list[dict[str, Any]] = [
    {"version": -1},
    {"version": 2**64 - 1},
    {"learned_at_ms": 2**64 - 1},
    {"labels": {"1": -20}},
    {"labels": {"1": 2**64 - 1}, "version": 2**63},
    {"flops": -1},
    {"blobs": ()},
    {"task": ""},
    {"schema": "kuberml.card/9"},
    {"claims": (Claim(Digest("0" * 64), {"1": PPM * 1000}),)},
    {"claims": (Claim(Digest("0" * 64), {"1": -1}),)},
    {"author": "nobody"},
]


@pytest.mark.parametrize("changed", IMPOSSIBLE, ids="-".join)
def test_a_card_that_cannot_be_is_refused_and_the_hub_lives_on(changed: dict[str, Any]) -> None:
    bad = sign_card(msgspec.structs.replace(package().card, **changed), keys("a"))

    async def main(node: Node) -> None:
        if changed == {"blobs": ()}:
            await tell(node, "announce", announcement(bad, "a"))  # nothing wrong with a card that only says something
        else:
            with pytest.raises(RemoteError):
                await tell(node, "announce", announcement(bad, "a"))
        await tell(node, "announce", announcement(package("b").signed, "a"))
        assert len(await offered(node)) <= 1

    alone(main)


@pytest.mark.parametrize("keep", [0, -1, 2**63, 2**64 - 1])
def test_keeping_nothing_or_everything_does_not_break_the_hub(keep: int) -> None:
    async def main(node: Node) -> None:
        try:
            await tell(node, "announce", announcement(package().signed, "a", keep))
        except RemoteError:
            assert keep < 1
        await tell(node, "announce", announcement(package("b").signed, "a"))

    alone(main)


@pytest.mark.parametrize(
    "want",
    [
        Want("digits", limit=-1),
        Want("digits", limit=2**63),
        Want("digits", {"1": -PPM}),
        Want("digits", {"1": 0}),
        Want("digits", {"1": 2**64 - 1}, budget_bytes=2**64 - 1),
        Want("digits", budget_bytes=-5),
        Want("digits", budget_bytes=0, budget_ms=0, budget_mj=0, ms_per_mb=2**63, mj_per_mb=2**63),
        Want("digits", newer_than_ms=2**64 - 1),
        Want("digits", newer_than_ms=-(2**63)),
        Want("digits'; DROP TABLE cards; --", {"' OR 1=1 --": PPM}),
        Want("\0", {"\ud7ff": PPM}),
    ],
)
def test_no_want_breaks_the_hub(want: Want) -> None:
    async def main(node: Node) -> None:
        await tell(node, "announce", announcement(package("b").signed, "a"))
        await tell(node, "announce", announcement(package("c").signed, "a"))

    async def asks(node: Node) -> int:
        await node.sleep(1)
        wire.read(await tell(node, "find", wire.write(wire.Query(want))), wire.Offers)
        return len(await offered(node))

    assert Town("a", "b").run(a=main, b=asks)["b"] == 2


def test_large_cards_do_not_make_an_answer_too_long_to_be_read() -> None:
    many = {f"{k:04d} {'x' * 20}": 5 for k in range(8000)}
    large = [sign_card(msgspec.structs.replace(package().card, labels=many, slot=f"s{k}"), keys("a")) for k in range(20)]
    assert sum(len(signed.encoded) for signed in large) > wire.LIMIT_BYTES

    async def main(node: Node) -> None:
        for signed in large:
            await tell(node, "announce", announcement(signed, "a"))
        await tell(node, "announce", announcement(package("b").signed, "a"))
        holders = [holders for _, holders in await offered(node)]
        assert holders == []

    async def asks(node: Node) -> None:
        await node.sleep(60)
        answer = wire.read(await tell(node, "find", wire.write(wire.Query(ANY))), wire.Offers)
        assert 10 < len(answer.offers) < len(large)
        assert package("b").signed in [offer.signed for offer in answer.offers], "a small one still has room"

    Town("a", "b").run(a=main, b=asks)


@pytest.mark.parametrize("name", ["announce", "find", "verdict", "verdicts", "fraud"])
@pytest.mark.parametrize("body", [b"", b"\0", b"noise", bytes(1000), b"\1" + bytes(1000)])
def test_noise_is_refused(name: str, body: bytes) -> None:
    async def main(node: Node) -> None:
        with pytest.raises(RemoteError):
            await tell(node, name, body)

    alone(main)


# --- the verdict board --------------------------------------------------------------------------------------------------------


async def board(node: Node, since_ms: int = 0) -> wire.Board:
    body = wire.write(wire.About((package().card.digest,), since_ms))
    return wire.read(await tell(node, "verdicts", body), wire.Board)


def judged(*steps: tuple[SignedVerdict, str]) -> list[SignedVerdict]:
    """Put verdicts to the board; each with what the refusal says, or "" if it is taken. What it shows then."""

    async def main(node: Node) -> list[SignedVerdict]:
        await tell(node, "announce", announcement(package().signed, "a"))
        for signed, refusal in steps:
            if refusal:
                with pytest.raises(RemoteError, match=refusal):
                    await tell(node, "verdict", wire.write(signed))
            else:
                await tell(node, "verdict", wire.write(signed))
        return list((await board(node)).verdicts)

    return Town("a").run(a=main)["a"]


def test_a_witness_s_newest_verdict_counts_and_an_old_one_does_not_come_back() -> None:
    old, new = verdict(package().card, right=9, at_ms=1), verdict(package().card, right=2, at_ms=2)
    assert judged((old, ""), (new, "")) == [new]
    assert judged((new, ""), (old, "older than its witness's last one")) == [new]
    assert judged((new, ""), (new, "")) == [new]


def test_verdicts_that_nobody_may_give_are_refused() -> None:
    card = package().card
    good = verdict(card)
    forged = msgspec.structs.replace(good, signature=verdict(card, right=1).signature)
    elsewhere = verdict(package("c").card)
    slander = verdict(card, author=keys("honest").public, right=0)
    vouching = SignedVerdict(Verdict(card.digest, card.author, card.author, {"1": 10}, {"1": 10}, 0), bytes(64))
    impossible = SignedVerdict(msgspec.structs.replace(good.verdict, correct={"1": 11}), good.signature)
    found = judged(
        (forged, "signature"),
        (elsewhere, "not in the catalog"),
        (slander, "on a card by"),
        (vouching, "vouch for itself"),
        (impossible, "cannot be"),
        (good, ""),
    )
    assert found == [good]


def test_the_board_keeps_so_many_witnesses_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "MAX_WITNESSES", 3)
    card = package().card
    first = [verdict(card, f"w{i}") for i in range(3)]
    again = verdict(card, "w1", right=1, at_ms=5)
    found = judged(*((one, "") for one in first), (verdict(card, "w3"), "keeps 3 verdicts"), (again, ""))
    assert sorted(one.verdict.witness for one in found) == sorted(keys(f"w{i}").public for i in range(3))
    assert again in found


def test_only_what_is_new_is_told() -> None:
    async def main(node: Node) -> tuple[int, int, int]:
        await tell(node, "announce", announcement(package().signed, "a"))
        await tell(node, "verdict", wire.write(verdict(package().card)))
        first = await board(node)
        await node.sleep(1)
        second = await board(node, first.as_of_ms + 1)
        await tell(node, "verdict", wire.write(verdict(package().card, "v")))
        third = await board(node, second.as_of_ms)
        return len(first.verdicts), len(second.verdicts), len(third.verdicts)

    assert Town("a").run(a=main)["a"] == (1, 0, 1)


def test_what_witnesses_find_moves_a_card_down() -> None:
    """Six packages, equal but for their authors; three witnesses find two of them wrong."""

    async def main(node: Node) -> list[str]:
        for author in "ghijkl":
            await tell(node, "announce", announcement(package(author).signed, "a"))
        for witness in ("w1", "w2", "w3"):
            for author in "ghijkl":
                await tell(node, "verdict", wire.write(verdict(package(author).card, witness, 0 if author in "gh" else 10)))
        return []

    async def asks(node: Node) -> list[str]:
        await node.sleep(5)
        query = wire.write(wire.Query(Want("digits", {"1": PPM})))
        answer = wire.read(await tell(node, "find", query), wire.Offers)
        names = {keys(author).public: author for author in "ghijkl"}
        return [names[offer.signed.card.author] for offer in answer.offers]

    order = Town("a", "b").run(a=main, b=asks)["b"]
    assert sorted(order) == list("ghijkl")
    assert sorted(order[4:]) == ["g", "h"]


# --- accusations --------------------------------------------------------------------------------------------------------------


def some_probe() -> Probe:
    part = samples(data("123", part=1).train)
    return probe_from(part.x_N, [part.labels[y] for y in part.y_N], levels=16)


PROBE = some_probe()
BOAST = package("a", claims=(Claim(probe_of(PROBE), {"1": PPM, "2": PPM, "3": PPM}),)).signed


def accusation(accuser: Keys | None = None) -> SignedFraudProof:
    return accuse(BOAST, PROBE, {"1": 0, "2": 0, "3": 0}, keys=accuser or keys("b"), at_ms=0)


def heard(body: bytes, *, refusal: str = "") -> list[bytes]:
    """What a subscriber to accusations hears when `b` sends this to the hub."""
    found: list[bytes] = []

    async def listens(node: Node) -> None:
        async for _, said in node.place.transport.subscribe("fraud/digits"):
            found.append(said)

    async def accuses(node: Node) -> None:
        await node.sleep(1)
        if refusal:
            with pytest.raises(RemoteError, match=refusal):
                await tell(node, "fraud", body)
        else:
            await tell(node, "fraud", body)

    Town("a", "b").outcome(a=listens, b=accuses, until_s=60)
    return found


def test_an_accusation_is_passed_on_as_it_was_signed() -> None:
    body = wire.write(accusation())
    assert heard(body) == [body]


@pytest.mark.parametrize("what", ["accuser", "accused", "numbers", "nobody"])
def test_an_accusation_with_a_bad_signature_is_not_passed_on(what: str) -> None:
    good = accusation()
    proof = good.proof
    changed = {
        "accuser": msgspec.structs.replace(proof, accuser=keys("a").public),
        "accused": msgspec.structs.replace(proof, accused=SignedCard(BOAST.card, bytes(64))),
        "numbers": msgspec.structs.replace(proof, recall_ppm={"1": 1, "2": 0, "3": 0}),
        "nobody": msgspec.structs.replace(proof, accuser="nobody"),
    }[what]
    assert heard(wire.write(SignedFraudProof(changed, good.signature)), refusal="signature") == []


# --- withdrawals --------------------------------------------------------------------------------------------------------------


def test_cards_are_found_by_the_beginning_of_their_digest() -> None:
    async def main(node: Node) -> None:
        signed = package().signed
        await tell(node, "announce", announcement(signed, "a"))
        for start, cards in ((signed.digest[:4], [signed]), (signed.digest, [signed]), ("0" * 64, [])):
            answer = wire.read(await tell(node, "cards", wire.write(wire.Named(start))), wire.Offers)
            assert [(offer.signed, offer.holders) for offer in answer.offers] == [(one, (NodeId("a"),)) for one in cards]
        for start in ("", "abc", "xxxx", "%" * 8, "f" * 65):
            with pytest.raises(RemoteError):
                await tell(node, "cards", wire.write(wire.Named(start)))

    alone(main)


def withdrawal(author: str = "b", version: int = 1) -> SignedWithdrawal:
    return sign_withdrawal(Withdrawal(keys(author).public, "digits", "shard", version), keys(author))


def test_what_its_author_takes_back_is_gone_for_good_and_saying_it_twice_is_saying_it_once() -> None:
    body = wire.write(withdrawal())
    heard_of: list[bytes] = []

    async def main(node: Node) -> list[tuple[int, tuple[str, ...]]]:
        await node.sleep(1)
        for version in (0, 1):
            await tell(node, "announce", announcement(package("b", version).signed, "a"))
        await tell(node, "announce", announcement(package("c").signed, "a"))
        for _ in range(2):
            await tell(node, "withdraw", body)
        with pytest.raises(RemoteError, match="withdrawn by its author"):
            await tell(node, "announce", announcement(package("b", 1).signed, "a"))
        await tell(node, "announce", announcement(package("b", 2).signed, "a"))
        return []

    async def listens(node: Node) -> None:
        async for _, said in node.place.transport.subscribe("withdrawn/digits"):
            heard_of.append(said)

    here = Town("a", "b")
    here.outcome(a=main, b=listens, until_s=60)
    assert sorted((s.card.author, s.card.version) for s in here.catalog.cards()) == sorted(
        [(keys("b").public, 2), (keys("c").public, 0)]
    )
    assert heard_of == [body, body]


def test_nobody_takes_back_what_is_another_s() -> None:
    forged = msgspec.structs.replace(withdrawal("c"), withdrawal=withdrawal("b").withdrawal)

    async def main(node: Node) -> None:
        await tell(node, "announce", announcement(package("b").signed, "a"))
        with pytest.raises(RemoteError, match="signature"):
            await tell(node, "withdraw", wire.write(forged))

    assert len(list(alone(main).catalog.cards())) == 1


# --- a restart, and who watches -----------------------------------------------------------------------------------------------


class Watching:
    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def announced(self, holder: NodeId, signed: SignedCard, *, is_new: bool) -> None:
        self.seen.append(("announced", holder, is_new))

    def judged(self, witness: NodeId, signed: SignedVerdict) -> None:
        self.seen.append(("judged", witness, signed.verdict.witness == keys("w").public))

    def withdrawn(self, signed: SignedWithdrawal, cards: int) -> None:
        self.seen.append(("withdrawn", signed.withdrawal.slot, cards))


def test_a_restarted_hub_keeps_verdicts_and_standing_and_watchers_are_told(tmp_path: Path) -> None:
    def town(main: Callable[[Node], Any]) -> tuple[Town, Watching]:
        here, watching = Town("a"), Watching()
        here.catalog, here.board, here.watchers = Catalog(tmp_path / "catalog"), Board(tmp_path / "board"), (watching,)
        here.run(a=main)
        here.catalog.close()
        here.board.close()
        return here, watching

    cards = [package(author).signed for author in "gh"]

    async def before(node: Node) -> None:
        for signed in cards:
            await tell(node, "announce", announcement(signed, "a"))
            for witness, right in (("w", 10), ("v", 10), ("t", 10), ("u", 0)):
                await tell(node, "verdict", wire.write(verdict(signed.card, witness, right)))

    async def after(node: Node) -> int:
        answer = await tell(node, "verdicts", wire.write(wire.About(tuple(signed.digest for signed in cards))))
        assert len(wire.read(answer, wire.Board).verdicts) == 8
        await tell(node, "announce", announcement(cards[0], "a"))
        await tell(node, "withdraw", wire.write(withdrawal("g", 0)))
        return 0

    first, watched = town(before)
    second, watched_again = town(after)
    assert first.hub is not None
    assert second.hub is not None
    for name in "wvu":
        assert first.hub.trust_ppm(keys(name).public) == second.hub.trust_ppm(keys(name).public)
    assert second.hub.trust_ppm(keys("w").public) == PPM
    assert second.hub.rank_ppm(keys("h").public) == first.hub.rank_ppm(keys("h").public) > PPM // 2
    assert watched.seen[:2] == [("announced", "a", True), ("judged", "a", True)]
    assert watched_again.seen == [("announced", "a", False), ("withdrawn", "shard", 1)]


def test_a_long_answer_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    card = package().card
    one = len(canonical.encode(verdict(card)))
    monkeypatch.setattr(hubs, "BOARD_ANSWER_BYTES", 4 * one)

    async def main(node: Node) -> tuple[set[str], int]:
        await tell(node, "announce", announcement(package().signed, "a"))
        for i in range(9):
            await node.sleep(1)
            await tell(node, "verdict", wire.write(verdict(card, f"w{i}")))
        found: set[str] = set()
        since_ms, asked = 0, 0
        while asked < 9 and len(found) < 9:
            answer = await board(node, since_ms)
            found |= {said.verdict.witness for said in answer.verdicts}
            assert len(answer.verdicts) <= 5
            since_ms, asked = answer.as_of_ms, asked + 1
        return found, asked

    found, asked = Town("a").run(a=main)["a"]
    assert found == {keys(f"w{i}").public for i in range(9)}
    assert asked == 3
