"""What all nodes together have moved and spent, without asking each of them: only who did something since is looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from kuberml.core.ids import NodeId
from kuberml.core.units import NS
from kuberml.worlds.simulated.bodies import Body
from kuberml.worlds.simulated.energy import spent_mj


class Totals:
    """Sums over the bodies of one world; the same integers as adding them up.

    What a node idles depends on the time alone, and what it works on itself alone, so both parts can be summed apart.
    """

    def __init__(self, bodies: Mapping[NodeId, Body], active: set[NodeId]) -> None:
        """`active`: who has done something since the last look; the world's parts add to it, a look empties it."""
        self._bodies, self._active = bodies, active
        self._moved_bytes, self._worked_mj = 0, 0
        self._last: dict[NodeId, tuple[int, int]] = {}
        idle = Counter(body.place.device.watts_idle_mw for body in bodies.values())
        self._idle_mw, self._idle_count = (np.array(part, np.int64) for part in (list(idle.keys()), list(idle.values())))

    def moved_bytes(self) -> int:
        """Bytes that were sent so far, each counted once."""
        self._look()
        return self._moved_bytes

    def energy_mj(self, elapsed_ns: int) -> int:
        """Energy spent since the world began, millijoules."""
        self._look()
        seconds, rest_ns = divmod(elapsed_ns, NS)
        rest_mj = (2 * self._idle_mw * rest_ns + NS) // (
            2 * NS
        )  # as `energy.idle_mj`: halves up; whole seconds need no rounding
        return self._worked_mj + seconds * int(self._idle_mw @ self._idle_count) + int(rest_mj @ self._idle_count)

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
