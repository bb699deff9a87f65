"""A service at a hub (or in a shared folder): a member that keeps one cloud model fresh, and the HTTP service by its side.

Three things go on beside each other, and none waits for another: the member and its `Cloud` on the main loop; the HTTP service
on a thread of its own (`service`); engines on theirs. When the hub is away, what is served goes on being served.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from kuberml.core.errors import ConfigError, RemoteError, Unreachable
from kuberml.core.ids import Digest, LabelId
from kuberml.core.seam import Compute
from kuberml.core.tasks import end_all
from kuberml.core.values import digest
from kuberml.exchange.continual.cloud import Cloud
from kuberml.exchange.continual.examination import PUBLISHER
from kuberml.exchange.continual.history import Entry
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.continual.served import Served
from kuberml.exchange.node import Node
from kuberml.knowledge.kinds.extractor import Extractor, basis_of
from kuberml.knowledge.kinds.probe import Probe
from kuberml.knowledge.kinds.statistics import Head
from kuberml.learning.extractors import built
from kuberml.learning.predictor import HeadOn
from kuberml.learning.types import Samples
from kuberml.serving.http.slot import Live
from kuberml.serving.service import Service, Settings
from kuberml.worlds.alone import alone
from kuberml.worlds.live.blobs.background import step_back
from kuberml.worlds.live.compute import LiveCompute
from kuberml.worlds.member.meeting import Meeting, enter, where_to
from kuberml.worlds.member.naming import Identity, known_as
from kuberml.worlds.member.seat import Seat

log = logging.getLogger("kuberml.serving")

AGAIN_S = 1.0
"""Between two looks for what nobody has published yet, and before going on after an error."""
AGAIN_MAX_S = 30.0
LOOK_S = 0.5
"""How often it is looked whether the hub is there."""


class Serving:
    """One process that serves; made by `opened`."""

    def __init__(self, me: Identity, task: str, folder: Path, rules: Rules, service: Service) -> None:
        self.me, self.task, self.folder, self.service = me, task, folder, service
        self._rules = rules
        self.cloud: Cloud | None = None
        """None until everybody's extractor was found."""
        self.hub = ""
        """Whether the hub is there, as `/v1/health` says it; "": a shared folder has none."""
        self.url = ""
        """Where queries are answered."""

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls,
        place: Path | str,
        *,
        task: str,
        http: tuple[str, int],
        folder: Path,
        name: str = "",
        key: Path | None = None,
        https: ssl.SSLContext | None = None,
        rules: Rules | None = None,
        settings: Settings | None = None,
        on_swap: Callable[[Live], None] | None = None,
        seed: int = 0,
    ) -> AsyncIterator[Serving]:
        """Join, listen, and keep fresh until the end of the block; then answer what is under way, and leave.

        Args:
            place: a hub's address or a shared folder, see `worlds.member.meeting.where_to`.
            task: what the model is about.
            http: host and port to listen on; port 0 asks for a free one.
            folder: of its own: key, packages, history; made if it is not there. Started again on it, it goes on where it was.
            name, key: see `worlds.member.naming.known_as`.
            https: answer over HTTPS with this.
            rules: what is taken in and refused.
            settings: of the HTTP service.
            on_swap: see `Service`.
            seed: of what is drawn.

        Raises:
            ConfigError: a port that is taken, a folder that another service uses, or a name that belongs to another key.
            Unreachable: no hub answers, and none was met before.
            RemoteError: the hub does not let this member in.
        """
        where = where_to(place)
        _make(folder)
        async with contextlib.AsyncExitStack() as staying:
            staying.enter_context(alone(folder, busy="a service runs in this folder already; give this one another --folder"))
            me = known_as(name, key=key or folder / "serve.key", vault=folder / "vault", stem="" if name else "serve")
            service = Service(settings or Settings(), hub=lambda: serving.hub, on_swap=on_swap)
            serving = cls(me, task, folder, rules or Rules(), service)
            staying.push_async_callback(service.close)
            port = await service.open(*http, https)
            host = f"[{http[0]}]" if ":" in http[0] else http[0]
            serving.url = f"{'https' if https else 'http'}://{host}:{port}"
            meeting = await enter(where, me.node, me.keys, me.vault, PUBLISHER)
            staying.push_async_callback(meeting.close)
            compute = LiveCompute(step_back)  # a folder's would hold up the loop, a member's is as urgent as answers
            staying.callback(compute.close)
            working = [asyncio.create_task(serving._keep_fresh(meeting, compute, seed))]
            if not isinstance(where, Path):
                working.append(asyncio.create_task(serving._watch(meeting)))
            try:
                yield serving
            finally:
                await end_all(working)
                await service.close()  # who asks is not kept waiting until the hub has been left

    async def remove(self, author: str) -> Served:
        """Forget a contributor; see `Cloud.remove`. Returns once the model without it answers.

        Raises:
            ConfigError: nothing is served yet, or nothing of this author is in it.
        """
        return await self._now_served(await self._opened_cloud().remove(author))

    async def rollback(self, to: Digest | None) -> Served:
        """Serve an earlier version again; see `Cloud.rollback`. Returns once it answers.

        Raises:
            ConfigError: nothing is served yet, or there is no such version.
        """
        return await self._now_served(await self._opened_cloud().rollback(to))

    async def readmit(self, *names: str) -> None:
        """Let in again what was kept out; see `Cloud.readmit`. Raises ConfigError: nothing is served yet."""
        await self._opened_cloud().readmit(*names)

    def history(self) -> dict[str, Any]:
        """As plain data: versions served, oldest first; why packages are not in the model, by card; what was forgotten.

        What was removed or rolled back and stays out. And whose word counts: of members who have tried versions of lately, by
        public key, in parts per million.
        """
        if self.cloud is None:
            out: dict[str, Any] = {"removed": [], "contents": []}
            return {"versions": [], "refused": {}, "kept_out": out, "witnesses": {}, "forgetting": []}
        cloud = self.cloud
        return {
            "versions": [as_told(entry) for entry in cloud.history],
            "refused": cloud.refused,
            "kept_out": cloud.kept_out,
            "witnesses": cloud.witnesses,
            "forgetting": msgspec.to_builtins(cloud.forgetting),
        }

    async def _now_served(self, served: Served) -> Served:
        await asyncio.wrap_future(self.service.take(served))
        return served

    def _opened_cloud(self) -> Cloud:
        if self.cloud is None:
            raise ConfigError("nothing is served here yet: it begins with the first knowledge at the hub")
        return self.cloud

    async def _watch(self, meeting: Meeting) -> None:
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
            log.exception("%s: what the hub was told meanwhile is heard at the next look", self.me.node)

    async def _keep_fresh(self, meeting: Meeting, compute: Compute, seed: int) -> None:
        """Find what everybody uses, then take in what arrives, for ever; an error delays that, and stops no answer."""
        wait_s, said, now_s = 0.0, "", asyncio.get_running_loop().time
        while True:
            began_s, pause_s = now_s(), AGAIN_S
            try:
                if self.cloud is None:
                    node, extractor, probe = await self._found(meeting, compute, seed)
                    self.service.calibration = calibration_of(probe)
                    self.service.prepare(blank(extractor, node.place.shape), node.place.shape)
                    cloud = Cloud(node, extractor, self._rules, probe, lambda served: _begin(self.service, served))
                    await cloud.open()
                    self.cloud = cloud
                await self.cloud.run()
            except* (ConfigError, Unreachable, RemoteError) as errors:
                if (why := str(errors.exceptions[0])) != said:
                    log.warning("%s: not yet: %s", self.me.node, why)
                said = why
            except* Exception:
                pause_s = wait_s = after_error_s(wait_s, now_s() - began_s)
                log.exception("%s: what is served stays as it is; trying again in %g s", self.me.node, wait_s)
            await asyncio.sleep(pause_s)

    async def _found(self, meeting: Meeting, compute: Compute, seed: int) -> tuple[Node, Extractor, Probe]:
        """This member's node, and the extractor and the probe of the task. Raises ConfigError: nobody has published them."""
        seat = Seat(meeting, self.me.keys, task=self.task, labels=(), kind="statistics", heldout=0.25, min_class_count=5,
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


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder}: {error}") from error


def as_told(entry: Entry) -> Any:
    """An entry of the history as JSON can say it: a learner, which may hold arrays, by its digest."""
    recipe = entry.recipe
    if recipe is not None and recipe.learner is not None:
        recipe = msgspec.structs.replace(recipe, learner=digest(recipe.learner))
    return msgspec.to_builtins(msgspec.structs.replace(entry, recipe=recipe))
