"""The hub's process in a live run: `python -m kuberml.scenario.live.host FOLDER`, started by `crew`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from kuberml.core.errors import ConfigError, Unreachable
from kuberml.core.seam import Recorder
from kuberml.scenario.live.actor import WRONG, hang_on
from kuberml.scenario.live.playbill import WHERE, Playbill, Whereabouts, read_playbill, whereabouts
from kuberml.scenario.live.standing import THIS_PROCESS, USAGE
from kuberml.worlds.live.hub.process import HubProcess
from kuberml.worlds.live.names import HUB

LOOK_S = 1.0
TRIES = 5
"""For ports."""


async def host(folder: Path) -> None:
    """Be the hub of the run of a folder, until the time is up."""
    playbill = read_playbill(folder)
    async with _opened(folder, playbill) as hub:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGUSR1):
            loop.add_signal_handler(number, hub.stop)
        watching = loop.create_task(_watch(hub, hub.ledger.recorder(HUB, hub.clock.now_ns)))
        await hub.until_closed()
        watching.cancel()


@contextlib.asynccontextmanager
async def _opened(folder: Path, playbill: Playbill) -> AsyncIterator[HubProcess]:
    """At the first time on ports that are free (another process may be quicker: then on others), after that on the same."""
    known = whereabouts(folder)
    for tries_left in reversed(range(1 if known else TRIES)):
        async with contextlib.AsyncExitStack() as stack:
            listen, http = (
                (known.address, urlsplit(known.page).netloc) if known else (f"{playbill.host}:0", f"{playbill.host}:0")
            )
            try:
                opening = HubProcess.open(
                    folder / "nodes" / HUB, listen=listen, http=http, realm=playbill.realm, policy="listed"
                )
                hub = await stack.enter_async_context(opening)
            except ConfigError as error:
                if tries_left:
                    continue
                raise Unreachable(f"the hub cannot listen: {error}") from error
            if known is None:
                part = folder / f"{WHERE}.part"
                part.write_bytes(msgspec.json.encode(Whereabouts(hub.address, hub.http_url)))
                part.replace(folder / WHERE)
            yield hub
            return


async def _watch(hub: HubProcess, recorder: Recorder) -> None:
    """Take down what copies the hub has fetched, when there are more."""
    said = 0
    while True:
        await asyncio.sleep(LOOK_S)
        if hub.transport.read_bytes != said:
            said = hub.transport.read_bytes
            recorder.record(USAGE, process=THIS_PROCESS, moved_bytes=said, energy_mj=0, flops=0)
        hub.ledger.flush()


def main(arguments: list[str]) -> int:
    """The process."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started it
    hang_on(0)
    try:
        asyncio.run(host(Path(arguments[0])))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return WRONG
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
