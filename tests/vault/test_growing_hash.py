"""A whole that comes in any order, from several threads, has the hash that it has in one piece."""

import threading
from random import Random

import pytest
from blake3 import blake3

from kuberml.core.rng import rng
from kuberml.vault.growing_hash import GrowingHash

WHOLE = rng(0, "growing hash").bytes(1_000_003)
PART_BYTES = 7_919
STARTS = list(range(0, len(WHOLE), PART_BYTES))


class Disk:
    """What is there, and how much of it had to be read again."""

    def __init__(self) -> None:
        self.content, self.read_bytes = bytearray(len(WHOLE)), 0
        self.hash = GrowingHash(self.read)

    def read(self, start: int, stop: int) -> bytes:
        self.read_bytes += stop - start
        return bytes(self.content[start:stop])

    def put(self, start: int) -> None:
        self.write(start, WHOLE[start : start + PART_BYTES])

    def write(self, start: int, part: bytes) -> None:
        self.content[start : start + len(part)] = part
        self.hash.add(start, part)

    @property
    def is_right(self) -> bool:
        return self.hash.hexdigest(len(WHOLE)) == blake3(WHOLE).hexdigest()


def test_in_order_nothing_is_read_again() -> None:
    disk = Disk()
    for start in STARTS:
        disk.put(start)
    assert disk.is_right
    assert disk.read_bytes == 0


@pytest.mark.parametrize("seed", range(5))
def test_in_any_order_from_several_threads(seed: int) -> None:
    disk, starts = Disk(), STARTS.copy()
    Random(seed).shuffle(starts)
    threads = [threading.Thread(target=lambda n=n: [disk.put(start) for start in starts[n::4]]) for n in range(4)]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert disk.is_right
    assert disk.read_bytes < len(WHOLE)


def test_what_is_written_anew_counts_as_it_is_now() -> None:
    disk = Disk()
    for start in STARTS:
        disk.write(start, bytes(len(WHOLE[start : start + PART_BYTES])))
    assert not disk.is_right
    for start in STARTS:
        disk.put(start)
    assert disk.is_right


def test_what_never_came_is_no_hash() -> None:
    disk = Disk()
    disk.hash = GrowingHash(lambda start, stop: WHOLE[: 2 * PART_BYTES][start:stop])
    disk.put(0)
    with pytest.raises(OSError, match=f"ends at {2 * PART_BYTES} bytes, not at {len(WHOLE)}"):
        disk.hash.hexdigest(len(WHOLE))
