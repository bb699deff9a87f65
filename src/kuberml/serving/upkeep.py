"""What keeps a service's model fresh: a member that finds what everybody uses, runs a cloud on it, and goes on after errors."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

import numpy as np

from kuberml.core.errors import ConfigError, RemoteError, Unreachable
from kuberml.core.ids import LabelId
from kuberml.core.seam import Compute
from kuberml.core.tasks import end_all
from kuberml.exchange.continual.cloud import Cloud
from kuberml.exchange.continual.examination import PUBLISHER
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.continual.served import Served
from kuberml.exchange.node import Node
from kuberml.knowledge.kinds.extractor import Extractor, basis_of
from kuberml.knowledge.kinds.probe import Probe
from kuberml.knowledge.kinds.statistics import Head
from kuberml.learning.extractors import built
from kuberml.learning.predictor import HeadOn
from kuberml.learning.types import Samples
from kuberml.serving.service import Service
from kuberml.worlds.member.meeting import Meeting
from kuberml.worlds.member.naming import Identity
from kuberml.worlds.member.seat import Seat

log = logging.getLogger("kuberml.serving")

AGAIN_S = 1.0
"""Between two looks for what nobody has published yet, and before going on after an error."""
AGAIN_MAX_S = 30.0
LOOK_S = 0.5
"""How often it is looked whether the hub is there."""


class Upkeep:
    """Of one service."""

    def __init__(self, me: Identity, task: str, rules: Rules, service: Service) -> None:
        self._me, self._task, self._rules, self._service = me, task, rules, service
        self.cloud: Cloud | None = None
        self.hub = ""

    async def run(self, meeting: Meeting, compute: Compute, seed: int) -> None:
        """Find what everybody uses, then take in what arrives, for ever; an error delays that, and stops no answer."""
        wait_s, said, now_s = 0.0, "", asyncio.get_running_loop().time
        while True:
            began_s, pause_s = now_s(), AGAIN_S
            try:
                if self.cloud is None:
                    node, extractor, probe = await self._found(meeting, compute, seed)
                    self._service.calibration = calibration_of(probe)
                    self._service.prepare(blank(extractor, node.place.shape), node.place.shape)
                    cloud = Cloud(node, extractor, self._rules, probe, lambda served: _begin(self._service, served))
                    await cloud.open()
                    self.cloud = cloud
                await self.cloud.run()
            except* (ConfigError, Unreachable, RemoteError) as errors:
                if (why := str(errors.exceptions[0])) != said:
                    log.warning("%s: not yet: %s", self._me.node, why)
                said = why
            except* Exception:
                pause_s = wait_s = after_error_s(wait_s, now_s() - began_s)
                log.exception("%s: what is served stays as it is; trying again in %g s", self._me.node, wait_s)
            await asyncio.sleep(pause_s)

    async def watch(self, meeting: Meeting) -> None:
        """See whether the hub is there, for ever, and catch up as soon as it is back."""
        catching: asyncio.Task[None] | None = None
        try:
            while True:
                before, self.hub = self.hub, "there" if meeting.hub in meeting.transport.alive() else "away"
                if (before, self.hub) == ("away", "there") and (catching is None or catching.done()):
                    catching = asyncio.create_task(self._catch_up())
                await asyncio.sleep(LOOK_S)
        finally:
            if catching is not None:
                await end_all([catching])

    async def _catch_up(self) -> None:
        """The hub is back: hear at once what it was told meanwhile; the next look would do so too."""
        try:
            if self.cloud is not None:
                await self.cloud.catch_up()
        except Exception:
            log.exception("%s: what the hub was told meanwhile is heard at the next look", self._me.node)

    async def _found(self, meeting: Meeting, compute: Compute, seed: int) -> tuple[Node, Extractor, Probe]:
        """This member's node, and the extractor and the probe of the task. Raises ConfigError: nobody has published them."""
        seat = Seat(meeting, self._me.keys, task=self._task, labels=(), kind="statistics", heldout=0.25, min_class_count=5,
                    purpose="", region="", seed=seed)  # fmt: skip
        extractor, probe = await seat.extractor(), await seat.probe()
        place = dataclasses.replace(seat.node.place, role=PUBLISHER, compute=compute, shape=tuple(probe.x_N.shape[1:]),
                                    learner=None)  # fmt: skip
        return Node(place), extractor, probe


def after_error_s(before_s: float, went_well_s: float) -> float:
    """How long to wait after an error: twice as long as after the one before, unless all went well for long in between."""
    return AGAIN_S if went_well_s >= AGAIN_MAX_S else min(max(AGAIN_S, 2 * before_s), AGAIN_MAX_S)


def calibration_of(probe: Probe) -> Samples | None:
    """The public probe as samples with labels; None: it has none."""
    if probe.y_N is None:
        return None
    return Samples(probe.inputs(), probe.y_N.astype(np.int64), probe.labels)


def blank(extractor: Extractor, shape: tuple[int, ...]) -> HeadOn:
    """A head that knows nothing on this extractor: what an engine for it can be prepared with."""
    weights_dC = np.cos(np.arange(2.0 * (1 + built(extractor).dimensions))).reshape(-1, 2)
    return HeadOn(extractor, Head(weights_dC, (LabelId("a"), LabelId("b")), 1.0, basis_of(extractor), 8, 16), shape)


def _begin(service: Service, served: Served) -> None:
    service.take(served)
