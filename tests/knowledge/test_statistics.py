"""The laws of the algebra, on values and on packages: exact sums, any order and grouping, removal, prefixes, withholding."""

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core import values
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import digest_of
from kuberml.core.rng import rng
from kuberml.knowledge.card import Knowledge
from kuberml.knowledge.grid import Grid, exact_sums
from kuberml.knowledge.kinds.statistics import (
    Merged,
    Statistics,
    StatisticsKind,
    bytes_at,
    cut_dims,
    describe,
    empty,
    merge,
    merge_all,
    prefix,
    remove,
    solve,
    to_fp16,
)
from kuberml.knowledge.manifest import single
from kuberml.knowledge.pack import open_value
from kuberml.learning.datasets import samples as samples_of
from kuberml.learning.types import DataRef, Samples

from .packets import BASIS, packet, publish, samples

PROFILES = pytest.mark.parametrize("profile", ["exact", "fp16"])
DIGITS = {"train": 1097, "test": 500}
quick = settings(derandomize=True, max_examples=40, deadline=None)


def in_plain_integers(z_Nd: np.ndarray, step_log2: int, clip: float) -> list[list[int]]:
    """The Gram matrix with Python's unbounded integers, one product at a time."""
    bound = int(clip * 2**step_log2)
    q = [[2**step_log2] + [max(-bound, min(bound, round(float(z) * 2**step_log2))) for z in row] for row in z_Nd]
    d = len(q[0])
    return [[sum(row[i] * row[j] for row in q) for j in range(d)] for i in range(d)]


