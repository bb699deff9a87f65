"""The seam's Clock in virtual time."""

from __future__ import annotations

from kuberml.core.units import to_ns
from kuberml.worlds.simulated.loop import VirtualLoop


class SimulatedClock:
    """`core.seam.Clock` over a virtual loop. Every node of a world has the same time: skew is not modelled."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now_ns(self) -> int:
        """Nanoseconds since the world began."""
        return self._loop.now_ns

    async def sleep(self, seconds: float) -> None:
        """Wait, to the nanosecond. Raises ConfigError: negative, NaN or infinite."""
        await self._loop.sleep_ns(to_ns(seconds))
