"""Zenoh on asyncio: one process's link to the routers of its hubs.

Zenoh calls back on threads of its own; everything is handed to the event loop. `Link` can be used before a router is there:
it goes on trying, and what was declared meanwhile is declared when it is. Later interruptions Zenoh mends by itself.
Sessions do not survive a fork: processes are spawned.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import zenoh

from kuberml.core.errors import Unreachable
from kuberml.worlds.live.allocator import keep_memory
from kuberml.worlds.live.names import Endpoint

LEASE_MS = 2000
"""A peer that is silent for so long is gone (one that is killed is seen at once)."""
OPEN_S = 2.0
RETRY_S = (0.1, 2.0)
"""Waits between attempts to reach a router: the first, and the longest."""
SESSIONS_MAX = 10_000
"""Peers of one router (Zenoh's own default is 1,000)."""
PENDING_MAX, ACCEPT_S = 2_000, 5.0
"""Connections that have not said yet who they are, and how long they may take: slow ones must not keep others out."""
MESSAGE_MAX_BYTES = 8 << 20
"""Of one message on a link. The largest of ours is an envelope of 5 MiB; Zenoh's own default is 1 GiB."""

BULK_BATCHES = 16
"""Of 64 KiB, of the lowest priority, that wait on a link: with Zenoh's own 2, router and holder wake up for each."""
RECEIVE_BYTES = 1 << 20
"""Read from its one link at once by a node; a hub has thousands of links, and keeps Zenoh's own 64 KiB for each."""

Config = dict[str, Any]


class Undeclared(Protocol):
    """What was declared and can be taken back."""

    def undeclare(self) -> None:
        """Take it back."""
        ...


def client(endpoints: Sequence[Endpoint], tls: Config | None = None) -> Config:
    """Settings of a node: it dials out to any of these, and to nobody else."""
    return {
        "mode": "client",
        "connect/endpoints": [str(endpoint) for endpoint in endpoints],
        "connect/timeout_ms": int(OPEN_S * 1000),
        "transport/link/rx/buffer_size": RECEIVE_BYTES,
        "connect/retry": {"period_init_ms": 100, "period_max_ms": 1000, "period_increase_factor": 1.5},
        **_common(tls),
    }


def router(listen: Sequence[Endpoint], tls: Config | None = None, connect: Sequence[Endpoint] = ()) -> Config:
    """Settings of a hub: nodes dial in; it may link to other routers of the same owner."""
    return {
        "mode": "router",
        "listen/endpoints": [str(endpoint) for endpoint in listen],
        "connect/endpoints": [str(endpoint) for endpoint in connect],
        "transport/unicast/max_sessions": SESSIONS_MAX,
        "transport/unicast/accept_pending": PENDING_MAX,
        "transport/unicast/accept_timeout": int(ACCEPT_S * 1000),
        **_common(tls),
    }


def _common(tls: Config | None) -> Config:
    quiet = {"scouting/multicast/enabled": False, "scouting/gossip/enabled": False}
    # Shared memory between processes of one machine has segments for 351 sessions (Zenoh 1.10), and then nobody else gets in.
    bounds = {"transport/link/rx/max_message_size": MESSAGE_MAX_BYTES, "transport/shared_memory/enabled": False}
    sending = {"transport/link/tx/lease": LEASE_MS, "transport/link/tx/queue/size/background": BULK_BATCHES}
    return {**quiet, **bounds, **sending, **(tls or {})}


def open_session(config: Config) -> zenoh.Session:
    """Open a session now; it may take OPEN_S. Raises Unreachable: no router, or no port."""
    keep_memory()
    settings = zenoh.Config()
    for name, setting in config.items():
        settings.insert_json5(name, json.dumps(setting))
    try:
        return zenoh.open(settings)
    except zenoh.ZError as error:
        raise Unreachable(str(error).split(" at /")[0]) from error


class Link:
    """See the module. Use it on the event loop that opened it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._session: zenoh.Session | None = None
        self._wanted: dict[int, Callable[[zenoh.Session], Undeclared]] = {}
        self._declared: dict[int, Undeclared] = {}
        self._numbers = 0
        self._dialling: asyncio.Task[None] | None = None
        self.opened = asyncio.Event()
        self.why = "not tried yet"
        """Why no router was reached the last time."""

    @property
    def session(self) -> zenoh.Session:
        """The session. Raises Unreachable: no router was reached yet."""
        if self._session is None:
            raise Unreachable(f"no hub was reached yet at {', '.join(self._config['connect/endpoints'])}: {self.why}")
        return self._session

    async def open(self) -> None:
        """Open now. Raises Unreachable: it cannot be."""
        self._enter(await asyncio.to_thread(open_session, self._config))

    def dial(self) -> None:
        """Open when it can be, trying in the background."""
        self._dialling = self._loop.create_task(self._dial(), name="dialling the hub")

    async def close(self) -> None:
        """Take everything back and close."""
        if self._dialling is not None:
            self._dialling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._dialling
        self._declared.clear()
        session, self._session = self._session, None
        if session is not None:
            await asyncio.to_thread(session.close)

    async def _dial(self) -> None:
        wait_s, longest_s = RETRY_S
        while self._session is None:
            try:
                await self.open()
            except Unreachable as error:
                self.why = str(error)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, longest_s)

    def _enter(self, session: zenoh.Session) -> None:
        self._session = session
        for number, declare in self._wanted.items():
            self._declared[number] = declare(session)
        self.opened.set()

    def declare(self, declaring: Callable[[zenoh.Session], Undeclared]) -> Callable[[], None]:
        """Declare something now, or when a router is reached. Returns what takes it back."""
        self._numbers += 1
        number = self._numbers
        self._wanted[number] = declaring
        if self._session is not None:
            self._declared[number] = declaring(self._session)

        def undo() -> None:
            self._wanted.pop(number, None)
            declared = self._declared.pop(number, None)
            if declared is not None and self._session is not None:
                declared.undeclare()

        return undo

    def on_query(self, key: str, answer: Callable[[zenoh.Query], None]) -> Callable[[], None]:
        """Call `answer` on the loop with every query for `key`."""
        return self.declare(lambda session: session.declare_queryable(key, _direct(self._handed(answer))))

    def on_put(self, key: str, hear: Callable[[bytes], None]) -> Callable[[], None]:
        """Call `hear` on the loop with what others put under `key`."""
        handed = self._handed(hear)

        def heard(sample: zenoh.Sample) -> None:
            handed(sample.payload.to_bytes())

        others = zenoh.Locality.REMOTE
        return self.declare(lambda session: session.declare_subscriber(key, _direct(heard), allowed_origin=others))

    def on_token(self, keys: str, see: Callable[[str, bool], None]) -> Callable[[], None]:
        """Call `see(key, is_there)` on the loop whenever a token appears or goes; first with those that are there."""
        handed = self._handed(lambda pair: see(*pair))

        def seen(sample: zenoh.Sample) -> None:
            handed((str(sample.key_expr), sample.kind == zenoh.SampleKind.PUT))

        return self.declare(lambda session: session.liveliness().declare_subscriber(keys, _direct(seen), history=True))

    def token(self, key: str) -> Callable[[], None]:
        """Be present under `key`."""
        return self.declare(lambda session: session.liveliness().declare_token(key))

    def put(self, key: str, body: bytes) -> None:
        """Announce, best effort: dropped where somebody is slow. Raises Unreachable: no router was reached yet."""
        self.session.put(key, body, congestion_control=zenoh.CongestionControl.DROP)

    async def get(self, key: str, body: bytes, timeout_s: float) -> bytes | None:
        """The first answer to a query; None when there is none (which proves nothing: it may be there a moment later)."""
        session, first, ended = self.session, _First(), self._loop.create_future()
        cancel = zenoh.CancellationToken()

        def end() -> None:
            if not ended.done():
                ended.set_result(None)

        def finished() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
                self._loop.call_soon_threadsafe(end)

        session.get(key, _direct(first.take, finished), payload=body, timeout=timeout_s,
                    priority=zenoh.Priority.INTERACTIVE_HIGH, cancellation_token=cancel)  # fmt: skip
        try:
            await ended
        except asyncio.CancelledError:
            cancel.cancel()  # type: ignore[no-untyped-call]
            raise
        return first.body

    def _handed(self, call: Callable[[Any], None]) -> Callable[[Any], None]:
        def hand(something: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
                self._loop.call_soon_threadsafe(call, something)

        return hand


def _direct(call: Callable[[Any], None], drop: Callable[[], None] | None = None) -> Any:
    """A callback on Zenoh's own thread: ours only hand on, and a thread for each would cost more than the question."""
    return zenoh.handlers.Callback(call, drop, indirect=False)


class _First:
    """Keeps the first good reply."""

    def __init__(self) -> None:
        self.body: bytes | None = None

    def take(self, reply: zenoh.Reply) -> None:
        if reply.ok is not None and self.body is None:
            self.body = reply.ok.payload.to_bytes()


def closed(undoing: Iterable[Callable[[], None]]) -> None:
    """Take back several declarations."""
    for undo in undoing:
        undo()
