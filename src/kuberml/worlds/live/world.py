"""One process's place in a live world: its clock, door, store and compute, and its membership at a hub.

    async with LiveWorld.open("127.0.0.1:7447", node="ward-3", role="peer", keys=keys, vault=Path("ward-3.vault")) as world:
        node = Node(Place(clock=world.clock, transport=world.transport, ..., hub=world.hub))

It can be opened while the hub is away: what is local goes on, and it joins when the hub is there. After every start of the
hub it says again what it holds (`outbox`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

from kuberml import __version__
from kuberml.core import canonical
from kuberml.core.errors import KuberError, RemoteError, Unreachable
from kuberml.core.ids import NodeId, check_node
from kuberml.knowledge.signing import Keys
from kuberml.ledger.ledger import Ledger
from kuberml.vault.folder import FolderStore
from kuberml.worlds.folder.clock import SystemClock
from kuberml.worlds.live import names
from kuberml.worlds.live.asking import Door
from kuberml.worlds.live.blobs.bucket import Bucket
from kuberml.worlds.live.blobs.client import BlobReader
from kuberml.worlds.live.blobs.tls import Tls
from kuberml.worlds.live.compute import LiveCompute
from kuberml.worlds.live.envelope import Voice
from kuberml.worlds.live.http import HttpDoor, Poster, listening
from kuberml.worlds.live.names import HUB, Presence
from kuberml.worlds.live.outbox import Outbox
from kuberml.worlds.live.reports import Reporter
from kuberml.worlds.live.session import Link, client
from kuberml.worlds.live.transport import LiveTransport
from kuberml.worlds.live.trust.beat import RollFollower, running
from kuberml.worlds.live.trust.by_roll import RollTrust
from kuberml.worlds.live.trust.policy import Trust
from kuberml.worlds.live.trust.roll import read_roll
from kuberml.worlds.live.welcome import Hello, Welcome

log = logging.getLogger("kuberml.live")

HELLO_S = 10.0
"""Patience with the hub's welcome."""
LAST_WORDS_S = 1.0
"""For what the hub's page has not been told yet."""

PUSH_S = 2.0
"""Between attempts to say what a hub that is there could not take: its disk was full, or its answer was lost."""


