"""A service at a hub (or in a shared folder): a member that keeps one cloud model fresh, and the HTTP service by its side.

Three things go on beside each other, and none waits for another: the member and its `Cloud` on the main loop (`upkeep`); the
HTTP service on a thread of its own (`service`); engines on theirs. When the hub is away, what is served goes on being served.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest
from kuberml.core.tasks import end_all
from kuberml.core.values import digest
from kuberml.exchange.continual.cloud import Cloud
from kuberml.exchange.continual.examination import PUBLISHER
from kuberml.exchange.continual.history import Entry
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.continual.served import Served
from kuberml.serving.http.slot import Live
from kuberml.serving.service import Service, Settings
from kuberml.serving.upkeep import Upkeep
from kuberml.worlds.alone import alone
from kuberml.worlds.live.blobs.background import step_back
from kuberml.worlds.live.compute import LiveCompute
from kuberml.worlds.member.meeting import enter, where_to
from kuberml.worlds.member.naming import Identity, known_as


class Serving:
    """One process that serves; made by `opened`."""

    def __init__(self, me: Identity, task: str, folder: Path, rules: Rules, service: Service) -> None:
        self.me, self.task, self.folder, self.service = me, task, folder, service
        self._upkeep = Upkeep(me, task, rules, service)
        self.url = ""
        """Where queries are answered."""

    @property
    def cloud(self) -> Cloud | None:
        """What keeps the model; None until everybody's extractor was found."""
        return self._upkeep.cloud

    @property
    def hub(self) -> str:
        """Whether the hub is there, as `/v1/health` says it; "": a shared folder has none."""
        return self._upkeep.hub

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
            working = [asyncio.create_task(serving._upkeep.run(meeting, compute, seed))]
            if not isinstance(where, Path):
                working.append(asyncio.create_task(serving._upkeep.watch(meeting)))
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
