"""Options that many paradigms share."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from kuberml.core.ranges import Count, Fading, NonNegative, Positive, Share, Whole
from kuberml.core.units import NS
from kuberml.exchange.policies.options import Choice, Energy, Late, Offload, Policy
from kuberml.exchange.steps.options import (
    CentredClip,
    Clip,
    Dp,
    Krum,
    Masks,
    Name,
    Quantise,
    Steps,
    TopK,
    TrimmedMean,
)
from kuberml.exchange.steps.table import Collects
from kuberml.learning.types import FitPlan


class Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a learner fits: the fields of `FitPlan`, so that a scenario's `[train]` gives them for every paradigm at once."""

    lr: Positive = 0.1
    epochs: Count = 1
    steps: Whole = 0
    batch: Count = 32
    momentum: Fading = 0.0
    weight_decay: NonNegative = 0.0
    bf16: bool = False

    @property
    def plan(self) -> FitPlan:
        """One fit's plan."""
        return FitPlan(self.lr, self.steps, self.epochs, self.batch, self.momentum, self.weight_decay, self.bf16)


class Unpaced(Training, frozen=True, kw_only=True):
    """Options of paradigms without common rounds: every node goes on at its own speed.

    Attributes:
        rounds: how often each node trains; fast ones then have finished early.
        for_s: go on for this long instead, seconds, so that fast nodes train more often; 0: by `rounds`.
    """

    rounds: Whole = 20
    for_s: NonNegative = 0.0

    def goes_on(self, done: int, began_ns: int, now_ns: int) -> bool:
        """Whether a node that has trained `done` times since `began_ns` trains again."""
        return now_ns - began_ns < self.for_s * NS if self.for_s else done < self.rounds


class Handing(Training, frozen=True, kw_only=True):
    """Options of every paradigm whose server hands out weights and takes in what clients make of them.

    Attributes:
        deadline_s: patience with each client.
        update_steps: what is done to updates, in their order; see docs/steps.md. The tables that follow are their options.
        policy, energy: who is asked; see docs/steps.md.
        late: whether updates count that come after the deadline; see docs/steps.md.
        offload: where clients' training may run instead.
        collects: what the server does with updates; see `exchange.steps.table`.
        offloads: whether clients train in a way that may run elsewhere.
    """

    collects: ClassVar[Collects] = "own"
    offloads: ClassVar[bool] = False

    deadline_s: Positive = 600.0
    update_steps: tuple[Name, ...] = ()
    clip: Clip = Clip()
    top_k: TopK = TopK()
    quantise: Quantise = Quantise()
    dp: Dp = Dp()
    masks: Masks = Masks()
    krum: Krum = Krum()
    trimmed_mean: TrimmedMean = TrimmedMean()
    centred_clip: CentredClip = CentredClip()
    policy: Policy = "uniform"
    energy: Energy = Energy()
    late: Late = Late()
    offload: Offload = Offload()

    @property
    def choice(self) -> Choice:
        """The policy with its options."""
        share = getattr(self, "cohort", 1.0)
        secretly = "dp" in self.update_steps
        return Choice(policy=self.policy, energy=self.energy, late=self.late, share=share, secretly=secretly)

    @property
    def chain(self) -> Steps:
        """The steps with their options."""
        options = {name: getattr(self, name) for name in Steps.__struct_fields__ if name != "names"}
        return Steps(names=self.update_steps, **options)


class Handed(Handing, frozen=True, kw_only=True):
    """Options of any server that takes in models as they come.

    Attributes:
        updates: how many it takes in, all in all, until it says that it is over.
        cohort: the share of the clients present that train at a time, at least one.
        rest_s: how long a client that did not answer is left alone; see `exchange.crowd`.
    """

    collects: ClassVar[Collects] = "stream"

    updates: Whole = 200
    cohort: Share = 1.0
    rest_s: Positive = 10.0
