"""Who says so: golden signatures, and what a wrong one does."""

import msgspec
import pytest

from kuberml.core.errors import RemoteError
from kuberml.knowledge.signing import Keys, check_card, check_signature, sign_card

from .test_card import CARD, KEYS

GOLDEN_PUBLIC = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
GOLDEN_SIGNATURE = (
    "002a5d112a53a52c599ad8db04054ae19b01ed7b7abd00cc6c01930fa1967653"
    "90006744da0f17f1dab88f4061e967e02443902a20fbfedb7a8528eb2ebda80d"
)


def test_key_and_signature_of_a_seed_never_change() -> None:
    assert KEYS.public == GOLDEN_PUBLIC
    assert sign_card(CARD, KEYS).signature.hex() == GOLDEN_SIGNATURE


def test_a_signed_card_is_its_authors() -> None:
    signed = sign_card(CARD, KEYS)
    assert check_card(signed) is signed


def test_another_signer_another_body_or_another_domain_is_refused() -> None:
    signed, other = sign_card(CARD, KEYS), Keys(bytes(32))
    changed = msgspec.structs.replace(signed, card=msgspec.structs.replace(CARD, version=3))
    for bad in (sign_card(CARD, other), changed, msgspec.structs.replace(signed, signature=b"")):
        with pytest.raises(RemoteError, match="the signature is not by"):
            check_card(bad)
    with pytest.raises(RemoteError, match="the signature is not by"):
        check_signature(KEYS.public, b"other domain\0", CARD.digest.encode(), signed.signature)
    with pytest.raises(RemoteError, match="the signature is not by"):
        check_signature("no key", b"", b"", signed.signature)


def test_a_secret_is_not_shown() -> None:
    keys = Keys.generate()
    assert keys.public != Keys.generate().public
    assert repr(keys) == f"Keys(public={keys.public[:12]}...)"
