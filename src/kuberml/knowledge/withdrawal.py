"""Withdrawals: an author takes back what it published in a slot, up to a version, for good.

Signed, so that a hub, and whoever hears of it from a hub, needs to believe nobody. What others have absorbed already is theirs:
a withdrawal asks them to forget, it cannot make them.
"""

from __future__ import annotations

import msgspec

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, digest_of
from kuberml.knowledge.checks import MAX_NAME_CHARS
from kuberml.knowledge.signing import Keys, check_signature

SCHEMA = "kuberml.withdrawal/1"
DOMAIN = b"kuberml.withdrawal/1\0"


class Withdrawal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What its author takes back."""

    author: str  # public key
    task: str  # of the cards: who subscribes to it is told
    slot: str
    version: int  # this one and all before it
    schema: str = SCHEMA

    @property
    def digest(self) -> Digest:
        """The identity of this statement: BLAKE3 of the domain prefix and the canonical body."""
        return digest_of(DOMAIN + canonical.encode(self))


class SignedWithdrawal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A withdrawal and its author's Ed25519 signature over DOMAIN + digest."""

    withdrawal: Withdrawal
    signature: bytes


def sign_withdrawal(withdrawal: Withdrawal, keys: Keys) -> SignedWithdrawal:
    """The withdrawal with its author's signature.

    Raises:
        ConfigError: it cannot be, or `keys` are not the author's.
    """
    if withdrawal.author != keys.public:
        raise ConfigError(f"the author is {withdrawal.author:.12}..., the keys are of {keys.public[:12]}...")
    if wrong := _wrong(withdrawal):
        raise ConfigError(f"this withdrawal cannot be: {wrong}")
    return SignedWithdrawal(withdrawal, keys.sign(DOMAIN, withdrawal.digest.encode()))


def check_withdrawal(signed: SignedWithdrawal) -> SignedWithdrawal:
    """`signed`, if it can be and its signature is its author's.

    Raises:
        RemoteError: it is not.
    """
    if wrong := _wrong(signed.withdrawal):
        raise RemoteError(f"this withdrawal cannot be: {wrong}")
    check_signature(signed.withdrawal.author, DOMAIN, signed.withdrawal.digest.encode(), signed.signature)
    return signed


def _wrong(withdrawal: Withdrawal) -> str:
    if withdrawal.schema != SCHEMA:
        return f"schema {withdrawal.schema!r:.40}; known here: {SCHEMA}"
    for name in (withdrawal.task, withdrawal.slot):
        if not 0 < len(name) <= MAX_NAME_CHARS:
            return f"task and slot have 1 to {MAX_NAME_CHARS} characters, not {name!r:.40}"
    return "" if 0 <= withdrawal.version < 2**63 else f"version {withdrawal.version} is outside 0 to 2^63 - 1"
