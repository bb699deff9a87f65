import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import digest_of
from kuberml.knowledge.card import PPM
from kuberml.knowledge.signing import Keys
from kuberml.knowledge.verdict import (
    DOMAIN,
    NEUTRAL_PPM,
    TESTED_CAP,
    SignedVerdict,
    Verdict,
    aggregate,
    check_verdict,
    sign_verdict,
)

WITNESS, OTHER, AUTHOR = Keys(b"w" * 32), Keys(b"o" * 32), Keys(b"a" * 32)
CARD = digest_of(b"a card")


def said(tested, correct, before=(), keys=WITNESS, at_ms=0):
    return Verdict(CARD, AUTHOR.public, keys.public, dict(tested), dict(correct), at_ms, dict(before))


SMALL = said({"3": 40, "7": 20}, {"3": 38, "7": 2}, {"3": 0, "7": 19}, at_ms=1234)


def test_golden_digest_and_signature():
    assert SMALL.digest == "c8f1f84fa1cf59d9c6e8783279cd065eabcc782c482e8df1c274c3ac0c656336"
    assert sign_verdict(SMALL, WITNESS).signature.hex() == (
        "45e8f4dbae5c3fba1cf581655bc013c72aea20c8fc164151064a1b7733bcd3e3"
        "da7e066e9393213a4a8789f3a3ea0d6a42340b19fd162721457a1687ce9c1500"
    )


def test_a_signed_verdict_is_accepted_after_the_wire():
    signed = sign_verdict(SMALL, WITNESS)
    plain = canonical.decode(canonical.encode(signed))
    assert check_verdict(msgspec.convert(plain, SignedVerdict, builtin_types=(bytes,))) == signed


def test_every_field_is_signed():
    signed = sign_verdict(SMALL, WITNESS)
    changes = [
        {"card": digest_of(b"other")},
        {"author": OTHER.public},
        {"witness": OTHER.public},
        {"tested": {"3": 41, "7": 20}},
        {"correct": {"3": 39, "7": 2}},
        {"before": {}},
        {"at_ms": 1235},
    ]
    assert {name for change in changes for name in change} == set(Verdict.__struct_fields__) - {"schema"}
    for change in changes:
        with pytest.raises(RemoteError, match="signature is not by"):
            check_verdict(SignedVerdict(msgspec.structs.replace(SMALL, **change), signed.signature))


def test_a_signature_for_something_else_does_not_serve():
    for signature in (b"", bytes(64), WITNESS.sign(b"kuberml.card/1\0", SMALL.digest.encode())):
        with pytest.raises(RemoteError, match="signature is not by"):
            check_verdict(SignedVerdict(SMALL, signature))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"correct": {"3": 41, "7": 2}}, "41 right answers of 40 samples of '3'"),
        ({"correct": {"3": -1, "7": 2}}, "-1 right answers"),
        ({"correct": {"3": 38}}, "other labels"),
        ({"before": {"3": 0}}, "other labels"),
        ({"before": {"3": 0, "7": 21}}, "21 right answers"),
        ({"tested": {"3": 0, "7": 20}}, "stands on 0"),
        ({"tested": {}, "correct": {}, "before": {}}, "no label"),
        ({"author": WITNESS.public}, "vouch for itself"),
        ({"author": "me"}, "not a digest"),
        ({"card": "x"}, "not a digest"),
        ({"at_ms": 2**63}, "64 bits"),
        ({"schema": "kuberml.verdict/2"}, "known here"),
    ],
)
def test_a_verdict_that_cannot_be(change, match):
    bad = msgspec.structs.replace(SMALL, **change)
    with pytest.raises(ConfigError, match=match):
        sign_verdict(bad, WITNESS)
    with pytest.raises(RemoteError, match=match):
        check_verdict(SignedVerdict(bad, WITNESS.sign(DOMAIN, b"")))


def test_nobody_signs_for_somebody_else():
    with pytest.raises(ConfigError, match="the keys are of"):
        sign_verdict(SMALL, OTHER)


# --- pooled ---


def test_witnesses_count_by_their_rank():
    honest = said({"3": 100}, {"3": 20}, {"3": 50})
    liar = said({"3": 100}, {"3": 100}, keys=OTHER)
    even = aggregate([honest, liar], {})["3"]
    assert even.tested_ppm == 2 * 100 * NEUTRAL_PPM
    assert even.recall_ppm == 600_000
    assert (even.before_ppm, even.compared_ppm) == (50 * NEUTRAL_PPM, 100 * NEUTRAL_PPM)
    ranked = aggregate([honest, liar], {WITNESS.public: 900_000, OTHER.public: 100_000})["3"]
    assert ranked.recall_ppm == 280_000
    assert aggregate([honest, liar], {OTHER.public: 0})["3"].recall_ppm == 200_000


def test_a_claimed_count_is_not_influence():
    honest = said({"3": TESTED_CAP}, {"3": 0})
    loud = said({"3": 10**9}, {"3": 10**9}, keys=OTHER)
    assert aggregate([honest, loud], {})["3"].recall_ppm == PPM // 2


def test_of_one_witness_the_newest_counts():
    first, second = said({"3": 10}, {"3": 10}, at_ms=1), said({"3": 10}, {"3": 0}, at_ms=2)
    assert aggregate([second, first, second], {}) == aggregate([second], {})


def test_verdicts_on_several_cards_do_not_pool():
    other = msgspec.structs.replace(SMALL, card=digest_of(b"other"), witness=OTHER.public)
    with pytest.raises(ConfigError, match="several cards"):
        aggregate([SMALL, other], {})


def test_nobody_testified():
    assert aggregate([], {}) == {}


counts = st.dictionaries(st.sampled_from("abc"), st.integers(1, 3000), min_size=1)
verdicts = st.builds(
    lambda tested, share, who, at: said(tested, {k: v * share // 100 for k, v in tested.items()}, keys=who, at_ms=at),
    counts,
    st.integers(0, 100),
    st.sampled_from([WITNESS, OTHER, Keys(b"x" * 32)]),
    st.integers(0, 3),
)


@given(st.lists(verdicts, max_size=6), st.randoms(use_true_random=False))
@settings(derandomize=True, max_examples=50)
def test_the_order_and_repetition_of_verdicts_do_not_matter(heard, random):
    again = heard + heard[:2]
    random.shuffle(again)
    ranks_ppm = {WITNESS.public: 123_457}
    pooled = aggregate(heard, ranks_ppm)
    assert aggregate(again, ranks_ppm) == pooled
    assert all(0 <= one.recall_ppm <= PPM for one in pooled.values())
