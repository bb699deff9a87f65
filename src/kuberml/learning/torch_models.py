"""The built-in architectures in PyTorch, each for 8x8x1 up to 32x32x3. Imported by `models` at first use.

Normalisation is GroupNorm, never BatchNorm: it has no running statistics, so the mean of two states is a state and a learner
with two classes does not shift them (Hsieh et al., The Non-IID Data Quagmire of Decentralized Machine Learning, ICML 2020).
Legend: H, W sides, F flattened features, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

Shape = tuple[int, ...]

SMALL_SIDE = 16
"""Images with a side under this get 3x3 instead of 5x5 kernels and narrower layers."""


def linear(shape: Shape, classes: int) -> nn.Module:
    """Multinomial logistic regression on the flattened sample."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))


def mlp(shape: Shape, classes: int, hidden: Sequence[int] = (200, 200)) -> nn.Module:
    """Fully connected ReLU layers; the default is the 2NN of McMahan et al. 2017 (arXiv 1602.05629)."""
    widths = [math.prod(shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


def lenet(shape: Shape, classes: int, hidden: Sequence[int] | None = None) -> nn.Module:
    """LeNet-5 with ReLU and max pooling (LeCun et al. 1998): 61,706 weights at 28x28x1 for 10 classes.

    Sides of 32 are not padded, smaller ones are, as in the original. Under 16: 3x3 kernels and one hidden layer of 32.
    """
    height, width, channels = _image(shape)
    small = min(height, width) < SMALL_SIDE
    kernel = 3 if small else 5
    convolutions = nn.Sequential(
        nn.Conv2d(channels, 6, kernel, padding=kernel // 2 if min(height, width) < 32 else 0),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, kernel, padding=1 if small else 0),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
    return _with_head(convolutions, shape, classes, hidden or ((32,) if small else (120, 84)))


def cnn(shape: Shape, classes: int, channels: Sequence[int] | None = None, hidden: Sequence[int] | None = None) -> nn.Module:
    """The CNN of FedAvg (McMahan et al. 2017): 1,663,370 weights at 28x28x1 for 10 classes.

    Two padded convolutions with max pooling, 5x5 with (32, 64) channels and a hidden layer of 512. Under a side of 16:
    3x3 with (16, 32) channels and 64.
    """
    height, width, depth = _image(shape)
    small = min(height, width) < SMALL_SIDE
    kernel = 3 if small else 5
    first, second = channels or ((16, 32) if small else (32, 64))
    convolutions = nn.Sequential(
        nn.Conv2d(depth, first, kernel, padding=kernel // 2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, kernel, padding=kernel // 2),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
    return _with_head(convolutions, shape, classes, hidden or ((64,) if small else (512,)))


def resnet8(shape: Shape, classes: int, width: int = 16) -> nn.Module:
    """ResNet-8 (He et al. 2016 with one block a stage) with GroupNorm; channels width, 2 width, 4 width."""
    _, _, channels = _image(shape)
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        _norm(width),
        nn.ReLU(),
        Residual(width, width, 1),
        Residual(width, 2 * width, 2),
        Residual(2 * width, 4 * width, 2),
        MeanPool(),
        nn.Linear(4 * width, classes),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            _norm(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            _norm(after),
        )
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, before, H, W] -> [N, after, H / stride, W / stride]."""
        return nn.functional.relu(self.body(x) + self.shortcut(x))


class MeanPool(nn.Module):
    """Mean over H and W; a plain mean, because adaptive pooling has no deterministic backward on CUDA."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] -> [N, channels]."""
        return x.mean((2, 3))


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(8, channels), channels)


def _with_head(convolutions: nn.Sequential, shape: Shape, classes: int, hidden: Sequence[int]) -> nn.Module:
    height, width, channels = shape
    for layer in convolutions:  # follow the shape by arithmetic: no forward pass needed
        if isinstance(layer, nn.Conv2d):
            (kernel, _), pad = layer.kernel_size, int(layer.padding[0])
            height, width, channels = height + 2 * pad - kernel + 1, width + 2 * pad - kernel + 1, layer.out_channels
        elif isinstance(layer, nn.MaxPool2d):
            height, width = height // 2, width // 2
    if min(height, width) < 1:
        raise ValueError(f"images of {shape[0]}x{shape[1]} are too small for it; 8x8 is the least")
    return nn.Sequential(*convolutions, *mlp((height * width * channels,), classes, hidden))  # type: ignore[misc]


def _image(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ValueError(f"it needs images, a shape (H, W, channels), not {shape}; use 'mlp' or 'linear' for vectors")
    height, width, channels = shape
    return height, width, channels
