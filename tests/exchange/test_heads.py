"""Heads travel as weights: what comes back is what was sent, and what is no head is refused."""

from typing import Any

import msgspec
import numpy as np
import pytest

from kuberml.core.errors import RemoteError
from kuberml.exchange.heads import packed, unpacked
from kuberml.knowledge.kinds.statistics import solve
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.pack import make, open_value
from tests.exchange.town import BASIS, data, keys, statistics

HEAD = solve(statistics(data("12")))
SENT = packed(HEAD, {"1": 14, "2": 14})


def test_a_head_comes_back_as_it_was_sent() -> None:
    knowledge = make("weights", SENT, keys=keys("a"), task="digits", slot="head", version=0, learned_at_ms=0)
    found = unpacked(open_value(knowledge))
    np.testing.assert_array_equal(found.weights_dC, HEAD.weights_dC)
    assert (found.labels, found.ridge, found.basis, found.step_log2, found.clip) == (("1", "2"), HEAD.ridge, BASIS, 8, 4096)
    assert knowledge.card.basis == BASIS
    assert knowledge.card.labels == {"1": 14, "2": 14}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"basis": None}, "not a head"),
        ({"outputs": ()}, "not a head"),
        ({"outputs": ("1", "2", "3")}, "a head is float64"),
        ({"tensors": {"state": np.zeros(3)}}, "not a head"),
        ({"tensors": {**SENT.tensors, "head": HEAD.weights_dC.astype(np.float32)}}, "float64"),
        ({"tensors": {**SENT.tensors, "grid": np.array([8])}}, "two integers"),
        ({"tensors": {**SENT.tensors, "grid": np.array([99, 1])}}, "grid of a head"),
    ],
)
def test_what_is_no_head_is_refused(change: dict[str, Any], what: str) -> None:
    with pytest.raises(RemoteError, match=what):
        unpacked(msgspec.structs.replace(SENT, **change))
    assert isinstance(SENT, Weights)
