"""Asking: a signed request to a node, over the router, or straight to the node's own HTTP door.

Straight is quicker and spares the router, but a door may not be reachable from here. So it is the way where something came
over it of late (a blob, an answer), and the last resort where the router is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from kuberml.core import canonical
from kuberml.core.errors import KuberError, RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.worlds.live import names
from kuberml.worlds.live.envelope import Answer, Voice, opened
from kuberml.worlds.live.names import Presence
from kuberml.worlds.live.presence import Gathering
from kuberml.worlds.live.session import Link
from kuberml.worlds.live.ways import Ways

GRACE_S = 3.0
"""How long a node that is away is waited for, within the asker's patience."""

AGAIN_S = 0.05
"""Before a request that nobody answered is sent again."""

Hook = Callable[[NodeId, str, bytes], None]
Outcome = Callable[[NodeId, str, bytes, KuberError | None], None]

Post = Callable[[str, str, bytes, float], Awaitable[bytes]]
"""Sends a request to an HTTP door: (base URL, name, envelope, timeout_s) -> envelope. Raises Unreachable."""


class Door(msgspec.Struct, frozen=True):
    """What a node says of itself when it is asked for its `door`. Unknown fields are passed over: later versions say more."""

    urls: tuple[str, ...] = ()
    protocol: int = names.PROTOCOL
    software: str = ""


class Asking:
    """One process's questions."""

    def __init__(self, link: Link, voice: Voice, here: Gathering) -> None:
        self._link, self._voice, self._here = link, voice, here
        self._doors: dict[str, Door] = {}  # by epoch
        self._known: dict[NodeId, Door] = {}
        self.ways = Ways()
        self.post: Post | None = None
        """How to reach HTTP doors; None: not at all."""
        self.on_ask: Hook = lambda to, name, body: None
        """Told before something is asked: (whom, name, body)."""
        self.on_answer: Outcome = lambda to, name, body, error: None
        """Told what came of it: (whom, name, body, None or what went wrong)."""

    async def ask(self, to: NodeId, name: str, body: bytes, timeout_s: float) -> bytes:
        """See the seam.

        Raises:
            Unreachable, RemoteError: as the seam says.
        """
        self.on_ask(to, name, body)
        try:
            answer = await self._in_time(to, name, body, timeout_s)
        except KuberError as error:
            self.on_answer(to, name, body, error)
            raise
        self.on_answer(to, name, body, None)
        return answer

    async def _in_time(self, to: NodeId, name: str, body: bytes, timeout_s: float) -> bytes:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._insist(to, name, body, timeout_s)
        except TimeoutError:
            raise Unreachable(f"{to}: no answer to {name!r} in {timeout_s} s") from None

    async def door(self, node: NodeId, timeout_s: float) -> Door:
        """Where a node can be dialled, asked once for each start of its process; of one that is away, what it last said."""
        presence = self._here.find(node)
        if presence is not None and presence.epoch in self._doors:
            return self._doors[presence.epoch]
        if presence is None:
            return self._known.get(node, Door())
        try:
            plain = canonical.decode(await self.ask(node, "door", b"", timeout_s=timeout_s))
            door = msgspec.convert(plain, Door)
        except (msgspec.ValidationError, RemoteError, Unreachable):
            return self._known.get(node, Door())
        if len(self._doors) > 65536:
            self._doors.clear()
        self._doors[presence.epoch] = self._known[node] = door
        return door

    def meet(self, node: NodeId, door: Door) -> None:
        """Somebody that is trusted says where a node can be dialled."""
        self._known[node] = door

    async def _insist(self, to: NodeId, name: str, body: bytes, timeout_s: float) -> bytes:
        until_s, epoch = asyncio.get_running_loop().time() + GRACE_S, ""
        while True:
            presence = await self._present(to, until_s)
            if presence is not None and epoch:
                presence = msgspec.structs.replace(presence, epoch=epoch)  # tokens prove nothing; this the node itself said
            answer = await self._straight(to, name, body, timeout_s) if presence else None
            if answer is None and presence is not None:
                answer = await self._over_router(presence, name, body, timeout_s)
            if answer is None:
                answer = await self._over_http(to, name, body, timeout_s)
            if answer is not None:
                if answer.status == "ok":
                    return answer.body
                if answer.status != "epoch":
                    raise _told(answer)
                epoch = answer.body.decode("ascii", "replace")
            elif asyncio.get_running_loop().time() > until_s:
                raise Unreachable(f"{to} is not here" if presence is None else f"{to} does not answer {name!r}")
            await asyncio.sleep(AGAIN_S)  # it has just restarted, or the network has just come back

    async def _present(self, to: NodeId, until_s: float) -> Presence | None:
        found = self._here.find(to)
        if found is not None or self._known.get(to, Door()).urls:
            return found
        return await self._here.wait_for(to, max(0.0, until_s - asyncio.get_running_loop().time()))

    async def _over_router(self, to: Presence, name: str, body: bytes, timeout_s: float) -> Answer | None:
        envelope, request = self._voice.ask(to.node, to.epoch, name, body)
        try:
            data = await self._link.get(names.ask_key(self._voice.realm, to.node, name), envelope, timeout_s)
        except Unreachable:
            return None
        return None if data is None else self._checked(data, to, request)

    async def _straight(self, to: NodeId, name: str, body: bytes, timeout_s: float) -> Answer | None:
        """Over a door that is known to be open; None: none is, or not any more."""
        for url in self._known.get(to, Door()).urls:
            if url in self.ways:
                try:
                    return await self._at(url, to, name, body, timeout_s)
                except Unreachable:
                    continue
                except RemoteError:
                    self.ways.is_deaf(url)
                except asyncio.CancelledError:
                    self.ways.failed(url)
                    raise
        return None

    async def _over_http(self, to: NodeId, name: str, body: bytes, timeout_s: float) -> Answer | None:
        for url in self._known.get(to, Door()).urls:
            try:
                return await self._at(url, to, name, body, timeout_s)
            except Unreachable:
                continue
        return None

    async def _at(self, url: str, to: NodeId, name: str, body: bytes, timeout_s: float) -> Answer:
        """Ask at a door.

        Raises:
            Unreachable: nobody there, or nobody is known by that name.
            RemoteError: whoever is there is somebody else, or takes no requests.
        """
        presence = self._here.remembered(to)
        if self.post is None or presence is None:
            raise Unreachable(f"{to} is not here")
        epoch = presence.epoch
        for _ in range(2):  # the second time with the epoch that the first was told
            envelope, request = self._voice.ask(to, epoch, name, body)
            try:
                answer = self._checked(await self.post(url, name, envelope, timeout_s), presence, request)
            except Unreachable:
                self.ways.failed(url)
                raise
            self.ways.came(url)
            if answer.status != "epoch":
                return answer
            epoch = answer.body.decode("ascii", "replace")
        raise Unreachable(f"{to} has just restarted, twice")

    def _checked(self, data: bytes, to: Presence, request: str) -> Answer:
        answer = opened(data, Answer)
        if answer.key != to.key or answer.request != request:
            raise RemoteError(f"an answer for {to.node} by somebody else, or to another question")
        return answer


def _told(answer: Answer) -> RemoteError | Unreachable:
    why = answer.body.decode("utf-8", "replace")[:1000]
    return Unreachable(why) if answer.status == "unreachable" else RemoteError(why)
