"""The prompter: a member of the hub that hears how every node stands, and says when it begins and when it is over.

Nodes ask, the prompter answers; so they need no way in, and a batch system's machines work like processes beside it. A question
is answered at once when there is news for who asks, else after a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import msgspec

from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId
from kuberml.core.seam import Clock, Transport
from kuberml.scenario.live.status import ASK, Act, Cue, Status, read_status

HOLD_S = 1.0
"""How long a question waits for news: so often every node says how it stands."""
OVER = ("done", "gave up")
"""Phases of a node whose part is over."""


class Prompter:
    """See the module.

    Attributes:
        heard: each node's last status.
        began_ns: when the first was told to play; None: not yet.
    """

    def __init__(self, transport: Transport, clock: Clock, cast: Mapping[NodeId, str], waited: str) -> None:
        """`cast`: the role of every node that plays, but the hub; `waited`: the role that the run waits for."""
        self._clock, self._cast = clock, dict(cast)
        self._waited = {node for node, role in cast.items() if role == waited}
        self.heard: dict[NodeId, Status] = {}
        self.lost: set[NodeId] = set()
        self._over: set[NodeId] = set()
        self.began_ns: int | None = None
        self._acts: dict[NodeId, Act] = dict.fromkeys(cast, "wait")
        self._news = asyncio.Event()
        transport.serve(ASK, self._answer)

    @property
    def is_over(self) -> bool:
        """Everybody that is waited for has ended, or is lost for good."""
        return self._waited <= self.lost | self._over

    def missing(self) -> list[NodeId]:
        """Who has not come yet."""
        return [node for node in self._cast if node not in self.heard and node not in self.lost]

    def lose(self, node: NodeId) -> None:
        """A node is gone for good."""
        self.lost.add(node)
        self._move()

    def end(self) -> None:
        """It is over for everybody."""
        self._say(self._cast, "end")

    async def _answer(self, asker: NodeId, body: bytes) -> bytes:
        if asker not in self._cast:
            raise RemoteError(f"{asker} has no part in this run")
        self.heard[asker] = status = read_status(body)
        if status.phase in OVER:
            self._over.add(asker)  # for good: it may die after it, and play again
        self._move()
        known: Act = "wait" if status.phase == "ready" else "play"
        until_s = asyncio.get_running_loop().time() + HOLD_S
        while self._acts[asker] == known and (left_s := until_s - asyncio.get_running_loop().time()) > 0:
            news = self._news
            try:
                await asyncio.wait_for(news.wait(), left_s)
            except TimeoutError:
                break
        return msgspec.json.encode(Cue(self._acts[asker]))

    def _move(self) -> None:
        """Everybody is here: those begin that answer others; and when they have begun, those that the run waits for."""
        if self.missing():
            return
        if self.began_ns is None:
            self.began_ns = self._clock.now_ns()
        first = self._cast.keys() - self._waited - self.lost
        self._say([node for node in first if self._acts[node] == "wait"], "play")
        if all(self._phase(node) != "ready" for node in first):
            self._say([node for node in self._waited if self._acts[node] == "wait"], "play")

    def _phase(self, node: NodeId) -> str:
        status = self.heard.get(node)
        return "ready" if status is None else status.phase

    def _say(self, nodes: Collection[NodeId], act: Act) -> None:
        if nodes:
            self._acts.update(dict.fromkeys(nodes, act))
            news, self._news = self._news, asyncio.Event()
            news.set()
