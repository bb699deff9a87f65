import numpy as np
import pytest

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.core.seam import Reading
from kuberml.exchange.delivery import Delivery
from kuberml.exchange.node import Node
from kuberml.knowledge.card import Knowledge
from kuberml.knowledge.kinds.statistics import prefix
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.pack import make, open_value
from kuberml.worlds.simulated.devices import LinkSpec
from kuberml.worlds.simulated.faults import Fault
from tests.exchange.town import MS, Main, Town, data, keys, statistics

WINDOW_BYTES = Reading().window_bytes
HOLDERS = tuple(NodeId(f"h{i}") for i in range(8))
NOISE = np.random.default_rng(0).standard_normal(900_000).astype(np.float32)
BIG = make("weights", Weights({"state": NOISE}), keys=keys("h0"), task="digits", slot="s", version=0, learned_at_ms=0)
SMALL = make("statistics", statistics(data("123")), keys=keys("h0"), task="digits", slot="s", version=0, learned_at_ms=0)


def holds(knowledge: Knowledge) -> Main:
    async def main(node: Node) -> None:
        node.hold(knowledge)

    return main


def town(*, faults: tuple[Fault, ...] = (), holders: tuple[NodeId, ...] = HOLDERS) -> tuple[Town, dict[str, Main]]:
    here = Town("me", *holders, faults=faults)
    return here, dict.fromkeys(holders, holds(BIG))


async def fetched(
    node: Node, knowledge: Knowledge, holders: tuple[NodeId, ...]
) -> tuple[list[int], Delivery, bytes | Exception]:
    """Fetch by a delivery of one's own: sizes of what came, the delivery, the first blob or the error."""
    came: list[int] = []
    delivery = Delivery(node.place.transport, node.place.store, timeout_s=5.0, on_bytes=came.append)
    await node.sleep(0.1)
    try:
        return came, delivery, (await delivery.fetch(knowledge.card, holders))[0]
    except (RemoteError, Unreachable) as error:
        return came, delivery, error


def test_one_liar_among_eight_is_named_and_nothing_of_it_is_kept() -> None:
    here, mains = town(faults=(Fault(at_s=0.0, what="corrupt", nodes=("h0",)),))

    async def me(node: Node) -> None:
        came, delivery, blob = await fetched(node, BIG, HOLDERS)
        assert blob == BIG.blobs[0]
        assert list(delivery.liars) == ["h0"]
        assert "piece" in delivery.liars[HOLDERS[0]]
        assert sum(came) <= len(blob) + WINDOW_BYTES  # what the liar gave was in vain, and nothing more

    here.run(me=me, **mains)


def test_the_pieces_before_a_wrong_one_are_not_asked_for_again() -> None:
    """The fault flips the middle byte of what is read: the pieces before it are good."""
    here, mains = town(faults=(Fault(at_s=0.0, what="corrupt", nodes=("h0",)),))

    async def me(node: Node) -> None:
        came, _, blob = await fetched(node, BIG, HOLDERS)
        assert blob == BIG.blobs[0]
        assert sum(came) < len(blob) + 0.6 * WINDOW_BYTES

    here.run(me=me, **mains)


def test_when_all_lie_it_is_their_fault_and_all_are_named() -> None:
    here, mains = town(faults=(Fault(at_s=0.0, what="corrupt", nodes=HOLDERS),))

    async def me(node: Node) -> None:
        _, delivery, error = await fetched(node, BIG, HOLDERS)
        assert isinstance(error, Unreachable)  # the package itself may be good: it is worth another try
        assert sorted(delivery.liars) == sorted(HOLDERS)
        assert node.place.store.size_bytes(BIG.card.blobs[0].digest) is None

    here.run(me=me, **mains)


def test_the_next_holder_goes_on_where_one_stopped() -> None:
    here, mains = town(faults=(Fault(at_s=1.8, what="leave", nodes=("h0",)),))

    async def me(node: Node) -> None:
        came, delivery, blob = await fetched(node, BIG, HOLDERS)
        assert blob == BIG.blobs[0]
        assert delivery.liars == {}  # who is gone has not lied
        assert sum(came) == len(blob)
        assert 1.8 < node.clock.now_ns() / 1e9 < 15

    here.run(me=me, **{name: main for name, main in mains.items() if name != "h0"}, h0=mains["h0"])


