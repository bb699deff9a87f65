"""The roll of a realm: who is a member, with which rights, and whose keys are revoked. Its owner signs it.

A roll has a serial: a higher one replaces a lower one of the same owner, never the other way round (see `policy`). Its digest
is the BLAKE3 of the domain prefix and the canonical unsigned roll; the signature covers the digest.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, NodeId, check_digest, check_node, digest_of
from kuberml.knowledge.signing import Keys, check_signature

DOMAIN = b"kuberml.roll/1\0"

Right = Literal["publish", "find", "fetch", "ask"]
"""What a key may do in a realm."""

RIGHTS: tuple[Right, ...] = get_args(Right)

Policy = Literal["open", "known", "listed"]
"""Who may come in: everybody who is not revoked; who is known to somebody; who is on the roll, with the rights stated there."""

SIZE_MAX_BYTES = 1 << 20
MEMBERS_MAX = 4096
REVOKED_MAX = 4096
MAX_STALE_S = 60
"""Default: how long a node that lost its hub goes on believing a roll."""

STALE_BOUND_S = 30 * 86400
"""The longest `max_stale_s` that a roll may state: a month."""


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key's place on the roll: the node name that belongs to it, what it may do, and who vouched for it (a key, or "")."""

    name: NodeId
    rights: tuple[Right, ...] = RIGHTS
    by: str = ""


class Roll(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The unsigned roll. Keys are Ed25519 public keys, 64 hex characters."""

    realm: str
    owner: str
    serial: int
    issued_at_ms: int
    policy: Policy = "open"
    members: dict[str, Member] = {}
    revoked: tuple[str, ...] = ()
    max_stale_s: int = MAX_STALE_S

    @property
    def digest(self) -> Digest:
        """What the owner signs."""
        return digest_of(DOMAIN + canonical.encode(self))


class SignedRoll(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A roll and its owner's signature over DOMAIN + digest: what travels, and what lies in a hub's folder."""

    roll: Roll
    signature: bytes


def sign_roll(roll: Roll, owner: Keys) -> SignedRoll:
    """What others accept as the owner's word.

    Raises:
        ConfigError: `owner` is not the roll's owner, or the roll breaks a limit.
    """
    if owner.public != roll.owner:
        raise ConfigError(f"the roll of realm {roll.realm!r} belongs to {roll.owner[:12]}..., not to {owner.public[:12]}...")
    signed = SignedRoll(roll, owner.sign(DOMAIN, roll.digest.encode()))
    try:
        return read_roll(canonical.encode(signed))
    except RemoteError as error:
        raise ConfigError(f"not a roll that others would take: {error}") from error


def read_roll(data: bytes) -> SignedRoll:
    """A signed roll from bytes, with every check that needs nothing but the roll: size, form, bounds, its owner's signature.

    Raises:
        RemoteError: one of them fails. Whether `owner` is the realm's real owner is for `policy` to say.
    """
    if len(data) > SIZE_MAX_BYTES:
        raise RemoteError(f"a roll of {len(data)} bytes; at most {SIZE_MAX_BYTES} are read")
    plain: Any = canonical.decode(data)
    try:
        signed = msgspec.convert(plain, SignedRoll, builtin_types=(bytes,))
    except (msgspec.ValidationError, OverflowError) as error:
        raise RemoteError(f"not a roll: {error}") from error
    _check_bounds(signed.roll)
    check_signature(signed.roll.owner, DOMAIN, signed.roll.digest.encode(), signed.signature)
    return signed


def _check_bounds(roll: Roll) -> None:
    check_node(roll.realm)
    if roll.serial < 1 or roll.issued_at_ms < 0:
        raise RemoteError(f"a roll's serial begins at 1 and its time at 0, not {roll.serial} and {roll.issued_at_ms}")
    if not 1 <= roll.max_stale_s <= STALE_BOUND_S:
        raise RemoteError(f"a roll's max_stale_s lies in 1 .. {STALE_BOUND_S}, not {roll.max_stale_s}")
    if len(roll.members) > MEMBERS_MAX or len(roll.revoked) > REVOKED_MAX:
        raise RemoteError(
            f"a roll holds at most {MEMBERS_MAX} members and {REVOKED_MAX} revoked keys, not {len(roll.members)} and"
            f" {len(roll.revoked)}"
        )
    for key in (roll.owner, *roll.members, *roll.revoked):
        check_digest(key)  # a public key has the same form
    names = [check_node(member.name) for member in roll.members.values()]
    if len(set(names)) != len(names):
        raise RemoteError("a roll gives one name to two keys")
    if any(member.by and member.by not in roll.members and member.by not in roll.revoked for member in roll.members.values()):
        raise RemoteError("a roll names a voucher that is not on it")
    if any(len(set(member.rights)) != len(member.rights) for member in roll.members.values()):
        raise RemoteError("a roll states a right twice")
