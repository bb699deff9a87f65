"""Real routers, doors and hubs on loopback, for tests: every one in this process, every byte over real sockets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from kuberml.knowledge.signing import Keys
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live import names
from kuberml.worlds.live.blobs.client import BlobReader
from kuberml.worlds.live.envelope import Voice
from kuberml.worlds.live.hub.process import HubProcess
from kuberml.worlds.live.names import Endpoint
from kuberml.worlds.live.session import Link, client, router
from kuberml.worlds.live.transport import LiveTransport
from kuberml.worlds.live.trust.by_roll import RollTrust
from kuberml.worlds.live.world import LiveWorld


@contextlib.asynccontextmanager
async def bare_router() -> AsyncIterator[Endpoint]:
    """A router without a hub behind it."""
    endpoint = Endpoint("127.0.0.1", names.free_port("127.0.0.1"))
    link = Link(router([endpoint]))
    await link.open()
    try:
        yield endpoint
    finally:
        await link.close()


@contextlib.asynccontextmanager
async def door(endpoint: Endpoint, node: str, role: str, vault: Path) -> AsyncIterator[tuple[LiveTransport, FolderStore]]:
    """A node without a hub: its transport and its store. Blobs are read through the router."""
    link = Link(client([endpoint]))
    with FolderStore(vault) as store:
        await link.open()
        voice = Voice(names.NodeId(node), Keys.generate(), "default")
        transport = LiveTransport(link, voice, role, RollTrust("default"), store, BlobReader())
        try:
            yield transport, store
        finally:
            await transport.close()
            await link.close()


def hub(folder: Path, **options: object) -> contextlib.AbstractAsyncContextManager[HubProcess]:
    """A whole hub on ports that are free."""
    chosen = {"listen": "127.0.0.1:0", "http": "127.0.0.1:0"} | options
    return HubProcess.open(folder, **chosen)  # type: ignore[arg-type]


def member(
    at: HubProcess | str, node: str, folder: Path, **options: object
) -> contextlib.AbstractAsyncContextManager[LiveWorld]:
    """A member of a hub, with keys that stay the same for its name in `folder`."""
    address = at if isinstance(at, str) else at.address
    chosen = {"role": "peer", "keys": keys_of(node), "vault": folder / f"{node}.vault"} | options
    return LiveWorld.open(address, node=node, **chosen)  # type: ignore[arg-type]


def keys_of(node: str) -> Keys:
    """A test's keys of a name."""
    return Keys(node.encode().ljust(32, b"\0")[:32])
