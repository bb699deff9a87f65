"""How packets come in: together if that passes the gate, else one by one, so that one bad packet holds up nobody."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kuberml.core.errors import ConfigError
from kuberml.exchange.continual import gate
from kuberml.exchange.continual.drift import Drift
from kuberml.exchange.continual.intake import Arrival
from kuberml.exchange.continual.review import Review
from kuberml.exchange.continual.works import Works


class Absorbing:
    """See the module."""

    def __init__(self, works: Works, review: Review) -> None:
        """`review`: what edges found suspicious is tried alone, and reviewed before anything else comes in."""
        self._works, self._review = works, review

    async def take_in(self) -> None:
        """Take in what waits."""
        history, admission, model = self._works.history, self._works.admission, self._works.model
        arrived = {one.content: one for one in await admission.intake.take() if admission.wants(one.signed)}
        honest = [one for one in arrived.values() if not await admission.lies(one, model)]
        drifts = [drift for one in honest if (drift := await admission.drift(one, model)) is not None]
        suspects = {*history.state.suspects}
        trusted = [one for one in honest if one.signed.digest not in suspects]
        done = not trusted or await self._try(trusted, drifts)
        for one in honest:
            if one.signed.digest in suspects:
                await self._alone(one, drifts)
            elif not done and len(trusted) > 1:
                await self._try([one], drifts)

    async def _alone(self, one: Arrival, drifts: Sequence[Drift]) -> None:
        """A packet that came with a version that edges found worse: they try it before anything else is absorbed."""
        if await self._try([one], drifts) and self._works.rules.evaluate:
            await self._review.hold()

    async def _try(self, arrivals: Sequence[Arrival], drifts: Sequence[Drift]) -> bool:
        """Try packets together, and serve what they make; False: not all could be taken in, and nothing changed."""
        works = self._works
        history, admission, model, rules = works.history, works.admission, works.model, works.rules
        present, arrived = history.state.made_of, {one.content: one.packet for one in arrivals}
        after, cards = present, {one.signed.digest for one in arrivals}
        for one in arrivals:
            after = admission.planned(after, one, arrived) or after
        if after.contents == present.contents:  # refused, or a copy that somebody else signed
            history.commit(msgspec.structs.replace(history.state, made_of=after, suspects=history.state.cleared(cards)))
            return True
        try:
            found = await model.of(after.contents, arrived, ridge=rules.ridge)
            judged = await model.judge(found)
            why = gate.harm(judged.change, judged.taken_C, rules) or gate.creeping(judged, history.entries, rules)
        except ConfigError as error:
            why = str(error)
        if why:
            if len(arrivals) == 1:
                admission.refuse(arrivals[0].signed, why)
            return False
        fresh = [one for one in arrivals if one.content in after.contents]
        noted = [drift for drift in drifts if drift.card in {one.signed.digest for one in fresh}]
        why, changes = f"{gate.ABSORBED} {len(fresh)}", {"made_of": after, "suspects": history.state.cleared(cards)}
        works.versions.serve(found, why, changes=changes, arrivals=fresh, drifts=noted, judged=judged)
        self._review.unseen.set()
        if admission.is_any_to_be_tried_again():
            admission.intake.again()
        return True
