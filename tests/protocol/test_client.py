"""A client that knows nothing of this package, today's and one that is never changed, at a real hub."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kuberml.core.ids import digest_of
from kuberml.exchange.node import Node
from kuberml.exchange.place import Place
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.want import Want
from tests.worlds.live.town import hub, keys_of, member

REPOSITORY = Path(__file__).parents[2]
TODAY, FROZEN = REPOSITORY / "examples/client/minimal.py", Path(__file__).with_name("frozen_client_1.py")
PATIENCE_S = 20.0
CLIENTS = pytest.mark.parametrize("client", [TODAY, FROZEN], ids=["today's", "frozen"])


def run(client: Path, *args: object) -> str:
    command = [sys.executable, str(client), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@CLIENTS
def test_it_publishes_finds_and_fetches(client: Path, tmp_path: Path) -> None:
    tensors = {"w": np.arange(300_000, dtype=np.float32)}
    save_file(tensors, tmp_path / "mine.safetensors")

    async def main() -> None:
        async with hub(tmp_path / "hub") as at:
            card = await asyncio.to_thread(
                run, client, at.address, "publish", "digits", "3=10,4=20", tmp_path / "mine.safetensors"
            )
            found = await asyncio.to_thread(run, client, at.address, "find", "digits", "3")
            assert found.split()[:2] == [card.strip(), "weights"]
            await asyncio.to_thread(run, client, at.address, "fetch", "digits", "4", tmp_path / "theirs.safetensors")

    asyncio.run(main())
    assert np.array_equal(load_file(tmp_path / "theirs.safetensors")["w"], tensors["w"])


@CLIENTS
def test_it_and_this_package_understand_each_other(client: Path, tmp_path: Path) -> None:
    save_file({"w": np.ones(1000, np.float32)}, tmp_path / "theirs.safetensors")

    async def main() -> None:
        async with hub(tmp_path / "hub") as at, member(at, "a", tmp_path) as world:
            await world.enter(PATIENCE_S)
            node = Node(
                Place(
                    clock=world.clock,
                    transport=world.transport,
                    compute=world.compute,
                    store=world.store,
                    recorder=world.recorder(),
                    role="peer",
                    task="digits",
                    keys=keys_of("a"),
                    seed=0,
                    hub=world.hub,
                )
            )
            await asyncio.to_thread(run, client, at.address, "publish", "digits", "3=10", tmp_path / "theirs.safetensors")
            (offer,) = await node.find(Want(task="digits", labels_ppm={"3": 1}))
            theirs = await node.fetch(offer)
            assert theirs.tensors["w"].sum() == 1000
            assert theirs.labels == {"3": 10}
            mine = await node.publish(Weights({"w": np.full(7, 2.0, np.float32)}, {"8": 5}), slot="model", version=0)
            await world.transport.ask(world.hub, "keep", mine.signed.digest.encode(), timeout_s=PATIENCE_S)
            await asyncio.to_thread(run, client, at.address, "fetch", "digits", "8", tmp_path / "ours.safetensors")

    asyncio.run(main())
    assert load_file(tmp_path / "ours.safetensors")["w"].tolist() == [2.0] * 7


def test_what_nobody_knows_ends_todays_client_in_a_line(tmp_path: Path) -> None:
    """Its network threads kept it alive for ever after an error."""

    async def main() -> None:
        async with hub(tmp_path / "hub") as at:
            with pytest.raises(subprocess.CalledProcessError) as failed:
                await asyncio.to_thread(run, TODAY, at.address, "fetch", "digits", "4", tmp_path / "theirs.safetensors")
            assert failed.value.stderr == "nobody knows 4 of digits\n"

    asyncio.run(main())


def test_the_frozen_client_is_frozen() -> None:
    """It stands for everybody who wrote a client for protocol 1: it must go on working as it is."""
    assert digest_of(FROZEN.read_bytes()) == "3188e0d4d3632d74fa255c6a33a47c8a89203325ccd15aee7cdcbf7482f2ae00"


def test_todays_client_is_short_and_imports_nothing_of_ours() -> None:
    source = TODAY.read_text()
    names = {
        alias.name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in (node.names if isinstance(node, ast.Import) else [ast.alias(str(node.module))])
    }
    assert len(source.splitlines()) <= 150
    assert "kuberml" not in names
    assert "zenoh" in names
