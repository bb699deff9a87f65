"""The cloud model: a pure function of a set of knowledge digests, and what may change that set.

    cloud = Cloud(node, extractor, rules, probe, on_served=swap)
    await cloud.open()                 # what was served before a restart; None at the first start
    await cloud.run()                  # for ever: what arrives goes through the gate, and is served or refused
    await cloud.remove(author)         # forget a contributor: exactly, from the sums
    await cloud.rollback(manifest)     # an earlier version; what came after it stays out until `readmit`

Packets of statistics are integers that add and subtract exactly, so the model of a set does not depend on the order, the
number of edges, duplicates or delays, and equals training on all of it at once. Bits are equal for the integers; the head is
solved in floating point and equal to 1e-9.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import msgspec

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest
from kuberml.core.tasks import end_all
from kuberml.exchange.continual.absorbing import Absorbing
from kuberml.exchange.continual.admission import Admission
from kuberml.exchange.continual.forgetting import Line, by_edge, by_task
from kuberml.exchange.continual.history import Entry, History
from kuberml.exchange.continual.leaving import author_of, back_to, missed, withdrawals, without_author, without_withdrawn
from kuberml.exchange.continual.model import Model
from kuberml.exchange.continual.returning import kept_out, let_in
from kuberml.exchange.continual.review import Review
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.continual.served import Served
from kuberml.exchange.continual.trying import Tried, seen
from kuberml.exchange.continual.tuning import Learned, Tuning
from kuberml.exchange.continual.versions import Versions
from kuberml.exchange.continual.works import Works
from kuberml.exchange.node import Node
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.knowledge.kinds.probe import Probe
from kuberml.knowledge.withdrawal import Withdrawal
from kuberml.learning.learner import Learner
from kuberml.learning.predictor import Predictor
from kuberml.learning.types import FitPlan


class Cloud:
    """One cloud model over a node, in any world. What changes it waits for its turn."""

    def __init__(
        self,
        node: Node,
        extractor: Extractor,
        rules: Rules,
        probe: Probe | None,
        on_served: Callable[[Served], None] = lambda served: None,
    ) -> None:
        """`probe`: labelled public samples on which updates are judged. `on_served`: told of every version, as it begins."""
        self.node, self.extractor, self.rules, self.probe = node, extractor, rules, probe
        self._history = History(node.memory)
        self._admission = Admission(node, extractor, rules, self._history)
        self._intake = self._admission.intake
        self._model = Model(node, self._history, self._intake)
        self._versions = Versions(node, extractor, self._history, self._model, on_served)
        works = Works(node, rules, self._history, self._admission, self._model, self._versions)
        self._review = Review(works, probe.counts() if probe is not None else {})
        self._absorbing = Absorbing(works, self._review)
        self._tuning = Tuning(node, extractor, rules, probe, self._intake)
        self._turn = asyncio.Lock()
        self._opened = False

    @property
    def served(self) -> Served | None:
        """What is served now; None: nothing was learned yet."""
        return self._versions.served

    @property
    def history(self) -> list[Entry]:
        """Every version that was ever served here, oldest first."""
        return self._history.entries

    @property
    def refused(self) -> dict[str, str]:
        """Why packages are not in the model, by card."""
        return {card: refusal.why for card, refusal in self._history.state.refused.items()}

    @property
    def kept_out(self) -> dict[str, Any]:
        """Who was removed, and which contents may not come in again; see `returning.kept_out`."""
        return kept_out(self._history)

    @property
    def forgetting(self) -> list[Line]:
        """The accuracy matrix over versions, task by task on the probe and edge by edge, with what was forgotten."""
        return [*by_task(self.history), *by_edge([self._history.heard(entry.number) for entry in self.history])]

    @property
    def witnesses(self) -> dict[str, int]:
        """Edges that have tried versions of lately, by public key: how far each's word counts, in parts per million."""
        return self._review.examination.witnesses

    async def open(self) -> Served | None:
        """Serve what was served before a restart; None: nothing was.

        Raises:
            InternalError: the store no longer holds what it was made of.
        """
        self._opened = True
        if self.probe is not None and self.probe.y_N is not None:
            self._model.sight = await self.node.compute(seen, self.extractor, self.probe)
        if self._history.state.number:
            await self._model.open()
            entry, found = self.history[-1], self._model.present()
            self._versions.begin(entry, await self._predictor(entry, found))
        return self.served

    async def run(self) -> None:
        """Take in what arrives, for ever. Begun again after an error, it looks up what it may have lost hold of."""
        if not self._opened:
            await self.open()
        self._intake.again()
        working = [self._intake.listen(), self._look_often(), self._absorb_often(), self._forget_often()]
        if self.rules.evaluate:
            working.append(self._examine_often())
        tasks = [asyncio.ensure_future(work) for work in working]
        try:
            await asyncio.gather(*tasks)
        finally:
            await end_all(tasks)

    async def absorb(self) -> None:
        """Take in what waits; see `absorbing`."""
        async with self._turn:
            await self._absorbing.take_in()
            await self._versions.save()

    async def examine(self) -> None:
        """Let edges try what is served; see `review`."""
        async with self._turn:
            await self._review.hold()

    async def remove(self, author: str) -> Served:
        """Forget a contributor: what is served from now on is the model that never had its packets. It is not heard again.

        Args:
            author: its public key, or how that begins.

        Raises:
            ConfigError: nothing of it is in the model, or nothing else is.
        """
        async with self._turn:
            author = author_of(self._history, author)
            return await self._serve_without(without_author(self._history, author), f"removed {author}")

    async def withdraw(self, word: Withdrawal) -> Served | None:
        """Forget what its author takes back, exactly; None: nothing of it is in the model.

        What is all that the model is made of stays until there is something else: the record says so.
        """
        async with self._turn:
            self._intake.forget(word)
            try:
                changes = without_withdrawn(self._history, word)
            except ConfigError as error:
                self.node.record("not forgotten", author=word.author, slot=word.slot, why=str(error))
                return None
            if changes is None:
                return None
            return await self._serve_without(changes, f"{word.author} took back {word.slot}")

    async def catch_up(self) -> None:
        """Hear now what was published and taken back while the hub was away; `run` does so by itself, but not at once."""
        async with aclosing(missed(self.node)) as pages:  # type: ignore[type-var]
            async for words in pages:
                for word in words:
                    await self.withdraw(word)
        await self._intake.look()

    async def _serve_without(self, changes: dict[str, Any], why: str) -> Served:
        found = await self._model.of(changes["made_of"].contents, ridge=self._history.state.ridge)
        return self._versions.serve(found, why, changes=changes)

    async def rollback(self, to: Digest | None = None) -> Served:
        """Serve an earlier version again. What it is not made of is not absorbed again, until `readmit`.

        Args:
            to: its manifest, or how that begins; None: the newest version before that was made of something else.

        Raises:
            ConfigError: no such version, or something in it was removed or taken back since.
        """
        async with self._turn:
            entry = self._versions.earlier() if to is None else self._history.version(to)
            changes = back_to(self._history, entry) | {"again_ms": self.node.now_ms}
            found = await self._model.of(changes["made_of"].contents, ridge=entry.ridge)
            learned = None
            if entry.recipe is not None:
                learned = Learned(entry.recipe, await self._predictor(entry, found), entry.recall, entry.joint)
            why, joint = f"rolled back to version {entry.number}", self.history[-1].joint
            return self._versions.serve(found, why, changes=changes, learned=learned, joint=joint)

    async def tune(self, plan: FitPlan, *, seed: int = 0, learner: Learner | None = None) -> str:
        """Try the slower path (see `slow`): learn further from the merged head, and serve that if it is no worse anywhere.

        What is absorbed afterwards is served as the exact head again.

        Args:
            plan, seed: of the gradient steps.
            learner: distil a network of this sort; None: train the head.

        Returns:
            Why nothing changed; "" if the outcome is served now.

        Raises:
            ConfigError: nothing is served yet.
        """
        async with self._turn:
            if self.served is None:
                raise ConfigError("nothing is served yet: there is nothing to learn further from")
            found = self._model.present()
            learned = await self._tuning.best(self._history.state.made_of.manifest, found.sums, found.head, plan, seed, learner)
            if not learned.why:
                self._versions.serve(found, f"learned further from version {len(self.history)}", changes={}, learned=learned)
            return learned.why

    async def readmit(self, *names: str) -> None:
        """Take in again what was rolled back (contents), who was removed (authors) or refused (cards); none named: all.

        Raises:
            ConfigError: nothing that was kept out has such a name.
        """
        async with self._turn:
            changes = let_in(self._history, names) | {"again_ms": self.node.now_ms}
            self._history.commit(msgspec.structs.replace(self._history.state, **changes))
            self._intake.again()

    async def rebuild(self, manifest: Digest) -> Predictor:
        """The predictor of any version, from its packets (and its recipe) alone.

        Raises:
            ConfigError: there was no such version.
            InternalError: one of its packets is gone.
        """
        entry = self._history.version(manifest)
        alone = Model(self.node, self._history, self._intake)
        found = await alone.of(self._history.contents(entry.number), ridge=entry.ridge)
        assert found.digest == entry.sums, "packets carry their digests, and integers add up in one way"
        return await self._predictor(entry, found)

    async def _look_often(self) -> None:
        """Again and again: announcements get lost."""
        while True:
            await self.catch_up()
            await self.node.sleep(self.rules.every_s)

    async def _absorb_often(self) -> None:
        while True:
            await self._intake.wait()
            await self.absorb()

    async def _forget_often(self) -> None:
        async with aclosing(withdrawals(self.node)) as heard:  # type: ignore[type-var]
            async for word in heard:
                await self.withdraw(word)

    async def _examine_often(self) -> None:
        await self._review.go_on()
        while True:
            await self._review.unseen.wait()
            await self.examine()

    async def _predictor(self, entry: Entry, found: Tried) -> Predictor:
        """What answers in a version, from the sums that it is made of."""
        if entry.recipe is None:
            return self._versions.exact(found.head)
        return await self._tuning.make(entry.recipe, found.sums, found.head)
