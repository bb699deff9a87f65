import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core import canonical, values
from kuberml.core.errors import ConfigError
from kuberml.core.ids import digest_of
from kuberml.core.rng import rng
from kuberml.knowledge.kinds.soft_labels import MAX_ANSWERS
from kuberml.knowledge.soften import soften

from .wire import flipped, refused, sent, survives_damage, there_and_back

PROBE = digest_of(b"a probe")
DIGITS = tuple("0123456789")
FORMS = [("dense-fp16", 0), ("dense-log8", 0), ("top", 3), ("sampled", 8)]


def teacher(n=20, labels=DIGITS, spread=3.0, seed=0):
    logits_NC = spread * rng(seed, "teacher").normal(size=(n, len(labels)))
    return logits_NC - np.log(np.exp(logits_NC).sum(axis=1, keepdims=True))


def made(form="dense-log8", k=3, n=20, labels=DIGITS, known=None, ids=None, seed=0):
    known = dict.fromkeys(labels, 9) if known is None else known
    ids_N = np.arange(n) if ids is None else np.array(ids)
    return soften(teacher(len(ids_N), labels), labels, known=known, probe=PROBE, sample_ids_N=ids_N, form=form, k=k, seed=seed)


@given(
    st.sampled_from(FORMS),
    st.integers(1, 12),
    st.sets(st.integers(0, 5000), min_size=1, max_size=30),
    st.integers(1, 40),
)
@settings(derandomize=True, max_examples=80)
def test_every_form_comes_back_bit_for_bit(form, known, ids, k):
    labels = tuple(f"label {i:02}" for i in range(known))
    there_and_back("soft-labels", made(form[0], k, labels=labels, ids=sorted(ids)))


@pytest.mark.parametrize(("form", "k"), FORMS)
def test_damage_is_the_senders_fault(form, k):
    survives_damage("soft-labels", made(form, k, ids=[3, 4, 90]))


@given(st.sampled_from(FORMS), st.lists(st.integers(0, 10**6), min_size=10, max_size=30))
@settings(derandomize=True, max_examples=30)
def test_a_flipped_bit_never_gives_impossible_probabilities(form, positions):
    def accept(back):
        probs_NC = back.dense(DIGITS)
        assert np.isfinite(probs_NC).all()
        assert probs_NC.min() >= 0
        assert np.allclose(probs_NC.sum(axis=1), 1, atol=1e-5)

    flipped("soft-labels", made(*form), positions, accept)


@pytest.mark.parametrize(("form", "k", "limit_bytes"), [("dense-log8", 0, 3300), ("top", 3, 1650), ("sampled", 8, 1550)])
def test_300_samples_of_10_labels_cost_one_to_three_kilobytes(form, k, limit_bytes):
    ids = np.sort(rng(0, "ids").choice(2000, 300, replace=False))
    _, (blob,) = sent("soft-labels", made(form, k, ids=ids))
    assert 1000 < len(blob) < limit_bytes


def test_all_samples_of_the_probe_name_no_sample():
    card, (blob,) = sent("soft-labels", made(n=50))
    assert card.facts["gap_bits"] == 0
    assert canonical.decode(blob)["ids"] == b""


@pytest.mark.parametrize(("form", "error"), [("dense-fp16", 5e-4), ("dense-log8", 0.017)])
def test_dense_forms_are_near_the_teacher(form, error):
    gap_NC = np.abs(made(form).dense(DIGITS) - np.exp(teacher()))
    assert gap_NC.max() < error


def test_top_keeps_the_largest_and_spreads_the_rest():
    exact_NC, probs_NC = np.exp(teacher()), made("top", 3).dense(DIGITS)
    for exact_C, probs_C in zip(exact_NC, probs_NC, strict=True):
        best = np.argsort(-exact_C)[:3]
        rest = np.delete(np.arange(10), best)
        assert np.abs(probs_C[best] - exact_C[best]).max() < 0.05
        assert np.ptp(probs_C[rest]) < 1e-6
        assert probs_C[rest].sum() == pytest.approx(exact_C[rest].sum(), abs=0.05)


def test_top_with_k_over_the_labels_is_dense():
    assert np.array_equal(made("top", 40).dense(), made("dense-log8").dense())


def test_sampled_answers_are_unbiased():
    """The mean over many draws is the teacher's distribution: within 4.5 standard errors for each of 40 entries."""
    exact_NC = np.exp(teacher(4, spread=1.0))
    draws, m = 400, 8
    logp_NC = teacher(4, spread=1.0)
    known = dict.fromkeys(DIGITS, 5)
    mean_NC = np.mean(
        [
            soften(logp_NC, DIGITS, known=known, probe=PROBE, sample_ids_N=np.arange(4), form="sampled", k=m, seed=seed).dense()
            for seed in range(draws)
        ],
        axis=0,
    )
    error_NC = np.sqrt(exact_NC * (1 - exact_NC) / (draws * m))
    assert (np.abs(mean_NC - exact_NC) / error_NC).max() < 4.5