class LiveWorld:
    """See the module; made by `open`."""

    hub = HUB

    def __init__(self, link: Link, transport: LiveTransport, store: FolderStore, ledger: Ledger, *, reports: bool) -> None:
        self.link, self.transport, self.store, self.ledger = link, transport, store, ledger
        self.clock, self.compute = SystemClock(), LiveCompute()
        self.outbox = Outbox(store, transport.node)
        self._reporter = Reporter(ledger.recorder(transport.node, self.clock.now_ns), transport, HUB, on=reports)
        self.welcome: Welcome | None = None
        """What the hub said last; None: it has not been reached yet."""
        self.joined = asyncio.Event()
        self._joining: asyncio.Task[None] | None = None
        self._refused, self._answered = "", asyncio.Event()
        transport.here.on_arrival = self._arrived
        transport.asking.on_ask, transport.asking.on_answer = self.outbox.asked, self.outbox.answered

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        address: str,
        *,
        node: str,
        role: str,
        keys: Keys,
        vault: Path | str,
        realm: str = "default",
        trust: Trust | None = None,
        tls: Tls | None = None,
        serve_http: str | None = None,
        advertise: str | None = None,
        mirrors: Sequence[str] = (),
        limit_bytes_s: int | None = None,
        reports: bool = True,
    ) -> AsyncIterator[LiveWorld]:
        """Enter; leaves at the end of the block.

        Args:
            address: of the hub, see `names.endpoints`; it need not be there yet.
            node: this node's name.
            role: what it is to others.
            keys: what it signs with.
            vault: its folder; made if it is not there.
            realm: the realm of the hub that it enters.
            trust: whom it believes what; default: what the hub's roll says, whoever signs the first one. A keyring's
                `trust_in(realm)` pins the owner and keeps the roll over a restart.
            tls: certificates, for `tls/` addresses and HTTPS.
            serve_http: host:port of its own HTTP door; None: none (behind NAT: others read through the router).
            advertise: how others dial that door, if not by that host and port.
            mirrors: base addresses of dumb mirrors.
            limit_bytes_s: bandwidth for blobs, each way.
            reports: tell the hub what happens here, for its page (`reports.TOLD`); never data, never models.

        Raises:
            ConfigError: an address, name, folder or port that cannot be.
        """
        endpoints, believed = names.endpoints(address, port=names.PORT), trust or RollTrust(realm)
        link = Link(client(endpoints, tls.zenoh() if tls else None))
        async with contextlib.AsyncExitStack() as opening:
            store = opening.enter_context(FolderStore(vault))
            ledger = opening.enter_context(contextlib.closing(Ledger(Path(vault) / "ledger.sqlite")))
            opening.push_async_callback(link.close)
            where = listening(serve_http) if serve_http else None
            scheme = "https" if tls else "http"
            urls = () if where is None else (advertise or f"{scheme}://{where[0]}:{where[1]}",)
            reader = BlobReader(ssl=tls.client_context() if tls else None, limit_bytes_s=limit_bytes_s)
            upload = Bucket(limit_bytes_s)
            transport = LiveTransport(
                link, Voice(check_node(node), keys, realm), role, believed, store, reader, urls=urls,
                mirrors={NodeId(f"mirror-{place}"): url for place, url in enumerate(mirrors)},
                upload=upload,
            )  # fmt: skip
            opening.push_async_callback(transport.close)
            poster = Poster(tls.client_context() if tls else None)
            opening.push_async_callback(poster.close)
            transport.asking.post = poster.post
            if where is not None:
                door = HttpDoor(store, transport.answering, transport.gate, bucket=upload)
                opening.push_async_callback(door.close)
                await door.open(*where, tls.server_context() if tls else None)
            world = cls(link, transport, store, ledger, reports=reports)
            opening.callback(world.compute.close)
            opening.push_async_callback(world._leave)
            await opening.enter_async_context(running(world._reporter.run()))
            await opening.enter_async_context(running(RollFollower(transport, believed, hub=HUB).run()))
            link.dial()
            yield world

    def recorder(self) -> Reporter:
        """This node's Recorder: into its ledger, and some of it to the hub's page."""
        return self._reporter

    async def enter(self, timeout_s: float) -> Welcome:
        """Wait until the hub has let this node in.

        Raises:
            Unreachable: not within timeout_s, and why.
            RemoteError: the hub refuses.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._answered.wait()
        except TimeoutError:
            raise Unreachable(f"no hub answered within {timeout_s:g} s{self._why_not()}") from None
        if self._refused or self.welcome is None:
            raise RemoteError(f"the hub does not let {self.transport.node} in: {self._refused}")
        return self.welcome

    def _why_not(self) -> str:
        if not self.link.opened.is_set():
            return "" if "Timeout" in self.link.why else f": {self.link.why}"
        realm = self.transport.voice.realm
        return "" if self.transport.here.find(HUB) else f": there is one, but it is not known in realm {realm!r} (see --realm)"

    def _arrived(self, presence: Presence) -> None:
        if presence.node == HUB:
            if self._joining is not None:
                self._joining.cancel()
            self._joining = asyncio.get_running_loop().create_task(self._join(), name="joining the hub")

    async def _join(self) -> None:
        """Say hello to a hub that has just appeared, and what is held here; then, as long as it is there, what it lacks."""
        transport, wait_s = self.transport, 0.2
        hello = Hello(role=transport.role, urls=transport.answering.urls, software=f"kuberml {__version__}")
        while True:
            try:
                body = await transport.ask(HUB, "hello", canonical.encode(hello), timeout_s=HELLO_S)
                self.welcome = msgspec.convert(canonical.decode(body), Welcome, builtin_types=(bytes,))
                transport.asking.meet(HUB, Door(urls=self.welcome.urls))
                if self.welcome.roll:
                    transport.trust.take(read_roll(self.welcome.roll))
                await self.outbox.send_all(self._tell_hub)
                self._refused = ""
                self.joined.set()
                self._answered.set()
                break
            except (KuberError, msgspec.ValidationError, OSError) as error:
                if not isinstance(error, Unreachable):
                    self._refused = str(error)
                    self._answered.set()
                log.info("%s has not joined yet: %s", transport.node, error)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, 5.0)
        while True:
            await asyncio.sleep(PUSH_S)
            with contextlib.suppress(KuberError, OSError):  # what it could not take stays due
                await self.outbox.send_due(self._tell_hub)

    async def _tell_hub(self, name: str, body: bytes) -> bytes:
        return await self.transport.ask(HUB, name, body, timeout_s=HELLO_S)

    async def _leave(self) -> None:
        if self.joined.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    await self._reporter.flush()
        if self._joining is not None:
            self._joining.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._joining
