"""Small worlds for tests."""

from __future__ import annotations

from typing import Any

from kuberml.core.ids import NodeId
from kuberml.worlds.simulated.devices import Device, LinkSpec
from kuberml.worlds.simulated.world import Place, SimulatedWorld

MS = 1_000_000
DEVICE = Device(name="test", flops_per_s=1_000_000, watts_compute_mw=2000, watts_idle_mw=500)
LINK = LinkSpec(up_bps=8_000_000, down_bps=8_000_000, latency_ns=10 * MS)
A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
ROLES = {A: "peer", B: "peer", C: "hub"}


def world(
    *nodes: str, links: dict[str, LinkSpec] | None = None, devices: dict[str, Device] | None = None, **options: Any
) -> SimulatedWorld:
    """A world of these nodes (a, b, c if none), 8 Mbit/s and 10 ms each."""
    places = [
        Place(
            node=NodeId(node),
            role=ROLES.get(NodeId(node), "peer"),
            device=(devices or {}).get(node, DEVICE),
            link=(links or {}).get(node, LINK),
        )
        for node in nodes or (A, B, C)
    ]
    return SimulatedWorld(places, **{"seed": 1, **options})
