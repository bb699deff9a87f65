"""The seam's Transport under schedule = "lockstep", in the simulated and in the live world alike.

A door knows nothing of other doors: it writes letters and reads those that come. So what a node sees depends on its own
program and on the order of its inbox only. Who is present is the cast, from the beginning to the end.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping

from kuberml.core.errors import KuberError, RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId
from kuberml.core.seam import Handler, Reading, Store
from kuberml.core.units import to_ns
from kuberml.worlds.simulated.links import HEADER_BYTES, Port
from kuberml.worlds.simulated.lockstep_letters import Letter, Post, Sort, read, write
from kuberml.worlds.simulated.lockstep_loop import LockstepLoop
from kuberml.worlds.simulated.loop import NODE
from kuberml.worlds.simulated.subscription import Subscription
from kuberml.worlds.simulated.trace import Trace
from kuberml.worlds.simulated.transport import MAX_ERROR_CHARS, MAX_IN_FLIGHT


class LockstepDoor:
    """`core.seam.Transport` of one node."""

    reading = Reading()

    def __init__(
        self, port: Port, cast: Mapping[NodeId, str], store: Store, *, post: Post, loop: LockstepLoop, trace: Trace
    ) -> None:
        """`port`: where its bytes are counted. `cast`: everybody, with their roles."""
        self.port = port
        self._cast, self._store = cast, store
        self._post, self._loop, self._trace = post, loop, trace
        self._letters = self._calls = 0
        self._asked: dict[int, tuple[NodeId, asyncio.Future[bytes]]] = {}
        self._handlers: dict[str, Handler] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._subscriptions: list[Subscription] = []
        self._context = contextvars.copy_context()
        self._context.run(NODE.set, port.node)

    @property
    def node(self) -> NodeId:
        """Whose door this is."""
        return self.port.node

    async def ask(self, to: NodeId, name: str, body: bytes, *, timeout_s: float) -> bytes:
        """See the seam."""
        return await self._call(to, "ask", name, repr(name), timeout_s, body=body)

    async def read(self, holder: NodeId, digest: Digest, start: int, stop: int, *, timeout_s: float) -> bytes:
        """See the seam."""
        return await self._call(holder, "read", digest, f"blob {digest[:12]}", timeout_s, start=start, stop=stop)

    def serve(self, name: str, handler: Handler) -> None:
        """See the seam; the bound is MAX_IN_FLIGHT."""
        self._handlers[name] = handler

    async def announce(self, topic: str, body: bytes) -> None:
        """See the seam. It reaches those who subscribe when it arrives, not its own subscriptions."""
        self._send(None, "news", 0, name=topic, body=body)

    def subscribe(self, topic: str, *, limit: int = 1024) -> Subscription:
        """See the seam. Ends with `aclose`."""
        subscription = Subscription(topic, limit, self._unsubscribe)
        self._subscriptions.append(subscription)
        return subscription

    def alive(self, role: str | None = None) -> tuple[NodeId, ...]:
        """See the seam."""
        return tuple(sorted(node for node, part in self._cast.items() if role in (None, part) and node != self.node))

    def reset(self) -> None:
        """Forget handlers and subscriptions."""
        self._handlers.clear()
        self._subscriptions.clear()

    def receive(self, data: bytes) -> None:
        """A letter has come.

        Raises:
            RemoteError: it is none.
        """
        letter = read(data)
        if letter.sort == "news":
            self._on_news(letter, len(data))
            return
        self.port.count_received(HEADER_BYTES + len(data), self._loop.now_ns, is_blob=letter.sort == "blob")
        if letter.sort == "ask":
            self._trace.commit("ask", self.node, self._loop.now_ns, (len(letter.name), len(letter.body)), letter.body)
            self._on_ask(letter)
        elif letter.sort == "read":
            self._trace.commit("read", self.node, self._loop.now_ns, (letter.start, letter.stop), letter.name)
            self._on_read(letter)
        else:
            self._on_answer(letter)

    def _unsubscribe(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def _send(
        self, to: NodeId | None, sort: Sort, call: int, *, name: str = "", start: int = 0, stop: int = 0, body: bytes = b""
    ) -> None:
        self._letters += 1
        data = write(Letter(self.node, self._letters, sort, call, name, start, stop, body))
        self.port.count_sent(HEADER_BYTES + len(data), self._loop.now_ns, is_blob=sort == "blob")
        self._post.send(self.node, self._letters, to, data)

    async def _call(
        self,
        to: NodeId,
        sort: Sort,
        name: str,
        what: str,
        timeout_s: float,
        *,
        start: int = 0,
        stop: int = 0,
        body: bytes = b"",
    ) -> bytes:
        """Send a question, wait for its answer or the timeout."""
        self._calls += 1
        call = self._calls
        future: asyncio.Future[bytes] = self._loop.create_future()
        why = f"{to}: no answer to {what} in {timeout_s} s"
        timer = self._loop.at_ns(self._loop.now_ns + to_ns(timeout_s), _expire, future, why)
        self._asked[call] = (to, future)
        if to in self._cast:
            self._send(to, sort, call, name=name, start=start, stop=stop, body=body)
        try:
            return await future
        finally:
            timer.cancel()
            del self._asked[call]

    def _on_news(self, letter: Letter, size_bytes: int) -> None:
        listening = [heard for heard in self._subscriptions if heard.topic == letter.name]
        if listening:
            self.port.count_received(HEADER_BYTES + size_bytes, self._loop.now_ns, is_blob=False)
            self._trace.commit("news", self.node, self._loop.now_ns, (len(letter.body), len(listening)), letter.body)
        for subscription in listening:
            subscription.push(letter.sender, letter.body)

    def _on_ask(self, letter: Letter) -> None:
        handler = self._handlers.get(letter.name)
        if handler is None:
            self._refuse(letter, f"{self.node} serves no {letter.name!r}")
        elif len(self._answering) >= MAX_IN_FLIGHT:
            self._refuse(letter, f"{self.node} is busy: {MAX_IN_FLIGHT} requests in flight")
        else:
            task = self._loop.create_task(self._answer(handler, letter), context=self._context.copy())
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, handler: Handler, letter: Letter) -> None:
        try:
            answer = await handler(letter.sender, letter.body)
            if not isinstance(answer, bytes):
                raise TypeError(f"a handler answers bytes, not {type(answer).__name__}")
        except KuberError as error:
            self._refuse(letter, str(error))
        except Exception as error:
            error.add_note(f"in a handler of {self.node}, asked by {letter.sender}")
            self._loop.fail(error)
        else:
            self._send(letter.sender, "answer", letter.call, body=answer)

    def _on_read(self, letter: Letter) -> None:
        try:
            content = self._store.read(Digest(letter.name), letter.start, letter.stop)
        except KeyError:
            self._refuse(letter, f"{self.node} does not have blob {letter.name}")
        except ValueError as error:
            self._refuse(letter, str(error))
        else:
            self._send(letter.sender, "blob", letter.call, body=bytes(content))

    def _refuse(self, letter: Letter, why: str) -> None:
        self._send(letter.sender, "refusal", letter.call, body=why[:MAX_ERROR_CHARS].encode())

    def _on_answer(self, letter: Letter) -> None:
        asked, future = self._asked.get(letter.call, (None, None))
        if future is None or future.done() or asked != letter.sender:
            return  # it comes too late, or from somebody who was not asked
        self._trace.commit("answer", self.node, self._loop.now_ns, (len(letter.body),), letter.body)
        if letter.sort == "refusal":
            future.set_exception(RemoteError(letter.body.decode(errors="replace")))
        else:
            future.set_result(letter.body)


def _expire(future: asyncio.Future[bytes], why: str) -> None:
    if not future.done():
        future.set_exception(Unreachable(why))
