"""Waiting at a node's door for what is not there yet: no few keys fill it for others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np

from kuberml.core.ids import NodeId
from kuberml.exchange import wire
from kuberml.exchange.slots import Slots
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.pack import make
from kuberml.knowledge.signing import Keys
from kuberml.knowledge.want import Offer
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.answering import MAX_UNREAD, Answering
from kuberml.worlds.live.envelope import Answer, Voice, opened
from kuberml.worlds.live.trust.by_roll import RollTrust
from kuberml.worlds.live.trust.limits import IN_ALL, PER_KEY
from kuberml.worlds.live.waiting import MOST

A = NodeId("a")


class Silent:
    def record(self, event: str, **fields: Any) -> None:
        """Keep nothing."""


def voice(name: str) -> Voice:
    return Voice(NodeId(name), Keys.generate(), "default")


def test_keys_that_wait_for_what_never_comes_do_not_shut_a_node_s_door(tmp_path: Path) -> None:
    """Sixteen keys ask for as much as each may, which is all that a node answers at a time; others are answered still."""
    a, keys = voice("a"), Keys.generate()
    idlers, honest = [voice(f"idle-{number}") for number in range(IN_ALL.open // PER_KEY.open)], voice("b")

    async def main(store: FolderStore) -> None:
        slots, door = Slots(store, keys.public, A, Silent()), Answering(a, RollTrust("default"))

        async def latest(asker: NodeId, body: bytes) -> bytes:
            offer = await slots.answer(wire.read(body, wire.Request))
            return wire.write(wire.Reply(None if offer is None else offer.signed))

        async def publish(version: int) -> None:
            made = make("weights", Weights({"w": np.zeros(2, np.float32)}), keys=keys, task="digits", slot="model",
                        version=version, learned_at_ms=1)  # fmt: skip
            await slots.publish(Offer(made.signed, (A,), 0, 0, 0))

        def ask(who: Voice, at_least: int) -> asyncio.Task[bytes | None]:
            envelope, _ = who.ask(A, a.epoch, "latest", wire.write(wire.Request(slot="model", at_least=at_least)))
            return asyncio.create_task(door.answer(envelope, "latest"))

        door.handlers["latest"] = latest
        await publish(0)
        waits = ask(honest, 1)
        idle = [ask(who, 1 << 40) for who in idlers for _ in range(PER_KEY.open)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert door.in_flight <= MOST < MAX_UNREAD
        given_way = opened(await idle[0] or b"", Answer)
        assert (given_way.status, b"gave way" in given_way.body) == ("unreachable", True)
        now = opened(await ask(honest, 0) or b"", Answer)
        assert version_in(now) == 0
        await publish(1)
        assert version_in(opened(await waits or b"", Answer)) == 1
        for task in idle:
            task.cancel()
        await asyncio.gather(*idle, return_exceptions=True)
        assert door.in_flight == 0

    with FolderStore(tmp_path / "vault") as store:
        asyncio.run(main(store))


def version_in(answer: Answer) -> int:
    assert answer.status == "ok", answer.body
    signed = wire.read(answer.body, wire.Reply).signed
    assert signed is not None
    return signed.card.version
