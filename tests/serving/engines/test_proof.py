"""An engine is taken only if its answers are as good as the predictor's: agreement, accuracy, and enough samples to see it."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kuberml.learning.types import Samples
from kuberml.serving.engines.proof import columns, compare, doubt, needed

N, C = 1000, 4


def answers(wrong: int = 0, off: float = 0.0) -> np.ndarray:
    """Sure answers "column i mod C" for N samples, of which the first `wrong` say the next one."""
    said_N = (np.arange(N) + (np.arange(N) < wrong)) % C
    probability_NC = np.full((N, C), (0.1 + off) / (C - 1))
    probability_NC[np.arange(N), said_N] = 0.9 - off
    return np.log(probability_NC).astype(np.float32)


RIGHT_N = np.arange(N) % C


def test_equal_answers_prove_themselves_in_any_precision() -> None:
    proof = compare(answers(), answers(), RIGHT_N)
    assert (proof.agreement, proof.accuracy, proof.reference, proof.lost) == (1, 1, 1, 0)
    assert doubt(proof, 0.002, exact=True) == doubt(proof, 0.002, exact=False) == ""


def test_accuracy_beyond_the_bound_is_refused_and_within_it_is_not() -> None:
    assert doubt(compare(answers(wrong=2), answers(), RIGHT_N), 0.002, exact=False) == ""
    assert "0.9970 instead of 1.0000" in doubt(compare(answers(wrong=3), answers(), RIGHT_N), 0.002, exact=False)


def test_in_fp32_probabilities_may_not_move_even_where_no_label_does() -> None:
    moved = compare(answers(off=0.01), answers(), RIGHT_N)
    assert moved.agreement == 1
    assert "off" in doubt(moved, 0.002, exact=True)
    assert doubt(moved, 0.002, exact=False) == ""


def test_too_few_labelled_samples_prove_nothing_of_a_reduced_precision() -> None:
    few = compare(answers()[:499], answers()[:499], RIGHT_N[:499])
    assert "takes 500 labelled samples held out; there are 499" in doubt(few, 0.002, exact=False)
    unlabelled = compare(answers(), answers())
    assert "there are 0" in doubt(unlabelled, 0.002, exact=False)
    assert doubt(unlabelled, 0.002, exact=True) == ""
    unknown = compare(answers(), answers(), np.full(N, -1))
    assert math.isnan(unknown.accuracy)
    assert doubt(unknown, 0.01, exact=False)


def test_nan_is_never_taken() -> None:
    broken = answers()
    broken[5, 1] = np.nan
    for exact in (True, False):
        assert doubt(compare(broken, answers(), RIGHT_N), 1.0, exact=exact) == "it answers NaN"


@given(st.integers(0, N), st.sampled_from([0.001, 0.002, 0.01, 0.1]))
def test_what_is_taken_never_loses_more_than_the_bound(wrong: int, bound: float) -> None:
    proof = compare(answers(wrong=wrong), answers(), RIGHT_N)
    taken = doubt(proof, bound, exact=False) == ""
    assert taken == (wrong / N <= bound or math.isclose(wrong / N, bound))
    assert needed(bound) * bound >= 1


def test_labels_are_matched_by_name() -> None:
    seen = Samples(np.zeros((3, 2), np.float32), np.array([0, 1, 2]), ("b", "x", "a"))
    np.testing.assert_array_equal(columns(seen, ("a", "b")), [1, -1, 0])
