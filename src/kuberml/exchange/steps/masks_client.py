"""Secure aggregation, the client's half: joins, shares its secrets, masks one update, gives the shares that are asked for.

A client gives, of each other client, the share of its own mask or of the secret behind its pair masks, never both, and once a
session; with more than half as threshold no server, whatever it says to whom, gets both together. See `masks`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from kuberml.core.errors import RemoteError
from kuberml.exchange.node import Node
from kuberml.exchange.steps.mask_letters import LETTER_BYTES, Pair, masks_of, own_shares, read, signed_part, written
from kuberml.exchange.steps.mask_session import DOMAIN, PUBLIC_BYTES, Bytes, Session, begun, published, session_of, threshold_of
from kuberml.knowledge.card import DOMAIN as CARD_DOMAIN
from kuberml.knowledge.kinds.sealed import Sealed
from kuberml.knowledge.signing import check_signature
from kuberml.knowledge.want import Offer
from kuberml.learning.steps.masking import masked
from kuberml.learning.steps.secrets import Words
from kuberml.learning.steps.shamir import SHARE_BYTES

assert DOMAIN != CARD_DOMAIN, "a signature under keys is never one under a card"
MAX_CLIENTS = 4096


def serve(node: Node) -> None:
    """Answer the server's four questions from now on; a RemoteError refuses one of them."""

    async def join(asker: str, call: Offer | None) -> Offer:
        _from_server(node, asker)
        offer = await _asked(node, call, "call")
        before: Session | None = node.memory.get("masks")
        if before is None or before.call != offer.signed.digest:
            number = 0 if before is None else before.number + 1
            before = begun(number, offer.signed.digest, node.secret("masks", number))
            node.memory.update(masks=before)
        if before.opened:
            raise RemoteError("that round is over")
        keys = published(before)
        signature = node.place.keys.sign(b"", signed_part(before.call, keys))
        arrays = {"keys": np.frombuffer(keys, np.uint8), "signature": np.frombuffer(signature, np.uint8)}
        return await _publish(node, "masks-keys", before.number, arrays)

    async def share(asker: str, roster: Offer | None) -> Offer:
        _from_server(node, asker)
        arrays = await _arrays(node, roster)
        assert roster is not None, "arrays came out of it"
        session = session_of(node.memory)
        if session.roster and session.roster != roster.signed.digest:
            raise RemoteError("another list of clients was given before; a new round needs a new call")
        if not session.roster:
            session = _with_roster(session, node.author, roster.signed.digest, arrays)
            node.memory.update(masks=session)
        return await _publish(node, "masks-letters", session.number, {"letters": written(session)})

    async def present(asker: str, said: Offer | None) -> None:
        _from_server(node, asker)
        there = tuple(np.flatnonzero(_row(await _arrays(node, said), "present", len(session_of(node.memory).authors))).tolist())
        session = session_of(node.memory)
        if session.present not in ((), there) or session.place not in there or len(there) < session.threshold:
            raise RemoteError(f"{len(there)} clients are said to be present; {session.threshold} and this one are needed, once")
        node.memory.update(masks=msgspec.structs.replace(session, present=there))

    async def unmask(asker: str, about: Offer | None) -> Offer:
        _from_server(node, asker)
        arrays = await _arrays(node, about)
        assert about is not None, "arrays came out of it"
        session, digest = session_of(node.memory), about.signed.digest
        if session.opened == digest and (before := node.own("masks-shares")) is not None:
            return before
        given = _given(session, arrays)
        over = msgspec.structs.replace(session, opened=digest, pair=b"", own=b"", coins=b"")
        node.memory.update(masks=over)  # first: whoever asks again, with other survivors, gets nothing
        return await _publish(node, "masks-shares", session.number, given)

    node.serve(masks_join=join, masks_share=share, masks_present=present, masks_open=unmask)


async def put_on(node: Node, numbers_V: Words) -> Words:
    """The numbers of this round's update with this session's masks on.

    Raises:
        RemoteError: who is in the round was not agreed on, or an update was masked with them already.
    """
    threshold_of(node.memory)
    session = session_of(node.memory)
    if session.used or session.opened:
        raise RemoteError("the masks of this round are on an update already; on a second they would tell the difference")
    node.memory.update(masks=msgspec.structs.replace(session, used=True))
    on: Words = await node.compute(masked, numbers_V, masks_of(session))
    return on


