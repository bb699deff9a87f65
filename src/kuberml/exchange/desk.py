"""The receiver's desk: want -> offers -> deliver -> trial -> absorb, for one node and one way of taking knowledge in.

The desk does not know kinds. An `Integrator` says what a package answers *alone* and which model would come out if some
packages were absorbed; `Trials` gathers evidence and judges; the desk delivers, keeps, refuses, and keeps apart what has no
evidence yet.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from kuberml.core.errors import ConfigError, RemoteError, Unreachable
from kuberml.core.ids import Digest, LabelId
from kuberml.core.values import digest
from kuberml.exchange import wire
from kuberml.exchange.integrator import Integrator
from kuberml.exchange.node import Node, OverBudget, Page
from kuberml.exchange.parcel import Parcel, Trial
from kuberml.exchange.trial import Judgement, TrialPlan
from kuberml.exchange.trials import Trials
from kuberml.knowledge.card import PPM, SignedCard, decode_card
from kuberml.knowledge.kinds.probe import Probe
from kuberml.knowledge.want import Offer, Want

WIRE_RESERVE_BYTES = 6144
"""Of the budget kept back for cards, offers and verdicts."""
MANY = 4096
"""Offers, and refusals, that are remembered in any case; beyond, those that nobody makes any more are forgotten."""


class Desk:
    """State of a receiver. It can be made again from the store: after a restart nothing is delivered twice."""

    def __init__(
        self,
        node: Node,
        integrator: Integrator,
        plan: TrialPlan,
        probe: Probe | None = None,
        *,
        gathered: bool = False,
        tries: int = 0,
    ) -> None:
        """`probe`: a labelled public sample set on which claims are run again; None: claims are not looked at.

        `gathered`: wait for what somebody has added up (`exchange.gatherer`); single packets only where that was refused.
        `tries`: packages delivered in one look at most, so that a look stays short where thousands are offered; 0: all.
        """
        self.node, self.integrator, self.gathered, self.tries = node, integrator, gathered, tries
        self.trials = Trials(node, integrator, plan, probe)
        self.kept: dict[Digest, Parcel] = {}
        self.waiting: dict[Digest, Parcel] = {}
        self.refused: dict[Digest, str] = {}
        self.model: Any = None
        self.offers: dict[Digest, Offer] = {}
        self.is_spent = False
        """Whether the budget of bytes is used up: nothing more can be asked."""
        self._since = 0
        self._behind: int | None = None
        """From where on more was on offer than was asked for, and not all of it has been heard of; None: all has."""
        self._disappointed = False
        """Whether a gathered package was refused that is forgotten by now."""

    async def open(self) -> Any:
        """Start from one's own knowledge, and, after a restart, from what was absorbed before: the model of that."""
        await self.restore()
        return self.model

    def want(self, labels: Collection[LabelId] = ()) -> Want:
        """These labels; without any, what is missing here: labels never seen count fully, labels held a tenth."""
        held = self.node.data.counts
        every = {label: PPM // 10 if label in held else PPM for label in self.node.learner.labels}
        left = self.node.left_bytes
        return Want(
            task=self.node.task,
            labels_ppm=dict.fromkeys(sorted(labels), PPM) or every,
            kinds=self.integrator.kinds,
            bases=(self.integrator.basis,),
            purpose=self.node.place.purpose,
            licences=self.node.place.licences,
            region=self.node.place.region,
            budget_bytes=None if left is None else max(0, left - WIRE_RESERVE_BYTES),
        )

    async def look(self) -> list[SignedCard]:
        """Ask for offers, deliver what the budget allows, and try it. Returns the cards that are new in `model`."""
        fresh: list[SignedCard] = []
        try:
            await self._ask()
            self._forget_replaced()
            taken = 0
            for offer in list(self.offers.values()):
                if self._is_new(offer.signed.digest) and not self._skips(offer.signed) and await self._take(offer):
                    taken += 1
                    fresh += await self.settle() if self.gathered else []  # the next may be superfluous then
                if self.tries and taken == self.tries:
                    break
        except OverBudget as error:
            self._spend(error)
        return fresh + await self.settle()

    async def _ask(self) -> None:
        """Hear of what is new. When nothing is: of what stood behind the best, where more was on offer than a want names."""
        want = self.want()
        page = await self.node.find_page(want, self._since)
        if page.is_full:
            self._behind = self._since if self._behind is None else min(self._behind, self._since)
        self._since = page.upto
        is_news = any(offer.signed.digest not in self.offers for offer in page.offers)
        self._note(page)
        if self._behind is None or is_news or not self._has_room():
            return
        rest = await self.node.find_page(msgspec.structs.replace(want, limit=wire.OFFERED), self._behind)
        self._behind = rest.upto if rest.upto < self._since else None
        self._note(rest)

    def _note(self, page: Page) -> None:
        self.offers.update((offer.signed.digest, offer) for offer in page.offers)

    def _has_room(self) -> bool:
        """Whether hundreds of offers at once are worth their bytes here: not where one waits for what holds all of them."""
        left = self.node.left_bytes
        is_affordable = left is None or left > wire.ROOM_BYTES + WIRE_RESERVE_BYTES
        return is_affordable and (not self.gathered or self._is_disappointed())

    @property
    def is_served(self) -> bool:
        """Whether what it waits for has come: a gathered package is absorbed."""
        return self.gathered and any(parcel.signed.card.parents for parcel in self.kept.values())

    def _skips(self, signed: SignedCard) -> bool:
        """Whether a package is not worth its bytes: something here is made of the same, or it is to come with others."""
        inside = {parent for parcel in (*self.kept.values(), *self.waiting.values()) for parent in parcel.signed.card.parents}
        parents = signed.card.parents
        if signed.digest in inside or (parents and inside.issuperset(parents)):
            return True
        return self.gathered and not parents and not self._is_disappointed()

    def _is_disappointed(self) -> bool:
        """Whether something gathered was refused: then single packages are taken."""
        return self._disappointed or any(
            self.offers[known].signed.card.parents for known in self.refused if known in self.offers
        )

    def _is_new(self, known: Digest) -> bool:
        return known not in self.kept and known not in self.waiting and known not in self.refused

    def _forget_replaced(self) -> None:
        """Where there are many: forget offers of which a newer version came, and the oldest refusals of what is no offer."""
        if len(self.offers) > MANY:
            newest: dict[tuple[str, str], int] = {}
            for card in (offer.signed.card for offer in self.offers.values()):
                newest[card.author, card.slot] = max(card.version, newest.get((card.author, card.slot), 0))
            self._disappointed = self._is_disappointed()
            for known, card in [(known, offer.signed.card) for known, offer in self.offers.items()]:
                if card.version < newest[card.author, card.slot] and known not in self.waiting:
                    del self.offers[known]
                    self.refused.pop(known, None)
        over = len(self.refused) - MANY
        for known in [known for known in self.refused if known not in self.offers][: max(0, over)]:
            del self.refused[known]

    async def _take(self, offer: Offer) -> bool:
        """Deliver one offer, see what it says alone, and testify about it: whether it waits now, and did not before.

        What fails is refused with its reason.
        """
        known = offer.signed.digest
        if not self._is_new(known):
            return False
        left = self.node.left_bytes
        if left is not None and offer.signed.card.size_bytes > left - WIRE_RESERVE_BYTES:
            return False  # over budget: it stays an offer
        try:
            self.waiting[known] = await self.trials.read(offer.signed, await self.node.fetch(offer))
        except OverBudget:
            raise
        except Unreachable as error:
            self.node.record("undelivered", card=known, why=str(error))
            self._since = 0  # others may hold it by now
        except RemoteError as error:
            self._refuse(offer.signed, str(error))
        return known in self.waiting

    async def settle(self) -> list[SignedCard]:
        """Try everything that waits, best evidence first; absorb what is accepted into `model`. Returns what is new in it."""
        await self._hear()
        fresh: list[SignedCard] = []
        for parcel in sorted(self.waiting.values(), key=self.trials.evidence, reverse=True):
            if not self._is_due(parcel):
                continue
            trial = await self._trial(parcel)
            if trial.accepted:
                self._keep(parcel, trial)
                fresh.append(parcel.signed)
        if fresh:
            self.node.memory.update(kept=sorted(self.kept))
        return fresh

    async def try_out(self, offer: Offer, labels: Collection[LabelId] = ()) -> Trial:
        """Deliver one offer and try it for these labels (none: all), for a receiver who decides one by one."""
        await self._take(offer)
        parcel = self.waiting.get(offer.signed.digest)
        if parcel is None:
            return Trial(offer.signed, self._no_trial(offer.signed.digest))
        await self._hear()
        return await self._trial(parcel, labels)

    def absorb(self, trial: Trial) -> None:
        """Keep what a trial accepted: `model` is then what the trial saw come out.

        Raises:
            ConfigError: it was not accepted, or something else was absorbed since.
        """
        if trial.parcel is None or not trial.accepted:
            raise ConfigError(f"{trial.signed.digest[:12]} was not accepted ({trial.verdict}): {trial.why}")
        if trial.before is not self.model:
            raise ConfigError(f"the model has changed since {trial.signed.digest[:12]} was tried: try it again")
        self._keep(trial.parcel, trial)
        self.node.memory.update(kept=sorted(self.kept))

    async def forget(self, known: Digest) -> None:
        """Take a package out of `model` again; it is not tried a second time.

        Raises:
            ConfigError: it was never absorbed.
        """
        if known not in self.kept:
            raise ConfigError(f"{known[:12]} is not among what was absorbed here: there is nothing to forget")
        parcel = self.kept.pop(known)
        self.model = await self.integrator.model(list(self.kept.values()))
        self.node.memory.update(kept=sorted(self.kept))
        self._refuse(parcel.signed, "forgotten on request")

    async def restore(self) -> None:
        """Absorb again what was absorbed before a restart, as it lies in the store; what is gone or forbidden stays out."""
        for known in self.node.memory.get("kept", []):
            try:
                signed = decode_card(self.node.place.store.card(known))
                if (signed.card.kind, signed.card.basis) not in {
                    (kind, self.integrator.basis) for kind in self.integrator.kinds
                }:
                    continue
                content = await self.node.fetch(Offer(signed, (self.node.id,), 0, 0, 0))
            except (KeyError, RemoteError, Unreachable) as error:
                self.node.record("lost", card=known, why=str(error))
                continue
            self.kept[known] = Parcel(signed, content, {}, {})
        self.model = await self.integrator.model(list(self.kept.values()))

    def _is_due(self, parcel: Parcel) -> bool:
        """Whether a trial could come out otherwise than the last one: there is news, or its terms have run out."""
        return self.trials.has_news(parcel, self.model) or bool(self.node.forbidden(parcel.signed))

    def _keep(self, parcel: Parcel, trial: Trial) -> None:
        before = digest(self.model)
        self.kept[parcel.digest], self.model = self.waiting.pop(parcel.digest), trial.after
        self.trials.settled(parcel.digest)
        self._record("absorbed", parcel, trial.judgement, model=digest(self.model), base=before)

    def _no_trial(self, known: Digest) -> Judgement:
        if known in self.refused:
            return Judgement("refused", {}, self.refused[known])
        return Judgement("untested", {}, "absorbed already" if known in self.kept else "it was not delivered")

    async def _hear(self) -> None:
        """Read what witnesses say, as far as the budget goes."""
        try:
            await self.trials.hear([*self.waiting, *self.kept, *self.refused])
        except OverBudget as error:
            self._spend(error)

    def _spend(self, error: OverBudget) -> None:
        if not self.is_spent:
            self.is_spent = True
            self.node.record("spent", why=str(error))

    async def _trial(self, parcel: Parcel, labels: Collection[LabelId] = ()) -> Trial:
        """Try what waits; what is refused waits no longer."""
        if why := self.node.forbidden(parcel.signed):  # terms may have expired since it was fetched
            trial = Trial(parcel.signed, Judgement("refused", {}, why))
        else:
            trial = await self.trials.judged(parcel, self.model, list(self.kept.values()), labels)
            self._record("tried", parcel, trial.judgement)
        if trial.verdict == "refused":
            del self.waiting[parcel.digest]
            self._refuse(parcel.signed, trial.why)
        return trial

    def _record(self, event: str, parcel: Parcel, judgement: Judgement, **more: Any) -> None:
        card = parcel.signed.card
        self.node.record(event, card=parcel.digest, author=card.author, kind=card.kind, size_bytes=card.size_bytes,
                         verdict=judgement.verdict, labels=judgement.labels, why=judgement.why, **more)  # fmt: skip

    def _refuse(self, signed: SignedCard, why: str) -> None:
        self.refused[signed.digest] = why
        self.trials.settled(signed.digest)
        self.node.record("refused", card=signed.digest, author=signed.card.author, why=why)
