import msgspec
import numpy as np
import pytest

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import digest_of
from kuberml.knowledge.card import PPM, Claim, SignedCard
from kuberml.knowledge.fraud import (
    TOLERANCE_PPM,
    FraudProof,
    SignedFraudProof,
    accuse,
    check_fraud,
    false_labels,
    recall_of,
)
from kuberml.knowledge.kind import Packed
from kuberml.knowledge.kinds.probe import probe_from, probe_of
from kuberml.knowledge.signing import Keys, sign_card

from .wire import card_of

AUTHOR, ACCUSER = Keys(b"a" * 32), Keys(b"c" * 32)
PROBE = probe_from(np.zeros((200, 4)), ["3"] * 100 + ["7"] * 100, levels=16)
OTHER_PROBE = probe_from(np.ones((200, 4)), ["3"] * 100 + ["7"] * 100, levels=16)
CLAIMED = {"3": 950_000, "7": 900_000}
TRUE = {"3": 940_000, "7": 100_000}


def signed_card(recall_ppm=None, keys=AUTHOR):
    claim = Claim(probe_of(PROBE), CLAIMED if recall_ppm is None else recall_ppm)
    card = card_of("weights", Packed((b"blob",), {"3": 50, "7": 50}))
    return sign_card(msgspec.structs.replace(card, author=keys.public, claims=(claim,)), keys)


def proof(**change):
    made = msgspec.structs.replace(accuse(signed_card(), PROBE, TRUE, keys=ACCUSER, at_ms=77).proof, **change)
    return SignedFraudProof(made, ACCUSER.sign(b"kuberml.fraud/1\0", made.digest.encode()))


def run(recall_ppm=TRUE):
    return lambda card, probe: recall_ppm


def never(card, probe):
    raise AssertionError("an accusation that fails a cheap check is not run")


def refused(signed, probe=PROBE, running=never, match=None):
    with pytest.raises(RemoteError, match=match):
        check_fraud(signed, probe, running)


def test_golden_digest_and_signature():
    signed = proof()
    assert signed.proof.digest == "2b1224b97c485d1d4b00024b7c69750c3e838fa84969208b11df849a25c0bc74"
    assert signed.signature.hex() == (
        "433528216c1da7744cc118cb44162e1e8cc90f795113cd1bc9aa4785f0b8f1d2"
        "bbb04ebd90b9bbf65062bae56b6ee5b224c3db40242f1798a69b0c0470b88104"
    )


def test_anybody_can_check_a_proof_after_the_wire():
    plain = canonical.decode(canonical.encode(proof()))
    signed = msgspec.convert(plain, SignedFraudProof, builtin_types=(bytes,))
    assert check_fraud(signed, PROBE, run()) == ("7",)


def test_run_gets_the_accused_card_and_the_probe():
    seen = []
    check_fraud(proof(), PROBE, lambda card, probe: seen.append((card, probe)) or TRUE)
    assert seen == [(signed_card().card, PROBE)]


def test_an_honest_claim_cannot_be_accused():
    with pytest.raises(ConfigError, match="nothing to accuse"):
        accuse(signed_card(), PROBE, {"3": 930_000, "7": 880_000}, keys=ACCUSER, at_ms=0)
    with pytest.raises(ConfigError, match="claims nothing"):
        accuse(signed_card(), OTHER_PROBE, TRUE, keys=ACCUSER, at_ms=0)
    with pytest.raises(RemoteError, match="signature"):
        accuse(SignedCard(signed_card().card, bytes(64)), PROBE, TRUE, keys=ACCUSER, at_ms=0)


def test_claiming_less_than_is_true_is_no_fraud():
    claim = Claim(probe_of(PROBE), {"3": 0})
    assert false_labels(claim, {"3": PPM}, PROBE) == ()


def test_the_tolerance_is_the_border():
    claim = Claim(probe_of(PROBE), {"3": 900_000})
    assert false_labels(claim, {"3": 900_000 - TOLERANCE_PPM}, PROBE) == ()
    assert false_labels(claim, {"3": 900_000 - TOLERANCE_PPM - 1}, PROBE) == ("3",)


def test_one_sample_on_the_border_is_no_fraud():
    few = probe_from(np.zeros((8, 4)), ["3"] * 8)
    claim = Claim(probe_of(few), recall_of({"3": 7}, {"3": 8}))
    assert false_labels(claim, recall_of({"3": 6}, {"3": 8}), few) == ()
    assert false_labels(claim, recall_of({"3": 5}, {"3": 8}), few) == ("3",)


def test_a_label_that_the_probe_does_not_have_cannot_be_claimed_on_it():
    assert false_labels(Claim(probe_of(PROBE), {"9": 500_000}), {"3": PPM}, PROBE) == ("9",)
    assert false_labels(Claim(probe_of(PROBE), {"9": 500_000}), {"9": 500_000}, PROBE) == ("9",)


def test_of_several_claims_on_one_probe_the_highest_counts():
    card = signed_card().card
    low = Claim(probe_of(PROBE), {"7": 0})
    twice = sign_card(msgspec.structs.replace(card, claims=(low, *card.claims)), AUTHOR)
    assert check_fraud(accuse(twice, PROBE, TRUE, keys=ACCUSER, at_ms=0), PROBE, run()) == ("7",)


def test_every_field_is_signed():
    signed = proof()
    changes = {
        "accused": signed_card({"7": PPM}),
        "probe": digest_of(b"x"),
        "recall_ppm": {"3": 0, "7": 0},
        "accuser": AUTHOR.public,
        "at_ms": 78,
    }
    assert set(changes) == set(FraudProof.__struct_fields__) - {"schema"}
    for name, change in changes.items():
        refused(SignedFraudProof(msgspec.structs.replace(signed.proof, **{name: change}), signed.signature), match="signature")


def test_what_is_not_a_proof():
    refused(proof(accused=SignedCard(signed_card().card, bytes(64))), match="signature is not by")
    refused(proof(accused=signed_card({"3": 950_000})), match="itself is within")
    refused(proof(recall_ppm=CLAIMED), match="itself is within")
    refused(proof(recall_ppm={"3": 940_000, "7": -1}), match="outside 0")
    refused(proof(probe=probe_of(OTHER_PROBE)), OTHER_PROBE, match="claims nothing")
    refused(proof(), OTHER_PROBE, match="another probe")
    refused(proof(schema="kuberml.fraud/2"), match="known here")
    refused(proof(accuser="me"), match="not a digest")


def test_a_run_that_clears_the_author():
    refused(proof(), running=run(CLAIMED), match="the claim holds")


def test_an_accuser_that_exaggerates():
    refused(proof(recall_ppm={"3": 940_000, "7": 0}), running=run(), match="7 came out otherwise")
    refused(proof(recall_ppm={"7": 100_000}), running=run(), match="3 came out otherwise")


def test_recall_is_rounded_down_and_skips_labels_without_samples():
    assert recall_of({"a": 2, "b": 1}, {"b": 1, "a": 3, "c": 0, "d": 4}) == {"a": 666_666, "b": PPM, "d": 0}
