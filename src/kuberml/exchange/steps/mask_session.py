"""What a client remembers of secure aggregation, from the first message of a round to its last. See `masks`."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest
from kuberml.core.values import value
from kuberml.exchange.memory import Memory
from kuberml.learning.steps.masking import public_key
from kuberml.learning.steps.secrets import derived
from kuberml.learning.steps.shamir import SECRET_BYTES

Bytes = npt.NDArray[np.uint8]
DOMAIN = b"kuberml.masks/1\0"
PUBLIC_BYTES = 96
"""Public keys for letters and for masks, and a commitment to the own mask."""


@value
class Session(msgspec.Struct, frozen=True):
    """One client's part in one round. Each is drawn new, and its masks are put on one update only.

    Attributes:
        number: the client's own count of them.
        call: digest of the call that it answers.
        pair, own, coins: secrets: behind the masks with each other client, the own mask, the shares of both; b"" at the end.
        roster: digest of the list of everybody; "" before it came.
        authors, keys: of everybody, in the order of the roster: keys of signatures, and PUBLIC_BYTES each.
        place: where this client stands in it.
        threshold: how many must answer to the end.
        present: who is still there after the shares; () before that is known.
        used: an update has been masked. opened: digest of the request that was answered; "" before.
    """

    number: int
    call: Digest
    pair: bytes
    own: bytes
    coins: bytes
    roster: str = ""
    authors: tuple[str, ...] = ()
    keys: tuple[bytes, ...] = ()
    place: int = -1
    threshold: int = 0
    present: tuple[int, ...] = ()
    used: bool = False
    opened: str = ""

    def __repr__(self) -> str:
        return f"Session({self.number}, {len(self.authors)} clients)"


def begun(number: int, call: Digest, secret: bytes) -> Session:
    """A new session, all from one secret of 32 bytes or more."""
    pair, own = (derived(secret, purpose, SECRET_BYTES) for purpose in (b"pair", b"own"))
    return Session(number, call, pair, own, derived(secret, b"coins"))


def letter_seed(session: Session) -> bytes:
    """Behind the key that letters to this client are encrypted with; nobody else ever gets it."""
    return derived(session.coins, b"letters", SECRET_BYTES)


def commitment(own: bytes) -> bytes:
    """What a client says of its own mask before; it cannot be told another afterwards."""
    return derived(own, b"commitment")


def published(session: Session) -> bytes:
    """What everybody may know: PUBLIC_BYTES."""
    return public_key(letter_seed(session)) + public_key(session.pair) + commitment(session.own)


def session_of(memory: Memory) -> Session:
    """The session that a client is in.

    Raises:
        RemoteError: there is none.
    """
    found: Session | None = memory.get("masks")
    if found is None:
        raise RemoteError("no masks were agreed on")
    return found


def threshold_of(memory: Memory) -> int:
    """How many clients must answer to the end. Raises RemoteError: nothing was agreed on yet."""
    session = session_of(memory)
    if not session.present:
        raise RemoteError("who is in the round was not agreed on")
    return session.threshold