def test_nobody_there_is_nobody_s_fault() -> None:
    here = Town("me", "h0", faults=(Fault(at_s=0.0, what="leave", nodes=("h0",)),))

    async def me(node: Node) -> None:
        for holders in ((), (HOLDERS[0],), (NodeId("nobody"),)):
            _, delivery, error = await fetched(node, BIG, holders)
            assert isinstance(error, Unreachable)
            assert delivery.liars == {}

    here.run(me=me)


def test_a_holder_that_has_it_no_longer_is_passed_over() -> None:
    here = Town("me", "h0", "h1")

    async def me(node: Node) -> None:
        _, _, blob = await fetched(node, BIG, HOLDERS[:2])
        assert blob == BIG.blobs[0]

    async def empty(node: Node) -> None:
        return None

    here.run(me=me, h0=empty, h1=holds(BIG))


@pytest.mark.parametrize("stop", [0, 1, 100])
def test_a_truncated_blob_is_refused(stop: int) -> None:
    here = Town("me", "h0")

    async def cheat(node: Node) -> None:
        async def read(digest: str, start: int, end: int) -> bytes:
            raise AssertionError

        node.hold(SMALL)
        store = node.place.store
        store.read = lambda digest, start, end: SMALL.blobs[0][start:end][:stop]  # type: ignore[method-assign]

    async def me(node: Node) -> None:
        _, delivery, error = await fetched(node, SMALL, HOLDERS[:1])
        assert isinstance(error, Unreachable)
        assert f"{stop} bytes came" in delivery.liars[HOLDERS[0]]

    here.run(me=me, h0=cheat)


def test_what_is_here_already_is_not_asked_for() -> None:
    here = Town("me")

    async def me(node: Node) -> None:
        node.hold(SMALL)
        came, _, blob = await fetched(node, SMALL, ())
        assert (came, blob) == ([], SMALL.blobs[0])

    here.run(me=me)


def test_a_blob_that_the_own_disk_spoiled_is_fetched_again() -> None:
    here = Town("me", "h0")

    async def me(node: Node) -> None:
        node.hold(SMALL)
        here.world.store(node.id).corrupt(SMALL.card.blobs[0].digest)
        _, _, blob = await fetched(node, SMALL, HOLDERS[:1])
        assert blob == SMALL.blobs[0]

    here.run(me=me, h0=holds(SMALL))


def test_a_prefix_is_a_smaller_packet_and_costs_its_bytes() -> None:
    here, whole = Town("me", "h0"), statistics(data("123"))

    async def me(node: Node) -> None:
        came: list[int] = []
        delivery = Delivery(node.place.transport, node.place.store, timeout_s=5.0, on_bytes=came.append)
        await node.sleep(0.1)
        limit = SMALL.card.size_bytes // 2
        blobs = await delivery.prefix(SMALL.card, HOLDERS[:1], limit)
        assert sum(came) == len(blobs[0]) <= limit
        found = open_value(Knowledge(SMALL.signed, blobs))
        assert 0 < found.dims < whole.dims
        same = prefix(whole, found.dims)
        np.testing.assert_array_equal(found.gram_dd, same.gram_dd)
        np.testing.assert_array_equal(found.sums_dC, same.sums_dC)
        node.hold(SMALL)
        assert await delivery.prefix(SMALL.card, (), limit) == blobs  # from the own store, for nothing
        assert sum(came) == len(blobs[0])
        with pytest.raises(RemoteError, match="first cut"):
            await delivery.prefix(SMALL.card, HOLDERS[:1], 10)

    here.run(me=me, h0=holds(SMALL))


def test_a_slow_holder_is_left_for_a_quick_one() -> None:
    slow = LinkSpec(up_bps=20_000, down_bps=20_000, latency_ns=10 * MS)
    here = Town("me", "h0", "h1", links={"h0": slow})

    async def me(node: Node) -> None:
        _, delivery, blob = await fetched(node, BIG, HOLDERS[:2])
        assert blob == BIG.blobs[0]
        assert delivery.liars == {}

    here.run(me=me, h0=holds(BIG), h1=holds(BIG))
