import functools

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core import values
from kuberml.core.errors import ConfigError
from kuberml.core.ids import digest_of
from kuberml.core.rng import rng
from kuberml.knowledge import bitpack
from kuberml.knowledge.kinds.prototypes import Prototypes, PrototypesKind, describe, merge, merge_all, remove

from .wire import card_of, flipped, refused, sent, survives_damage, there_and_back

BASIS = digest_of(b"an extractor")


def samples(n, d=6, labels="abc", seed=0):
    draw = rng(seed, "embeddings")
    return draw.normal(size=(n, d)), [labels[i] for i in draw.integers(0, len(labels), n)]


def made(n=40, d=6, labels="abc", seed=0, **options):
    return describe(*samples(n, d, labels, seed), basis=BASIS, **options)[0]


def same(a, b):
    return values.dumps(a) == values.dumps(b)


@given(st.integers(5, 40), st.integers(1, 8), st.integers(1, 4), st.integers(0, 5), st.integers(1, 20))
@settings(derandomize=True, max_examples=60)
def test_any_prototypes_come_back_bit_for_bit(n, d, labels, seed, step_log2):
    found = made(n, d, "abcd"[:labels], seed, step_log2=step_log2)
    if found.labels and found.sums_dC.any():
        there_and_back("prototypes", found)


def test_golden_bytes():
    z_Nd = np.array([[3.0, 4.0]] * 5 + [[0.0, -2.0]] * 6)
    found, withheld = describe(z_Nd, ["x"] * 5 + ["y"] * 6, basis=BASIS)
    assert withheld == {}
    assert found.sums_dC.tolist() == [[5 * 9830, 0], [5 * 13107, -6 * 16384]]
    assert sent("prototypes", found)[1][0].hex() == "5fff1fffe00002ffff"


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True), st.randoms(use_true_random=False), st.data())
@settings(derandomize=True, max_examples=50)
def test_any_order_and_grouping_is_the_sum_of_the_pooled_data(seeds, random, data):
    parts = [made(seed=seed, labels="abcd"[seed % 3 :], min_class_count=1) for seed in seeds]
    pairs = [samples(40, labels="abcd"[seed % 3 :], seed=seed) for seed in seeds]
    pooled, _ = describe(
        np.concatenate([z for z, _ in pairs]), [y for _, names in pairs for y in names], basis=BASIS, min_class_count=1
    )
    random.shuffle(parts)
    cut = data.draw(st.integers(1, len(parts)))
    left = functools.reduce(merge, parts[:cut])
    grouped = merge(merge_all(parts[cut:]), left) if parts[cut:] else left
    assert same(grouped, pooled)
    assert same(merge_all(parts), pooled)


@given(st.integers(0, 20), st.integers(0, 20))
@settings(derandomize=True, max_examples=30)
def test_removing_equals_never_having_had_it(one, other):
    a, b = made(seed=one, labels="ab"), made(seed=other, labels="bc")
    assert same(remove(merge(a, b), b), a)
    assert same(remove(merge(a, b), a), b)


def test_removing_what_was_never_merged():
    a, b = made(seed=1), made(seed=2)
    with pytest.raises(ConfigError, match="never merged"):
        remove(a, merge(a, b))
    with pytest.raises(ConfigError, match="never merged"):
        remove(a, msgspec.structs.replace(b, counts_C=a.counts_C))


def test_what_does_not_add_up():
    for other in (made(d=5), made(step_log2=10), msgspec.structs.replace(made(), basis=digest_of(b"x"))):
        with pytest.raises(ConfigError, match="do not add up"):
            merge(made(), other)
    with pytest.raises(ConfigError, match="at least one"):
        merge_all([])
    many = msgspec.structs.replace(made(), counts_C=np.full(3, 2**47))
    with pytest.raises(ConfigError, match="overflow"):
        merge_all([many] * 3)


def test_small_classes_are_withheld_and_counted():
    z_Nd, _ = samples(12)
    found, withheld = describe(z_Nd, ["a"] * 5 + ["b"] * 4 + ["c"] * 3, basis=BASIS)
    assert found.counts == {"a": 5}
    assert withheld == {"b": 4, "c": 3}


def test_small_classes_are_refused_on_both_sides():
    few = made(12, min_class_count=1)
    assert min(few.counts.values()) < 5
    with pytest.raises(ConfigError, match="would show single ones"):
        sent("prototypes", few)
    packed = PrototypesKind(min_class_count=1).pack(few)
    card = card_of("prototypes", packed)
    refused("prototypes", card, *packed.blobs, match="would show single ones")
    assert same(PrototypesKind(min_class_count=1).unpack(card, packed.blobs), few)


