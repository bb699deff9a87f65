"""The network model: what each node's access does to the real encoded bytes, in integer arithmetic.

Every node hangs on the middle of the network by an up link and a down link; one way takes the latencies of both ends.

What is small (up to SMALL_BYTES), and every announcement, queues first in, first out on the sender's up link, travels at
the slower of the two rates, and queues again at the receiver if its down link is still busy. It takes nothing from bulk
transfers and waits for none; bulk transfers share the links fairly (`flows`).

Loss costs time, never content: a lost message is sent again after a timeout that doubles; a bulk transfer grows by what
is sent again. What is under way to a node that is down, or across a cut, when it would arrive, is gone.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from kuberml.core.errors import ConfigError
from kuberml.core.ids import NodeId
from kuberml.core.rng import rng
from kuberml.core.units import NS
from kuberml.worlds.simulated.devices import LinkSpec
from kuberml.worlds.simulated.flows import Flows
from kuberml.worlds.simulated.lanes import Flow, Lane, ceil_div
from kuberml.worlds.simulated.loop import VirtualLoop

HEADER_BYTES = 64
"""IPv4, TCP and framing of one message; counted with its body."""
SMALL_BYTES = 16 * 1024
PACKET_BYTES = 1460
RESEND_NS = 200_000_000
"""First retransmission timeout beyond the round trip: TCP's usual minimum (Linux)."""
SESSION_GAP_NS = 60 * NS
"""A radio that was silent for longer begins a new session."""
MAX_LOSS_PPM = 900_000


class Traffic(msgspec.Struct):
    """Bytes of one node, headers included. Counted when sent, and when received."""

    sent_control: int = 0
    sent_blob: int = 0
    received_control: int = 0
    received_blob: int = 0

    @property
    def total(self) -> int:
        """All bytes, both ways."""
        return self.sent_control + self.sent_blob + self.received_control + self.received_blob


class Port:
    """One node's access to the network, as it is now.

    Raises:
        ConfigError: the link has a rate under 1 bit a second, a negative latency or a negative loss.
    """

    def __init__(self, node: NodeId, link: LinkSpec) -> None:
        for field, value, least in (
            ("up_bps", link.up_bps, 1),
            ("down_bps", link.down_bps, 1),
            ("latency_ns", link.latency_ns, 0),
            ("loss_ppm", link.loss_ppm, 0),
        ):
            if value < least:
                raise ConfigError(f"link of {node}: {field} must be at least {least}, not {value}")
        self.node, self.link = node, link
        self.up_bps, self.down_bps = link.up_bps, link.down_bps
        self.is_up = True
        self.traffic = Traffic()
        self.airtime_ns = 0
        self.sessions = 0
        self.outgoing, self.incoming = Lane(link.up_bps), Lane(link.down_bps)
        self.up_free_ns = 0
        self.down_free_ns = 0
        self._silent_since_ns = -SESSION_GAP_NS - 1
        self.active: set[NodeId] = set()
        """Where it notes that it did something; see `totals`."""

    def count_sent(self, size_bytes: int, now_ns: int, *, is_blob: bool) -> None:
        """Take down what left."""
        if is_blob:
            self.traffic.sent_blob += size_bytes
        else:
            self.traffic.sent_control += size_bytes
        self._on_air(ceil_div(size_bytes * 8 * NS, self.up_bps), now_ns)

    def count_received(self, size_bytes: int, now_ns: int, *, is_blob: bool) -> None:
        """Take down what came."""
        if is_blob:
            self.traffic.received_blob += size_bytes
        else:
            self.traffic.received_control += size_bytes
        self._on_air(ceil_div(size_bytes * 8 * NS, self.down_bps), now_ns)

    def _on_air(self, duration_ns: int, now_ns: int) -> None:
        self.active.add(self.node)
        self.airtime_ns += duration_ns
        if now_ns - self._silent_since_ns > SESSION_GAP_NS:
            self.sessions += 1
        self._silent_since_ns = now_ns


