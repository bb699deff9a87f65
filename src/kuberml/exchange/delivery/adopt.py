"""What of a blob is here already: what an earlier try has left, and pieces that other blobs have too. All of it is verified."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from blake3 import blake3

from kuberml.core.ids import Digest
from kuberml.core.seam import Part, Store
from kuberml.exchange.delivery.plan import Plan
from kuberml.knowledge.pieces import SHARED_MIN_BYTES, hash_of, span

BATCH_BYTES = 8 << 20
"""Looked through in one go, beside the loop."""


async def resume(plan: Plan, part: Part) -> None:
    """Find the pieces that are in a part. Raises OSError."""
    if not part.is_new:
        await _batched(plan, part, range(plan.count), lambda index: part.has(*span(plan.ref, index), hash_of(plan.ref, index)))


async def borrow(plan: Plan, part: Part, store: Store) -> None:
    """Copy the missing pieces that blobs of the store have. Raises OSError: the part's disk is full or broken."""
    if plan.ref.size_bytes <= SHARED_MIN_BYTES:
        return
    missing = [index for index in range(plan.count) if not plan.here[index]]
    places = store.find_pieces([hash_of(plan.ref, index) for index in missing])

    def copy(index: int) -> bool:
        content = _read(store, places[hash_of(plan.ref, index)], *span(plan.ref, index))
        if content is None or blake3(content).digest() != hash_of(plan.ref, index):
            return False
        part.write(span(plan.ref, index)[0], content)
        return True

    await _batched(plan, part, [index for index in missing if hash_of(plan.ref, index) in places], copy)


def _read(store: Store, place: tuple[Digest, int], start: int, stop: int) -> bytes | None:
    blob, at = place
    try:
        return store.read(blob, at, at + stop - start)
    except (KeyError, ValueError, OSError):  # gone, shorter, or unreadable: others have it
        return None


async def _batched(plan: Plan, part: Part, indices: Iterable[int], is_here: Callable[[int], bool]) -> None:
    for batch in _batches(plan, indices):
        found = await part.beside(lambda batch=batch: [index for index in batch if is_here(index)])  # type: ignore[misc]
        for index in found:
            plan.has(index)


def _batches(plan: Plan, indices: Iterable[int]) -> Iterator[list[int]]:
    batch: list[int] = []
    size_bytes = 0
    for index in indices:
        start, stop = span(plan.ref, index)
        batch.append(index)
        size_bytes += stop - start
        if size_bytes >= BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch
