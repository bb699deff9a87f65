"""The seam's Transport over the network model: requests, announcements, presence and blob ranges between nodes.

Announcements go through the network's router, as in the live world: the sender's up link carries them once. Presence is
known at once (the live world sees a death in milliseconds). A bug in a handler ends the run: it must not look like a
peer's refusal.
"""

from __future__ import annotations

import asyncio
import contextvars
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from kuberml.core.errors import KuberError, RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId
from kuberml.core.seam import Handler, Reading, Store
from kuberml.core.units import to_ns
from kuberml.worlds.simulated.links import HEADER_BYTES, Network, Port
from kuberml.worlds.simulated.loop import NODE, VirtualLoop
from kuberml.worlds.simulated.store import flipped
from kuberml.worlds.simulated.subscription import Subscription
from kuberml.worlds.simulated.trace import Trace

MAX_IN_FLIGHT = 256
"""Requests that one node answers at a time; more are refused."""
MAX_ERROR_CHARS = 1000


class Switchboard:
    """What all transports of one world share: the network, who is there, who subscribes to what."""

    def __init__(self, loop: VirtualLoop, network: Network, trace: Trace) -> None:
        self.loop, self.network, self.trace = loop, network, trace
        self.doors: dict[NodeId, SimulatedTransport] = {}
        self.topics: dict[str, dict[Port, tuple[Subscription, ...]]] = {}
        self._present: dict[str | None, tuple[NodeId, ...]] = {}
        self._present_epoch = -1

    def present(self, role: str | None) -> tuple[NodeId, ...]:
        """Nodes that are up, sorted; of one role or of all."""
        if self._present_epoch != self.network.epoch:
            self._present_epoch, self._present = self.network.epoch, {}
        if role not in self._present:
            doors = (door for door in self.doors.values() if door.port.is_up and role in (None, door.role))
            self._present[role] = tuple(sorted(door.node for door in doors))
        return self._present[role]


