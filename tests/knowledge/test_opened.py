"""Nodes of one process share what they opened, and none of them can change it for the others."""

import msgspec
import numpy as np
import pytest

from kuberml.core.errors import RemoteError
from kuberml.core.values import value
from kuberml.knowledge import opened
from kuberml.knowledge.card import Knowledge
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.pack import Limits, check_limits, make, open_value

from .packets import keys


def package(number: int = 0, size: int = 1000) -> Knowledge:
    """Weights that no other test has opened."""
    state_P = np.full(size, number + 0.5, np.float32)
    return make("weights", Weights({"state": state_P}, {"3": 5}), keys=keys(1), task="t", slot=f"opened-{size}", version=number,
                learned_at_ms=0)  # fmt: skip


@value
class Loose(msgspec.Struct, frozen=True):
    """A value that whoever has it can change."""

    numbers: list[int]


def test_the_second_who_opens_weights_is_given_the_same_arrays_and_maps_of_its_own() -> None:
    first, second = open_value(package(1)), open_value(package(1))
    assert second.tensors["state"] is first.tensors["state"]
    first.tensors["state"] = np.zeros(3)
    first.labels["3"] = 99
    third = open_value(package(1))
    assert (third.tensors["state"].shape, third.labels) == ((1000,), {"3": 5})


def test_what_is_shared_does_not_pass_over_what_is_wrong_with_other_bytes_of_the_same_card() -> None:
    good = package(2)
    open_value(good)
    with pytest.raises(RemoteError, match="is not what its author signed"):
        open_value(Knowledge(good.signed, (good.blobs[0][:-1] + b"\x00",)))


def test_what_can_be_changed_is_made_anew_for_each() -> None:
    card = package(3).signed.digest
    one, other = (opened.shared(card, (b"loose",), lambda: Loose([1])) for _ in range(2))
    one.numbers.append(2)
    assert other.numbers == [1]


def test_only_so_much_is_kept() -> None:
    floats = opened.RECENT_BYTES // 12
    large = [open_value(package(number, floats)) for number in range(4)]
    assert open_value(package(3, floats)).tensors["state"] is large[3].tensors["state"]
    assert open_value(package(0, floats)).tensors["state"] is not large[0].tensors["state"]


def test_a_card_within_wide_limits_is_looked_at_again_for_narrow_ones() -> None:
    signed = package(4).signed
    check_limits(signed)
    with pytest.raises(RemoteError, match="labels is over the limit of 0"):
        check_limits(signed, Limits(labels=0))
    check_limits(signed)
