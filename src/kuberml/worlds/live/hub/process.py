"""A hub as a process: Zenoh's router for its members, the exchange's Hub behind it, copies of what they publish.

    async with HubProcess.open(Path("kuberml-hub")) as hub:
        print(hub.address, hub.http_url)
        await hub.until_closed()

Its folder holds the vault (blobs/, index.sqlite), catalog.sqlite, board.sqlite, ledger.sqlite and hub.key: a hub that is killed
and started again on it goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from kuberml import __version__
from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.exchange.hub import Hub
from kuberml.exchange.withdrawn import Withdrawals
from kuberml.ledger.ledger import Ledger
from kuberml.vault.board import Board
from kuberml.vault.catalog import Catalog
from kuberml.vault.folder import FolderStore
from kuberml.worlds.alone import alone
from kuberml.worlds.folder.clock import SystemClock
from kuberml.worlds.live import names
from kuberml.worlds.live.asking import Door
from kuberml.worlds.live.blobs.bucket import Bucket
from kuberml.worlds.live.blobs.client import BlobReader
from kuberml.worlds.live.blobs.tls import Tls
from kuberml.worlds.live.envelope import Voice
from kuberml.worlds.live.http import HttpDoor, Poster, listening
from kuberml.worlds.live.hub.agreed import Agreements, Giver
from kuberml.worlds.live.hub.keeper import Keeper
from kuberml.worlds.live.hub.linking import Links
from kuberml.worlds.live.hub.outlook import Outlook
from kuberml.worlds.live.hub.scene import Scene
from kuberml.worlds.live.names import HUB, Endpoint
from kuberml.worlds.live.session import Link, router
from kuberml.worlds.live.transport import LiveTransport
from kuberml.worlds.live.trust.beat import RollService, running
from kuberml.worlds.live.trust.limits import raise_open_files
from kuberml.worlds.live.trust.policy import Trust
from kuberml.worlds.live.trust.realm import Realm
from kuberml.worlds.live.trust.roll import Policy
from kuberml.worlds.live.welcome import Hello, Welcome
from kuberml.worlds.member.keyfile import keys_in

KEEP_BYTES = 10 << 30
"""Of blobs that a hub keeps copies of, unless it is told otherwise."""

HELLO_BYTES = 16 << 10
MEMBERS_MAX = 100_000
"""Whose hello is remembered; beyond it the oldest is forgotten."""


class HubProcess:
    """See the module; made by `open`."""

    def __init__(
        self, endpoint: Endpoint, http_url: str, transport: LiveTransport, store: FolderStore, catalog: Catalog, board: Board,
        ledger: Ledger, door: HttpDoor, *, keep_bytes: int, words: Withdrawals,
    ) -> None:  # fmt: skip
        self.endpoint, self.http_url = endpoint, http_url
        self.transport, self.store, self.catalog, self.ledger = transport, store, catalog, ledger
        self.app, self.door = door.app, door
        self.clock = SystemClock()
        recorder = ledger.recorder(HUB, self.clock.now_ns)
        self.keeper = Keeper(transport, store, catalog, recorder, keep_bytes=keep_bytes)
        self.scene = Scene(self.now_ms, catalog.card, realm=transport.voice.realm)
        known_as = [urlsplit(http_url).hostname or ""]
        self.outlook = Outlook(transport, door, self.scene, catalog, board, store.path, hosts=known_as)
        self.hub = Hub(transport, self.clock, catalog, recorder, board, watchers=(self.keeper, self.scene), words=words)
        self.members: dict[NodeId, Hello] = {}
        """Who has said hello since this process began."""
        self._closing = asyncio.Event()
        self._realm: Realm | None = None
        transport.serve("hello", self._hello)
        transport.serve("keep", self.keeper.answer)

    @property
    def address(self) -> str:
        """What its members dial."""
        return str(self.endpoint) if self.endpoint.secure else str(self.endpoint).removeprefix("tcp/")

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        folder: Path | str,
        *,
        listen: str = f"127.0.0.1:{names.PORT}",
        http: str = f"127.0.0.1:{names.HTTP_PORT}",
        advertise_http: str | None = None,
        realm: str = "default",
        policy: Policy = "open",
        trust: Trust | None = None,
        tls: Tls | None = None,
        keep_bytes: int = KEEP_BYTES,
        limit_bytes_s: int | None = None,
    ) -> AsyncIterator[HubProcess]:
        """Run a hub until the end of the block.

        Args:
            folder: its own; made if it is not there.
            listen: where members dial in, see `names.endpoints`; port 0 is one that is free.
            http: host:port of its HTTP door.
            advertise_http: how members dial that door, if not by that host and port.
            realm: the realm it serves.
            policy: of a realm that is founded now; of one that was here before, the roll in the folder says it.
            trust: whom it lets in; default: what the roll in its folder says (`trust.realm`).
            tls: certificates; members need theirs.
            keep_bytes: how much of what is published it keeps copies of; the oldest go first.
            limit_bytes_s: bandwidth for blobs.

        Raises:
            ConfigError: a folder or port that cannot be used, or is in use.
        """
        raise_open_files()
        path = Path(folder)
        endpoint = names.endpoints(listen, port=names.PORT)[0]
        if endpoint.port == 0:
            endpoint = msgspec.structs.replace(endpoint, port=names.free_port(endpoint.host))
        endpoint = msgspec.structs.replace(endpoint, secure=endpoint.secure or tls is not None)
        host, port = listening(http)
        url = advertise_http or f"{'https' if tls else 'http'}://{host}:{port}"
        async with contextlib.AsyncExitStack() as opening:
            store = opening.enter_context(FolderStore(path))
            opening.enter_context(alone(path, busy="a hub runs in this folder already; give another"))
            catalog = opening.enter_context(contextlib.closing(Catalog(path / "catalog.sqlite")))
            board = opening.enter_context(contextlib.closing(Board(path / "board.sqlite")))
            words = opening.enter_context(contextlib.closing(Withdrawals(path / "withdrawn.sqlite")))
            ledger = opening.enter_context(contextlib.closing(Ledger(path / "ledger.sqlite")))
            link = Link(router([endpoint], tls.zenoh() if tls else None))
            opening.push_async_callback(link.close)
            await _listening(link, endpoint)
            reader = BlobReader(ssl=tls.client_context() if tls else None, limit_bytes_s=limit_bytes_s)
            upload = Bucket(limit_bytes_s)
            keys = keys_in(path / "hub.key")
            voice = Voice(HUB, keys, realm)
            own = None
            if trust is None:
                own = Realm(path, realm, voice.key, policy=policy)
                trust = own.trust
            transport = LiveTransport(link, voice, "hub", trust, store, reader, urls=(url,), upload=upload)
            opening.push_async_callback(transport.close)
            poster = Poster(tls.client_context() if tls else None)
            opening.push_async_callback(poster.close)
            transport.asking.post = poster.post
            door = HttpDoor(store, transport.answering, transport.gate, bucket=upload)
            hub = cls(endpoint, url, transport, store, catalog, board, ledger, door, keep_bytes=keep_bytes, words=words)
            opening.push_async_callback(door.close)
            await door.open(host, port, tls.server_context() if tls else None)
            if own is not None:
                hub._realm = own
                await opening.enter_async_context(running(RollService(transport, own).run()))
                agreements = Agreements(path, own.signed.roll.owner, hub.now_ms)
                giver = Giver(agreements, transport, store, catalog)
                hub.hub.watch(giver)
                hub.keeper.on_kept = giver.kept
                await opening.enter_async_context(running(Links(agreements, keys, transport, hub.keeper, tls).run()))
            await opening.enter_async_context(running(hub.outlook.follow()))
            hub.keeper.start()
            opening.push_async_callback(hub.keeper.close)
            yield hub

    def now_ms(self) -> int:
        """Its clock, milliseconds since 1970."""
        return self.clock.now_ns() // 1_000_000

    def stop(self) -> None:
        """Ask it to end."""
        self._closing.set()

    async def until_closed(self) -> None:
        """Serve until `stop`."""
        await self._closing.wait()

    async def _hello(self, asker: NodeId, body: bytes) -> bytes:
        if len(body) > HELLO_BYTES:  # it is remembered
            raise RemoteError(f"a hello of {len(body)} bytes; at most {HELLO_BYTES} are read")
        try:
            hello = msgspec.convert(canonical.decode(body), Hello, builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            raise RemoteError(f"not a hello: {error}") from error
        if len(self.members) >= MEMBERS_MAX:
            self.members.pop(next(iter(self.members)))
        self.members[asker] = hello
        if hello.urls:
            self.transport.asking.meet(asker, Door(urls=hello.urls[:8]))
        roll = b"" if self._realm is None else canonical.encode(self._realm.signed)
        welcome = Welcome(self.transport.voice.key, (self.http_url,), roll, f"kuberml {__version__}")
        return canonical.encode(welcome)


async def _listening(link: Link, endpoint: Endpoint) -> None:
    try:
        await link.open()
    except Unreachable as error:
        why = "another hub, or something else, listens there" if "in use" in str(error) else str(error)
        raise ConfigError(f"cannot listen on {endpoint.host}:{endpoint.port}: {why}; give another host:port") from error
