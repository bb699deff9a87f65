import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError
from kuberml.core.ids import digest_of
from kuberml.knowledge.soften import soften
from kuberml.learning.pooling import pool

PROBE = digest_of(b"probe")
LABELS = ("a", "b", "c", "d")


def teacher(labels, probs_NK, ids=None, probe=PROBE):
    probs_NK = np.asarray(probs_NK, np.float64)
    ids_N = np.arange(len(probs_NK)) if ids is None else np.asarray(ids)
    return soften(
        np.log(probs_NK), tuple(labels), known=dict.fromkeys(labels, 9), probe=probe, sample_ids_N=ids_N, form="dense-fp16"
    )


def inputs(count):
    return np.zeros((count, 1), np.float32)


def test_one_teacher_is_believed_about_what_it_knows():
    answers = pool([teacher("ab", [[0.95, 0.05], [0.05, 0.95]])], LABELS, inputs(2))
    assert answers.mask_NC.tolist() == [[True, True, False, False]] * 2
    assert answers.probs_NC.argmax(axis=1).tolist() == [0, 1]
    assert answers.probs_NC[0, 0] > 0.8
    assert not answers.probs_NC[:, 2:].any()


def test_chains_of_comparisons_are_followed():
    """Nobody knows both a and c: that a beats b and b beats c says that a beats c."""
    answers = pool([teacher("ab", [[0.9, 0.1]]), teacher("bc", [[0.9, 0.1]])], ("a", "b", "c"), inputs(1))
    assert answers.probs_NC[0].argsort()[::-1].tolist() == [0, 1, 2]


def test_agreeing_teachers_of_all_labels_are_their_own_answer():
    probs = np.array([[0.94, 0.03, 0.02, 0.01]])
    answers = pool([teacher("abcd", probs)] * 50, LABELS, inputs(1))
    assert np.allclose(answers.probs_NC, probs, atol=0.01)


def test_who_hesitates_counts_less():
    sure, unsure = teacher("ab", [[0.02, 0.98]]), teacher("cd", [[0.6, 0.4]])
    assert pool([sure, unsure], LABELS, inputs(1)).probs_NC[0].argmax() == 1


def test_competence_decides_between_contradictions():
    says_a, says_b = teacher("ab", [[0.9, 0.1]]), teacher("ab", [[0.1, 0.9]])
    for weights, winner in (((1.0, 0.2), 0), ((0.2, 1.0), 1)):
        competence = [{"a": weight, "b": weight} for weight in weights]
        assert pool([says_a, says_b], LABELS, inputs(1), competence=competence).probs_NC[0].argmax() == winner


def test_samples_that_nobody_answered_have_no_mask():
    answers = pool([teacher("ab", [[0.9, 0.1]], ids=[2])], LABELS, inputs(4))
    assert answers.mask_NC.any(axis=1).tolist() == [False, False, True, False]
    assert not answers.probs_NC[[0, 1, 3]].any()
    nobody = pool([], LABELS, inputs(3))
    assert not nobody.mask_NC.any()


def test_a_teacher_of_one_label_says_nothing_about_which():
    answers = pool([teacher("a", [[1.0]]), teacher("bc", [[0.9, 0.1]])], LABELS, inputs(1))
    assert answers.mask_NC.tolist() == [[True, True, True, False]]
    assert answers.probs_NC[0].argmax() == 1


@settings(derandomize=True, max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 6))
def test_pools_are_distributions_over_the_mask_and_order_does_not_matter(seed, count):
    generator = np.random.default_rng(seed)
    teachers = []
    for _ in range(count):
        labels = sorted(generator.choice(LABELS, generator.integers(1, 5), replace=False))
        ids = np.sort(generator.choice(5, 3, replace=False))
        teachers.append(teacher(labels, generator.dirichlet(np.ones(len(labels)), 3) + 1e-9, ids))
    answers = pool(teachers, LABELS, inputs(5))
    known_N = answers.mask_NC.any(axis=1)
    assert np.isfinite(answers.probs_NC).all()
    assert np.allclose(answers.probs_NC.sum(axis=1), known_N, atol=1e-5)
    assert not answers.probs_NC[~answers.mask_NC].any()
    assert np.allclose(pool(teachers[::-1], LABELS, inputs(5)).probs_NC, answers.probs_NC, atol=1e-6)


@pytest.mark.parametrize(
    ("teachers", "options", "message"),
    [
        ([teacher("ab", [[0.5, 0.5]]), teacher("ab", [[0.5, 0.5]], probe=digest_of(b"other"))], {}, "different probes"),
        ([teacher("ab", [[0.5, 0.5]], ids=[7])], {}, "outside the probe of 3"),
        ([teacher("ab", [[0.5, 0.5]])], {"competence": []}, "0 competences for 1"),
        ([teacher("ab", [[0.5, 0.5]])], {"competence": [{"a": -1.0}]}, "0 or more"),
    ],
)
def test_what_cannot_be_pooled_is_refused(teachers, options, message):
    with pytest.raises(ConfigError, match=message):
        pool(teachers, LABELS, inputs(3), **options)
