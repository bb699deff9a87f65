"""A node process's wire: letters out and in over Zenoh, orders in, reports out.

Zenoh calls back on threads of its own; the node's loop waits here, on the main thread, whenever it has nothing to do.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import zenoh

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import NodeId, digest_of
from kuberml.worlds.live.lockstep.keys import inbox_keys, letter_key, letter_of, order_key
from kuberml.worlds.live.lockstep.orders import Begin, Name, Order, Sent, Told, read_order, write

PATIENCE_S = 60.0
"""How long a letter may be on its way after its sender has reported it."""
MAX_MAIL_BYTES = 1 << 30
"""Letters that wait here; more are dropped, and missed when they are due."""


class HungUpError(Exception):
    """The conductor is gone: nothing is left to do."""


class Wire:
    """See the module. A `lockstep_letters.Post`."""

    def __init__(
        self,
        session: zenoh.Session,
        run: str,
        node: NodeId,
        *,
        patience_s: float = PATIENCE_S,
        limit_bytes: int = MAX_MAIL_BYTES,
    ) -> None:
        self.node = node
        self._session, self._run = session, run
        self._patience_s, self._left_bytes = patience_s, limit_bytes
        self._play = 0
        self._sent: list[Sent] = []
        self._mail: dict[tuple[int, NodeId, int], bytes] = {}
        self._came = threading.Condition()
        self._orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._open: Any = None
        self._serial, self._last = 0, b""
        self._declared = [session.declare_subscriber(key, self._on_letter) for key in inbox_keys(run, node)]
        self._taking = session.declare_queryable(order_key(run, node), self._orders.put)  # last: who takes orders has an inbox

    def send(self, sender: NodeId, number: int, to: NodeId | None, letter: bytes) -> None:
        """See Post."""
        self._sent.append(Sent(to, number, digest_of(letter)))
        self.put(letter_key(self._run, self._play, to, sender, number), letter)

    def put(self, key: str, letter: bytes) -> None:
        """Hand a letter to the network: nothing is dropped, and when it arrives does not matter."""
        self._session.put(key, letter, congestion_control=zenoh.CongestionControl.BLOCK, express=True)

    def take_sent(self) -> tuple[Sent, ...]:
        """What was sent since this was asked last."""
        sent, self._sent = tuple(self._sent), []
        return sent

    def letters(self, names: Sequence[Name]) -> list[bytes]:
        """These letters, once they are all here.

        Raises:
            Unreachable: one did not come.
            RemoteError: other bytes came than were sent.
        """
        wanted = [(self._play, name.sender, name.number) for name in names]
        until = time.monotonic() + self._patience_s
        with self._came:
            while missing := [one for one in wanted if one not in self._mail]:
                if not self._came.wait(max(0.0, until - time.monotonic())):
                    _, sender, number = missing[0]
                    raise Unreachable(f"letter {number} of {sender} did not reach {self.node} in {self._patience_s} s")
            found = [self._take_out(one) for one in wanted]
        for name, letter in zip(names, found, strict=True):
            if digest_of(letter) != name.digest:
                raise RemoteError(
                    f"letter {name.number} of {name.sender} reached {self.node} with other bytes than it was sent"
                )
        return found

    def next_order(self, work_ahead: Callable[[], bool] = lambda: False) -> Order:
        """Wait for the next order; meanwhile `work_ahead` as long as it returns True.

        Raises:
            HungUpError: there will be none.
            RemoteError: something that is no order.
        """
        while True:
            query = self._take(work_ahead)
            if query is None:
                raise HungUpError
            order = read_order(query.payload.to_bytes())
            if order.serial > self._serial:
                self._serial, self._open = order.serial, query
                if isinstance(order, Begin):
                    self._begin(order.play)
                return order
            if order.serial == self._serial:
                self._reply(query)  # what was told did not arrive

    def tell(self, told: Told) -> None:
        """Answer the order that was taken last."""
        self._last = write(told)
        self._reply(self._open)
        self._open = None

    def hang_up(self) -> None:
        """Let whoever waits for an order wait no longer (from any thread)."""
        self._orders.put(None)

    def close(self) -> None:
        """Take what was declared back; the session stays open."""
        self._taking.undeclare()  # type: ignore[no-untyped-call]
        for inbox in self._declared:
            inbox.undeclare()  # type: ignore[no-untyped-call]

    def _begin(self, play: int) -> None:
        self._play, self._sent = play, []
        with self._came:
            for name in [name for name in self._mail if name[0] < play]:
                self._take_out(name)

    def _take_out(self, name: tuple[int, NodeId, int]) -> bytes:
        letter = self._mail.pop(name)
        self._left_bytes += len(letter)
        return letter

    def _take(self, work_ahead: Callable[[], bool]) -> Any:
        while True:
            try:
                return self._orders.get_nowait()
            except queue.Empty:
                if not work_ahead():
                    return self._orders.get()

    def _reply(self, query: Any) -> None:
        query.reply(query.key_expr, self._last)
        query.drop()

    def _on_letter(self, sample: zenoh.Sample) -> None:
        play, sender, number = letter_of(str(sample.key_expr))
        if play < self._play or ("/news/" in str(sample.key_expr) and sender == self.node):
            return
        with self._came:
            if len(sample.payload) <= self._left_bytes and (play, sender, number) not in self._mail:
                self._left_bytes -= len(sample.payload)
                self._mail[play, sender, number] = sample.payload.to_bytes()
                self._came.notify_all()
