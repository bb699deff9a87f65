"""The seam's Compute on modelled devices.

A device does one job at a time, first come first served, for flops / speed of virtual time. The inputs are frozen as bytes
when the job is handed in, so its real work may be done any time until its end is due, elsewhere, or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kuberml.core.errors import ConfigError
from kuberml.core.ids import NodeId, digest_of
from kuberml.core.jobs import JobFunction, check_job
from kuberml.core.units import NS
from kuberml.core.values import dumps
from kuberml.worlds.simulated.devices import Device
from kuberml.worlds.simulated.lanes import ceil_div
from kuberml.worlds.simulated.loop import VirtualLoop
from kuberml.worlds.simulated.trace import Trace
from kuberml.worlds.simulated.workers import Workers, open_reply


class SimulatedCompute:
    """`core.seam.Compute` of one node.

    Attributes:
        busy_ns: virtual time that the device has computed; of a cancelled job, what it had done.
        flops: floating point operations done.

    Raises:
        ConfigError: the device has no speed.
    """

    def __init__(self, node: NodeId, device: Device, loop: VirtualLoop, trace: Trace, workers: Workers) -> None:
        if device.flops_per_s < 1:
            raise ConfigError(f"device {device.name} of {node}: flops_per_s must be at least 1, not {device.flops_per_s}")
        self.busy_ns = 0
        self.flops = 0
        self.active: set[NodeId] = set()
        """Where it notes that it did something; see `totals`."""
        self.on_worked: Callable[[], None] = lambda: None
        """Called when a job has ended, before its value is handed over: an empty battery stops the node here."""
        self._node, self._device, self._loop = node, device, loop
        self._trace, self._workers = trace, workers
        self._way = f" {workers.variant.decode()}" if workers.variant else ""
        self._turn = asyncio.Lock()

    async def run(self, function: JobFunction, *values: Any) -> Any:
        """See the seam.

        Raises:
            ConfigError: not a job, or its flops are not an integer >= 0.
            Whatever the job raises; InternalError: its worker died twice.
        """
        job = check_job(function)
        flops = _check_flops(job, job.flops(*values))
        ticket = self._workers.submit(dumps([job.job_name, list(values)]))
        try:
            async with self._turn:
                await self._spend(flops)
                self.on_worked()
                reply = self._workers.result(ticket)
        finally:
            self._workers.drop(ticket)
        did = f"{job.job_name} {digest_of(reply)}{self._way}"
        self._trace.commit("job", self._node, self._loop.now_ns, (flops,), did)
        return open_reply(reply)

    async def _spend(self, flops: int) -> None:
        """Let the device work, and count what it has done if it is stopped."""
        began_ns = self._loop.now_ns
        try:
            await self._loop.sleep_ns(ceil_div(flops * NS, self._device.flops_per_s))
        finally:
            worked_ns = self._loop.now_ns - began_ns
            self.active.add(self._node)
            self.busy_ns += worked_ns
            self.flops += min(flops, worked_ns * self._device.flops_per_s // NS)


def _check_flops(job: JobFunction, flops: object) -> int:
    if isinstance(flops, bool) or not isinstance(flops, int) or flops < 0:
        raise ConfigError(f"job {job.job_name}: flops must be an integer of at least 0, not {flops!r}")
    return flops
