"""`build` always gives an engine, and what it answers is what the predictor answers."""

from __future__ import annotations

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.learning.types import Array
from kuberml.serving.engines import Engine, build
from tests.serving.engines.models import head_on_patches

SHAPE = (8, 8, 1)


def test_eager_answers_as_the_predictor_does_for_any_number_of_samples() -> None:
    predictor, samples = head_on_patches()
    engine: Engine = build(predictor, SHAPE, engine="eager")
    for count in (0, 1, 7):
        np.testing.assert_array_equal(engine.predict(samples.x_N[:count]), predictor.predict(samples.x_N[:count]))
    assert (engine.name, engine.precision) == ("eager", "fp32")


@pytest.mark.parametrize("x", [np.zeros((2, 8, 8), np.float32), np.zeros((2, 9, 8, 1), np.float32)])
def test_samples_of_another_shape_are_refused_by_their_shape(x: Array) -> None:
    predictor, _ = head_on_patches()
    with pytest.raises(ConfigError, match=r"this model takes \(8, 8, 1\)"):
        build(predictor, SHAPE, engine="eager").predict(x)


@pytest.mark.parametrize(("asked", "what"), [({"engine": "eagre"}, "did you mean 'eager'"), ({"precision": "int4"}, "int8")])
def test_an_unknown_wish_is_refused_with_what_there_is(asked: dict[str, str], what: str) -> None:
    predictor, _ = head_on_patches()
    with pytest.raises(ConfigError, match=what):
        build(predictor, SHAPE, **asked)
