"""Versions of the cloud model: each is committed, then served; after a restart the last is served again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from kuberml.core.errors import ConfigError
from kuberml.core.ids import LabelId
from kuberml.core.values import digest, dumps
from kuberml.exchange.continual import gate
from kuberml.exchange.continual.drift import Drift
from kuberml.exchange.continual.fair import Judged
from kuberml.exchange.continual.history import Entry, History, Packet, manifest_of
from kuberml.exchange.continual.intake import Arrival
from kuberml.exchange.continual.measuring import measure
from kuberml.exchange.continual.model import SAVE_EVERY, Model
from kuberml.exchange.continual.served import Served
from kuberml.exchange.continual.trying import Tried
from kuberml.exchange.continual.tuning import Learned
from kuberml.exchange.node import Node
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.knowledge.manifest import single
from kuberml.knowledge.ridge import Head
from kuberml.learning.predictor import HeadOn, Predictor


class Versions:
    """Writes the history, and tells who serves."""

    def __init__(
        self, node: Node, extractor: Extractor, history: History, model: Model, on_served: Callable[[Served], None]
    ) -> None:
        self._node, self._extractor, self._history, self._model = node, extractor, history, model
        self._on_served = on_served
        self.served: Served | None = None

    def serve(
        self,
        found: Tried,
        why: str,
        *,
        changes: dict[str, Any],
        arrivals: Sequence[Arrival] = (),
        drifts: Sequence[Drift] = (),
        judged: Judged | None = None,
        learned: Learned | None = None,
        joint: Mapping[LabelId, float] | None = None,
    ) -> Served:
        """Commit a new version and serve it: all of it, or nothing changed.

        Args:
            found: its integers and head.
            why: in words.
            changes: fields of the state, `made_of` among them.
            arrivals: packets that are new in it.
            drifts: what was seen of them.
            judged: what the gate saw of it.
            learned: what answers in place of the head, if that was learned further.
            joint: recall of the model of everything, where what is served is less than that.

        Raises:
            OSError: the disk is full or broken.
        """
        before, number = self._history.state, self._history.state.number + 1
        state = msgspec.structs.replace(before, **changes, number=number, ridge=found.head.ridge, sums=found.digest)
        contents, old = state.made_of.contents, before.made_of.contents
        sight, labels = self._model.sight, found.head.labels
        recall = {} if sight is None or not len(found.count_C) else gate.recall(sight.labels, found.right_C, found.count_C)
        whole = recall if joint is None else dict(joint)  # else everything that was not refused is in the sum
        predictor: Predictor = self.exact(found.head)
        if learned is not None:
            predictor, recall, whole = learned.predictor, learned.recall, learned.joint
        entry = Entry(
            number=number,
            manifest=manifest_of(contents) if learned is None else learned.recipe.manifest,
            sums=found.digest,
            ridge=found.head.ridge,
            model=digest(predictor),
            at_ms=self._node.now_ms,
            why=why,
            labels=labels,
            added=tuple(sorted(contents - old)),
            dropped=tuple(sorted(old - contents)),
            recall=recall,
            fair={} if sight is None or judged is None else gate.recall(sight.labels, judged.right_C, found.count_C),
            joint=whole,
            measures=measure(self._history.entries, labels, recall, whole),
            drift=tuple(drifts),
            recipe=None if learned is None else learned.recipe,
        )
        packets = [Packet(one.signed.digest, one.signed.card.learned_at_ms, single(one.signed.card)) for one in arrivals]
        self._history.commit(state, entry, [packet for packet in packets if packet.entry.content in contents - old])
        self._model.adopt(contents, found, None if judged is None else judged.fair)
        self._record(entry, arrivals)
        return self.begin(entry, predictor, [one.signed for one in arrivals])

    async def save(self) -> None:
        """Write the integers down, once in some versions and beside the loop: they are large, and nobody waits for them.

        Raises:
            OSError: the disk is full or broken; what is served stays, and a start adds up the packets.
        """
        state, sums, store = self._history.state, self._model.sums, self._node.place.store
        if sums is None or state.number - state.saved < SAVE_EVERY:
            return
        blob = await self._node.beside(lambda: store.put(dumps(sums)))
        now = self._history.state  # something may have been refused meanwhile
        self._history.commit(msgspec.structs.replace(now, saved=state.number, blob=blob))
        if state.blob and state.blob != blob:
            store.delete(state.blob)

    def begin(self, entry: Entry, predictor: Predictor, learned: Sequence[SignedCard] = ()) -> Served:
        """Serve a version that is committed."""
        state = self._history.state
        self.served = Served(
            entry.number, entry.manifest, digest(predictor), predictor, self._node.place.shape,
            self._history.taught(state.made_of), self._node.now_ms, entry.drift, state.again_ms,
        )  # fmt: skip
        self._on_served(self.served)
        self._node.deploy(predictor, learned)
        return self.served

    def earlier(self) -> Entry:
        """The version before the first that was made of what is served. Raises ConfigError: none."""
        entries = self._history.entries
        first = next((k for k, entry in enumerate(entries) if entry.manifest == entries[-1].manifest), 0)
        if first:
            return entries[first - 1]
        raise ConfigError("nothing else was served before: there is nothing to roll back to")

    def exact(self, head: Head) -> HeadOn:
        """A head as what is served."""
        return HeadOn(self._extractor, head, self._node.place.shape)

    def _record(self, entry: Entry, arrivals: Sequence[Arrival]) -> None:
        base = "" if self.served is None else self.served.model
        for one in arrivals:
            card = one.signed.card
            self._node.record("absorbed", card=one.signed.digest, author=card.author, kind=card.kind,
                              size_bytes=card.size_bytes, verdict="tested", labels=dict.fromkeys(card.labels, "tested"),
                              why=entry.why, model=entry.model, base=base)  # fmt: skip
        measured = None if entry.measures is None else msgspec.structs.asdict(entry.measures)
        self._node.record("version", number=entry.number, manifest=entry.manifest, model=entry.model, why=entry.why,
                          labels=list(entry.labels), recall=entry.recall, fair=entry.fair, measures=measured)  # fmt: skip
