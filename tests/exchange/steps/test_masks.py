"""Secure aggregation between real nodes: drop-outs at each stage, a server that lies, clients that lie; keys of the system."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId
from kuberml.exchange.node import Node
from kuberml.exchange.steps.masks import Masking, mean_of, numbers_of
from kuberml.exchange.steps.options import Masks
from kuberml.exchange.steps.step import Updates
from kuberml.exchange.steps.update import Update
from kuberml.knowledge.kinds.sealed import Sealed
from kuberml.knowledge.want import Offer
from tests.exchange.town import Town

P, SERVER = 50, NodeId("server")
CLIENTS = [NodeId(f"c{i}") for i in range(5)]
STEP = Masking(Masks(threshold=0.6, weight_cap=100), 5.0, alike=False)
"""Of five, three must answer to the end."""


def values(name: str) -> Any:
    return np.random.Generator(np.random.Philox(int(name[1:]))).normal(size=P).astype(np.float32)


def weight(name: str) -> float:
    return 10.0 * (1 + int(name[1:]))


def client(without: Collection[str] = (), wrong: bool = False) -> Any:
    """A client that does not answer some of the questions, or gives wrong shares."""

    async def main(node: Node) -> None:
        async def fit(asker: NodeId, about: Offer | None) -> Offer:
            sent = await STEP.send(node, 0, Update(values(node.id), weight(node.id)))
            return await node.publish(Sealed({"change": sent.words_V}), slot="update", version=0, listed=False)

        async def gone(asker: NodeId, about: Offer | None) -> Offer:
            raise RemoteError("gone")

        async def lies(asker: NodeId, about: Offer | None) -> Offer:
            count = len(node.memory.masks.authors)
            arrays = {"shares": np.full((count, 32), 7, np.uint8), "has": np.ones(count, np.uint8)}
            return await node.publish(Sealed(arrays), slot="lie", version=0, listed=False)

        STEP.serve(node)
        node.serve(**{"fit": fit, **dict.fromkeys(without, gone), **({"masks_open": lies} if wrong else {})})

    return main


async def masked_updates(node: Node, cohort: Any) -> Updates:
    base = await node.publish(Sealed({"base": np.zeros(1, np.uint8)}), slot="base", version=0, listed=False)
    found: Updates = {}
    async for offer in node.ask(cohort, "fit", base, timeout_s=5.0):
        content = await node.take(offer, Sealed)
        assert content is not None
        found[offer.holders[0]] = Update(np.zeros(0, np.float32), words_V=content.arrays["change"])
    return found


async def server(node: Node) -> tuple[Updates, Updates]:
    await node.sleep(0.1)
    step = Masking(Masks(threshold=0.6, weight_cap=100), 5.0, alike=False)
    updates = await masked_updates(node, await step.agree(node, 0, CLIENTS))
    return updates, await step.combine(node, 0, updates)


def town(server_main: Any = server, **clients: Any) -> tuple[Town, Any]:
    roles = {"server": "server", **dict.fromkeys(CLIENTS, "client")}
    made = Town("server", *CLIENTS, roles=roles)
    mains = {name: clients.get(name, client()) for name in CLIENTS}
    return made, made.run(server=server_main, **mains)["server"]


def plain_mean(names: Collection[str]) -> Any:
    """What the same fixed-point numbers add up to without masks."""
    total = sum((numbers_of(values(name), weight(name) / 100, 5, 4.0) for name in names), np.zeros(P + 1, np.uint32))
    return mean_of(total, 5, 4.0)


def lost(made: Town) -> list[str]:
    return [fields["why"] for fields in made.notes["server"].of("round lost")]


def test_the_sum_is_the_plain_sum_bit_for_bit_and_the_mean_is_weighted() -> None:
    made, (updates, combined) = town()
    ((name, one),) = combined.items()
    assert name == "c0"
    mean_P, _ = plain_mean(CLIENTS)
    np.testing.assert_array_equal(one.values_P, mean_P)
    assert one.weight == pytest.approx(sum(weight(c) for c in CLIENTS), rel=1e-6)
    exact = np.average([values(c) for c in CLIENTS], axis=0, weights=[weight(c) for c in CLIENTS])
    np.testing.assert_allclose(one.values_P, exact, atol=1e-6)
    assert lost(made) == []
    for client_id, update in updates.items():  # what the server saw of each alone
        mine = numbers_of(values(client_id), weight(client_id) / 100, 5, 4.0)
        assert update.words_V is not None
        assert abs(np.corrcoef(update.words_V.view(np.int32), mine.view(np.int32))[0, 1]) < 5 / np.sqrt(P)


@pytest.mark.parametrize(
    ("stage", "gone"), [("masks_join", 2), ("masks_share", 1), ("masks_present", 1), ("fit", 2), ("masks_open", 2)]
)
def test_drop_outs_are_survived_at_every_stage(stage: str, gone: int) -> None:
    """Two of five are over the threshold of three; a roster of five of whom one is gone needs three of four."""
    quiet = {name: client([stage]) for name in CLIENTS[:gone]}
    made, (_, combined) = town(**quiet)
    assert lost(made) == []
    left = CLIENTS if stage == "masks_open" else CLIENTS[gone:]
    (one,) = combined.values()
    exact = np.average([values(c) for c in left], axis=0, weights=[weight(c) for c in left])
    np.testing.assert_allclose(one.values_P, exact, atol=1e-6)
    if stage in ("fit", "masks_open"):
        np.testing.assert_array_equal(one.values_P, plain_mean(left)[0])


@pytest.mark.parametrize("stage", ["masks_join", "masks_share", "fit", "masks_open"])
def test_beyond_the_threshold_the_round_is_lost_and_nothing_is_learned(stage: str) -> None:
    made, (_, combined) = town(**{name: client([stage]) for name in CLIENTS[:3]})
    assert combined == {}
    assert len(lost(made)) >= 1


def test_a_client_that_lies_about_shares_is_noticed() -> None:
    made, (_, combined) = town(c0=client(wrong=True))
    assert combined == {}
    assert "wrong share" in lost(made)[0] or "belong together" in lost(made)[0]


def test_a_client_gives_its_shares_once_whatever_the_server_says() -> None:
    """Two lists of survivors would open both secrets of whoever is in one of them only."""

    async def greedy(node: Node) -> list[int]:
        await node.sleep(0.1)
        step = Masking(Masks(threshold=0.6), 5.0, alike=False)
        updates = await masked_updates(node, await step.agree(node, 0, CLIENTS))
        cohort = step._cohort
        assert cohort is not None
        first = await step._shares(node, cohort, [0, 1, 2, 3, 4])
        second = await step._shares(node, cohort, [0, 1, 2])
        assert len(updates) == 5
        return [len(first.given), len(second.given)]

    assert town(greedy)[1] == [5, 0]


def test_masks_are_put_on_one_update_only() -> None:
    """The difference of two updates under the same masks would be plain."""

    async def twice(node: Node) -> list[int]:
        await node.sleep(0.1)
        cohort = await STEP.agree(node, 0, CLIENTS)
        return [len(await masked_updates(node, cohort)) for _ in range(2)]

    assert town(twice)[1] == [5, 0]


def test_a_new_call_makes_new_keys() -> None:
    """A server that crashed calls again; what was masked before has nothing in common with what comes."""

    async def again(node: Node) -> list[Updates]:
        await node.sleep(0.1)
        return [await masked_updates(node, await STEP.agree(node, 0, CLIENTS)) for _ in range(2)]

    one, two = town(again)[1]
    for name in CLIENTS:
        a, b = one[name].words_V.view(np.int32), two[name].words_V.view(np.int32)
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(P)


@pytest.mark.parametrize("change", ["threshold", "signature", "twice", "keys"])
def test_a_server_that_lies_about_who_there_is_gets_no_letters(change: str) -> None:
    async def liar(node: Node) -> int:
        await node.sleep(0.1)
        call = await node.publish(Sealed({"round": np.zeros(1, np.uint32)}), slot="call", version=0, listed=False)
        sizes = {"keys": (96,), "signature": (64,)}
        came = await STEP._asked(node, CLIENTS, "masks_join", call, sizes)
        listed: dict[str, Any] = {
            "authors": np.stack([np.frombuffer(bytes.fromhex(author), np.uint8) for author, _ in came.values()]),
            "keys": np.stack([arrays["keys"] for _, arrays in came.values()]),
            "signatures": np.stack([arrays["signature"] for _, arrays in came.values()]),
            "threshold": np.array([3], np.uint32),
        }
        if change == "threshold":
            listed["threshold"] = np.array([2], np.uint32)
        elif change == "signature":
            listed["keys"][1] ^= 1  # the server's own keys in place of a client's
        elif change == "twice":
            for name in ("authors", "keys", "signatures"):
                listed[name][1] = listed[name][2]
        else:
            listed["signatures"][:] = listed["signatures"][::-1]
        roster = await node.publish(Sealed(listed), slot="roster", version=0, listed=False)
        return len(await STEP._asked(node, CLIENTS, "masks_share", roster, {"letters": (5, 80)}))

    assert town(liar)[1] == 0


def test_only_the_server_is_answered() -> None:
    async def nosy(node: Node) -> int:
        await node.sleep(0.1)
        call = await node.publish(Sealed({"round": np.zeros(1, np.uint32)}), slot="call", version=0, listed=False)
        return len([offer async for offer in node.ask(CLIENTS[1:], "masks_join", call, timeout_s=5.0)])

    made = Town("server", *CLIENTS, roles={"server": "server", **dict.fromkeys(CLIENTS, "client")})
    mains = {name: client() for name in CLIENTS[1:]}
    assert made.run(c0=nosy, server=client(), **mains)["c0"] == 0


def test_nothing_secret_is_printed() -> None:
    async def look(node: Node) -> str:
        await node.sleep(0.1)
        await STEP.agree(node, 0, CLIENTS)
        return ""

    seen = []

    async def shown(node: Node) -> None:
        await client()(node)
        await node.sleep(5)
        session = node.memory.masks
        seen.extend([repr(session), session.pair.hex(), session.own.hex()])

    town(look, c0=shown)
    text, *secrets = seen
    assert all(len(secret) == 62 and secret not in text for secret in secrets)
