"""Answering: each request is checked before a handler sees it: form, signature, for whom, by whom, once, and not too many."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from kuberml import __version__
from kuberml.core import canonical
from kuberml.core.errors import KuberError, RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.core.seam import Handler
from kuberml.core.tasks import end_all
from kuberml.worlds.live.asking import Door
from kuberml.worlds.live.envelope import Once, Request, Status, Voice, digest, opened
from kuberml.worlds.live.trust.limits import Limits
from kuberml.worlds.live.trust.policy import NotAdmitted, Trust, how_to_admit, right_for
from kuberml.worlds.live.waiting import WAITS, Waiting

MAX_UNREAD = 512
"""Requests over Zenoh that wait to be read; more are dropped unread."""
MAX_ERROR_CHARS = 1000

log = logging.getLogger("kuberml.live")
Watch = Callable[[str, str, float, str], None]
"""Told of every request: (name, outcome, seconds, why it was not granted)."""


class Answering:
    """One node's answers."""

    def __init__(self, voice: Voice, trust: Trust, *, urls: tuple[str, ...] = (), limits: Limits | None = None) -> None:
        """`limits`: how much one key, and all, may ask; default: those of `trust.limits`."""
        self._voice, self._trust, self._limits = voice, trust, limits or Limits()
        self.handlers: dict[str, Handler] = {"door": self._door}
        self.urls = urls
        self.on_new_epoch: Callable[[], None] = lambda: None
        self.watch: Watch = lambda name, outcome, seconds, why: None
        self._once, self._waiting = Once(), Waiting()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return self._limits.open

    def take_query(self, query: Any) -> None:
        """A request came over Zenoh."""
        data = b"" if query.payload is None else query.payload.to_bytes()
        if len(self._tasks) >= MAX_UNREAD:
            return  # not even worth a signature: whoever asks sees no answer and tries again
        task = asyncio.get_running_loop().create_task(self._reply(query, data))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply(self, query: Any, data: bytes) -> None:
        answer = await self.answer(data, str(query.key_expr).rpartition("/")[2])
        if answer is not None:
            query.reply(query.key_expr, answer)

    async def answer(self, data: bytes, name: str) -> bytes | None:
        """The sealed answer to a sealed request; None where whoever asks cannot even be told why not."""
        began_s, outcome, why = asyncio.get_running_loop().time(), "refused", ""
        try:
            request = opened(data, Request)
        except RemoteError as error:
            log.info("unreadable request for %r: %s", name[:64], error)
            self.watch("unreadable", outcome, 0.0, str(error))
            return None
        known = request.name if request.name in self.handlers else "unknown"
        try:
            status, body = await self._judged(request)
            outcome, why = status, "" if status == "ok" else body.decode("utf-8", "replace")
        finally:
            self.watch(known, outcome, asyncio.get_running_loop().time() - began_s, why)
        return self._voice.answer(digest(request), status, body)

    async def _judged(self, request: Request) -> tuple[Status, bytes]:
        if request.to == self._voice.node and request.realm == self._voice.realm and request.epoch != self._voice.epoch:
            return "epoch", self._voice.epoch.encode()
        try:
            self.admit(request)
            if request.number < 1:
                raise RemoteError("a ticket is not a request")
            self._once.admit(request.key, request.session, request.number)
            if self._once.is_full:
                self._new_epoch()
            return "ok", await self._handled(request)
        except KuberError as error:
            why = str(error)[:MAX_ERROR_CHARS].encode()
            return ("unreachable" if isinstance(error, Unreachable) else "refused"), why
        except OSError as error:  # a full disk, for instance: it may go well later, so nobody is to take it for a refusal
            log.warning("%s cannot answer %r now: %s", self._voice.node, request.name, error)
            return "unreachable", f"{self._voice.node} cannot now: {error.strerror or type(error).__name__}".encode()
        except Exception as error:
            log.exception("a handler of %s failed, asked %r by %s", self._voice.node, request.name, request.sender)
            return "refused", f"{self._voice.node} failed: {type(error).__name__}".encode()

    def admit(self, request: Request) -> None:
        """Whether this key may ask this node that, at all.

        Raises:
            RemoteError: it is for somebody else, of another realm, by somebody else than it says, or not allowed.
            Unreachable: it is for an earlier start of this node: whoever asks anew may be admitted.
        """
        voice = self._voice
        if request.realm != voice.realm:
            raise RemoteError(f"a request of realm {request.realm!r:.70}; this is {voice.realm!r}")
        if request.to != voice.node:
            raise RemoteError(f"a request for {request.to!r:.70}; this is {voice.node}")
        if request.epoch != voice.epoch:
            raise Unreachable(f"{voice.node} has started again since this was asked: ask anew")
        if not self._trust.believes(request.sender, request.key):
            self._trust.check(request.key, None)  # a revoked key is told so, and not that its name is another's
            whose = "the name belongs to another key, or to none here"
            admitted = how_to_admit(request.key, request.sender)
            raise RemoteError(f"{request.key[:12]}... is not known to be the key of {request.sender}: {whose}; {admitted}")
        try:
            self._trust.check(request.key, right_for(request.name))
        except NotAdmitted as error:
            raise RemoteError(f"{error}; {how_to_admit(request.key, request.sender, error.needs)}") from error

    async def _handled(self, request: Request) -> bytes:
        handler = self.handlers.get(request.name)
        if handler is None:
            raise RemoteError(f"{self._voice.node} serves no {request.name!r:.70}")
        self._limits.admit(request.key, len(request.body))
        try:
            answer = handler(request.sender, request.body)
            return await (self._waiting.of(request.key, answer) if request.name in WAITS else answer)
        finally:
            self._limits.release(request.key)

    async def _door(self, asker: NodeId, body: bytes) -> bytes:
        return canonical.encode(Door(urls=self.urls, software=f"kuberml {__version__}"))

    def _new_epoch(self) -> None:
        self._once.clear()
        self._voice.new_epoch()
        self.on_new_epoch()

    async def close(self) -> None:
        """Let go of what is being answered."""
        await end_all(list(self._tasks))
