import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.learning.batching import batches, per_epoch, samples_seen, step_count
from kuberml.learning.types import FitPlan

counts = st.integers(1, 70)
sizes = st.integers(1, 40)


@settings(derandomize=True, max_examples=50)
@given(count=counts, batch=sizes, seed=st.integers(0, 2**60))
def test_every_pass_holds_every_sample_once(count, batch, seed):
    steps = per_epoch(count, batch)
    taken = list(itertools.islice(batches(count, batch, seed, "b"), 2 * steps))
    for one_pass in (taken[:steps], taken[steps:]):
        assert sorted(np.concatenate(one_pass)) == list(range(count))
        assert all(len(part) <= batch + 1 for part in one_pass)
        assert batch == 1 or count == 1 or all(len(part) > 1 for part in one_pass)


@settings(derandomize=True, max_examples=50)
@given(count=counts, batch=sizes, steps=st.integers(0, 100))
def test_the_reckoned_number_of_samples_is_the_real_one(count, batch, steps):
    taken = itertools.islice(batches(count, batch, 0, "b"), steps)
    assert samples_seen(count, batch, steps) == sum(len(part) for part in taken)


def test_no_samples_make_empty_batches():
    assert [len(part) for part in itertools.islice(batches(0, 32, 0, "b"), 3)] == [0, 0, 0]
    assert samples_seen(0, 32, 10) == 0


def test_order_depends_on_seed_name_and_pass():
    def first(seed, name):
        return tuple(next(batches(50, 50, seed, name)))

    assert first(1, "a") == first(1, "a")
    assert len({first(1, "a"), first(2, "a"), first(1, "b")}) == 3


def test_an_epoch_passes_over_the_larger_set_and_steps_win_over_epochs():
    assert step_count(FitPlan(lr=1.0, epochs=3, batch=10), 40) == 12
    assert step_count(FitPlan(lr=1.0, epochs=3, batch=10), 40, 100) == 30
    assert step_count(FitPlan(lr=1.0, epochs=3, batch=10, steps=7), 40, 100) == 7
    assert step_count(FitPlan(lr=1.0, steps=7), 0, 0) == 0
