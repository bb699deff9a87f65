"""What people and Prometheus see of a hub: the scene, the counts, and what is looked up for them now and then."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from kuberml.vault.board import Board
from kuberml.vault.catalog import Catalog
from kuberml.worlds.live.http import HttpDoor
from kuberml.worlds.live.hub.metrics import Metrics, add_metrics, of_scene
from kuberml.worlds.live.hub.page import add_page
from kuberml.worlds.live.hub.prometheus import Family, one
from kuberml.worlds.live.hub.scene import Scene
from kuberml.worlds.live.hub.visitors import guarded
from kuberml.worlds.live.transport import LiveTransport

LOOK_S = 0.5
SIZE_S, SIZE_SHARE = 5.0, 0.02
"""At least so long between looks at the size of the vault (a walk over all its files), and at most this share of the time."""


class Outlook:
    """One hub's, on its HTTP door."""

    def __init__(
        self, transport: LiveTransport, door: HttpDoor, scene: Scene, catalog: Catalog, board: Board, vault: Path,
        *, hosts: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """Add the page and `/metrics` to the door, and serve `report`. `hosts`: see `visitors.guarded`."""
        self._transport, self._door, self._scene, self._vault = transport, door, scene, vault
        self._catalog, self._board, self._blobs = catalog, board, (0, 0)
        self.metrics = Metrics()
        transport.answering.watch = self.metrics.answered
        transport.serve("report", scene.report)
        only = guarded(hosts, lambda: transport.trust.is_open)
        add_page(door.app, scene, only)
        add_metrics(door.app, self.metrics, (self._look, lambda: of_scene(scene)), only)

    async def follow(self) -> None:
        """Keep the scene up to date with who is here, until cancelled."""
        loop, due_s = asyncio.get_running_loop(), 0.0
        while True:
            here, own = self._transport.here, self._transport.voice
            found = [(one.node, one.role, one.key) for node in here.alive(None) if (one := here.find(node)) is not None]
            self._scene.present([(own.node, self._transport.role, own.key), *found])
            if loop.time() >= due_s:
                began_s = loop.time()
                self._blobs = await asyncio.to_thread(_blobs, self._vault / "blobs")
                due_s = loop.time() + max(SIZE_S, (loop.time() - began_s) / SIZE_SHARE)
            await asyncio.sleep(LOOK_S)

    def _look(self) -> Iterator[Family]:
        count, size_bytes = self._blobs
        cards, verdicts = self._board.size()
        answering, blobs = self._transport.answering, self._door.blobs
        yield one("kuberml_cards", "gauge", "Cards in the catalog.", self._catalog.count())
        yield one("kuberml_blobs", "gauge", "Blobs in the vault, looked at now and then.", count)
        yield one("kuberml_blob_bytes", "gauge", "Their bytes, looked at now and then.", size_bytes)
        yield one("kuberml_board_cards", "gauge", "Cards on the verdict board.", cards)
        yield one("kuberml_board_verdicts", "gauge", "Verdicts on the board.", verdicts)
        yield Family("kuberml_served_bytes_total", "counter", "Bytes of blobs sent, by way.",
                     [(("http",), blobs.sent_bytes), (("router",), self._transport.sent_bytes)], ("way",))  # fmt: skip
        yield Family("kuberml_open_requests", "gauge", "Requests that are being answered.",
                     [(("ask",), answering.in_flight), (("blob",), blobs.open_now)], ("sort",))  # fmt: skip
        yield one("kuberml_blob_refusals_total", "counter", "Requests for blobs that were turned away.", blobs.refused)


def _blobs(folder: Path) -> tuple[int, int]:
    """Files below a folder, and their bytes; what goes meanwhile does not count."""
    count = size_bytes = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size_bytes += os.stat(os.path.join(place, name)).st_size
                count += 1
            except FileNotFoundError:
                continue
    return count, size_bytes
