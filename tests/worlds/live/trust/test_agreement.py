"""Agreements: golden bytes, both signatures, what passes and what does not."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.knowledge.card import Terms
from kuberml.worlds.live.trust.agreement import Agreement, Party, Rule, SignedAgreement, read_agreement, signed_by
from tests.knowledge.test_card import CARD as WITH_TERMS

from .test_roll import ANNA, BORIS, OWNER

CARD = msgspec.structs.replace(WITH_TERMS, terms=Terms())
FIRST = Party("ward-7", OWNER.public, "a" * 64, "ward.example:7447")
SECOND = Party("ward-7", ANNA.public, "b" * 64)
RULE = Rule("first", tasks=(CARD.task,), kinds=(CARD.kind,))
AGREEMENT = Agreement(FIRST, SECOND, (RULE,), 1_790_000_000_000, 1_800_000_000_000)
NOW_MS = 1_795_000_000_000
GOLDEN_DIGEST = "bf0d0dc78f822f01773f2ae5c910db28a6c4024864edd517be77560ef714b3a3"


def complete() -> SignedAgreement:
    return signed_by(signed_by(SignedAgreement(AGREEMENT), OWNER), ANNA)


def test_the_digest_of_an_agreement_never_changes() -> None:
    assert AGREEMENT.digest == GOLDEN_DIGEST


def test_it_holds_once_both_have_signed() -> None:
    half = signed_by(SignedAgreement(AGREEMENT), OWNER)
    assert not half.is_complete
    assert complete().is_complete
    assert read_agreement(canonical.encode(complete())) == complete()
    with pytest.raises(ConfigError, match="the agreement is between"):
        signed_by(half, BORIS)


def test_a_signature_is_its_partys_and_of_these_words() -> None:
    signed = complete()
    other = msgspec.structs.replace(AGREEMENT, expires_at_ms=AGREEMENT.expires_at_ms + 1)
    for bad in (
        msgspec.structs.replace(signed, first_signature=signed.second_signature),
        msgspec.structs.replace(signed, agreement=other),
    ):
        with pytest.raises(RemoteError, match="the signature is not by"):
            read_agreement(canonical.encode(bad))


@given(st.data())
def test_any_flipped_bit_is_refused_or_takes_a_signature_away(data: st.DataObject) -> None:
    good = bytearray(canonical.encode(complete()))
    bit = data.draw(st.integers(0, 8 * len(good) - 1))
    good[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RemoteError):
        read_agreement(bytes(good))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"rules": ()}, "1 to 64 rules"),
        ({"rules": (RULE,) * 65}, "1 to 64 rules"),
        ({"rules": (Rule("first", tasks=("x",) * 65),)}, "at most 64 names"),
        ({"rules": (Rule("first", tasks=("x" * 257,)),)}, "at most 64 names"),
        ({"expires_at_ms": 0}, "ends after it was made"),
        ({"second": msgspec.structs.replace(SECOND, hub="a" * 64)}, "two owners and two hubs"),
        ({"second": msgspec.structs.replace(SECOND, hub="x")}, "not a digest"),
    ],
)
def test_what_cannot_be_agreed_is_not_signed(fields: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        signed_by(SignedAgreement(msgspec.structs.replace(AGREEMENT, **fields)), OWNER)


@pytest.mark.parametrize(
    ("rule", "card", "why"),
    [
        ({}, {}, None),
        ({"tasks": ("other",)}, {}, "its task is"),
        ({"kinds": ("other",)}, {}, "its kind is"),
        ({"licences": ("MIT",)}, {"terms": Terms(licence="CC0")}, "its licence is 'CC0', not one of MIT"),
        ({"licences": ("MIT",)}, {"terms": Terms(licence="MIT")}, None),
        ({"size_max_bytes": 1}, {}, "and 1 may pass"),
        ({"purposes": ("care",)}, {"terms": Terms(purposes=("research",))}, "it is for 'research', not for 'care'"),
        ({"purposes": ("care", "research")}, {"terms": Terms(purposes=("research",))}, None),
        ({"region": "EU"}, {"terms": Terms(regions=("US",))}, "not in 'EU'"),
        ({}, {"terms": Terms(expires_at_ms=NOW_MS)}, "it expired"),
        ({"source": "second"}, {}, "nothing passes from the first side"),
    ],
)
def test_the_law_of_passing(rule: dict[str, object], card: dict[str, object], why: str | None) -> None:
    agreement = msgspec.structs.replace(AGREEMENT, rules=(msgspec.structs.replace(RULE, **rule),))
    said = agreement.why_not(msgspec.structs.replace(CARD, **card), "first", NOW_MS)
    assert said is None if why is None else why in str(said)


def test_one_of_several_rules_is_enough_and_none_after_the_end() -> None:
    agreement = msgspec.structs.replace(AGREEMENT, rules=(Rule("first", tasks=("other",)), RULE))
    assert agreement.why_not(CARD, "first", NOW_MS) is None
    assert "ended" in str(agreement.why_not(CARD, "first", agreement.expires_at_ms))
    assert agreement.why_not(CARD, "second", NOW_MS) == "nothing passes from the second side"
