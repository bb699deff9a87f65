"""What a modelled device and its link can do."""

from __future__ import annotations

import msgspec


class Device(msgspec.Struct, frozen=True):
    """A machine: how fast it computes and what that costs.

    Attributes:
        flops_per_s: sustained floating point operations a second in training, >= 1.
        watts_compute_mw: power above idle while it computes, milliwatts.
        watts_idle_mw: power while it waits, milliwatts.
        battery_mj: millijoules it can spend; None = on mains.
        region: where it stands; terms of knowledge may depend on it.
    """

    name: str
    flops_per_s: int
    watts_compute_mw: int = 0
    watts_idle_mw: int = 0
    battery_mj: int | None = None
    region: str = ""


class LinkSpec(msgspec.Struct, frozen=True):
    """A node's access to the network. Bandwidths are bits a second, >= 1.

    Attributes:
        latency_ns: one way, from this node to the middle of the network, nanoseconds.
        loss_ppm: packets lost, parts per million; lost ones are sent again, so loss costs time, never content.
    """

    up_bps: int
    down_bps: int
    latency_ns: int
    loss_ppm: int = 0
