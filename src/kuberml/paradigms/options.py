"""Options that many paradigms share."""

from __future__ import annotations

import msgspec

from kuberml.learning.types import FitPlan


class Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a learner fits: the fields of `FitPlan`, so that a scenario's `[train]` gives them for every paradigm at once."""

    lr: float = 0.1
    epochs: int = 1
    steps: int = 0
    batch: int = 32
    momentum: float = 0.0
    weight_decay: float = 0.0
    bf16: bool = False

    @property
    def plan(self) -> FitPlan:
        """One fit's plan."""
        return FitPlan(self.lr, self.steps, self.epochs, self.batch, self.momentum, self.weight_decay, self.bf16)
