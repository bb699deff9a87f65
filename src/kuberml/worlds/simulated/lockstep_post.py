"""The post of the simulated world under schedule = "lockstep": letters of all nodes, sorted when a step begins."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kuberml.core.ids import NodeId
from kuberml.worlds.simulated.bodies import Body, Place
from kuberml.worlds.simulated.compute import SimulatedCompute
from kuberml.worlds.simulated.links import Port
from kuberml.worlds.simulated.lockstep_door import LockstepDoor
from kuberml.worlds.simulated.lockstep_loop import LETTERS, SORTING, LockstepLoop
from kuberml.worlds.simulated.store import SimulatedStore
from kuberml.worlds.simulated.trace import NodeTrace, Trace
from kuberml.worlds.simulated.workers import Workers


class SimulatedPost:
    """A `lockstep_letters.Post` between the doors of one loop."""

    def __init__(self, loop: LockstepLoop) -> None:
        self._doors: dict[NodeId, LockstepDoor] = {}
        self._loop = loop
        self._sent: list[tuple[NodeId, NodeId, int, bytes]] = []  # receiver, sender, number, letter

    def body(
        self, place: Place, port: Port, store: SimulatedStore, *, cast: Mapping[NodeId, str], trace: Trace, workers: Workers
    ) -> Body:
        """What stands at a place, with a door to this post; on mains, whatever its device."""
        device, mine = msgspec.structs.replace(place.device, battery_mj=None), NodeTrace(trace)
        door = LockstepDoor(port, cast, store, post=self, loop=self._loop, trace=mine)
        self._doors[place.node] = door
        compute = SimulatedCompute(place.node, device, self._loop, mine, workers)
        return Body(msgspec.structs.replace(place, device=device), port, store, door, compute, mine)

    def send(self, sender: NodeId, number: int, to: NodeId | None, letter: bytes) -> None:
        """See Post."""
        if not self._sent:
            self._loop.first_at_ns(self._loop.next_step_ns, SORTING, self._sort)
        receivers = (to,) if to is not None else tuple(node for node in self._doors if node != sender)
        self._sent += [(receiver, sender, number, letter) for receiver in receivers]

    def _sort(self) -> None:
        sent, self._sent = sorted(self._sent), []
        for place, (receiver, _, _, letter) in enumerate(sent):
            self._loop.first_at_ns(self._loop.now_ns, LETTERS + place, self._doors[receiver].receive, letter)
