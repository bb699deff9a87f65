"""What nodes and hubs say to each other: small canonical messages. Everything that arrives is checked while it is read."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from kuberml.core import canonical
from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest, NodeId
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.verdict import SignedVerdict
from kuberml.knowledge.want import Offer, Want


class Announcement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody holds this: a node to its hub, and the hub to whoever subscribes."""

    signed: SignedCard
    holder: NodeId
    keep: int = 1


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A want, put to a hub."""

    want: Want


class Offers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hub's answer, best first."""

    offers: tuple[Offer, ...]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One node to another: "do this with that knowledge" or "your newest in this slot"."""

    signed: SignedCard | None = None
    slot: str = ""
    at_least: int = 0  # wait for this version


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer to a Request: knowledge that the answerer holds, or nothing."""

    signed: SignedCard | None = None


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which verdicts a node wants to read: those on these cards."""

    cards: tuple[Digest, ...]


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Verdicts, as a hub keeps them."""

    verdicts: tuple[SignedVerdict, ...]


M = TypeVar("M")


def write(message: msgspec.Struct) -> bytes:
    """Canonical bytes of a message."""
    return canonical.encode(message)


def read(data: bytes, sort: type[M]) -> M:
    """The message in `data`.

    Raises:
        RemoteError: not canonical, or not a message of that sort.
    """
    plain: Any = canonical.decode(data)
    try:
        return msgspec.convert(plain, sort, builtin_types=(bytes,))
    except (msgspec.ValidationError, OverflowError) as error:
        raise RemoteError(f"not a {sort.__name__}: {error}") from error
