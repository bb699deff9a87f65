"""One node's place in a simulated world, and the four objects of the seam that stand there."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from kuberml.core.ids import NodeId
from kuberml.worlds.simulated.compute import SimulatedCompute
from kuberml.worlds.simulated.devices import Device, LinkSpec
from kuberml.worlds.simulated.energy import empty_at_ns, spent_mj
from kuberml.worlds.simulated.links import Port
from kuberml.worlds.simulated.lockstep_door import LockstepDoor
from kuberml.worlds.simulated.store import SimulatedStore
from kuberml.worlds.simulated.trace import Trace
from kuberml.worlds.simulated.transport import SimulatedTransport

Door = SimulatedTransport | LockstepDoor


class Place(msgspec.Struct, frozen=True):
    """One node: what it is called, what part it plays, what it runs on and how it is connected."""

    node: NodeId
    role: str
    device: Device
    link: LinkSpec


@dataclass(frozen=True, slots=True)
class Body:
    """What stands at a place. It survives crashes."""

    place: Place
    port: Port
    store: SimulatedStore
    door: Door
    compute: SimulatedCompute
    trace: Trace

    def energy_mj(self, elapsed_ns: int) -> int:
        """Energy spent since the world began, millijoules. A node that is down still idles."""
        return spent_mj(
            self.place.device,
            compute_ns=self.compute.busy_ns,
            radio_ns=self.port.airtime_ns,
            elapsed_ns=elapsed_ns,
            sessions=self.port.sessions,
        )

    def empty_at_ns(self) -> int | None:
        """When its battery is empty if it only idles from now on; None: never."""
        return empty_at_ns(
            self.place.device, compute_ns=self.compute.busy_ns, radio_ns=self.port.airtime_ns, sessions=self.port.sessions
        )
