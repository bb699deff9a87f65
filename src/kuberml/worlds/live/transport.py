"""The seam's Transport on a real network. What is asked and answered is `talk`'s; what is announced and who is here, Zenoh's.

Blob ranges come over HTTP where the holder can be dialled, else in windows through the router; see `blobs`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId
from kuberml.core.seam import Handler, Intake, Reading, Store
from kuberml.worlds.live import names
from kuberml.worlds.live.answering import Answering
from kuberml.worlds.live.asking import Asking
from kuberml.worlds.live.blobs.bucket import Bucket
from kuberml.worlds.live.blobs.client import BlobReader
from kuberml.worlds.live.blobs.intakes import Counted
from kuberml.worlds.live.blobs.served import ServedBlobs, serve_blobs
from kuberml.worlds.live.envelope import News, Voice, opened
from kuberml.worlds.live.presence import Gathering
from kuberml.worlds.live.ranges import Gate, Ranges
from kuberml.worlds.live.session import Link, closed
from kuberml.worlds.live.trust.policy import Trust, right_to_announce
from kuberml.worlds.simulated.subscription import Subscription

MAX_SPEAKERS = 65536
"""Sessions whose announcements are told from replays. What is announced are signed statements: an old one changes nothing."""


Proxy = Callable[[Digest, int, int, float], Awaitable[bytes]]
"""(blob, start, stop, timeout_s) -> bytes; errors are those of `Transport.read`."""


class LiveTransport:
    """`core.seam.Transport` of one process."""

    reading = Reading(window_bytes=8 << 20, parallel=8, timeout_s=10.0, patience_s=20.0)

    def __init__(
        self,
        link: Link,
        voice: Voice,
        role: str,
        trust: Trust,
        store: Store,
        reader: BlobReader,
        *,
        urls: tuple[str, ...] = (),
        mirrors: Mapping[NodeId, str] | None = None,
        upload: Bucket | None = None,
    ) -> None:
        """Be present, hear who is, and answer.

        Args:
            link: to the routers.
            voice: what this node signs with.
            role: what it is to others.
            trust: whom it believes what.
            store: whose blobs it gives.
            reader: how it reads others' over HTTP.
            urls: where its own HTTP door is, if it has one.
            mirrors: addresses of dumb mirrors, by the names that delivery uses for them.
            upload: bandwidth for blobs that go out, whichever way they go; default: no limit.
        """
        self.link, self.voice, self.role, self.trust = link, voice, role, trust
        self.here = Gathering(voice.node, trust.believes)
        self.answering = Answering(voice, trust, urls=urls)
        self.gate = Gate(self.answering, trust)
        self.asking = Asking(link, voice, self.here)
        self._ranges = Ranges(link, voice, self.here, self.asking, reader, mirrors or {})
        self.proxies: dict[NodeId, Proxy] = {}
        """Who reads in place of holders that are not of this realm."""
        self._newest: dict[tuple[str, bytes], int] = {}
        self.read_bytes = 0
        """Of others' blobs, since the start."""
        self._serving: list[ServedBlobs] = []  # one for each time that the link was opened
        key, prefix = names.ask_key(voice.realm, voice.node, "*"), names.blob_prefix(voice.realm, voice.node)
        self._undo = [
            link.on_token(names.here_keys(voice.realm), self.here.saw),
            link.on_query(key, self.answering.take_query),
            link.declare(lambda session: self._served(serve_blobs(session, prefix, store, self.gate.over_router, upload))),
        ]
        self._undo_token = link.token(self._token)
        self.answering.on_new_epoch = self._appear

    @property
    def node(self) -> NodeId:
        """Whose door this is."""
        return self.voice.node

    @property
    def sent_bytes(self) -> int:
        """Of blobs, over the router, since the start."""
        return sum(serving.sent_bytes for serving in self._serving)

    def _served(self, serving: ServedBlobs) -> _Blobs:
        self._serving.append(serving)
        return _Blobs(serving)

    @property
    def _token(self) -> str:
        voice = self.voice
        return names.here_key(voice.realm, names.Presence(voice.node, self.role, voice.key, voice.epoch))

    async def ask(self, to: NodeId, name: str, body: bytes, *, timeout_s: float) -> bytes:
        """See the seam. A node that is away is waited for a moment; a request that got lost is sent again."""
        return await self.asking.ask(to, name, body, timeout_s)

    def serve(self, name: str, handler: Handler) -> None:
        """See the seam; bounds are those of `answering`."""
        self.answering.handlers[name] = handler

    async def announce(self, topic: str, body: bytes) -> None:
        """See the seam. While no router is there it reaches nobody, which is what best effort means."""
        with contextlib.suppress(Unreachable):
            self.link.put(names.news_key(self.voice.realm, topic), self.voice.news(topic, body))

    def subscribe(self, topic: str, *, limit: int = 1024) -> Subscription:
        """See the seam. What cannot be believed is not heard."""
        subscription = Subscription(topic, limit, lambda ended: end())

        def end() -> None:
            if undo in self._undo:
                self._undo.remove(undo)
                undo()

        def hear(data: bytes) -> None:
            with contextlib.suppress(RemoteError):
                news = self._believed(data, topic)
                subscription.push(news.sender, news.body)

        undo = self.link.on_put(names.news_key(self.voice.realm, topic), hear)
        self._undo.append(undo)
        return subscription

    def alive(self, role: str | None = None) -> tuple[NodeId, ...]:
        """See the seam."""
        return self.here.alive(role)

    async def read(self, holder: NodeId, digest: Digest, start: int, stop: int, *, timeout_s: float) -> bytes:
        """See the seam. `timeout_s` is the longest silence, not the time for all."""
        if holder in self.proxies:
            data = await self.proxies[holder](digest, start, stop, timeout_s)
        else:
            data = await self._ranges.read(holder, digest, start, stop, timeout_s)
        self.read_bytes += len(data)
        return data

    async def stream(self, holder: NodeId, digest: Digest, start: int, stop: int, intake: Intake, *, timeout_s: float) -> None:
        """See the seam."""
        counted = Counted(intake)
        try:
            if holder in self.proxies:
                await self._ranges.pour(await self.proxies[holder](digest, start, stop, timeout_s), counted)
            else:
                await self._ranges.read(holder, digest, start, stop, timeout_s, counted)
        finally:
            self.read_bytes += counted.size_bytes

    async def close(self) -> None:
        """Leave."""
        closed([*self._undo, self._undo_token])
        await self.answering.close()
        await self._ranges.close()

    def _appear(self) -> None:
        """Show the new epoch."""
        before, self._undo_token = self._undo_token, self.link.token(self._token)
        before()

    def _believed(self, data: bytes, topic: str) -> News:
        news = opened(data, News)
        if (news.realm, news.topic) != (self.voice.realm, topic) or not self.trust.believes(news.sender, news.key):
            raise RemoteError("not for this realm and topic, or not by whom it says")
        self.trust.check(news.key, right_to_announce(topic))
        if news.number <= self._newest.get((news.key, news.session), 0):
            raise RemoteError("a replay")
        if len(self._newest) > MAX_SPEAKERS:
            self._newest.clear()
        self._newest[news.key, news.session] = news.number
        return news


class _Blobs:
    """What `serve_blobs` gave, as something that can be taken back."""

    def __init__(self, serving: ServedBlobs) -> None:
        self._serving = serving

    def undeclare(self) -> None:
        self._serving.close()
