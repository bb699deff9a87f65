"""Ed25519 keys and signatures. A secret key never leaves its `Keys` object except into its own file."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kuberml.core.errors import RemoteError
from kuberml.core.recent import Recent
from kuberml.knowledge.card import DOMAIN, Card, SignedCard


class Keys:
    """An author's key pair."""

    def __init__(self, seed: bytes) -> None:
        """`seed`: the 32 secret bytes. Use `Keys.generate()` for a new pair."""
        self._secret = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._secret.public_key().public_bytes_raw().hex()

    @classmethod
    def generate(cls) -> Keys:
        """A new random pair from the operating system's generator."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    def sign(self, domain: bytes, message: bytes) -> bytes:
        """64-byte signature of a domain prefix and a message."""
        signature = self._secret.sign(domain + message)
        _verified.get((self.public, domain, message, signature), lambda: True)  # whoever checks it in this process knows it
        return signature

    def __repr__(self) -> str:
        return f"Keys(public={self.public[:12]}...)"


def sign_card(card: Card, keys: Keys) -> SignedCard:
    """The card with its author's signature."""
    return SignedCard(card, keys.sign(DOMAIN, card.digest.encode()))


def check_card(signed: SignedCard) -> SignedCard:
    """`signed`, if its signature is its author's.

    Raises:
        RemoteError: it is not.
    """
    check_signature(signed.card.author, DOMAIN, signed.digest.encode(), signed.signature)
    return signed


def check_signature(author: str, domain: bytes, message: bytes, signature: bytes, *, once: bool = False) -> None:
    """Check a signature made by `Keys.sign`. `once`: it will not come again, so it is not worth remembering.

    Raises:
        RemoteError: `author` is not a public key, or the signature is not its.
    """

    def check() -> bool:
        return _is_right(author, domain, message, signature)

    if not (check() if once else _verified.get((author, domain, message, signature), check)):
        raise RemoteError(f"the signature is not by {author[:12]}...")


_verified: Recent[bool] = Recent(65536, lambda _: 1)
"""By (author, domain, message, signature), of which it is a pure function: many receivers of one card in one process check it
once, and what was signed here need not be checked here."""


def _is_right(author: str, domain: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(author)).verify(signature, domain + message)
    except (InvalidSignature, ValueError):
        return False
    return True