def _with_roster(session: Session, author: str, digest: str, arrays: Mapping[str, Bytes]) -> Session:
    """The session with everybody's keys, each of which its author has signed for this very call."""
    authors, keys, signatures = (arrays.get(name, np.zeros((0, 0), np.uint8)) for name in ("authors", "keys", "signatures"))
    count = len(authors)
    if authors.shape != (count, 32) or keys.shape != (count, PUBLIC_BYTES) or signatures.shape != (count, 64):
        raise RemoteError(f"a list of clients {authors.shape} with keys {keys.shape} and signatures {signatures.shape}")
    threshold = int(arrays["threshold"][0]) if arrays.get("threshold", np.zeros(0)).shape == (1,) else 0
    if count > MAX_CLIENTS or not count // 2 < threshold <= count:
        raise RemoteError(f"{threshold} of {count} clients must answer; right is over a half, of at most {MAX_CLIENTS}")
    names = tuple(row.tobytes().hex() for row in authors)
    for name, key, signature in zip(names, keys, signatures, strict=True):
        check_signature(name, b"", signed_part(session.call, key.tobytes()), signature.tobytes())
    if len(set(names)) < count or author not in names:
        raise RemoteError("a list of clients with one twice, or without this one")
    place = names.index(author)
    if keys[place].tobytes() != published(session):
        raise RemoteError("a list of clients with other keys of this one than it gave")
    listed = tuple(key.tobytes() for key in keys)
    return msgspec.structs.replace(session, roster=digest, authors=names, keys=listed, place=place, threshold=threshold)


def _given(session: Session, arrays: Mapping[str, Bytes]) -> dict[str, Bytes]:
    """For each client that was present a share: of its own mask if its update came, else of what is behind its pair masks."""
    count = len(session.authors)
    survived = np.flatnonzero(_row(arrays, "survived", count)).tolist()
    letters = arrays.get("letters", np.zeros((0, 0), np.uint8))
    if session.opened or not session.used:
        raise RemoteError("the shares of a round are given once, and after its update")
    if not set(survived) <= set(session.present) or session.place not in survived or len(survived) < session.threshold:
        raise RemoteError(f"{len(survived)} updates are said to have come; {session.threshold} and this one are needed")
    if letters.shape != (count, LETTER_BYTES):
        raise RemoteError(f"letters {letters.shape}, not {(count, LETTER_BYTES)}")
    rows, has = np.zeros((count, SHARE_BYTES), np.uint8), np.zeros(count, np.uint8)
    mine: Pair = own_shares(session)[session.place]
    for one in session.present:
        parts = mine if one == session.place else read(session, one, letters[one].tobytes())
        if parts is not None:
            rows[one], has[one] = np.frombuffer(parts[1 if one in survived else 0], np.uint8), 1
    return {"shares": rows, "has": has}


def _row(arrays: Mapping[str, Bytes], name: str, count: int) -> Bytes:
    found = arrays.get(name)
    if found is None or found.shape != (count,) or count == 0:
        raise RemoteError(f"{name!r} must say something of each of {count} clients")
    return found


def _from_server(node: Node, asker: str) -> None:
    if asker not in node.peers("server"):
        raise RemoteError(f"{asker} is not the server of this round")


async def _asked(node: Node, offer: Offer | None, what: str) -> Offer:
    if offer is None:
        raise RemoteError(f"a {what} is needed, and none was sent")
    return offer


async def _arrays(node: Node, offer: Offer | None) -> Mapping[str, Bytes]:
    content = await node.fetch(await _asked(node, offer, "package"))
    if not isinstance(content, Sealed):
        raise RemoteError(f"a sealed package is needed, and a {type(content).__name__} was sent")
    return content.arrays


async def _publish(node: Node, slot: str, number: int, arrays: dict[str, Bytes]) -> Offer:
    return await node.publish(Sealed(arrays), slot=slot, version=number, listed=False)
