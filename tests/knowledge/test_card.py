"""The card's identity: golden digests, and bytes that have one form."""

import msgspec
import pytest

from kuberml.core.errors import InternalError, RemoteError
from kuberml.knowledge.card import Card, Claim, Terms, decode_card, encode_card
from kuberml.knowledge.pieces import refer
from kuberml.knowledge.signing import Keys, sign_card

from .packets import BASIS

KEYS = Keys(bytes(range(32)))
CARD = Card(
    kind="statistics",
    task="digits",
    labels={"3": 12, "1": 7},
    basis=BASIS,
    author=KEYS.public,
    slot="shard",
    version=2,
    blobs=(refer(b"columns"),),
    learned_at_ms=1_700_000_000_000,
    claims=(Claim(BASIS, {"3": 910_000}),),
    terms=Terms(licence="CC-BY-4.0", purposes=("research",), expires_at_ms=1_800_000_000_000),
    facts={"dims": 8, "profile": "exact"},
)
GOLDEN_DIGEST = "038e8cc600d0db9b3321eb915e444b0b341cec32359503023234c1ba4f34cda4"
GOLDEN_BYTES = 695


def test_the_digest_of_a_card_never_changes() -> None:
    assert CARD.digest == GOLDEN_DIGEST
    assert len(encode_card(sign_card(CARD, KEYS))) == GOLDEN_BYTES


def test_the_digest_does_not_depend_on_the_order_of_labels_or_on_the_signature() -> None:
    other = msgspec.structs.replace(CARD, labels={"1": 7, "3": 12})
    assert other.digest == CARD.digest
    assert sign_card(CARD, KEYS).digest == CARD.digest


@pytest.mark.parametrize(
    ("field", "value"), [("version", 3), ("labels", {"3": 12}), ("basis", None), ("slot", "other"), ("facts", {}), ("flops", 1)]
)
def test_every_field_is_in_the_digest(field: str, value: object) -> None:
    assert msgspec.structs.replace(CARD, **{field: value}).digest != CARD.digest


def test_a_card_comes_back_from_its_bytes() -> None:
    signed = sign_card(CARD, KEYS)
    assert decode_card(encode_card(signed)) == signed


def test_a_card_holds_no_floats() -> None:
    with pytest.raises(InternalError, match="float"):
        _ = msgspec.structs.replace(CARD, flops=1.5).digest


def test_bytes_that_are_not_a_card_are_refused() -> None:
    data = encode_card(sign_card(CARD, KEYS))
    for bad, message in (
        (data[:-1], "not canonical"),
        (data + b"\0", "not canonical"),
        (b"\x80", "not a card"),
        (msgspec.msgpack.encode({"card": {}, "signature": b""}), "not a card"),
        (msgspec.msgpack.encode({"signature": b"", "card": {}}), "canonical"),
    ):
        with pytest.raises(RemoteError, match=message):
            decode_card(bad)
    with pytest.raises(RemoteError, match="over the limit of 10"):
        decode_card(data, limit_bytes=10)
