"""What nodes and hubs say to each other: small canonical messages. Everything that arrives is checked while it is read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

import msgspec
import zstandard

from kuberml.core import canonical
from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest, NodeId
from kuberml.core.recent import Recent
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.verdict import SignedVerdict
from kuberml.knowledge.want import Offer, Want
from kuberml.knowledge.withdrawal import SignedWithdrawal


class Announcement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody holds this: a node to its hub, and the hub to whoever subscribes."""

    signed: SignedCard
    holder: NodeId
    keep: int = 1


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A want, put to a hub. `since`: only what came to the hub after that; 0: everything, and the answer says where to go on.

    It counts what came to the hub, not time: clocks differ, jump, and what was learned long ago may be announced today.
    """

    want: Want
    since: int | None = None


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cards whose digest begins with some characters."""

    start: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{4,64}$")]


class Offers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A hub's answer, best first. `upto`, for who asked with `since`: what to ask with next."""

    offers: tuple[Offer, ...]
    upto: int = 0


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One node to another: "do this with that knowledge" or "your newest in this slot"."""

    signed: SignedCard | None = None
    slot: str = ""
    at_least: int = 0  # wait for this version


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer to a Request: knowledge that the answerer holds, or nothing."""

    signed: SignedCard | None = None


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which verdicts a node wants to read: those on these cards that came in from a time on."""

    cards: tuple[Digest, ...]
    since_ms: int = 0


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Verdicts, as a hub keeps them; ask next time from `as_of_ms`, the hub's clock."""

    verdicts: tuple[SignedVerdict, ...]
    as_of_ms: int


class Since(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which withdrawals a node wants to hear: those of a task that were said after a number of an era; 0: all."""

    task: str
    era: str = ""
    number: int = 0


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Withdrawals, as a hub remembers them, a page; ask next with `era` and `number`. None: there is nothing more now."""

    era: str
    number: int
    words: tuple[SignedWithdrawal, ...] = ()


M = TypeVar("M")
S = TypeVar("S", bound=msgspec.Struct)
PLAIN, PACKED = b"\0", b"\1"
COMPRESS_FROM_BYTES = 512
LIMIT_BYTES = 4 << 20
ROOM_BYTES = 3 << 20
"""What an answer lists at most: below what a reader accepts, with room for the rest of the message."""
OFFERED = 512
"""Offers in one answer of a hub, at most. Who asks for so many, with `since`, wants everything: nothing is passed over."""
RECENT_BYTES, OBJECT_FACTOR = 8 << 20, 8
"""Messages that were read last, and how much more memory one takes than its bytes."""

_recent: Recent[tuple[Any, int]] = Recent(RECENT_BYTES, lambda kept: kept[1])


def with_room(listed: Iterable[S], room_bytes: int = ROOM_BYTES) -> list[S]:
    """Those that go into one answer, in their order; where a large one finds no room, smaller ones after it may."""
    found = []
    for one in listed:
        size_bytes = len(canonical.encode(one))
        if size_bytes <= room_bytes:
            room_bytes -= size_bytes
            found.append(one)
    return found


def write(message: msgspec.Struct) -> bytes:
    """Canonical bytes of a message, compressed where that helps: keys and digests repeat in answers."""
    plain = canonical.encode(message)
    packed = zstandard.compress(plain, 10) if len(plain) > COMPRESS_FROM_BYTES else plain
    return PLAIN + plain if len(packed) >= len(plain) else PACKED + packed


def read(data: bytes, sort: type[M]) -> M:
    """The message in `data`.

    The same bytes are read once by the nodes of a process (a cohort is asked with one request): a message does not change.

    Raises:
        RemoteError: not canonical, or not a message of that sort.
    """
    message: M = _recent.get((sort, data), lambda: _read(data, sort))[0]
    return message


def _read(data: bytes, sort: type[M]) -> tuple[M, int]:
    """The message, and about how many bytes of memory it takes: packed, a few may hold a thousand times as many."""
    unpacked = _unpacked(data)
    plain: Any = canonical.decode(unpacked)
    try:
        return msgspec.convert(plain, sort, builtin_types=(bytes,)), len(data) + OBJECT_FACTOR * len(unpacked)
    except (msgspec.ValidationError, OverflowError) as error:
        raise RemoteError(f"not a {sort.__name__}: {error}") from error


def _unpacked(data: bytes) -> bytes:
    if data[:1] == PLAIN and len(data) <= LIMIT_BYTES:
        return data[1:]
    if data[:1] != PACKED:
        raise RemoteError(f"not a message: it begins with {data[:1]!r} and has {len(data)} bytes")
    try:
        size = zstandard.frame_content_size(data[1:])
        if not 0 <= size <= LIMIT_BYTES:
            raise RemoteError(f"a message of {size} bytes; at most {LIMIT_BYTES} are read")
        return zstandard.ZstdDecompressor().decompress(data[1:], max_output_size=LIMIT_BYTES, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise RemoteError(f"a damaged message: {error}") from error
