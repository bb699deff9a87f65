"""Envelopes: who says what to whom, signed, and good once.

A request names the *epoch* of the node that is to answer it (a random number of its process, on its token of presence), so
that nothing recorded before works after a restart; within an epoch each number of a session counts once. No clock is
involved: one that jumps does no harm. An answer names the digest of its request.
"""

from __future__ import annotations

import secrets
from typing import Any, Literal, TypeVar

import msgspec

from kuberml.core import canonical
from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest, NodeId, check_node, digest_of
from kuberml.knowledge.signing import Keys, check_signature

REQUEST, ANSWER, NEWS = b"kuberml.request/1\0", b"kuberml.answer/1\0", b"kuberml.news/1\0"
LIMIT_BYTES = 5 << 20
"""Of one envelope."""

WINDOW = 1024
"""How far behind the newest number of a session a late one may come."""
SESSIONS = 4096
"""Sessions whose numbers are remembered in one epoch."""

Status = Literal["ok", "refused", "unreachable", "epoch"]
E = TypeVar("E", bound="Request | Answer | News")


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question. As a *ticket* (name "read", number 0) it opens a holder's blobs for one epoch of the holder."""

    sender: NodeId
    key: str
    to: NodeId
    name: str
    realm: str
    epoch: str  # of `to`
    session: bytes  # random, of the sender's process
    number: int
    body: bytes
    signature: bytes = b""


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What came of it. With status "epoch" the body is the epoch that would have been right."""

    request: Digest  # of the unsigned request
    status: Status
    body: bytes
    key: str
    signature: bytes = b""


class News(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An announcement."""

    sender: NodeId
    key: str
    realm: str
    topic: str
    session: bytes
    number: int
    body: bytes
    signature: bytes = b""


_DOMAINS: dict[object, bytes] = {Request: REQUEST, Answer: ANSWER, News: NEWS}


def digest(envelope: Request | Answer | News) -> Digest:
    """Of the unsigned envelope: what is signed."""
    return digest_of(canonical.encode(msgspec.structs.replace(envelope, signature=b"")))


def seal(envelope: E, keys: Keys) -> bytes:
    """The envelope with its signature, as bytes."""
    signature = keys.sign(_DOMAINS[type(envelope)], digest(envelope).encode())
    return canonical.encode(msgspec.structs.replace(envelope, signature=signature))


def opened(data: bytes, sort: type[E]) -> E:
    """An envelope from outside, its form and its signature checked. Whether its key may say this is not looked at here.

    Raises:
        RemoteError: too long, not canonical, not such an envelope, or the signature is not by its key.
    """
    if len(data) > LIMIT_BYTES:
        raise RemoteError(f"an envelope of {len(data)} bytes is over the limit of {LIMIT_BYTES}")
    plain: Any = canonical.decode(data)
    try:
        envelope = msgspec.convert(plain, sort, builtin_types=(bytes,))
    except (msgspec.ValidationError, OverflowError) as error:
        raise RemoteError(f"not a {sort.__name__}: {error}") from error
    if not isinstance(envelope, Answer):
        check_node(envelope.sender)
        if len(envelope.session) != 8 or envelope.number < 0:
            raise RemoteError("a session has 8 bytes, and its numbers count from 0")
    check_signature(envelope.key, _DOMAINS[sort], digest(envelope).encode(), envelope.signature, once=True)
    return envelope


class Voice:
    """One process's side of its envelopes: its session and its numbers."""

    def __init__(self, node: NodeId, keys: Keys, realm: str) -> None:
        self.node, self.realm, self.epoch = node, realm, secrets.token_hex(16)
        self._keys, self._session, self._number = keys, secrets.token_bytes(8), 0

    @property
    def key(self) -> str:
        """The public key it speaks with."""
        return self._keys.public

    def new_epoch(self) -> None:
        """From now on no request is good that was made for the epoch before."""
        self.epoch = secrets.token_hex(16)

    def ask(self, to: NodeId, epoch: str, name: str, body: bytes) -> tuple[bytes, Digest]:
        """A sealed request, and the digest that its answer must name."""
        self._number += 1
        request = Request(self.node, self.key, to, name, self.realm, epoch, self._session, self._number, body)
        return seal(request, self._keys), digest(request)

    def ticket(self, holder: NodeId, epoch: str) -> bytes:
        """What opens a holder's blobs to this node."""
        return seal(Request(self.node, self.key, holder, "read", self.realm, epoch, self._session, 0, b""), self._keys)

    def answer(self, request: Digest, status: Status, body: bytes) -> bytes:
        """A sealed answer."""
        return seal(Answer(request, status, body, self.key), self._keys)

    def news(self, topic: str, body: bytes) -> bytes:
        """A sealed announcement."""
        self._number += 1
        return seal(News(self.node, self.key, self.realm, topic, self._session, self._number, body), self._keys)


class Once:
    """Lets each number of each session through once, for one epoch. Bounded: SESSIONS sessions, WINDOW numbers of each."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, bytes], tuple[int, int]] = {}

    @property
    def is_full(self) -> bool:
        """Whether no further session can be told apart: time for a new epoch, in which nothing said before is good."""
        return len(self._seen) >= SESSIONS

    def clear(self) -> None:
        """A new epoch begins."""
        self._seen.clear()

    def admit(self, key: str, session: bytes, number: int) -> None:
        """Count a number as used.

        Raises:
            RemoteError: it was used before, or is so old that nobody remembers.
        """
        newest, used = self._seen.get((key, session), (0, 0))
        if number > newest:
            newest, used = number, (used << min(number - newest, WINDOW) | 1) & (1 << WINDOW) - 1
        else:
            bit = 1 << (newest - number)
            if newest - number >= WINDOW or used & bit:
                raise RemoteError(f"a replay: number {number} of this session was used before")
            used |= bit
        self._seen[key, session] = newest, used