@quick
@given(seed=st.integers(0, 999), step_log2=st.integers(0, 12), clip=st.floats(1, 40))
def test_the_sums_are_the_integers_that_schoolbook_arithmetic_gives(seed: int, step_log2: int, clip: float) -> None:
    z_Nd = 9 * rng(seed, "plain").normal(size=(20, 3))
    stats, withheld = describe(z_Nd, ["a"] * 12 + ["b"] * 8, basis=BASIS, clip=clip, step_log2=step_log2)
    assert stats.gram_dd.tolist() == in_plain_integers(z_Nd, step_log2, clip)
    assert stats.sums_dC[:, 1].tolist() == [row[0] // 2**step_log2 for row in in_plain_b(z_Nd[12:], step_log2, clip)]
    assert (stats.counts, withheld) == ({"a": 12, "b": 8}, {})


def in_plain_b(z_Nd: np.ndarray, step_log2: int, clip: float) -> list[list[int]]:
    """The Gram matrix of one label: its column 0 is the class sum times the constant."""
    return in_plain_integers(z_Nd, step_log2, clip)


def test_sums_beyond_2_to_the_53_are_still_exact() -> None:
    grid = Grid(16, (1 << 26) - 1)
    z_Nd = np.full((8, 2), 1023.99)
    _, gram_dd = exact_sums(z_Nd, list(range(8)), np.ones((8, 1)), grid)
    q = round(1023.99 * 2**16)
    assert int(gram_dd[1, 1]) == 8 * q * q > 2**53


@settings(derandomize=True, max_examples=25, deadline=None)
@given(data=st.data(), profile=st.sampled_from(["exact", "fp16"]))
def test_any_order_and_grouping_gives_identical_integers(data: st.DataObject, profile: str) -> None:
    packets = [packet(seed, count=15 + seed, dims=4, profile=profile) for seed in range(data.draw(st.integers(2, 12)))]
    heap = data.draw(st.permutations(packets))
    while len(heap) > 1:  # a random tree
        a = heap.pop(data.draw(st.integers(0, len(heap) - 1)))
        b = heap.pop(data.draw(st.integers(0, len(heap) - 1)))
        heap.append(merge(a, b))
    assert heap[0].digest == merge_all(packets).digest


@quick
@given(seed=st.integers(0, 999), parts=st.integers(1, 6))
def test_the_merge_of_any_partition_is_the_statistics_of_the_pooled_samples(seed: int, parts: int) -> None:
    z_Nd, y_N = samples(seed, count=90, dims=5)
    owner_N = rng(seed, "owner").integers(0, parts, 90)
    packets = []
    for owner in range(parts):
        rows = np.flatnonzero(owner_N == owner)
        mine, withheld = describe(z_Nd[rows], [y_N[i] for i in rows], basis=BASIS, min_class_count=1)
        assert withheld == {}
        packets.append(mine)
    pooled, _ = describe(z_Nd, y_N, basis=BASIS)
    merged = merge_all(packets)
    assert merged.digest == pooled.digest
    assert np.array_equal(solve(merged).weights_dC, solve(pooled).weights_dC)


def test_a_thousand_packets_agree_with_one_float_solve_of_the_pooled_samples() -> None:
    parts = [samples(seed, count=15, dims=6) for seed in range(1000)]
    merged = merge_all(describe(z, y, basis=BASIS)[0] for z, y in reversed(parts))
    z_Nd = np.concatenate([z for z, _ in parts])
    y_N = np.concatenate([y for _, y in parts])
    x_Nd = np.c_[np.ones(len(z_Nd)), np.rint(np.clip(z_Nd, -16, 16) * 256) / 256]
    one_hot_NC = (y_N[:, None] == np.array(["a", "b", "c"])).astype(float)
    pooled_dC = np.linalg.solve(x_Nd.T @ x_Nd + 3.0 * np.eye(7), x_Nd.T @ one_hot_NC)
    assert np.abs(solve(merged, ridge=3.0).weights_dC - pooled_dC).max() < 1e-9


@PROFILES
def test_removing_a_contributor_equals_never_having_had_it(profile: str) -> None:
    packets = [packet(seed, labels=labels, profile=profile) for seed, labels in enumerate(["abc", "cd", "ef", "a"])]
    for i, gone in enumerate(packets):
        never = merge_all(packets[:i] + packets[i + 1 :])
        left = remove(merge_all(packets), gone)
        assert left.digest == never.digest
        assert np.array_equal(solve(left).weights_dC, solve(never).weights_dC)


@PROFILES
def test_the_empty_statistics_are_the_zero_of_the_algebra(profile: str) -> None:
    zero, a = empty(12, basis=BASIS, profile=profile), packet(1, profile=profile)
    assert merge(a, zero).digest == merge(zero, a).digest == a.digest
    assert remove(a, a).digest == zero.digest
    with pytest.raises(ConfigError, match="at least one"):
        merge_all([])


def test_what_is_not_a_part_cannot_be_removed() -> None:
    a, b = packet(1), packet(2, count=60)
    with pytest.raises(ConfigError, match="they were never merged"):
        remove(a, b)
    with pytest.raises(ConfigError, match="it was never merged"):
        remove(a, packet(2))
    with pytest.raises(ConfigError, match="dimensions cannot be removed"):
        remove(a, prefix(a, 4))


@pytest.mark.parametrize(
    ("options", "field"), [({"step_log2": 4}, "step_log2"), ({"clip": 8.0}, "clip"), ({"profile": "fp16"}, "profile")]
)
def test_statistics_in_other_units_do_not_add_up(options: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError, match=f"another {field}"):
        merge(packet(1), packet(2, **options))


def test_statistics_of_another_extractor_do_not_add_up() -> None:
    with pytest.raises(ConfigError, match="another basis"):
        merge(packet(1), msgspec.structs.replace(packet(2), basis=digest_of(b"another")))


def test_packets_of_different_length_meet_at_the_shorter_one() -> None:
    a, b = packet(1, dims=12), packet(2, dims=8)
    assert merge(a, b).digest == merge(b, a).digest == merge(prefix(a, 8), b).digest


def test_what_would_overflow_is_refused() -> None:
    with pytest.raises(ConfigError, match="overflow"):
        exact_sums(np.zeros((2, 1)), [0] * 4096, np.zeros((4096, 1)), Grid(0, (1 << 26) - 1))
    half = msgspec.structs.replace(packet(1), gram_dd=np.full((13, 13), 2**62, np.int64))
    with pytest.raises(ConfigError, match="overflows"):
        merge(half, half)
    with pytest.raises(ConfigError, match="fp16"):
        packet(1, clip=256.0, profile="fp16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": 0.5}, "clip"),
        ({"clip": float("nan")}, "clip"),
        ({"step_log2": -1}, "step_log2"),
        ({"step_log2": 17}, "step_log2"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        packet(1, **options)


def test_features_that_cannot_be_are_refused() -> None:
    z_Nd, y_N = samples(1)
    z_Nd[3, 2] = np.nan
    with pytest.raises(ConfigError, match="NaN"):
        describe(z_Nd, y_N, basis=BASIS)
    with pytest.raises(ConfigError, match="labels are needed"):
        describe(z_Nd, y_N[1:], basis=BASIS)
    with pytest.raises(ConfigError, match="labels are needed"):
        describe(z_Nd[:, 0], y_N, basis=BASIS)


# fp16


def test_fp16_rounds_each_entry_once_and_keeps_the_constant_exact() -> None:
    exact, rounded = packet(1), packet(1, profile="fp16")
    real, half = exact.gram_dd / exact.gram_unit, rounded.gram_dd / rounded.gram_unit
    assert np.abs(half[1:, 1:] - real[1:, 1:]).max() <= 2**-11 * np.abs(real).max()
    assert rounded.counts == exact.counts
    assert half[0, 0] == 40
    assert np.array_equal(rounded.gram_dd[0], rounded.sums_dC.sum(axis=1))
    assert to_fp16(rounded).digest == to_fp16(exact).digest == rounded.digest


@pytest.mark.parametrize("options", [{"profile": "fp16"}, {"step_log2": 4}, {"step_log2": 4, "profile": "fp16"}])
def test_small_profiles_are_gated_on_accuracy(options: dict[str, Any]) -> None:
    """On real digits a lossy profile may cost half a point at most, merged from five contributors."""
    train, test = (samples_of(DataRef("digits", split, np.arange(size, dtype=np.int32))) for split, size in DIGITS.items())
    names = np.array(train.labels)

    def accuracy(**settings: Any) -> float:
        parts = [slice(owner, None, 5) for owner in range(5)]
        packets = [describe(flat(train)[part], names[train.y_N[part]], basis=BASIS, **settings)[0] for part in parts]
        head = solve(merge_all(packets))
        return float((np.array(head.labels)[head.scores(flat(test)).argmax(axis=1)] == names[test.y_N]).mean())

    exact = accuracy()
    assert exact > 0.9
    assert abs(accuracy(**options) - exact) <= 0.005


def flat(part: Samples) -> np.ndarray:
    """Pixels as features, spread like standardised ones."""
    return (4 * part.x_N - 2).reshape(len(part), -1)


# On the wire


@quick
@given(
    seed=st.integers(0, 99), dims=st.integers(1, 40), step_log2=st.integers(0, 12), profile=st.sampled_from(["exact", "fp16"])
)
def test_every_cut_of_a_package_is_the_package_of_the_prefix(seed: int, dims: int, step_log2: int, profile: str) -> None:
    stats = packet(seed, count=15, dims=dims, step_log2=step_log2, profile=profile)
    knowledge = publish(stats)
    assert open_value(knowledge).digest == stats.digest
    assert tuple(bytes_at(knowledge.card)) == cut_dims(dims)
    for k, size_bytes in bytes_at(knowledge.card).items():
        opened = open_value(Knowledge(knowledge.signed, (knowledge.blobs[0][:size_bytes],)))
        assert opened.digest == prefix(stats, k).digest
        assert publish(opened).blobs[0] == knowledge.blobs[0][:size_bytes]


def test_a_prefix_that_does_not_end_at_a_cut_is_refused() -> None:
    knowledge = publish(packet(1, dims=20))
    for size_bytes in range(1, len(knowledge.blobs[0]), 7):
        if size_bytes not in knowledge.card.blobs[0].cuts:
            with pytest.raises(RemoteError, match="or one of its cuts"):
                open_value(Knowledge(knowledge.signed, (knowledge.blobs[0][:size_bytes],)))


def test_fp16_takes_the_bytes_that_its_formula_says() -> None:
    for dims in (1, 32, 65):
        stats = packet(1, dims=dims, profile="fp16")
        assert len(publish(stats).blobs[0]) == dims * (dims + 1) + 2 * 3 * dims


def test_cuts_are_the_powers_of_two_and_pieces_of_large_packets_stay_small() -> None:
    assert cut_dims(5) == (5,)
    assert cut_dims(100) == (8, 16, 32, 64, 100)
    cuts = cut_dims(1600)
    assert {8, 64, 512, 1024, 1600} <= set(cuts)
    assert len(cuts) < 64
    area = np.diff([k * k for k in (0, *cuts)])
    assert area.max() < 1.1 * 1600**2 / 48


@PROFILES
def test_a_merge_travels_exactly_with_its_manifest(profile: str) -> None:
    parts = [publish(packet(seed, profile=profile), author=seed) for seed in (1, 2, 3)]
    merged = Merged(
        merge_all(map(open_value, parts)), tuple(sorted((single(part.card) for part in parts), key=lambda c: c.place))
    )
    knowledge = publish(merged, author=9, slot="merged", parents=tuple(part.signed.digest for part in parts))
    assert values.dumps(open_value(knowledge)) == values.dumps(merged)
    cut = (knowledge.blobs[0][: knowledge.card.blobs[0].cuts[0]], knowledge.blobs[1])
    assert open_value(Knowledge(knowledge.signed, cut)).statistics.digest == prefix(merged.statistics, 8).digest


# Withholding


def test_labels_below_the_minimum_are_withheld_and_leave_no_trace() -> None:
    z_Nd, y_N = samples(1, count=30)
    y_N[0] = y_N[1] = "rare"
    stats, withheld = describe(z_Nd, y_N, basis=BASIS)
    without, _ = describe(z_Nd[2:], y_N[2:], basis=BASIS)
    assert withheld == {"rare": 2}
    assert stats.digest == without.digest


@quick
@given(before=st.integers(0, 30), now=st.integers(0, 40), minimum=st.integers(1, 8))
def test_what_a_new_version_adds_or_drops_is_never_below_the_minimum(before: int, now: int, minimum: int) -> None:
    shown = before if before >= minimum else 0
    stats, withheld = describe(
        np.ones((now, 1)), ["a"] * now, basis=BASIS, min_class_count=minimum, published={"a": shown} if shown else {}
    )
    count = stats.counts.get("a", 0)
    assert count == 0 or count >= minimum
    assert abs(count - shown) >= minimum or count == shown
    assert count + withheld.get("a", 0) == now


def test_new_samples_wait_until_there_are_enough() -> None:
    z_Nd, y_N = samples(1, count=30)
    first, _ = describe(z_Nd, y_N, basis=BASIS)
    more_Nd, more_N = np.concatenate([z_Nd, z_Nd[:8]]), y_N + ["a"] * 5 + ["b"] * 3
    second, withheld = describe(more_Nd, more_N, basis=BASIS, published=first.counts)
    assert withheld == {"b": 3}
    assert Counter(second.counts) - Counter(first.counts) == {"a": 5}


def test_nothing_below_the_minimum_is_published() -> None:
    few, _ = describe(*samples(1, count=9), basis=BASIS, min_class_count=1)
    with pytest.raises(ConfigError, match="at least 5"):
        publish(few)
    with pytest.raises(ConfigError, match="nothing to publish"):
        publish(empty(12, basis=BASIS))
    assert StatisticsKind(min_class_count=3).pack(few).labels == {"a": 3, "b": 3, "c": 3}


def test_a_struct_of_statistics_says_what_it_is() -> None:
    stats: Statistics = packet(1)
    assert (stats.samples, stats.dims, stats.sums_unit, stats.gram_unit) == (40, 12, 256, 65536)
    assert stats.grid == Grid(8, 4096)
