"""The conductor's lines to the node processes, over Zenoh: an order is a query, what a node tells is its reply."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from typing import Any

import zenoh

from kuberml.core.errors import Unreachable
from kuberml.core.ids import NodeId
from kuberml.worlds.live.lockstep.keys import order_key
from kuberml.worlds.live.lockstep.orders import Attend, Failed, Order, Told, failure, read_told, write

STALL_S = 600.0
"""How long one node may take for one step: all its jobs that end there."""
LOOK_S = 0.1
"""How often to look whether the processes live."""
AGAIN_S = 0.05
"""Before an order that found nobody is given again: a process may just be starting."""


class Lines:
    """See the module."""

    def __init__(
        self, session: zenoh.Session, run: str, check: Callable[[], None], *, start_s: float = 120.0, stall_s: float = STALL_S
    ) -> None:
        """Nothing is asked yet.

        Args:
            session: the conductor's own.
            run: see `keys`.
            check: raises if a process is gone.
            start_s: how long a process may take to be there.
            stall_s: see STALL_S.
        """
        self._session, self._run, self._check = session, run, check
        self._start_s, self._stall_s = start_s, stall_s
        self._heard: queue.SimpleQueue[tuple[NodeId, bytes | None]] = queue.SimpleQueue()

    def ask(self, orders: Mapping[NodeId, Order]) -> dict[NodeId, Told]:
        """Give orders, wait for all that is told.

        Raises:
            Unreachable: a process is gone, never came, or stalls.
            Whatever broke a node's play.
        """
        told: dict[NodeId, Told] = {}
        began_s = time.monotonic()
        for node, order in orders.items():
            self._give(node, order)
        while len(told) < len(orders):
            heard = self._hear()
            if heard is not None and heard[1] is not None:
                told[heard[0]] = self._read(*heard)
                continue
            self._check()
            self._check_pace(time.monotonic() - began_s, {node: orders[node] for node in orders if node not in told})
            if heard is not None:
                time.sleep(AGAIN_S)
                self._give(heard[0], orders[heard[0]])
        return {node: told[node] for node in orders}

    def _hear(self) -> tuple[NodeId, bytes | None] | None:
        """Who was asked, and what it told (None: it was not there); None: nothing happened for a while."""
        try:
            return self._heard.get(timeout=LOOK_S)
        except queue.Empty:
            return None

    def _read(self, node: NodeId, answer: bytes | None) -> Told:
        message = read_told(answer or b"")
        if isinstance(message, Failed):
            raise failure(node, message)
        return message

    def _check_pace(self, waited_s: float, missing: Mapping[NodeId, Order]) -> None:
        names = ", ".join(missing)
        if any(isinstance(order, Attend) for order in missing.values()):
            if waited_s > self._start_s:
                raise Unreachable(f"{names}: started, but took no order in {self._start_s} s")
        elif waited_s > self._stall_s:
            raise Unreachable(f"{names}: no report of a step in {self._stall_s} s; the process stalls")

    def _give(self, node: NodeId, order: Order) -> None:
        answers: list[bytes] = []

        def take(reply: Any) -> None:
            if reply.ok is not None:
                answers.append(reply.ok.payload.to_bytes())

        self._session.get(
            order_key(self._run, node),
            zenoh.handlers.Callback(take, lambda: self._heard.put((node, answers[0] if answers else None))),
            payload=write(order),
            timeout=2 * self._stall_s,  # who stalls is found out before
        )
