"""`torch.compile`: compiled once, with frozen weights, for whichever thread asks. Where there is a C++ compiler."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kuberml.serving.engines import build
from tests.serving.engines.models import SHAPE, digits, network

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("g++", "c++", "clang++"))), reason="no C++ compiler is here")


def test_a_network_is_compiled_once_with_frozen_weights_and_any_thread_may_ask() -> None:
    pytest.importorskip("torch", reason="extra 'torch'")
    from torch._dynamo.utils import counters

    predictor = network("mlp")
    before = dict(counters["stats"]), dict(counters["inductor"])
    fast = build(predictor, SHAPE, engine="compiled", calibration=digits())
    assert (fast.name, fast.precision) == ("compiled", "fp32")
    graphs = counters["stats"]["unique_graphs"] - before[0].get("unique_graphs", 0)
    packed = "mkldnn_linear_weight_pack_matcher_count"
    assert graphs == 2  # a batch of 1, and one of 32
    assert counters["inductor"][packed] > before[1].get(packed, 0)  # only weights that cannot change are packed
    with ThreadPoolExecutor(3) as pool:
        for got_NC, count in pool.map(lambda count: (fast.predict(digits().x_N[:count]), count), [1, 2, 31, 32, 33, 70] * 2):
            np.testing.assert_allclose(np.exp(got_NC), np.exp(predictor.predict(digits().x_N[:count])), atol=1e-4)
    assert counters["stats"]["unique_graphs"] - before[0].get("unique_graphs", 0) == graphs


def test_torchao_quantises_to_seven_bits_where_products_of_bytes_saturate() -> None:
    pytest.importorskip("torchao", reason="extra 'torchao'")
    predictor = network("mlp")
    fast = build(predictor, SHAPE, engine="compiled", precision="int8-reduced", calibration=digits(), bound=0.01)
    assert (fast.name, fast.precision) == ("compiled", "int8-reduced")
    held_N, y_N = digits().x_N[1::2], digits().y_N[1::2]
    got_NC, wanted_NC = fast.predict(held_N), predictor.predict(held_N)
    assert np.abs(np.exp(got_NC) - np.exp(wanted_NC)).max() > 1e-4  # it really is another arithmetic
    assert (wanted_NC.argmax(1) == y_N).mean() - (got_NC.argmax(1) == y_N).mean() <= 0.01
