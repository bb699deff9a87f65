import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kuberml.core import canonical
from kuberml.core.errors import ConfigError
from kuberml.core.ids import digest_of
from kuberml.knowledge.kinds.probe import Probe, probe_from, probe_of

from .wire import flipped, refused, sent, survives_damage, there_and_back

SMALL = Probe(
    np.arange(24, dtype=np.uint8).reshape(4, 3, 2) % 17, np.array([1, 0, 2, 1], np.uint16), ("a", "b", "c"), levels=16
)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=5, max_side=5)), st.integers(1, 255), st.data())
@settings(derandomize=True, max_examples=60)
def test_any_samples_come_back_bit_for_bit(x_N, levels, data):
    names = data.draw(st.none() | st.lists(st.text(min_size=1, max_size=3), min_size=len(x_N), max_size=len(x_N)))
    there_and_back("probe", probe_from(np.minimum(x_N, levels) / levels, names, levels=levels))


def test_the_digest_of_the_blob_is_the_name():
    card, (blob,) = sent("probe", SMALL)
    assert probe_of(SMALL) == digest_of(blob) == card.blobs[0].digest
    assert probe_of(SMALL) == "9c5ff3a07bbe00fb49fdac25fe7ffef40d9b5b7b68552ff4f72eed52eef47ae6"


def test_other_labels_other_name():
    assert probe_of(SMALL) != probe_of(msgspec.structs.replace(SMALL, labels=("a", "b", "d")))


def test_sixteen_levels_take_five_bits():
    x_N = np.zeros((300, 8, 8))
    assert len(sent("probe", probe_from(x_N, levels=16))[1][0]) < 300 * 64 * 5 / 8 + 100
    assert len(sent("probe", probe_from(x_N))[1][0]) > 300 * 64


def test_inputs_are_the_share_of_the_full_scale():
    assert SMALL.inputs().dtype == np.float32
    assert np.array_equal(SMALL.inputs(), (SMALL.x_N / 16).astype(np.float32))
    assert np.array_equal(probe_from(SMALL.inputs(), levels=16).x_N, SMALL.x_N)


def test_labels_are_sorted_and_counted():
    probe = probe_from(np.zeros((3, 2)), ["b", "a", "b"])
    assert probe.labels == ("a", "b")
    assert probe.counts() == {"a": 1, "b": 2}
    assert sent("probe", probe)[0].labels == {"a": 1, "b": 2}


def test_damage_is_the_senders_fault():
    survives_damage("probe", SMALL)


@given(st.lists(st.integers(0, 10**6), min_size=10, max_size=40))
@settings(derandomize=True, max_examples=20)
def test_a_flipped_bit_never_gives_values_over_the_scale(positions):
    def accept(back):
        assert back.inputs().max() <= 1
        assert sum(back.counts().values()) == len(back)

    flipped("probe", SMALL, positions, accept)


@pytest.mark.parametrize(
    "change",
    [
        {"levels": 0},
        {"levels": 256},
        {"levels": 15},
        {"x_N": np.zeros((4, 3, 2))},
        {"x_N": np.zeros(4, np.uint8)},
        {"x_N": np.zeros((0, 3), np.uint8), "y_N": np.zeros(0, np.uint16)},
        {"y_N": np.array([0, 1, 2], np.uint16)},
        {"y_N": np.array([0, 1, 2, 1])},
        {"y_N": np.array([0, 1, 2, 3], np.uint16)},
        {"y_N": np.array([0, 1, 1, 1], np.uint16)},
        {"y_N": None},
        {"labels": ("b", "a", "c")},
        {"labels": ("a", "a", "c")},
        {"labels": ("", "a", "c")},
    ],
)
def test_a_value_that_breaks_a_rule_is_the_callers_fault(change):
    with pytest.raises(ConfigError):
        sent("probe", msgspec.structs.replace(SMALL, **change))


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_inputs_outside_the_scale(bad):
    with pytest.raises(ConfigError, match=r"0\.\.1"):
        probe_from(np.array([[0.5, bad]]))


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [4, 3]},
        {"shape": [2**40, 2**40]},
        {"shape": [-4, 3, 2]},
        {"shape": [4]},
        {"shape": []},
        {"levels": 0},
        {"levels": 2**63},
        {"x": b"\xff" * 15},
        {"labels": []},
        {"labels": ["b", "a", "c"]},
        {"labels": ["a", "b", "c", "d"]},
        {"y": None},
        {"y": b"\xff"},
        {"schema": "kuberml.probe/2"},
        {"surplus": 1},
    ],
)
def test_a_body_that_cannot_be(change):
    card, (blob,) = sent("probe", SMALL)
    refused("probe", card, canonical.encode({**canonical.decode(blob), **change}))


def test_a_card_that_counts_other_samples():
    card, (blob,) = sent("probe", SMALL)
    refused("probe", msgspec.structs.replace(card, labels={"a": 4}), blob, match="counts other")
    refused("probe", msgspec.structs.replace(card, facts={"samples": 5}), blob, match="counts other")
