"""What all nodes together have moved and spent, without asking each of them: only who did something since is looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from kuberml.core.ids import NodeId
from kuberml.worlds.simulated.bodies import Body
from kuberml.worlds.simulated.energy import idle_mj, spent_mj


class Totals:
    """Sums over the bodies of one world; the same integers as adding them up.

    What a node idles depends on the time alone, and what it works on itself alone, so both parts can be summed apart.
    """

    def __init__(self, bodies: Mapping[NodeId, Body], active: set[NodeId]) -> None:
        """`active`: who has done something since the last look; the world's parts add to it, a look empties it."""
        self._bodies, self._active = bodies, active
        self._moved_bytes, self._worked_mj = 0, 0
        self._last: dict[NodeId, tuple[int, int]] = {}
        devices = [body.place.device for body in bodies.values()]
        alike = Counter(device.watts_idle_mw for device in devices)
        self._idle = {device.watts_idle_mw: (device, alike[device.watts_idle_mw]) for device in devices}
        """One device of each idle power, and how many there are: a handful of sorts, whatever the number of nodes."""

    def moved_bytes(self) -> int:
        """Bytes that were sent so far, each counted once."""
        self._look()
        return self._moved_bytes

    def energy_mj(self, elapsed_ns: int) -> int:
        """Energy spent since the world began, millijoules."""
        self._look()
        return self._worked_mj + sum(count * idle_mj(device, elapsed_ns) for device, count in self._idle.values())

    def _look(self) -> None:
        for node in self._active:
            body = self._bodies[node]
            sent, work = self._last.get(node, (0, 0))
            now = body.port.traffic.sent_control + body.port.traffic.sent_blob, _worked_mj(body)
            self._moved_bytes += now[0] - sent
            self._worked_mj += now[1] - work
            self._last[node] = now
        self._active.clear()


def _worked_mj(body: Body) -> int:
    return spent_mj(
        body.place.device,
        compute_ns=body.compute.busy_ns,
        radio_ns=body.port.airtime_ns,
        elapsed_ns=0,
        sessions=body.port.sessions,
    )