class Network:
    """All ports, the cuts between them, and what is under way."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.flows = Flows(loop, self.connected)
        self.ports: dict[NodeId, Port] = {}
        self.epoch = 0
        """Rises whenever who can reach whom changes."""
        self._loop, self._seed = loop, seed
        self._cuts: list[tuple[frozenset[NodeId], frozenset[NodeId]]] = []
        self._draws: dict[NodeId, Any] = {}
        self._context = contextvars.Context()  # arrivals belong to no node

    def add(self, node: NodeId, link: LinkSpec) -> Port:
        """A new port. Raises ConfigError: the node is there already, or its link cannot be."""
        if node in self.ports:
            raise ConfigError(f"two nodes are called {node}")
        self.ports[node] = Port(node, link)
        return self.ports[node]

    @property
    def has_cuts(self) -> bool:
        """Whether some nodes that are up cannot reach each other."""
        return bool(self._cuts)

    def connected(self, a: Port, b: Port) -> bool:
        """Both are up and no cut lies between them."""
        if not (a.is_up and b.is_up):
            return False
        return not self._cuts or not any(
            (a.node in left and b.node in right) or (b.node in left and a.node in right) for left, right in self._cuts
        )

    def set_up(self, port: Port, is_up: bool) -> None:
        """Plug a node in or out. Going out breaks its transfers off; a cut only stalls them."""
        port.is_up = is_up
        for flow in (*port.outgoing.flows(), *port.incoming.flows()):
            self.flows.cancel(flow)
        port.up_free_ns = port.down_free_ns = self._loop.now_ns
        self._changed((port,))

    def set_speed(self, port: Port, divisor: int) -> None:
        """Divide both bandwidths of the table by `divisor` (1: as in the table)."""
        port.up_bps = max(1, port.link.up_bps // divisor)
        port.down_bps = max(1, port.link.down_bps // divisor)
        port.outgoing.capacity_bps, port.incoming.capacity_bps = port.up_bps, port.down_bps
        self._changed((port,))

    def cut(self, left: frozenset[NodeId], right: frozenset[NodeId]) -> None:
        """Nothing passes between the two sets until they are healed."""
        self._cuts.append((left, right))
        self._changed(self.ports.values())

    def heal(self, left: frozenset[NodeId], right: frozenset[NodeId]) -> None:
        """Undo one `cut`."""
        self._cuts.remove((left, right))
        self._changed(self.ports.values())

    def send(
        self, source: Port, targets: Iterable[Port], size_bytes: int, is_blob: bool, deliver: Callable[..., object]
    ) -> None:
        """Send `size_bytes` (headers included) first in, first out; call `deliver(target)` at each target that it reaches.

        With several targets the sender's up link carries it once: the network copies it.
        """
        now = self._loop.now_ns
        bits = size_bytes * 8 * NS
        source.count_sent(size_bytes, now, is_blob=is_blob)
        begins = max(now, source.up_free_ns)
        source.up_free_ns = begins + ceil_div(bits, source.up_bps)
        for target in targets:
            if target is source:
                self._loop.at_ns(now, deliver, target, context=self._context)
                continue
            arrives = begins + ceil_div(bits, min(source.up_bps, target.down_bps)) + self._latency_ns(source, target)
            arrives += self._resend_ns(source, target, size_bytes)
            self._loop.at_ns(arrives, self._arrive, source, target, size_bytes, is_blob, deliver, context=self._context)

    def transfer(
        self, source: Port, target: Port, size_bytes: int, is_blob: bool, deliver: Callable[..., object]
    ) -> Callable[[], None]:
        """Send `size_bytes` (headers included) to one target; more than SMALL_BYTES share the links fairly with others.

        Returns:
            What cancels it. The bytes that have moved by then are counted.
        """
        if size_bytes <= SMALL_BYTES or source is target:
            self.send(source, (target,), size_bytes, is_blob, deliver)
            return _nothing
        flow = Flow(
            source,
            target,
            size_bytes,
            is_blob=is_blob,
            loss_ppm=min(MAX_LOSS_PPM, source.link.loss_ppm + target.link.loss_ppm),
            done=lambda: self._landed(source, target, deliver),
        )
        self.flows.start(flow)
        return lambda: self.flows.cancel(flow)

    def _arrive(self, source: Port, target: Port, size_bytes: int, is_blob: bool, deliver: Callable[..., object]) -> None:
        """The last bit is here; if the down link was busy meanwhile, it comes that much later."""
        if not self.connected(source, target):
            return
        now = self._loop.now_ns
        done = target.down_free_ns + ceil_div(size_bytes * 8 * NS, target.down_bps)
        target.down_free_ns = max(now, done)
        target.count_received(size_bytes, now, is_blob=is_blob)
        if done > now:
            self._loop.at_ns(done, deliver, target, context=self._context)
        else:
            deliver(target)

    def _landed(self, source: Port, target: Port, deliver: Callable[..., object]) -> None:
        self._loop.at_ns(
            self._loop.now_ns + self._latency_ns(source, target),
            self._hand_over,
            source,
            target,
            deliver,
            context=self._context,
        )

    def _hand_over(self, source: Port, target: Port, deliver: Callable[..., object]) -> None:
        if self.connected(source, target):
            deliver(target)

    def _latency_ns(self, source: Port, target: Port) -> int:
        return source.link.latency_ns + target.link.latency_ns

    def _resend_ns(self, source: Port, target: Port, size_bytes: int) -> int:
        loss = source.link.loss_ppm + target.link.loss_ppm
        if loss == 0:
            return 0
        if source.node not in self._draws:
            self._draws[source.node] = rng(self._seed, "loss", source.node)
        any_lost_ppm = min(MAX_LOSS_PPM, loss * ceil_div(size_bytes, PACKET_BYTES))
        delay, timeout = 0, RESEND_NS + 2 * self._latency_ns(source, target)
        while int(self._draws[source.node].integers(1_000_000)) < any_lost_ppm:
            delay, timeout = delay + timeout, timeout * 2
        return delay

    def _changed(self, ports: Iterable[Port]) -> None:
        self.epoch += 1
        for port in ports:
            self.flows.review(port)


def _nothing() -> None:
    """Cancels nothing: a small message is gone once it is sent."""
