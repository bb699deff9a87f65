"""The scene: what is believed of whom, and that nothing in it grows without bound."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId
from kuberml.exchange import wire
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.pack import make
from kuberml.knowledge.signing import Keys
from kuberml.knowledge.withdrawal import Withdrawal, sign_withdrawal
from kuberml.worlds.live.hub import people
from kuberml.worlds.live.hub import scene as scenes
from kuberml.worlds.live.hub import snapshot as snapshots
from kuberml.worlds.live.hub.people import About
from kuberml.worlds.live.hub.scene import Scene
from kuberml.worlds.live.hub.snapshot import snapshot
from kuberml.worlds.live.reports import BATCH, Happening, Report
from tests.exchange.town import data, statistics

STATS = statistics(data("123"))


def keys_of(name: str) -> Keys:
    return Keys(name.encode().ljust(32, b".")[:32])


def card(author: str, version: int = 0, slot: str = "shard") -> SignedCard:
    return make("statistics", STATS, keys=keys_of(author), task="digits", slot=slot, version=version, learned_at_ms=0).signed


class Stage:
    """A scene with a clock and a catalog that the test holds."""

    def __init__(self, *here: str) -> None:
        self.now_ms, self.cards = 1_000_000, dict[str, SignedCard]()
        self.scene = Scene(lambda: self.now_ms, self._card)
        self.here(*here)

    def _card(self, digest: Digest) -> SignedCard | None:
        return self.cards.get(digest)

    def here(self, *names: str) -> None:
        self.scene.present([(NodeId(name), "peer", keys_of(name).public) for name in names])

    def knows(self, name: str, *labels: str) -> None:
        """Without the trouble of making a package."""
        author = keys_of(name).public
        self.scene.works(author).publishes(About(author, "statistics", labels, 1000))

    def announce(self, holder: str, signed: SignedCard) -> None:
        self.cards[signed.digest] = signed
        self.scene.announced(NodeId(holder), signed, is_new=True)

    def tell(self, node: str, *happenings: Happening) -> None:
        with pytest.raises(StopIteration):  # it never waits, so a loop that runs already need not be asked
            self.scene.report(NodeId(node), wire.write(Report(happenings))).send(None)
        self.now_ms += 1000

    def shows(self) -> dict[str, Any]:
        return dict(json.loads(snapshot(self.scene)))

    def person(self, name: str) -> dict[str, Any]:
        return next(dict(one) for one in self.shows()["people"] if one["node"] == name)


def test_who_comes_goes_and_comes_again() -> None:
    stage = Stage("a", "b")
    stage.now_ms += 5000
    stage.here("b")
    assert [(one["node"], one["here"]) for one in stage.shows()["people"]] == [("b", True), ("a", False)]
    assert stage.person("a")["seen_ms"] == 1_000_000
    stage.now_ms += 5000
    stage.here("a", "b")
    assert (stage.person("a")["here"], stage.person("a")["since_ms"]) == (True, 1_010_000)
    assert (stage.person("b")["since_ms"], stage.person("b")["seen_ms"]) == (1_000_000, 1_010_000)
    before = stage.scene.version
    stage.here("a", "b")
    assert stage.scene.version == before  # nothing new: no page is troubled


def test_what_they_know_comes_from_signed_cards() -> None:
    stage = Stage("a", "b")
    mine = card("a")
    stage.announce("a", mine)
    stage.announce("b", mine)  # a copy: holding it is not having learned it
    assert stage.shows()["labels"] == ["1", "2", "3"]
    assert stage.person("a")["knows"] == [people.OWN] * 3
    assert stage.person("b")["knows"] == [0, 0, 0]
    stage.tell("b", Happening("absorbed", card=mine.digest))
    assert stage.person("b")["knows"] == [people.LEARNED_IT] * 3
    stage.announce("b", card("b"))
    assert stage.person("b")["knows"] == [people.OWN | people.LEARNED_IT] * 3
    assert stage.shows()["lessons"] == [{"from": "a", "to": "b", "cards": 1}]
    stage.tell("b", Happening("refused", card=mine.digest, why="forgotten on request"))
    assert stage.person("b")["knows"] == [people.OWN] * 3


def test_a_card_that_no_hub_has_seen_teaches_nobody() -> None:
    stage = Stage("a")
    stage.tell("a", Happening("absorbed", card="f" * 64), Happening("absorbed", card="no digest at all"))
    assert stage.shows()["lessons"] == []
    assert stage.person("a")["learned"] == 0
    assert [one["verdict"] for one in stage.shows()["trials"]] == ["accepted", "accepted"]


def test_a_trial_has_one_line_and_is_counted_once() -> None:
    stage, other = Stage("a", "b"), card("b")
    stage.announce("b", other)
    for _ in range(2):
        stage.tell("a", Happening("tried", card=other.digest, verdict="accepted", why="better"),
                   Happening("absorbed", card=other.digest, why="better"))  # fmt: skip
    (line,) = stage.shows()["trials"]
    assert (line["node"], line["verdict"], line["why"], line["author"], line["kind"]) == (
        "a", "accepted", "better", "b", "statistics",
    )  # fmt: skip
    assert line["labels"] == ["1", "2", "3"]
    assert stage.scene.counts["trials accepted"] == 1
    assert stage.shows()["lessons"] == [{"from": "b", "to": "a", "cards": 1}]
    stage.tell("a", Happening("refused", card=other.digest, why="worse now"))
    assert [one["verdict"] for one in stage.shows()["trials"]] == ["refused"]


def test_a_delivery_moves_ends_and_is_forgotten() -> None:
    stage, other = Stage("a", "b"), card("b")
    stage.announce("b", other)
    size = other.card.size_bytes
    stage.tell("a", Happening("delivering", card=other.digest, holder="b", done_bytes=0, size_bytes=10**15))
    stage.tell("a", Happening("delivering", card=other.digest, holder="b", done_bytes=size // 2, size_bytes=10**15))
    (way,) = stage.shows()["deliveries"]
    assert (way["total_bytes"], way["done_bytes"], way["holder"], way["state"]) == (size, size // 2, "b", "under way")
    assert way["bytes_s"] == pytest.approx(size / 2, rel=0.01)
    stage.tell("a", Happening("delivering", card=other.digest, done_bytes=10**15))
    assert stage.shows()["deliveries"][0]["done_bytes"] == size  # never more than there is
    stage.tell("a", Happening("fetched", card=other.digest, holder="b", size_bytes=10**15))
    assert stage.shows()["deliveries"][0]["state"] == "done"
    assert stage.scene.counts["delivered bytes"] == size
    stage.now_ms += scenes.DONE_SHOWN_MS
    assert stage.shows()["deliveries"] == []
    stage.tell("a", Happening("delivering", card=other.digest, done_bytes=1))
    stage.now_ms += scenes.SILENCE_MS
    assert stage.shows()["deliveries"] == []


def test_who_is_not_here_reports_nothing_and_nobody_reports_without_end() -> None:
    stage = Stage("a")
    with pytest.raises(Unreachable, match="not been seen"):
        stage.tell("z", Happening("deployed", accuracy_ppm=1))
    body = wire.write(Report((Happening("deployed", accuracy_ppm=5),)))

    refused: set[str] = set()

    async def flood() -> int:
        taken = 0
        for _ in range(100):
            try:
                await stage.scene.report(NodeId("a"), body)
                taken += 1
            except RemoteError as error:
                refused.add(str(error))
        return taken

    assert asyncio.run(flood()) == scenes.REPORTS_AT_ONCE
    stage.now_ms += 1000
    assert asyncio.run(flood()) == scenes.REPORTS_PER_S
    assert refused == {"more than 4 reports in a second by a"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\0noise", bytes(70_000),
        wire.write(Report((Happening("deployed"),) * (BATCH + 1))),
        wire.write(Report((Happening("tried", card="x" * 65),))),
        wire.write(Report((Happening("tried", why="x" * 201),))),
        wire.write(Report((Happening("delivering", done_bytes=-1),))),
        wire.write(Report((Happening("delivering", size_bytes=2**60),))),
        wire.write(Report((Happening("deployed", accuracy_ppm=1_000_001),))),
        wire.write(Report((Happening("hacked"),))),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_is_not_a_report_is_refused_whole(body: bytes) -> None:
    stage = Stage("a")
    with pytest.raises(RemoteError):
        asyncio.run(stage.scene.report(NodeId("a"), body))
    assert stage.shows()["trials"] == []


def test_everything_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, bound in {"PEOPLE": 5, "CARDS": 6, "DELIVERIES": 7, "TRIALS": 8, "LESSONS": 9}.items():
        monkeypatch.setattr(scenes, name, bound)
    monkeypatch.setattr(scenes, "REPORTS_AT_ONCE", 10**9)
    monkeypatch.setattr(people, "LEARNED", 4)
    stage = Stage(*(f"first{i}" for i in range(5)))
    stage.here("a", "b")  # newcomers take the places of who has left ...
    assert {"a", "b"} < {one["node"] for one in stage.shows()["people"]}
    stage.here("a", "b", "c", "d", "e")
    stage.here("a", "b", "c", "d", "e", "f")  # ... and of nobody else
    assert {one["node"] for one in stage.shows()["people"]} == set("abcde")
    cards = [card(f"author{i}") for i in range(12)]
    for one in cards:
        stage.announce("a", one)
        for node in "abcde":
            stage.tell(node, Happening("delivering", card=one.digest), Happening("absorbed", card=one.digest))
    scene = stage.scene
    sizes = (len(scene.people), len(scene._cards), len(scene.deliveries), len(scene.trials), len(scene.lessons))
    assert sizes == (5, 6, 7, 8, 9)
    assert all(len(person.learned) == 4 for person in scene.people.values())


def test_a_page_of_a_large_realm_stays_small() -> None:
    names = [f"node-{i:05}-{'x' * 50}" for i in range(2048)]
    stage = Stage(*names)
    labels = [chr(0x4E00 + i) * people.LABEL_CHARS for i in range(people.LABELS)]
    for i, name in enumerate(names[:400]):
        stage.knows(name, *labels)
        stage.scene.lessons[keys_of(names[i + 1]).public, NodeId(name)] = 1
    text = snapshot(stage.scene)
    shown = json.loads(text)
    assert len(shown["people"]) == snapshots.SHOWN_PEOPLE
    assert len(shown["labels"]) == snapshots.SHOWN_LABELS
    assert shown["left_out"] == {
        "people": 2048 - snapshots.SHOWN_PEOPLE,
        "deliveries": 0,
        "lessons": 400 - snapshots.SHOWN_LESSONS,
    }
    assert len(text) < 150_000


def test_labels_stand_in_the_order_in_which_people_count() -> None:
    stage = Stage("a")
    stage.knows("a", "10", "2", "class 11", "class 9", "b", "A", "1")
    assert stage.shows()["labels"] == ["1", "2", "10", "A", "b", "class 9", "class 11"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sets(st.sampled_from("abc")), min_size=1, max_size=12))
def test_present_is_who_was_named_last(steps: list[set[str]]) -> None:
    stage = Stage()
    for step in steps:
        stage.now_ms += 500
        stage.here(*step)
    assert {one.node for one in stage.scene.people.values() if one.here} == steps[-1]
    assert stage.shows()["here"] == len(steps[-1])


def test_a_name_with_new_keys_is_somebody_new() -> None:
    stage = Stage("a")
    stage.announce("a", card("a"))
    stage.scene.present([(NodeId("a"), "peer", keys_of("other").public)])
    assert stage.person("a")["knows"] == []
    assert stage.scene.name_of(keys_of("other").public) == "a"
    assert stage.scene.about(Digest("0" * 64)) is None


def test_what_was_announced_before_its_author_was_seen_counts_and_what_is_taken_back_does_not() -> None:
    stage = Stage("b")
    stage.announce("b", card("a"))  # a copy, or the token of presence is late
    stage.here("a", "b")
    assert (stage.person("a")["knows"], stage.person("b")["knows"]) == ([people.OWN] * 3, [0] * 3)
    stage.announce("a", card("a"))
    assert stage.person("a")["published"] == 1
    word = Withdrawal(keys_of("a").public, "digits", "shard", 0)
    stage.scene.withdrawn(sign_withdrawal(word, keys_of("a")), 1)
    assert stage.person("a")["knows"] == []
