"""Trials for one receiver: gather the evidence about what waits on its desk, and have it judged (see `exchange.trial`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest, LabelId
from kuberml.exchange.claims import recheck
from kuberml.exchange.evidence import alone, change, tallies
from kuberml.exchange.integrator import Integrator
from kuberml.exchange.node import Node
from kuberml.exchange.parcel import Parcel, Trial
from kuberml.exchange.standing import Standing
from kuberml.exchange.trial import Change, Judgement, Tally, TrialPlan, added, judge
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.kinds.probe import Probe
from kuberml.knowledge.verdict import Verdict, sign_verdict


@dataclass(frozen=True)
class _Seen:
    """What held-out data showed of absorbing one package into one model, and as which use of them."""

    before: Any
    after: Any
    changed: Change
    uses: int


class Trials:
    """Evidence so far: own tests, witnesses' verdicts, claims run again."""

    def __init__(self, node: Node, integrator: Integrator, plan: TrialPlan, probe: Probe | None) -> None:
        """`probe`: a labelled public sample set on which claims are run again; None: claims are not looked at."""
        self._node, self._integrator, self._plan, self._probe = node, integrator, plan, probe
        self._standing = Standing(node.author, bar=plan.bar, doubt=plan.doubt, majority=plan.majority)
        self._heard_ms = 0
        self._asked: frozenset[Digest] = frozenset()
        """The cards of the last question: what was said of them until `_heard_ms` has been heard."""
        self._seen: dict[Digest, _Seen] = {}
        self._judged: dict[Digest, tuple[Any, dict[LabelId, Tally]]] = {}  # on which model, and what others said then
        node.memory.setdefault(trials=0)

    async def read(self, signed: SignedCard, content: Any) -> Parcel:
        """See what delivered knowledge says alone, on own held-out data and on the probe, and testify about it.

        Raises:
            RemoteError: it makes no model here, or its claim is false.
        """
        predictor = await self._integrator.read(content)
        proven, lie = await self._recheck(signed, content)
        if lie:
            raise RemoteError(lie)
        heldout = self._node.data.heldout
        counts = await self._node.compute(alone, predictor, heldout, tuple(sorted(signed.card.labels)))
        parcel = Parcel(signed, content, tallies(counts), proven)
        if parcel.mine:
            await self._testify(parcel)
        return parcel

    async def hear(self, cards: Collection[Digest]) -> None:
        """Read what witnesses say of these cards; of settled ones too: it shows whose word is good. Raises OverBudget."""
        known = self._asked & frozenset(cards)
        fresh, as_of_ms = frozenset(cards) - known, self._heard_ms
        if known or not fresh:
            as_of_ms = await self._read(known, as_of_ms)
        if fresh:  # what came here late may have been judged long ago, or while the last look went on: from the beginning
            if until_ms := await self._read(fresh, 0):
                as_of_ms = min(as_of_ms, until_ms) if known else until_ms
            else:  # the hub is away: they are as new the next time
                fresh = frozenset()
        self._asked, self._heard_ms = known | fresh, as_of_ms

    async def _read(self, cards: Collection[Digest], since_ms: int) -> int:
        """Hear what was said of these cards from then on, and from when on to ask next. Raises OverBudget."""
        found, as_of_ms = await self._node.verdicts(cards, since_ms)
        for signed in found:
            self._standing.heard(signed.verdict)
        return as_of_ms

    async def judged(self, parcel: Parcel, model: Any, kept: Sequence[Parcel], labels: Collection[LabelId]) -> Trial:
        """Judge what absorbing a package into `model`, made of `kept`, would bring for these labels (none: all)."""
        try:
            seen = await self._see(parcel, model, kept)
        except RemoteError as error:
            return Trial(parcel.signed, Judgement("refused", {}, str(error)))
        wanted, offered = set(labels or self._node.learner.labels), set(parcel.signed.card.labels)
        said = self._standing.credit(parcel.digest)
        if not labels:
            self._judged[parcel.digest] = (model, said)
        credit = added(said, parcel.proven)
        judgement = judge(seen.changed, wanted, offered, parcel.mine, credit, self._plan, uses=seen.uses)
        return Trial(parcel.signed, judgement, parcel, model, seen.after)

    def has_news(self, parcel: Parcel, model: Any) -> bool:
        """Whether judging a package again, for all labels, could come out otherwise: the model is another, or others' word."""
        before, said = self._judged.get(parcel.digest, (None, None))
        return before is not model or said != self._standing.credit(parcel.digest)

    def evidence(self, parcel: Parcel) -> tuple[float, str]:
        """How much speaks for a package, to try the best first: right answers, others' at half their weight; ties by digest."""
        own = sum(tally.correct for tally in parcel.mine.values())
        others = sum(tally.correct for tally in self._standing.credit(parcel.digest).values())
        return own + others / 2, parcel.digest

    def settled(self, card: Digest) -> None:
        """A package is not judged again: what was seen of it is not needed any more."""
        self._seen.pop(card, None)
        self._judged.pop(card, None)

    async def _recheck(self, signed: SignedCard, content: Any) -> tuple[dict[LabelId, Tally], str]:
        if self._probe is None:
            return {}, ""
        return await recheck(self._node, signed, content, self._probe, self._integrator.extractor)

    async def _testify(self, parcel: Parcel) -> None:
        verdict = Verdict(
            card=parcel.digest,
            author=parcel.signed.card.author,
            witness=self._node.author,
            correct={label: tally.correct for label, tally in parcel.mine.items()},
            tested={label: tally.count for label, tally in parcel.mine.items()},
            at_ms=self._node.now_ms,
        )
        self._standing.heard(verdict)
        await self._node.testify(sign_verdict(verdict, self._node.place.keys))

    async def _see(self, parcel: Parcel, model: Any, kept: Sequence[Parcel]) -> _Seen:
        """What absorbing would change; known already if the model is the one it was tried on: then only others' word is new.

        Looking again at the same comparison is no further use of the held-out data, and costs nothing of the error allowed.
        """
        seen = self._seen.get(parcel.digest)
        if seen is None or seen.before is not model:
            after = await self._integrator.model([*kept, parcel])
            self._node.memory.update(trials=self._node.memory.trials + 1)
            changed = await self._node.compute(change, model, after, self._node.data.heldout)
            seen = self._seen[parcel.digest] = _Seen(model, after, changed, self._node.memory.trials)
        return seen
