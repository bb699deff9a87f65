"""What the hub has not taken is said again, and what is said again never takes the place of what was said since."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.exchange import wire
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.names import HUB
from kuberml.worlds.live.outbox import Outbox
from tests.knowledge.packets import packet, publish

ME = NodeId("me")


def announced(slot: str, version: int) -> bytes:
    signed = publish(packet(version, count=15, dims=3), slot=slot, version=version).signed
    return wire.write(wire.Announcement(signed, ME, keep=1))


OTHER, OLD, NEW = announced("a", 1), announced("b", 1), announced("b", 2)


class Hub:
    """Takes what it is told, as a node's requests go: the outbox hears of each before and after it."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox, self.heard, self.refuses = outbox, list[bytes](), dict[bytes, Exception]()
        self.meanwhile = {}  # type: ignore[var-annotated]

    async def send(self, name: str, body: bytes) -> bytes:
        self.outbox.asked(HUB, name, body)
        self.heard.append(body)
        if body in self.meanwhile:
            await self.meanwhile.pop(body)()
        error = self.refuses.get(body)
        self.outbox.answered(HUB, name, body, error)
        if error is not None:
            raise error
        return b""

    async def publish_new(self) -> None:
        """A newer version, which the hub cannot take: its disk is full."""
        self.outbox.asked(HUB, "announce", NEW)
        self.outbox.answered(HUB, "announce", NEW, Unreachable("hub cannot now"))


@pytest.fixture
def hub(tmp_path: Path):  # type: ignore[no-untyped-def]
    with FolderStore(tmp_path) as store:
        hub = Hub(Outbox(store, ME))
        for body in (OTHER, OLD):
            asyncio.run(hub.send("announce", body))
        hub.heard.clear()
        yield hub
        again = Outbox(store, ME)  # after a restart
        assert again.due == hub.outbox.due


def test_a_version_that_is_published_while_all_is_said_again_stays_due(hub: Hub) -> None:
    """Found by a soak: the older version was said again after it, took its place, and the newer was lost for good."""
    hub.meanwhile[OTHER] = hub.publish_new
    asyncio.run(hub.outbox.send_all(hub.send))
    assert hub.heard == [OTHER]  # the older version of the other slot is no news any more
    assert hub.outbox.due == 1
    asyncio.run(hub.outbox.send_due(hub.send))
    assert hub.heard == [OTHER, NEW]
    assert hub.outbox.due == 0


def test_what_is_refused_does_not_take_a_newer_version_with_it(hub: Hub) -> None:
    hub.meanwhile[OLD], hub.refuses[OLD] = hub.publish_new, RemoteError("older than version 2, which is here")
    asyncio.run(hub.outbox.send_all(hub.send))
    assert hub.outbox.due == 1
    asyncio.run(hub.outbox.send_due(hub.send))
    assert hub.heard[-1] == NEW


def test_what_is_refused_for_good_is_not_said_again(hub: Hub) -> None:
    hub.refuses[OLD] = RemoteError("not here")
    asyncio.run(hub.outbox.send_all(hub.send))
    hub.heard.clear()
    asyncio.run(hub.outbox.send_all(hub.send))
    assert hub.heard == [OTHER]
