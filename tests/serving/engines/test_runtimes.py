"""Every runtime that is installed answers as the predictor does, for any number of samples and from several threads."""

from __future__ import annotations

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.knowledge.kinds.statistics import solve
from kuberml.learning.predictor import Blend, HeadOn, Predictor
from kuberml.learning.sklearn_learner import SklearnLearner
from kuberml.learning.types import FitPlan, Samples
from kuberml.serving.engines import Engine, build
from kuberml.serving.engines.builder import _shelf
from kuberml.serving.engines.cpu import BF16, INT8, this_cpu
from tests.serving.engines.models import SHAPE, digits, head_on, head_on_patches, network

HERE = this_cpu()
ABLE = dataclasses.replace(HERE, flags=frozenset({"avx2", *INT8, *BF16}))
"""This machine as if it had every instruction: what it lacks is emulated, or saturates."""


def need(engine: str) -> None:
    pytest.importorskip({"onnx": "onnxscript", "openvino": "openvino"}.get(engine, "torch"), reason=f"extra {engine!r}")


def built(engine: str, model: str = "patches", precision: str = "fp32", **wish: object) -> tuple[Predictor, Engine]:
    need(engine)
    predictor = head_on_patches()[0] if model == "patches" else network("lenet")
    return predictor, build(predictor, SHAPE, engine=engine, precision=precision, calibration=digits(), **wish)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("engine", "model"), [("torch", "patches"), ("torch", "lenet"), ("onnx", "patches"), ("openvino", "patches")]
)
def test_a_runtime_answers_as_the_predictor_does(engine: str, model: str) -> None:
    predictor, fast = built(engine, model)
    assert (fast.name, fast.precision) == (engine, "fp32")
    for count in (0, 1, 7, 40):
        x_N = digits().x_N[:count]
        got = fast.predict(x_N)
        assert got.shape == (count, 10)
        assert got.dtype == np.float32
        np.testing.assert_allclose(np.exp(got), np.exp(predictor.predict(x_N)), atol=1e-3)


@pytest.mark.parametrize("engine", ["torch", "onnx", "openvino"])
def test_threads_do_not_disturb_each_other(engine: str) -> None:
    _, fast = built(engine)
    x_N = digits().x_N[:60]
    alone = fast.predict(x_N)
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(lambda start: fast.predict(x_N[start : start + 3]), [*range(0, 60, 3)] * 5)
    np.testing.assert_allclose(np.concatenate(list(parts)), np.tile(alone, (5, 1)), atol=1e-5)


@pytest.mark.parametrize(("engine", "model"), [("torch", "lenet"), ("openvino", "patches")])
def test_bf16_runs_where_it_is_said_to_be_there_and_is_proven(engine: str, model: str) -> None:
    predictor, fast = built(engine, model, "bf16", bound=0.01, cpu=ABLE)
    right = [float((one.predict(digits().x_N).argmax(1) == digits().y_N).mean()) for one in (fast, predictor)]
    assert fast.precision == "bf16"
    assert right[1] - right[0] <= 0.01


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_reduced_int8_is_calibrated_on_one_half_and_proven_on_the_other(engine: str) -> None:
    predictor, fast = built(engine, "patches", "int8-reduced", bound=0.01)
    assert fast.precision == "int8-reduced"
    assert "of 250 answers agree" in fast.why
    held_N, y_N = digits().x_N[1::2], digits().y_N[1::2]
    lost = (predictor.predict(held_N).argmax(1) == y_N).mean() - (fast.predict(held_N).argmax(1) == y_N).mean()
    assert np.abs(fast.predict(held_N) - predictor.predict(held_N)).max() != 0  # it really is another arithmetic
    assert lost <= 0.01


@pytest.mark.skipif(bool(HERE.flags.intersection(INT8)), reason="this CPU has VNNI: its byte products do not saturate")
@pytest.mark.skipif("avx2" not in HERE.flags, reason="seen with AVX2")
def test_full_range_int8_really_saturates_here_and_the_accuracy_would_refuse_it_even_where_the_flags_lie() -> None:
    with pytest.raises(ConfigError, match=r"not onnx int8: accuracy 0\.9\d+ instead of 0\.9\d+, over the bound"):
        built("onnx", "patches", "int8", bound=0.01, cpu=ABLE)
    with pytest.raises(ConfigError, match="saturate"):
        built("onnx", "patches", "int8", bound=0.01)