def test_same_seed_same_draws_other_seed_other_draws():
    assert values.digest(made("sampled", 8, seed=1)) == values.digest(made("sampled", 8, seed=1))
    assert values.digest(made("sampled", 8, seed=1)) != values.digest(made("sampled", 8, seed=2))


def test_a_teacher_says_nothing_about_labels_that_it_does_not_know():
    soft = made(known={"3": 100, "1": 5, "7": 4})
    assert soft.labels == ("1", "3")
    assert soft.counts == (5, 100)
    receiver = ("3", "x", "1", "7")
    assert soft.mask(receiver).tolist() == [True, False, True, False]
    probs_NC = soft.dense(receiver)
    assert np.array_equal(probs_NC[:, [1, 3]], np.zeros((20, 2)))
    logits_N2 = teacher()[:, [3, 1]]
    expected_N2 = np.exp(logits_N2) / np.exp(logits_N2).sum(axis=1, keepdims=True)
    assert np.abs(probs_NC[:, [0, 2]] - expected_N2).max() < 0.017


def test_a_receiver_without_a_common_label_gets_empty_rows():
    assert not made().dense(("x", "y")).any()


def test_temperature_is_softmax_of_the_scaled_logits():
    exact_NC = np.exp(teacher() / 4)
    exact_NC /= exact_NC.sum(axis=1, keepdims=True)
    assert np.abs(made("dense-fp16").dense(temperature=4.0) - exact_NC).max() < 1e-3


def test_temperature_that_cannot_be():
    with pytest.raises(ConfigError, match="positive"):
        made().dense(temperature=0.0)
    with pytest.raises(ConfigError, match="1 for sampled"):
        made("sampled").dense(temperature=2.0)


@pytest.mark.parametrize(
    "change",
    [
        {"known": {}},
        {"known": {"3": 4}},
        {"form": "top", "k": 0},
        {"form": "sampled", "k": 256},
        {"ids": [3, 3]},
        {"ids": [4, 3]},
        {"ids": [-1, 3]},
    ],
)
def test_what_cannot_be_softened(change):
    with pytest.raises(ConfigError):
        made(**change)


def test_nan_from_the_teacher():
    logp_NC = teacher()
    logp_NC[3, 3] = np.nan
    with pytest.raises(ConfigError, match="finite"):
        soften(logp_NC, DIGITS, known={"3": 9}, probe=PROBE, sample_ids_N=np.arange(20))


def test_a_card_that_does_not_fit_the_blob():
    card, (blob,) = sent("soft-labels", made("top", 3, ids=[1, 5, 9]))
    replace = msgspec.structs.replace
    refused("soft-labels", replace(card, basis=None), blob, match="digest")
    refused("soft-labels", replace(card, basis="x"), blob, match="digest")
    refused("soft-labels", replace(card, labels={**card.labels, "3": 4}), blob, match="stands on 4")
    refused("soft-labels", replace(card, labels={"0": 9, "1": 9}), blob)
    refused("soft-labels", replace(card, labels={}), blob)
    for change in ({"samples": 4}, {"samples": 0}, {"samples": 2**62}, {"k": 0}, {"k": 2}, {"k": 10}, {"k": -1}):
        refused("soft-labels", replace(card, facts={**card.facts, **change}), blob)
    for change in ({"gap_bits": 3}, {"gap_bits": 64}, {"gap_bits": -1}, {"form": "sampled"}, {"form": "dense-log8"}):
        refused("soft-labels", replace(card, facts={**card.facts, **change}), blob)


def test_no_bytes_cannot_ask_for_much_memory():
    """Draws among one label take no bits at all: their number is bounded all the same."""
    card, _ = sent("soft-labels", made("sampled", 8, labels=("a",)))
    facts = {"form": "sampled", "samples": 2**20, "k": 255, "gap_bits": 0}
    assert facts["samples"] * facts["k"] > MAX_ANSWERS
    blob = canonical.encode({"ids": b"", "chosen": b"", "codes": b""})
    refused("soft-labels", msgspec.structs.replace(card, facts=facts), blob, match="cannot be")


def test_probabilities_that_do_not_sum_to_one():
    card, (blob,) = sent("soft-labels", made("dense-log8", ids=[1, 5, 9]))
    body = canonical.decode(blob)
    for codes in (bytes(30), b"\xff" * 30):
        refused("soft-labels", card, canonical.encode({**body, "codes": codes}), match="sum to 1")
    card, (blob,) = sent("soft-labels", made("dense-fp16", ids=[1]))
    for value in (np.nan, np.inf, -np.inf, 0.5, -0.0):
        codes = np.full(10, value, "<f2").tobytes()
        refused("soft-labels", card, canonical.encode({**canonical.decode(blob), "codes": codes}), match="0 or less|sum to 1")
