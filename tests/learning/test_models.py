import math
import subprocess
import sys

import pytest
import torch

from kuberml.core.errors import ConfigError, MissingExtra
from kuberml.learning import models
from kuberml.learning.models import MODELS, build

SHAPES = [(8, 8, 1), (28, 28, 1), (32, 32, 3)]


class Batchy(torch.nn.Module):
    """Somebody's own module: batch normalisation, dropout, an integer buffer, other weights than torch's default."""

    def __init__(self, classes: int, width: int = 6) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(1, width, 3), torch.nn.BatchNorm2d(width), torch.nn.ReLU(), torch.nn.Dropout(0.5)
        )
        self.head = torch.nn.Linear(width, classes)
        torch.nn.init.orthogonal_(self.head.weight)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


def batchy_of(shape, classes):
    assert shape == (8, 8, 1)
    return Batchy(classes)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["cnn", "lenet", "linear", "mlp", "resnet8"])
def test_every_architecture_takes_every_shape(name, shape):
    height, width, channels = shape
    answer = build(name, shape, 7)(torch.zeros(2, channels, height, width))
    assert answer.shape == (2, 7)
    assert torch.isfinite(answer).all()


def test_the_registry_lists_the_built_in_ones():
    assert {"lenet", "cnn", "mlp", "resnet8", "linear"} <= set(MODELS.names())


@pytest.mark.parametrize(
    ("name", "shape", "weights"),
    [
        ("linear", (8, 8, 1), 65 * 10),
        ("lenet", (28, 28, 1), 61_706),  # LeCun et al. 1998
        ("lenet", (32, 32, 3), 62_006),  # no padding at 32: the same 16 x 5 x 5 features
        ("cnn", (28, 28, 1), 1_663_370),  # McMahan et al. 2017
        ("mlp", (28, 28, 1), 199_210),  # 2NN of the same paper
    ],
)
def test_sizes_are_those_of_the_papers(name, shape, weights):
    assert sum(p.numel() for p in build(name, shape, 10).parameters()) == weights


def test_options_reach_the_architecture():
    first = build("mlp", (5,), 3, {"hidden": [4]})[1]
    assert first.weight.shape == (4, 5)
    assert build("resnet8", (8, 8, 1), 3, {"width": 8})[-1].weight.shape == (3, 32)


def test_a_module_of_ones_own_is_called_with_what_it_asks_for():
    assert build(f"{__name__}:Batchy", (8, 8, 1), 4, {"width": 3}).head.weight.shape == (4, 3)
    assert build(f"{__name__}:batchy_of", (8, 8, 1), 4).head.weight.shape == (4, 6)


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("lenett", (8, 8, 1), {}, "did you mean 'lenet'"),
        ("lenet", (64,), {}, "needs images"),
        ("lenet", (2, 2, 1), {}, "too small"),
        ("mlp", (64,), {"hiden": [3]}, "hiden"),
        ("mlp", (64,), {"hidden": [-1]}, "negative"),
        ("fractions:Fraction", (64,), {}, "a Fraction came out, not a torch.nn.Module"),
        ("nowhere:Net", (64,), {}, "importable"),
        ("math:pi", (64,), {}, "float, not a class"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_reason(name, shape, options, message):
    with pytest.raises(ConfigError, match=message):
        build(name, shape, 10, options)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_an_empty_layer_is_refused():
    with pytest.raises(ConfigError, match="weight is empty"):
        build("mlp", (64,), 10, {"hidden": [0]})


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"kuberml\[torch\]"):
        build("lenet", (8, 8, 1), 10)


def test_a_description_needs_no_torch():
    """Hubs and vaults name learners and predictors; importing these must not load torch (218 MB)."""
    code = "import sys, kuberml.learning.jobs, kuberml.learning.torch_learner; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_flat_shapes_work_for_vectors():
    assert build("linear", (13,), 2)(torch.zeros(3, 13)).shape == (3, 2)
    assert math.prod(build("mlp", (13,), 2, {"hidden": []})[1].weight.shape) == 26
