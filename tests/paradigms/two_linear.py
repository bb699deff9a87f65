"""Networks for tests: one small enough to differentiate by hand, one whose layers do not stand in a row."""

import math
from typing import Any

from torch import Tensor, nn


class TwoLinear(nn.Sequential):
    """softmax(W2 (W1 x + b1) + b2) with six numbers between."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(math.prod(shape), 6), nn.Linear(6, classes))

    def __getitem__(self, index: Any) -> Any:
        """Slices of it are plain rows of layers."""
        return nn.Sequential(*self)[index]


class NotInARow(nn.Module):
    """Its forward could do anything."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, C]."""
        out: Tensor = self.inside(x)
        return out