def test_length_of_an_embedding_does_not_matter_but_its_direction_does():
    z_Nd, y_N = samples(40)
    scale_N1 = rng(1, "scale").uniform(1e-200, 1e200, (40, 1))
    assert same(describe(z_Nd * scale_N1, y_N, basis=BASIS)[0], made())
    assert not same(describe(-z_Nd, y_N, basis=BASIS)[0], made())


def test_an_embedding_of_length_zero_counts_but_adds_nothing():
    z_Nd = np.concatenate([np.ones((5, 2)), np.zeros((1, 2))])
    found, _ = describe(z_Nd, ["a"] * 6, basis=BASIS)
    assert found.counts == {"a": 6}
    assert found.sums_dC.tolist() == describe(z_Nd[:5], ["a"] * 5, basis=BASIS)[0].sums_dC.tolist()


def test_nearest_prototype_finds_separated_classes():
    centre = np.eye(3)
    y_N = [i % 3 for i in range(60)]
    z_Nd = centre[y_N] + 0.1 * rng(0, "noise").normal(size=(60, 3))
    found, _ = describe(z_Nd, [str(y) for y in y_N], basis=BASIS)
    scores_NC = found.scores(z_Nd.astype(np.float32))
    assert scores_NC.argmax(axis=1).tolist() == y_N
    assert np.abs(scores_NC).max() <= 1 + 1e-12
    assert np.allclose(np.linalg.norm(found.directions(), axis=0), 1)
    with pytest.raises(ConfigError, match="are not"):
        found.scores(z_Nd[:, :2])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_that_cannot_be(bad):
    z_Nd, y_N = samples(40)
    z_Nd[3, 3] = bad
    with pytest.raises(ConfigError, match="finite"):
        describe(z_Nd, y_N, basis=BASIS)
    with pytest.raises(ConfigError, match="finite"):
        describe(z_Nd[0], y_N, basis=BASIS)
    with pytest.raises(ConfigError, match="step_log2 21"):
        made(step_log2=21)


def test_damage_is_the_senders_fault():
    survives_damage("prototypes", made(), structured=False)  # any bits of the right number are sums


@given(st.lists(st.integers(0, 10**6), min_size=10, max_size=40))
@settings(derandomize=True, max_examples=20)
def test_a_flipped_bit_never_gives_more_than_unit_vectors(positions):
    def accept(back):
        longest = back.counts_C * 2.0**back.step_log2
        assert (np.linalg.norm(back.sums_dC, axis=0) <= 1.001 * longest).all()

    flipped("prototypes", made(), positions, accept)


def test_sums_that_are_too_long():
    bad = made()
    sums_dC = bad.sums_dC.copy()
    sums_dC[0, 0] = int(bad.counts_C[0]) * 17_000
    bad = msgspec.structs.replace(bad, sums_dC=sums_dC)
    with pytest.raises(ConfigError, match="longer than"):
        sent("prototypes", bad)
    card, _ = sent("prototypes", made())
    flat = sums_dC.T.reshape(-1)
    width = bitpack.width_of(flat)
    card = msgspec.structs.replace(card, facts={**card.facts, "width": width})
    refused("prototypes", card, bitpack.pack_ints(flat, width), match="longer than")


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ("b", "a", "c")},
        {"labels": ("a", "b")},
        {"sums_dC": np.zeros((6, 3))},
        {"sums_dC": np.zeros((6, 2), np.int64)},
        {"sums_dC": np.zeros((6, 3), np.int64)},
        {"counts_C": np.array([9, 9, 9], np.int32)},
        {"counts_C": np.array([9, 9, 2**50])},
        {"step_log2": 0},
    ],
)
def test_a_value_that_breaks_a_rule_is_the_callers_fault(change):
    with pytest.raises(ConfigError):
        sent("prototypes", msgspec.structs.replace(made(), **change))


def test_a_card_that_does_not_fit_the_blob():
    card, (blob,) = sent("prototypes", made())
    replace = msgspec.structs.replace
    refused("prototypes", replace(card, basis=None), blob, match="digest")
    refused("prototypes", replace(card, labels={"a": 9, "b": 9}), blob)
    refused("prototypes", replace(card, labels={}), blob, match="over the limit")
    for change in ({"dims": 5}, {"dims": 0}, {"dims": 2**40}, {"width": 3}, {"width": -1}, {"width": 65}, {"step_log2": 60}):
        refused("prototypes", replace(card, facts={**card.facts, **change}), blob)


def test_received_sums_are_read_only():
    back: Prototypes = there_and_back("prototypes", made())
    with pytest.raises(ValueError, match="read-only"):
        back.sums_dC[0, 0] = 1
