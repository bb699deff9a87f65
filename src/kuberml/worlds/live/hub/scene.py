"""What goes on at a hub, as its page shows it: who is here and knows what, what is on its way, what was tried, who taught whom.

Everything here is bounded, and forgets the oldest. Of what a node reports only what it may know is believed: about itself. What
a card is (author, labels, size) is read from the signed card that the hub was given, never from a report.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import TypeVar

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId
from kuberml.exchange.standing import is_good
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.verdict import SignedVerdict
from kuberml.knowledge.withdrawal import SignedWithdrawal
from kuberml.worlds.live.hub.people import About, Delivery, Person, Trial, Works, about
from kuberml.worlds.live.reports import Happening, read_report

PEOPLE, CARDS, DELIVERIES, TRIALS, LESSONS = 2048, 8192, 512, 256, 4096
"""Remembered at most."""
REPORTS_PER_S, REPORTS_AT_ONCE = 4.0, 12.0
"""Of one node; more are refused."""
DONE_SHOWN_MS, SILENCE_MS = 4_000, 30_000
"""How long a delivery that ended is still shown, and after which silence one counts as ended."""

K = TypeVar("K")
V = TypeVar("V")


class Scene:
    """Takes in what the hub accepts (it is a `exchange.hub.Watcher`), who is present, and what nodes report."""

    def __init__(
        self, now_ms: Callable[[], int], card: Callable[[Digest], SignedCard | None], *, realm: str = "default"
    ) -> None:
        """Empty.

        Args:
            now_ms: the hub's clock.
            card: the hub's catalog (`Catalog.card`).
            realm: for the page.
        """
        self.now_ms, self._card, self.realm = now_ms, card, realm
        self.version = 0
        """Grows with every change."""
        self.people: OrderedDict[NodeId, Person] = OrderedDict()
        self.deliveries: OrderedDict[tuple[NodeId, str], Delivery] = OrderedDict()
        self.trials: OrderedDict[tuple[NodeId, str], Trial] = OrderedDict()
        self.lessons: OrderedDict[tuple[str, NodeId], int] = OrderedDict()
        """(author's key, who learned) -> packages absorbed."""
        self.counts: Counter[str] = Counter()
        """Since the start: trials accepted and refused, verdicts good and bad, deliveries done and failed, their bytes ..."""
        self._cards: OrderedDict[str, About] = OrderedDict()
        self._works: OrderedDict[str, Works] = OrderedDict()
        self._names: OrderedDict[str, NodeId] = OrderedDict()

    # --- what the hub accepts -----------------------------------------------------------------------------------------

    def announced(self, holder: NodeId, signed: SignedCard, *, is_new: bool) -> None:
        """See `exchange.hub.Watcher`."""
        card = self._remember(signed)
        self.works(card.author).publishes(card)
        self.counts["announced"] += is_new
        self.version += 1

    def judged(self, witness: NodeId, signed: SignedVerdict) -> None:
        """See `exchange.hub.Watcher`."""
        self.counts["verdicts good" if is_good(signed.verdict) else "verdicts bad"] += 1

    def withdrawn(self, signed: SignedWithdrawal, cards: int) -> None:
        """See `exchange.hub.Watcher`."""
        self.works(signed.withdrawal.author).withdraws(signed.withdrawal.slot, signed.withdrawal.version)
        self.counts["withdrawn"] += cards
        self.version += 1

    # --- who is here --------------------------------------------------------------------------------------------------

    def present(self, here: Iterable[tuple[NodeId, str, str]]) -> None:
        """These are here now, and nobody else: (node, role, key)."""
        now_ms, found = self.now_ms(), {node: (role, key) for node, role, key in here}
        for node, person in self.people.items():
            if person.here and node not in found:
                person.here = False
                self.version += 1
        for node, (role, key) in found.items():
            known = self.people.get(node)
            if known is None or known.key != key:
                self._welcome(Person(node, role[:64], key, now_ms, now_ms, credit=REPORTS_AT_ONCE, credited_ms=now_ms))
                continue
            if not known.here:
                known.here, known.since_ms, known.role = True, now_ms, role[:64]
                self.version += 1
            known.seen_ms = now_ms

    def name_of(self, key: str) -> str:
        """Who has this key, as far as it was seen here; else how it begins."""
        return self._names.get(key) or f"{key[:8]}…"

    def works(self, author: str) -> Works:
        """What an author has published, whether it is here or not."""
        found = self._works.get(author)
        if found is None:
            found = Works()
            _put(self._works, author, found, 2 * PEOPLE)
        return found

    def _welcome(self, person: Person) -> None:
        if person.node not in self.people and len(self.people) >= PEOPLE:
            gone = min((one for one in self.people.values() if not one.here), key=lambda one: one.seen_ms, default=None)
            if gone is None:
                return  # more are here than a page can show
            del self.people[gone.node]
        person.works = self.works(person.key)
        self.people[person.node] = person
        _put(self._names, person.key, person.node, 2 * PEOPLE)
        self.version += 1

    # --- what nodes report --------------------------------------------------------------------------------------------

    async def report(self, asker: NodeId, body: bytes) -> bytes:
        """Request `report`: what has happened at the asker.

        Raises:
            RemoteError: not a report, or too many of them.
            Unreachable: the asker has not been seen here yet.
        """
        person = self.people.get(asker)
        if person is None:
            raise Unreachable(f"{asker} has not been seen here yet: try again")
        now_ms = self.now_ms()
        person.credit = min(REPORTS_AT_ONCE, person.credit + (now_ms - person.credited_ms) / 1000 * REPORTS_PER_S)
        person.credited_ms = now_ms
        if person.credit < 1:
            raise RemoteError(f"more than {REPORTS_PER_S:g} reports in a second by {asker}")
        person.credit -= 1
        for happening in read_report(body).happenings:
            self._happened(person, happening)
        person.seen_ms, self.version = now_ms, self.version + 1
        return b""

    def _happened(self, person: Person, event: Happening) -> None:
        if event.what == "deployed":
            person.accuracy_ppm = person.accuracy_ppm if event.accuracy_ppm is None else event.accuracy_ppm
        elif event.what in ("delivering", "fetched", "undelivered"):
            self._delivered(person, event)
        elif event.what in ("tried", "absorbed", "refused"):
            self._tried(person, event)

    def _delivered(self, person: Person, event: Happening) -> None:
        card, now_ms, place = self.about(event.card), self.now_ms(), (person.node, event.card)
        delivery = self.deliveries.get(place)
        if delivery is None or delivery.state != "under way":
            total_bytes = card.size_bytes if card else event.size_bytes
            delivery = Delivery(person.node, event.card, event.holder, total_bytes, now_ms)
        if event.what == "delivering":
            delivery.moves(event.done_bytes, now_ms)
            delivery.holder = event.holder or delivery.holder
        else:
            delivery.state = "done" if event.what == "fetched" else "failed"
            delivery.seen_ms = now_ms
            self.counts["deliveries " + delivery.state] += 1
            if delivery.state == "done":
                delivery.done_bytes = delivery.total_bytes
                self.counts["delivered bytes"] += delivery.total_bytes
        _put(self.deliveries, place, delivery, DELIVERIES)

    def _tried(self, person: Person, event: Happening) -> None:
        card, place = self.about(event.card), (person.node, event.card)
        verdict = {"absorbed": "accepted", "refused": "refused"}.get(event.what, "waiting")
        before = self.trials.pop(place, None)
        if verdict == "waiting" and before is not None and before.verdict != "waiting":
            verdict = before.verdict  # tried again: what it is made of has not changed yet
        elif verdict != "waiting" and (before is None or before.verdict != verdict):
            self.counts[f"trials {verdict}"] += 1
            if verdict == "accepted" and card is not None and card.author != person.key:
                _put(self.lessons, (card.author, person.node), self.lessons.get((card.author, person.node), 0) + 1, LESSONS)
        if verdict == "accepted" and card is not None:
            person.absorbs(Digest(event.card), card.labels)
        elif verdict == "refused":
            person.learned.pop(Digest(event.card), None)
        trial = Trial(person.node, event.card, self.now_ms(), verdict, event.why)  # type: ignore[arg-type]
        _put(self.trials, place, trial, TRIALS)

    # --- what is known ------------------------------------------------------------------------------------------------

    def about(self, card: str) -> About | None:
        """What its author says a card is; None: this hub has not seen it."""
        found = self._cards.get(card)
        if found is None:
            signed = self._card(Digest(card))
            found = None if signed is None else self._remember(signed)
        return found

    def settle(self) -> None:
        """Forget deliveries that have ended, or of which nothing is heard."""
        now_ms = self.now_ms()
        for place, one in list(self.deliveries.items()):
            if now_ms - one.seen_ms > (SILENCE_MS if one.state == "under way" else DONE_SHOWN_MS):
                del self.deliveries[place]
                self.version += 1

    def _remember(self, signed: SignedCard) -> About:
        card = about(signed)
        _put(self._cards, signed.digest, card, CARDS)
        return card


def _put(table: OrderedDict[K, V], key: K, entry: V, most: int) -> None:
    """As the newest; the oldest gives way."""
    table[key] = entry
    table.move_to_end(key)
    if len(table) > most:
        table.popitem(last=False)
