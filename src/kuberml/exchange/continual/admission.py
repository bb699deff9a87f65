"""What may come in: what is wanted at all, what lies, what has drifted, and what is refused, and for how long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest
from kuberml.exchange.continual import gate
from kuberml.exchange.continual.drift import Drift, moved
from kuberml.exchange.continual.history import History, Refusal
from kuberml.exchange.continual.intake import Arrival, Intake
from kuberml.exchange.continual.model import Model
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.continual.trying import places, resemblances
from kuberml.exchange.node import Node
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.contributions import Contributions, Refused, plan
from kuberml.knowledge.kinds.extractor import Extractor, basis_of
from kuberml.knowledge.manifest import single
from kuberml.knowledge.moments import Statistics
from kuberml.knowledge.screening import exchange_problem
from kuberml.learning.extractors import built

REASON_CHARS = 300


class Admission:
    """Judges packets one by one, before it is tried what they would change."""

    def __init__(self, node: Node, extractor: Extractor, rules: Rules, history: History) -> None:
        self._node, self._rules, self._history = node, rules, history
        basis, dims = basis_of(extractor), built(extractor).dimensions
        self.intake = Intake(node, basis, dims, rules, wanted=self.wants, refuse=self.never)

    def wants(self, signed: SignedCard) -> bool:
        """Whether a card may change anything now."""
        card, state = signed.card, self._history.state
        refused = state.refused.get(signed.digest)
        if refused is not None and (refused.final or refused.tries >= self._rules.tries or refused.number >= state.number):
            return False
        content = card.content
        if card.author in state.removed or content in state.barred or content in state.made_of.forgotten:
            return False
        return not any(
            entry.place == (card.author, card.slot) and entry.version >= card.version for entry in state.made_of.entries
        )

    async def lies(self, arrival: Arrival, model: Model) -> bool:
        """Whether a packet lies about its labels, as far as public samples or the model can tell. Then it is refused."""
        where = places(model.sight, model.sums)
        found = await self._node.compute(resemblances, arrival.packet, where) if len(where.labels) > 1 else {}
        why = gate.lie(found, self._rules)
        if why:
            self.never(arrival.signed, why)
        return bool(why)

    async def drift(self, arrival: Arrival, model: Model) -> Drift | None:
        """Whether a packet's classes lie elsewhere than the model's. It is reported, not refused."""
        if model.sums is None:
            return None
        found = await self._node.compute(moved, arrival.packet, model.sums)
        if found is None or found.p_value >= self._rules.alarm:
            return None
        card = arrival.signed.card
        drift = Drift(arrival.signed.digest, card.author, card.slot, found.p_value, found.shift, found.labels)
        self._node.record("drift", card=drift.card, author=drift.author, slot=drift.slot, p_value=drift.p_value,
                          shift=drift.shift, labels=drift.labels)  # fmt: skip
        return drift

    def planned(self, have: Contributions, one: Arrival, arrived: Mapping[Digest, Statistics]) -> Contributions | None:
        """What the model is made of with one packet more; None: it may not come in, and is refused."""
        try:
            return self._step(have, one, arrived)
        except (RemoteError, KeyError) as error:
            self.never(one.signed, str(error))
            return None

    def _step(self, have: Contributions, one: Arrival, arrived: Mapping[Digest, Statistics]) -> Contributions:
        held = {content: frozenset({content}) for content in (*have.contents, *arrived)}
        step = plan(have, (single(one.signed.card),), held)
        if isinstance(step, Refused):
            raise RemoteError(step.reason)
        if step.replaces is not None:
            old = arrived.get(step.replaces) or self.intake.sealed(self._history.packet(step.replaces).card).open()
            if problem := exchange_problem(old, one.packet):
                raise RemoteError(problem)
        return step.after

    def never(self, signed: SignedCard, why: str) -> None:
        """Refuse a package for good."""
        self.refuse(signed, why, final=True)

    def refuse(self, signed: SignedCard, why: str, *, final: bool = False) -> None:
        """Remember why a package is not in the model, and do not keep it."""
        state = self._history.state
        changes = {"refused": self.refusing([signed], why, final=final), "suspects": state.cleared([signed.digest])}
        self._history.commit(msgspec.structs.replace(state, **changes))
        if not self._history.knows(signed.card.content):
            self.intake.drop(signed)
        self.tell(signed, why)

    def refusing(self, cards: Iterable[SignedCard], why: str, *, final: bool) -> dict[str, Refusal]:
        """What is refused when these are, for a commit."""
        state = self._history.state
        refused = dict(state.refused)
        for signed in cards:
            before = refused.pop(signed.digest, None)  # the newest is last
            refused[signed.digest] = Refusal(why[:REASON_CHARS], 1 + (before.tries if before else 0), state.number, final)
        return refused

    def tell(self, signed: SignedCard, why: str) -> None:
        """Record a refusal that is committed."""
        self._node.record("refused", card=signed.digest, author=signed.card.author, why=why[:REASON_CHARS])

    def is_any_to_be_tried_again(self) -> bool:
        """Whether something that was refused may fit to a later version."""
        return any(not one.final and one.tries < self._rules.tries for one in self._history.state.refused.values())
