"""The models of `serving.py`, and their training: ResNet-18 for small images, and an encoder over patches."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kuberml.learning.datasets import DATASETS, samples
from kuberml.learning.models import MODELS
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import DataRef, FitPlan, Samples

DATA, SHAPE = "fashion-mnist", (28, 28, 1)
PLANS = {
    "resnet18": FitPlan(lr=0.05, steps=160, batch=64, momentum=0.9),
    "encoder": FitPlan(lr=0.01, steps=300, batch=64, momentum=0.9),
}
STEPS = 20


class Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        same = stride == 1 and before == after
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet18(shape: tuple[int, ...], classes: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(shape[2], 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    before = 64
    for stage, width in enumerate((64, 128, 256, 512)):
        layers += [Block(before, width, 2 if stage else 1), Block(width, width, 1)]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.mixed, self.out, self.heads = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
            heads,
        )

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.mixed(self.norm(x)).chunk(3, dim=2)
        )
        return self.out(nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = Attention(width, 8)
        self.inner = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.inner(x)


class Encoder(nn.Module):
    def __init__(self, shape: tuple[int, ...], classes: int, width: int = 256, layers: int = 6, patch: int = 4) -> None:
        super().__init__()
        self.cut = nn.Conv2d(shape[2], width, patch, patch)
        self.place = nn.Parameter(0.02 * torch.randn(1, (shape[0] // patch) * (shape[1] // patch), width))
        self.layers = nn.Sequential(*(Layer(width) for _ in range(layers)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.cut(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.layers(tokens).mean(1))


MODELS.add("resnet18", lambda: resnet18)
MODELS.add("encoder", lambda: Encoder)


def learner_of(model: str) -> TorchLearner:
    return TorchLearner(model, SHAPE, DATASETS.get(DATA).labels)


def part(split: str, start: int, stop: int) -> Samples:
    return samples(DataRef(DATA, split, np.arange(start, stop, dtype=np.int32)))


def train(model: str, folder: Path, steps: int, batch: int) -> None:
    learner, plan = learner_of(model), PLANS[model]
    data = part("train", 0, 25_000)
    folder.mkdir(parents=True, exist_ok=True)
    weights, done = folder / f"{model}.f32", folder / f"{model}.rounds"
    begun = int(done.read_text()) if done.is_file() else 0  # stopped on the way: it goes on there
    state, began_s = np.fromfile(weights, np.float32) if begun else learner.init(0), time.perf_counter()
    rounds = math.ceil(steps / STEPS)
    for each in range(begun, rounds):  # a falling rate, and something to see
        rate = plan.lr * (1 - each / rounds)
        state = learner.fit(state, data, FitPlan(lr=rate, steps=STEPS, batch=batch, momentum=plan.momentum), seed=each)
        print(f"{model}: {STEPS * (each + 1)} steps, {time.perf_counter() - began_s:.0f} s", flush=True)
        state.tofile(weights)
        done.write_text(str(each + 1))
