import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kuberml.core.errors import ConfigError
from kuberml.core.ids import digest_of
from kuberml.knowledge import tensors
from kuberml.knowledge.kinds.weights import Weights, base_of

from .wire import flipped, refused, sent, survives_damage, there_and_back

finite = st.floats(-1e4, 1e4, width=32)
arrays = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), elements=finite)
named = st.dictionaries(st.text("abc.01é", min_size=1, max_size=6), arrays, min_size=1, max_size=4)

SMALL = Weights({"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7)}, {"b": 3, "a": 2}, ("b", "c", "a"))


@given(named)
@settings(derandomize=True, max_examples=60)
def test_any_tensors_come_back_bit_for_bit(found):
    there_and_back("weights", Weights(dict(sorted(found.items()))))


@given(named)
@settings(derandomize=True, max_examples=30)
def test_fp16_rounds_once_and_then_stays(found):
    card, blobs = sent("weights", Weights(found, wire="fp16"))
    rounded = {name: found[name].astype(np.float16).astype(np.float32) for name in sorted(found)}
    back = there_and_back("weights", Weights(rounded, wire="fp16"))
    assert sent("weights", back) == (card, blobs)


def test_order_of_insertion_does_not_change_the_bytes():
    turned = Weights(dict(reversed(list(SMALL.tensors.items()))), SMALL.labels, SMALL.outputs)
    assert sent("weights", turned)[1] == sent("weights", SMALL)[1]


def test_golden_digest_of_the_blob():
    assert base_of(SMALL) == digest_of(sent("weights", SMALL)[1][0])
    assert base_of(SMALL) == "7f936ef410e379fa1eb466913ccd4f3b5e913846fcde13a91b152739069d4520"


def test_card_carries_counts_and_facts_the_order_of_outputs():
    card, _ = sent("weights", SMALL)
    assert card.labels == {"a": 2, "b": 3}
    assert card.facts == {"wire": "fp32", "outputs": '["b","c","a"]'}


def test_received_tensors_are_read_only():
    back = there_and_back("weights", Weights({"w": np.ones(2, np.float32)}))
    with pytest.raises(ValueError, match="read-only"):
        back.tensors["w"][0] = 2


def test_damage_is_the_senders_fault():
    survives_damage("weights", SMALL)


@given(st.lists(st.integers(0, 10**6), min_size=10, max_size=40))
@settings(derandomize=True, max_examples=20)
def test_a_flipped_bit_never_gives_nan(positions):
    def accept(back):
        assert all(np.isfinite(array).all() for array in back.tensors.values())

    flipped("weights", SMALL, positions, accept)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad):
    array = np.array([1.0, bad], np.float32)
    with pytest.raises(ConfigError, match="'w' holds NaN or infinity"):
        sent("weights", Weights({"w": array}))
    card, (blob,) = sent("weights", Weights({"w": np.array([1.0, 1.5], np.float32)}))
    refused("weights", card, blob[:-4] + array[1:].tobytes(), match="NaN or infinity")


def test_what_overflows_fp16_is_refused_before_it_travels():
    with pytest.raises(ConfigError, match="NaN or infinity"):
        sent("weights", Weights({"w": np.array([1e6], np.float32)}, wire="fp16"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"tensors": {}}, "without a tensor"),
        ({"tensors": {"w": np.zeros(2, np.complex64)}}, "complex64"),
        ({"tensors": {"w": np.zeros(2, np.float16)}}, "float16"),
        ({"tensors": {"w": np.array(["x"])}}, "'w' is"),
        ({"tensors": {"": np.zeros(2)}}, "1 to 256"),
        ({"tensors": {"w": np.zeros((1,) * 9)}}, "9 axes"),
        ({"labels": {"a": 0}}, "stands on 0"),
        ({"labels": {"": 1}}, "1 to 256"),
        ({"labels": {"d": 1}}, "not among the outputs"),
        ({"outputs": ("a", "b", "a")}, "twice"),
        ({"wire": "fp8"}, "fp8"),
    ],
)
def test_a_value_that_breaks_a_rule_is_the_callers_fault(change, match):
    with pytest.raises(ConfigError, match=match):
        sent("weights", msgspec.structs.replace(SMALL, **change))


def test_a_card_that_does_not_fit_the_blob():
    card, (blob,) = sent("weights", SMALL)
    for facts in (
        {"wire": "fp16", "outputs": card.facts["outputs"]},
        {"wire": "fp8", "outputs": card.facts["outputs"]},
        {"wire": "fp32", "outputs": '["b", "c", "a"]'},
        {"wire": "fp32", "outputs": "[" * 5000},
        {"wire": "fp32", "outputs": '["b"]'},
    ):
        refused("weights", msgspec.structs.replace(card, facts=facts), blob)
    refused("weights", msgspec.structs.replace(card, labels={"a": -1}), blob, match="stands on -1")
    half = tensors.encode({"w": np.zeros(3, np.float16)})
    refused("weights", card, half, match="float16")
