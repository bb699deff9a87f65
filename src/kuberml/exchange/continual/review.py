"""Versions that are served are reviewed by edges: what they find worse goes, and comes back packet by packet."""

from __future__ import annotations

import asyncio

import msgspec

from kuberml.core.ids import LabelId
from kuberml.exchange.continual.examination import Examination
from kuberml.exchange.continual.history import Entry
from kuberml.exchange.continual.works import Works
from kuberml.learning.predictor import HeadOn

LOOK_S = 1.0
"""How often it is looked whether an edge is there, after a start."""


class Review:
    """See the module."""

    def __init__(self, works: Works, counts: dict[LabelId, int]) -> None:
        """`counts`: labelled public samples, see `Examination`."""
        self._works = works
        self.examination = Examination(works.node, works.rules, counts)
        self.unseen = asyncio.Event()
        """Something is served that edges have not tried."""
        self.tried = 0
        """The version that edges tried last; 0: none since the start."""

    async def go_on(self) -> None:
        """What was served and not tried before an end is tried after a start, as soon as somebody is there to do so."""
        works = self._works
        if works.history.entries and not works.history.is_tried(works.history.state.number):
            while not self.examination.edges:
                await works.node.sleep(LOOK_S)
            self.unseen.set()

    async def hold(self) -> None:
        """Let edges try what is served; what they find worse goes. A crash before it has gone lets them try again."""
        self.unseen.clear()
        works = self._works
        served = works.versions.served
        if served is None or not isinstance(served.predictor, HeadOn):
            return
        entry = works.history.entries[-1]
        if entry.number == self.tried:
            return
        why = await self.examination.hold(served, await works.model.fairly(), entry)
        if why:
            await self._expel(entry, why)
        works.history.hear(entry.number, self.examination.said)
        self.tried = entry.number

    async def _expel(self, entry: Entry, why: str) -> None:
        """Serve a model without what a version brought, unless nothing would be left."""
        works = self._works
        state, admission = works.history.state, works.admission
        kept = tuple(each for each in state.made_of.entries if each.content not in entry.added)
        if not kept or len(kept) == len(state.made_of.entries):
            return
        brought = [admission.intake.signed(works.history.packet(content).card) for content in entry.added]
        after = msgspec.structs.replace(state.made_of, entries=kept)
        found = await works.model.of(after.contents, ridge=works.rules.ridge)
        cards = [signed.digest for signed in brought]
        changes = {
            "made_of": after,
            "refused": admission.refusing(brought, why, final=len(brought) == 1),
            "suspects": (*works.history.state.cleared(cards), *cards),
        }
        works.versions.serve(found, f"rolled back: {why}", changes=changes)
        for signed in brought:
            admission.tell(signed, why)
        self.unseen.set()
        admission.intake.again()
