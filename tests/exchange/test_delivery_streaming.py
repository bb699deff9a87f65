"""Reads that are verified while they come: what a cut, a liar or a kill costs, and how many run at once. In virtual time."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId
from kuberml.core.seam import Intake, Reading
from kuberml.exchange.delivery import Delivery
from kuberml.exchange.delivery.plan import NEAR_READS
from kuberml.worlds.simulated.store import SimulatedStore
from tests.exchange.sources import MIB, Way, Ways, card_of, in_virtual_time, noise

BLOB = noise(40 * MIB)
CARD = card_of(BLOB)
CUTS = CARD.blobs[0].cuts
STREAMED = Reading(window_bytes=8 * MIB, parallel=8, timeout_s=10.0, patience_s=20.0)


class Streams(Ways):
    """Hands over slices while they come; cuts the first read after `cut_after`; spoils byte `wrong_at` of the blob once."""

    def __init__(self, *, cut_after: int | None = None, wrong_at: int | None = None, **ways: Way) -> None:
        super().__init__(BLOB, reading=STREAMED, **ways)
        self.cut_after, self.wrong_at = cut_after, wrong_at
        self.came = self.now = self.most = 0

    async def stream(self, holder: NodeId, digest: Digest, start: int, stop: int, intake: Intake, *, timeout_s: float) -> None:
        way = self.ways[holder]
        left = None if way.reads else self.cut_after
        way.reads.append((start, stop))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(way.latency_s)
            while start < stop:
                room = intake.room()
                count = min(len(room), stop - start, len(room) if left is None else left)
                await asyncio.sleep(count / way.bytes_s)
                room[:count] = self._content(start, start + count)
                self.came, start = self.came + count, start + count
                if not intake.came(count):
                    return
                left = None if left is None else left - count
                if left == 0:
                    raise Unreachable("cut off")
        finally:
            self.now -= 1

    def _content(self, start: int, stop: int) -> bytes:
        content = BLOB[start:stop]
        if self.wrong_at is not None and start <= self.wrong_at < stop:
            at, self.wrong_at = self.wrong_at - start, None
            content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        return content


def delivered(ways: Streams, **more: object) -> Delivery:
    store = SimulatedStore()
    delivery = Delivery(ways, store, **more)  # type: ignore[arg-type]
    in_virtual_time(delivery.deliver(CARD, list(ways.ways)))
    assert store.get(CARD.blobs[0].digest) == BLOB
    return delivery


def test_what_came_before_a_cut_is_kept_but_for_a_piece() -> None:
    ways = Streams(a=Way(), cut_after=CUTS[5] + 1000)
    delivered(ways)
    assert ways.came == len(BLOB) + 1000


def test_a_wrong_byte_costs_its_piece_and_the_rest_of_the_read_is_not_asked_for() -> None:
    ways, told = Streams(a=Way(), liar=Way(), wrong_at=CUTS[0] + 5), list[int]()
    delivery = delivered(ways, on_bytes=told.append)
    piece_bytes = CUTS[1] - CUTS[0]
    assert len(delivery.liars) == 1
    assert "piece 1" in next(iter(delivery.liars.values()))
    assert sum(told) <= ways.came <= len(BLOB) + 2 * piece_bytes


@pytest.mark.parametrize(("latency_s", "reads"), [(0.0005, NEAR_READS), (0.05, STREAMED.parallel)])
def test_of_one_source_as_many_at_once_as_the_way_to_it_needs(latency_s: float, reads: int) -> None:
    ways = Streams(only=Way(latency_s=latency_s))
    delivered(ways)
    assert ways.most == reads


def test_far_away_the_way_is_kept_full_to_the_end() -> None:
    """20 MB/s for each read, 50 ms away: eight at once carry 160 MB/s, and the end of it is no row of ever smaller reads."""
    ways = Streams(only=Way(latency_s=0.05, bytes_s=20e6))
    _, took_s = in_virtual_time(Delivery(ways, SimulatedStore()).deliver(CARD, list(ways.ways)))
    assert took_s < 1.8 * len(BLOB) / 160e6


def test_cancelled_on_the_way_it_goes_on_with_all_but_a_piece_of_each_read() -> None:
    ways, store = Streams(only=Way(latency_s=0.05)), SimulatedStore()

    async def main() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05 + 0.9 * len(BLOB) / 8 / 100e6):
                await Delivery(ways, store).deliver(CARD, list(ways.ways))
        before = ways.came
        assert 0.5 * len(BLOB) < before < len(BLOB)
        await Delivery(ways, store).deliver(CARD, list(ways.ways))
        assert ways.came <= len(BLOB) + STREAMED.parallel * (CUTS[1] - CUTS[0])

    in_virtual_time(main())
    assert store.get(CARD.blobs[0].digest) == BLOB


def test_a_refusal_and_nobody_left() -> None:
    class Refusing(Streams):
        async def stream(self, *args: object, **more: object) -> None:
            raise RemoteError("404")

    with pytest.raises(Unreachable, match="a: 404"):
        delivered(Refusing(a=Way()))
