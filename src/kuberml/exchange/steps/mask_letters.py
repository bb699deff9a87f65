"""What clients send each other through the server: shares of their two secrets, which only the receiver can read."""

from __future__ import annotations

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from kuberml.exchange.steps.mask_session import DOMAIN, PUBLIC_BYTES, Bytes, Session, letter_seed
from kuberml.learning.steps.masking import Mask, agreed
from kuberml.learning.steps.shamir import SHARE_BYTES, shares

LETTER_BYTES = 2 * SHARE_BYTES + 16
_ONCE = bytes(12)
"""The nonce: each key encrypts one letter."""

Pair = tuple[bytes, bytes]
"""Shares of one client's secrets: behind its masks with others, and of its own mask."""


def own_shares(session: Session) -> list[Pair]:
    """A client's shares for everybody on the roster, in its order."""
    count, threshold = len(session.authors), session.threshold
    pair = shares(session.pair, count, threshold, session.coins + b"pair")
    own = shares(session.own, count, threshold, session.coins + b"own")
    return list(zip(pair, own, strict=True))


def written(session: Session) -> Bytes:
    """A client's letters, uint8 [clients, LETTER_BYTES]; the row to itself is zeros.

    Raises:
        RemoteError: somebody's key is none.
    """
    rows = np.zeros((len(session.authors), LETTER_BYTES), np.uint8)
    for to, parts in enumerate(own_shares(session)):
        if to != session.place:
            cipher = ChaCha20Poly1305(_key(session, to, session.place, to))
            rows[to] = np.frombuffer(cipher.encrypt(_ONCE, b"".join(parts), session.roster.encode()), np.uint8)
    return rows


def read(session: Session, sender: int, letter: bytes) -> Pair | None:
    """The shares in a letter; None: it was damaged, or was not meant for this client.

    Raises:
        RemoteError: the sender's key is none.
    """
    try:
        plain = ChaCha20Poly1305(_key(session, sender, sender, session.place)).decrypt(_ONCE, letter, session.roster.encode())
    except InvalidTag:
        return None
    return plain[:SHARE_BYTES], plain[SHARE_BYTES:]


def masks_of(session: Session) -> list[Mask]:
    """The masks that a client puts on: its own, and one with each other client that is present.

    Raises:
        RemoteError: somebody's key is none.
    """
    me = session.place
    found = [Mask(session.own, True)]
    for other in session.present:
        if other != me:
            found.append(Mask(pair_seed(session.pair, session.keys[other], session.roster), other > me))
    return found


def pair_seed(pair: bytes, keys: bytes, roster: str) -> bytes:
    """The seed of the mask of two clients, from one's secret and the other's public keys.

    Raises:
        RemoteError: these are none.
    """
    return agreed(pair, keys[32:64], b"mask\0" + roster.encode())


def signed_part(call: str, keys: bytes) -> bytes:
    """What a client signs: that these are its keys in this round."""
    assert len(keys) == PUBLIC_BYTES, "made by us, or its length was checked"
    return DOMAIN + call.encode() + keys


def _key(session: Session, other: int, sender: int, receiver: int) -> bytes:
    purpose = f"letter\0{session.roster}\0{sender}\0{receiver}".encode()
    return agreed(letter_seed(session), session.keys[other][:32], purpose)
