"""FedAvg behind masks between live nodes: every word over real sockets, every key from the operating system."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np

from kuberml.exchange.node import Node
from kuberml.exchange.place import Place
from kuberml.paradigms import fedavg
from kuberml.worlds.live.world import LiveWorld
from tests.exchange.town import LEARNER, data
from tests.worlds.live.town import hub, keys_of, member

PATIENCE_S = 20.0
PARTS = ("012", "345", "678", "901")


def node(world: LiveWorld, role: str, labels: str = "") -> Node:
    place = Place(
        clock=world.clock, transport=world.transport, compute=world.compute, store=world.store, recorder=world.recorder(),
        role=role, task="digits", keys=keys_of(world.transport.node), seed=0, hub=world.hub, learner=LEARNER,
        data=data(labels) if labels else None, shape=(8, 8, 1),
    )  # fmt: skip
    return Node(place)


async def played(folder: Path, steps: tuple[str, ...]) -> tuple[np.ndarray, list[bytes]]:
    """The server's weights after two rounds, and what each client drew for its last session."""
    cfg = fedavg.Config(rounds=2, lr=0.5, deadline_s=PATIENCE_S, update_steps=steps)  # type: ignore[arg-type]
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(hub(folder / "hub"))
        worlds = {}
        for name in ("server", "a", "b", "c", "d"):
            role = "server" if name == "server" else "client"
            worlds[name] = await stack.enter_async_context(member(at, name, folder, role=role))
            await worlds[name].enter(PATIENCE_S)
        clients = [node(worlds[name], "client", part) for name, part in zip("abcd", PARTS, strict=True)]
        server = node(worlds["server"], "server")
        following = [asyncio.ensure_future(fedavg.client(one, cfg)) for one in clients]
        async with asyncio.timeout(PATIENCE_S):
            while len(server.peers("client")) < len(clients):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await fedavg.server(server, cfg)
        for one in clients:
            one.end()
        await asyncio.gather(*following)
        drawn = [one.secret("masks", 0) for one in clients]
        return server.memory.weights, drawn


def test_the_live_weights_are_those_without_masks_and_no_secret_comes_twice(tmp_path: Path) -> None:
    plain, _ = asyncio.run(played(tmp_path / "plain", ()))
    masked, drawn = asyncio.run(played(tmp_path / "masked", ("masks",)))
    np.testing.assert_allclose(masked, plain, atol=1e-5)
    assert np.linalg.norm(plain) > 0.1
    again = asyncio.run(played(tmp_path / "again", ("masks",)))[1]
    assert len({*drawn, *again}) == 8