def test_int8_without_samples_or_with_too_few_is_refused() -> None:
    need("onnx")
    predictor, samples = head_on_patches()
    with pytest.raises(ConfigError, match="ranges from calibration samples"):
        build(predictor, SHAPE, engine="onnx", precision="int8-reduced")
    few = Samples(samples.x_N[:40], samples.y_N[:40], samples.labels)
    with pytest.raises(ConfigError, match="takes 500 labelled samples held out; there are 20"):
        build(predictor, SHAPE, engine="onnx", precision="int8-reduced", calibration=few)


def test_the_default_is_the_fastest_proven_and_says_why() -> None:
    predictor, samples = head_on_patches()
    fast = build(predictor, SHAPE, calibration=samples)
    assert "not " in fast.others
    assert "not " not in fast.why  # which /v1/models tells: a line, not all that was tried
    assert len(fast.why) < 200
    np.testing.assert_allclose(np.exp(fast.predict(samples.x_N)), np.exp(predictor.predict(samples.x_N)), atol=0.002)


def test_a_new_head_on_a_known_extractor_is_served_at_once() -> None:
    need("onnx")
    predictor, _ = head_on_patches()
    build(predictor, SHAPE, calibration=digits())
    from kuberml.knowledge.kinds.extractor import basis_of
    from kuberml.knowledge.kinds.statistics import describe
    from kuberml.learning.extractors import features

    taught = digits("train")
    names = [taught.labels[position] for position in taught.y_N]
    stats, _ = describe(features(predictor.extractor, taught.x_N[:300]), names[:300], basis=basis_of(predictor.extractor))
    newer = HeadOn(predictor.extractor, solve(stats, 4.0), SHAPE)
    before = time.perf_counter()
    fast = build(newer, SHAPE, calibration=digits())
    took_s = time.perf_counter() - before
    assert took_s < 0.5
    np.testing.assert_allclose(np.exp(fast.predict(digits().x_N)), np.exp(newer.predict(digits().x_N)), atol=0.002)


def test_what_was_not_used_for_long_is_forgotten() -> None:
    for steps in range(1, 7):
        build(network("linear", steps), SHAPE, engine="torch")
    assert len(_shelf._parts) <= 4


def test_a_blend_is_answered_by_two_engines() -> None:
    first, second = head_on_patches()[0], network("lenet")
    blend = Blend(first, second, {"3": 0.9})
    fast = build(blend, SHAPE, engine="torch", calibration=digits())
    np.testing.assert_allclose(np.exp(fast.predict(digits().x_N)), np.exp(blend.predict(digits().x_N)), atol=1e-4)
    assert (fast.name, fast.precision) == ("torch", "fp32")


def test_what_no_runtime_knows_is_answered_by_itself() -> None:
    pytest.importorskip("sklearn", reason="extra 'sklearn'")
    from kuberml.learning.predictor import Network

    learner = SklearnLearner("sklearn.linear_model:LogisticRegression", SHAPE, digits().labels)
    forest = Network(learner, learner.fit(learner.init(0), digits("train"), FitPlan(lr=0.1), seed=0))
    fast = build(forest, SHAPE)
    assert fast.name == "eager"
    assert fast.why == "eager fp32: nothing else can be had"
    assert "no form as a torch module" in fast.others
    with pytest.raises(ConfigError, match="no form"):
        build(forest, SHAPE, engine="torch")


def test_an_extractor_that_costs_nothing_is_left_alone() -> None:
    from kuberml.learning.extractors import identity

    fast = build(head_on(identity(64)), SHAPE)
    assert (fast.name, "nothing to accelerate" in fast.why) == ("eager", True)


def test_a_diverged_state_answers_uniformly_like_its_predictor() -> None:
    from kuberml.learning.predictor import Network

    good = network("lenet")
    broken = Network(good.learner, np.full_like(good.state, np.nan))
    fast = build(broken, SHAPE, engine="torch")
    np.testing.assert_allclose(fast.predict(digits().x_N[:3]), np.log(0.1), rtol=1e-5)


@pytest.mark.parametrize(("wish", "what"), [({"bound": 0.0}, "bound"), ({"calibration": Samples(
    np.zeros((4, 9, 9, 1), np.float32), np.zeros(4, np.int64), ("0",))}, "calibration samples have the shape")])  # fmt: skip
def test_wrong_wishes_are_named(wish: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        build(head_on_patches()[0], SHAPE, **wish)  # type: ignore[arg-type]
