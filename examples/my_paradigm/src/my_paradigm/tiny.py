"""Model `tiny`: one hidden layer. torch is imported when a scenario asks for it, not when kuberml lists what there is."""

import math
from typing import Any


def tiny(shape: tuple[int, ...], classes: int, hidden: int = 16) -> Any:
    """A `torch.nn.Module` that returns logits [N, classes] for [N, *shape]."""
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), hidden), nn.ReLU(), nn.Linear(hidden, classes))
