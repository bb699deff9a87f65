"""The live world under the contracts that every world keeps: over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Any

from kuberml.core.seam import Compute
from kuberml.worlds.live.compute import LiveCompute
from tests.contracts.compute import ComputeContract
from tests.contracts.transport import ROLES, Main, TransportContract
from tests.worlds.live.town import bare_router, door


class TestTransport(TransportContract):
    def run(self, *mains: Main) -> list[Any]:
        return asyncio.run(self._run(*mains))

    async def _run(self, *mains: Main) -> list[Any]:
        async with contextlib.AsyncExitStack() as opening:
            folder = Path(opening.enter_context(tempfile.TemporaryDirectory()))
            endpoint = await opening.enter_async_context(bare_router())
            doors = []
            for (node, role), main in zip(ROLES.items(), mains, strict=False):
                doors.append((main, await opening.enter_async_context(door(endpoint, node, role, folder / node))))
            return await asyncio.gather(*(main(transport, store) for main, (transport, store) in doors))


class TestCompute(ComputeContract):
    def run(self, main: Any) -> Any:
        async def run() -> Any:
            compute: Compute = LiveCompute()
            try:
                return await main(compute)
            finally:
                compute.close()  # type: ignore[attr-defined]

        return asyncio.run(run())
