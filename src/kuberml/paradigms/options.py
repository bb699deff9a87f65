"""Options that many paradigms share."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

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


class Handing(Training, frozen=True, kw_only=True):
    """Options of every paradigm whose server hands out weights and takes in what clients make of them."""

    deadline_s: float = 600.0


class Handed(Handing, frozen=True, kw_only=True):
    """Options of any server that takes in models as they come.

    Attributes:
        updates: how many it takes in, all in all, until it says that it is over.
        cohort: the share of the clients present that train at a time, at least one.
        rest_s: how long a client that did not answer is left alone; see `exchange.crowd`.
    """

    updates: Annotated[int, Meta(ge=0)] = 200
    cohort: float = 1.0
    rest_s: Annotated[float, Meta(gt=0)] = 10.0
