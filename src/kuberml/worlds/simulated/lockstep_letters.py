"""Letters: what nodes send each other under schedule = "lockstep", the same bytes in every world that keeps steps."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId

Sort = Literal["ask", "read", "answer", "blob", "refusal", "news"]


class Letter(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One message.

    Attributes:
        sender: who sent it.
        number: of the sender's letters, from 1. Sender and number are its name, and its place in an inbox.
        sort: what it is.
        call: the asker's number of the question that this is, or that this answers; 0: news.
        name: of what is asked for, the topic of news, the digest of a blob.
        start, stop: of the range that is read.
        body: what it says.
    """

    sender: NodeId
    number: int
    sort: Sort
    call: int
    name: str = ""
    start: int = 0
    stop: int = 0
    body: bytes = b""


class Post(Protocol):
    """Brings letters at the beginning of the next step."""

    def send(self, sender: NodeId, number: int, to: NodeId | None, letter: bytes) -> None:
        """Take a letter; `to` None: to everybody else."""
        ...


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Letter).decode


def write(letter: Letter) -> bytes:
    """The bytes of a letter."""
    return _encode(letter)


def read(data: bytes) -> Letter:
    """The letter in these bytes. Raises RemoteError: there is none."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteError(f"not a letter: {error}") from error
