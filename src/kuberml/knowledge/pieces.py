"""Pieces: where a blob is cut so that its bytes can be verified while they stream, and the checks of pieces and blobs."""

from __future__ import annotations

from collections.abc import Iterator

from blake3 import blake3

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, digest_of
from kuberml.knowledge.card import BlobRef, Card

PIECES_MAX = 256
"""Of a blob that is cut by size, up to PIECE_MAX_BYTES each: one is less than 1 % of it. A piece costs 37 bytes of the card."""

PIECE_MIN_BYTES = 16 * 1024
"""Smaller pieces would cost more in the card than they save when one is wrong."""

PIECE_MAX_BYTES = 8 * 2**20
"""Of pieces that are made here: a receiver holds some of them in memory."""

PIECE_LIMIT_BYTES = 16 * 2**20
"""Of pieces that are received: what others make."""

SHARED_MIN_BYTES = 64 * 1024
"""In smaller blobs nobody looks for pieces of other blobs: they come in one read anyway."""

HASH_BYTES = 32


def cut_by_size(size_bytes: int) -> tuple[int, ...]:
    """Ends of equal pieces: the smallest power of two, PIECE_MIN_BYTES to PIECE_MAX_BYTES, that needs at most PIECES_MAX.

    Above 2 GiB there are more of them, because they do not get larger.
    """
    piece_bytes = PIECE_MIN_BYTES
    while piece_bytes * PIECES_MAX < size_bytes and piece_bytes < PIECE_MAX_BYTES:
        piece_bytes *= 2
    return (*range(piece_bytes, size_bytes, piece_bytes), size_bytes)


def refer(blob: bytes, cuts: tuple[int, ...] = ()) -> BlobRef:
    """The reference of a blob.

    Args:
        blob: one byte or more.
        cuts: ends of the pieces, rising, the last one len(blob); () cuts by size.

    Raises:
        ConfigError: the blob is empty, or the cuts are not such ends.
    """
    if not blob:
        raise ConfigError("a blob has at least one byte")
    ends = cuts or cut_by_size(len(blob))
    if not _rising(ends, len(blob)):
        raise ConfigError(f"cuts must rise from above 0 to the blob's {len(blob)} bytes, not {ends!r:.80}")
    view = memoryview(blob)
    hashes = b"".join(blake3(view[start:stop]).digest() for start, stop in zip((0, *ends), ends, strict=False))
    return BlobRef(digest_of(blob), len(blob), ends, hashes)


def span(ref: BlobRef, index: int) -> tuple[int, int]:
    """Where piece `index` begins and ends."""
    return (ref.cuts[index - 1] if index else 0), ref.cuts[index]


def hash_of(ref: BlobRef, index: int) -> bytes:
    """The 32-byte BLAKE3 that its author signed for a piece."""
    return ref.pieces[HASH_BYTES * index : HASH_BYTES * (index + 1)]


def shared_pieces(card: Card) -> Iterator[tuple[bytes, Digest, int]]:
    """The pieces of a card that other blobs may have too: (hash, blob, start)."""
    for ref in card.blobs:
        if ref.size_bytes > SHARED_MIN_BYTES and len(ref.pieces) == HASH_BYTES * len(ref.cuts):
            yield from ((hash_of(ref, index), ref.digest, span(ref, index)[0]) for index in range(len(ref.cuts)))


def check_ref(ref: BlobRef) -> None:
    """Check that a reference can be one: cuts that rise to its size, one hash for each piece.

    Raises:
        RemoteError: it cannot.
    """
    if not ref.cuts or not _rising(ref.cuts, ref.size_bytes):
        raise RemoteError(f"a blob's cuts must rise from above 0 to its {ref.size_bytes} bytes")
    if len(ref.pieces) != HASH_BYTES * len(ref.cuts):
        raise RemoteError(
            f"a blob with {len(ref.cuts)} pieces has {len(ref.pieces)} bytes of hashes, not {HASH_BYTES} for each"
        )
    largest = max(stop - start for start, stop in zip((0, *ref.cuts), ref.cuts, strict=False))
    if largest > PIECE_LIMIT_BYTES:
        raise RemoteError(f"a blob with a piece of {largest} bytes is over the limit of {PIECE_LIMIT_BYTES}")


def check_piece(ref: BlobRef, index: int, piece: bytes | memoryview) -> None:
    """Check the bytes cuts[index-1] .. cuts[index] of a blob.

    Raises:
        RemoteError: there is no such piece, or these are not its bytes.
    """
    if not 0 <= index < len(ref.cuts):
        raise RemoteError(f"blob {ref.digest[:12]} has pieces 0 to {len(ref.cuts) - 1}, not {index}")
    start, stop = span(ref, index)
    if len(piece) != stop - start:
        raise RemoteError(f"piece {index} of blob {ref.digest[:12]} has {len(piece)} bytes, not {stop - start}")
    check_digest_of_piece(ref, index, blake3(piece).digest())


def check_digest_of_piece(ref: BlobRef, index: int, digest: bytes) -> None:
    """Check the 32-byte BLAKE3 of what came as piece `index`, where it was hashed while it came.

    Raises:
        RemoteError: these are not its bytes.
    """
    if digest != hash_of(ref, index):
        raise RemoteError(f"piece {index} of blob {ref.digest[:12]} is not what its author signed")


def check_blob(ref: BlobRef, blob: bytes, *, prefix: bool = False) -> None:
    """Check a blob, or with `prefix` also one that ends at an earlier cut: all its pieces, and the whole if it is whole.

    Raises:
        RemoteError: it has another size, or other bytes than its author signed.
    """
    whole = len(blob) == ref.size_bytes
    if not whole and not (prefix and len(blob) in ref.cuts):
        ends = " or one of its cuts" if prefix else ""
        raise RemoteError(f"blob {ref.digest[:12]} has {len(blob)} bytes, not {ref.size_bytes}{ends}")
    view, start = memoryview(blob), 0
    for index, stop in enumerate(ref.cuts[: ref.cuts.index(len(blob)) + 1]):
        check_piece(ref, index, view[start:stop])
        start = stop
    if whole and digest_of(blob) != ref.digest:
        raise RemoteError(f"blob {ref.digest[:12]} has another digest")


def _rising(ends: tuple[int, ...], size_bytes: int) -> bool:
    return ends[-1] == size_bytes and all(before < after for before, after in zip((0, *ends), ends, strict=False))