class SimulatedTransport:
    """`core.seam.Transport` of one node."""

    def __init__(self, board: Switchboard, port: Port, role: str, store: Store) -> None:
        self.port, self.role = port, role
        self.is_lying = False
        """A fault: flip a byte of every blob range that is read from here."""
        self.reading = Reading()
        self._board, self._store = board, store
        self._handlers: dict[str, Handler] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._subscriptions: list[Subscription] = []
        self._context = contextvars.copy_context()
        self._context.run(NODE.set, port.node)
        board.doors[port.node] = self

    @property
    def node(self) -> NodeId:
        """Whose door this is."""
        return self.port.node

    async def ask(self, to: NodeId, name: str, body: bytes, *, timeout_s: float) -> bytes:
        """See the seam."""
        size_bytes = HEADER_BYTES + len(name) + len(body)
        return await self._exchange(to, size_bytes, lambda call: call.door._on_ask(name, body, call), repr(name), timeout_s)

    async def read(self, holder: NodeId, digest: Digest, start: int, stop: int, *, timeout_s: float) -> bytes:
        """See the seam."""
        size_bytes = HEADER_BYTES + len(digest) + 16
        what = f"blob {digest[:12]}"
        return await self._exchange(
            holder, size_bytes, lambda call: call.door._on_read(digest, start, stop, call), what, timeout_s
        )

    def serve(self, name: str, handler: Handler) -> None:
        """See the seam; the bound is MAX_IN_FLIGHT."""
        self._handlers[name] = handler

    async def announce(self, topic: str, body: bytes) -> None:
        """See the seam. Its own subscriptions do not get it."""
        self._check_up()
        board = self._board
        listeners = {port: heard for port, heard in board.topics.get(topic, {}).items() if port is not self.port}
        size_bytes = HEADER_BYTES + len(topic) + len(body)
        board.trace.commit("announce", self.node, board.loop.now_ns, (size_bytes, len(listeners)), body)

        def deliver(port: Port) -> None:
            for subscription in listeners[port]:
                subscription.push(self.node, body)

        board.network.send(self.port, listeners, size_bytes, False, deliver)

    def subscribe(self, topic: str, *, limit: int = 1024) -> Subscription:
        """See the seam. Ends with `aclose`, or when the node goes down."""
        self._check_up()
        subscription = Subscription(topic, limit, self._unsubscribe)
        self._subscriptions.append(subscription)
        ports = self._board.topics.setdefault(topic, {})
        ports[self.port] = (*ports.get(self.port, ()), subscription)
        return subscription

    def alive(self, role: str | None = None) -> tuple[NodeId, ...]:
        """See the seam."""
        present = self._board.present(role)
        if self._board.network.has_cuts:
            connected, doors = self._board.network.connected, self._board.doors
            present = tuple(node for node in present if node == self.node or connected(self.port, doors[node].port))
        at = bisect_left(present, self.node)
        return present[:at] + present[at + 1 :] if present[at : at + 1] == (self.node,) else present

    def reset(self) -> None:
        """Forget handlers and subscriptions: the process behind this door is gone."""
        self._handlers.clear()
        for subscription in tuple(self._subscriptions):
            self._unsubscribe(subscription)

    def _unsubscribe(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
            ports = self._board.topics[subscription.topic]
            ports[self.port] = tuple(each for each in ports[self.port] if each is not subscription)
            if not ports[self.port]:
                del ports[self.port]

    async def _exchange(
        self, to: NodeId, size_bytes: int, request: Callable[[_Call], None], what: str, timeout_s: float
    ) -> bytes:
        """Send a request, wait for its answer or the timeout."""
        self._check_up()
        board = self._board
        call = _Call(self, board.loop.create_future())
        timer = board.loop.at_ns(
            board.loop.now_ns + to_ns(timeout_s), call.expire, f"{to}: no answer to {what} in {timeout_s} s"
        )
        if (door := board.doors.get(to)) is not None:
            call.door = door
            call.cancel = board.network.transfer(self.port, door.port, size_bytes, False, lambda _: request(call))
        try:
            return await call.future
        finally:
            timer.cancel()
            call.cancel()

    def _on_ask(self, name: str, body: bytes, call: _Call) -> None:
        """A request has come to this door."""
        board = self._board
        board.trace.commit("ask", self.node, board.loop.now_ns, (len(name), len(body)), body)
        handler = self._handlers.get(name)
        if handler is None:
            call.refuse(f"{self.node} serves no {name!r}")
        elif len(self._answering) >= MAX_IN_FLIGHT:
            call.refuse(f"{self.node} is busy: {MAX_IN_FLIGHT} requests in flight")
        else:
            task = board.loop.create_task(self._answer(handler, body, call), context=self._context.copy())
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, handler: Handler, body: bytes, call: _Call) -> None:
        try:
            answer = await handler(call.asker.node, body)
            if not isinstance(answer, bytes):
                raise TypeError(f"a handler answers bytes, not {type(answer).__name__}")
        except KuberError as error:
            call.refuse(str(error))
        except Exception as error:
            if not self.port.is_up:
                return  # the node was killed meanwhile: nobody would have seen it
            error.add_note(f"in a handler of {self.node}, asked by {call.asker.node}")
            self._board.loop.fail(error)
        else:
            call.answer(answer)

    def _on_read(self, digest: Digest, start: int, stop: int, call: _Call) -> None:
        """A request for a blob range has come to this door."""
        board = self._board
        board.trace.commit("read", self.node, board.loop.now_ns, (start, stop), digest)
        try:
            content = self._store.read(digest, start, stop)
        except KeyError:
            call.refuse(f"{self.node} does not have blob {digest}")
        except ValueError as error:
            call.refuse(str(error))
        else:
            call.answer(flipped(content) if self.is_lying else content, is_blob=True)

    def _check_up(self) -> None:
        if not self.port.is_up:
            raise Unreachable(f"{self.node} is down")


class _Call:
    """One request under way: whom to tell, and how to stop the transfer that carries it or its answer."""

    __slots__ = ("asker", "cancel", "door", "future")

    def __init__(self, asker: SimulatedTransport, future: asyncio.Future[bytes]) -> None:
        self.asker, self.future = asker, future
        self.door = asker
        self.cancel: Callable[[], None] = _nothing

    def answer(self, body: bytes, *, is_blob: bool = False) -> None:
        self._send(len(body), is_blob, lambda _: self._resolve(body))

    def refuse(self, reason: str) -> None:
        reason = reason[:MAX_ERROR_CHARS]
        self._send(len(reason.encode()), False, lambda _: self._fail(RemoteError(reason)))

    def expire(self, reason: str) -> None:
        self._fail(Unreachable(reason))

    def _send(self, body_bytes: int, is_blob: bool, deliver: Callable[[Port], None]) -> None:
        if self.door.port.is_up and not self.future.done():
            network, size_bytes = self.asker._board.network, HEADER_BYTES + body_bytes
            self.cancel = network.transfer(self.door.port, self.asker.port, size_bytes, is_blob, deliver)

    def _resolve(self, body: bytes) -> None:
        if not self.future.done():
            board = self.asker._board
            board.trace.commit("answer", self.asker.node, board.loop.now_ns, (len(body),))
            self.future.set_result(body)

    def _fail(self, error: KuberError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def _nothing(*_: Any) -> None:
    """There is no transfer to stop."""
