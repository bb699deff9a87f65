"""What a cloud model takes in, what it refuses, and how often it looks."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from kuberml.core.ids import LabelId
from kuberml.core.values import value
from kuberml.knowledge.grid import StepLog2

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[int, Meta(ge=1)]


@value
class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a `Cloud`.

    Attributes:
        bound: an update that loses more than this share of the right answers about a protected label is refused ...
        guard: ... if chance explains the loss with less than this probability (one-sided sign test).
        creep: and one after which it has lost this share since it was best, by updates that were each small enough.
        taken: new labels may take this share of a protected label's answers: similar classes do, a copy under a new name more.
        min_samples: of a label, fewer are no evidence.
        protected: labels that must not be lost; () = all that are served.
        resembles: a packet lies about a label if its mean is that near to another label's; see `trying.resemblances`.
        evaluate: publish every new model, so that edges evaluate it on data of their own and say what they found, signed.
        patience_s: with edges that are asked to evaluate.
        witnesses: edges of some standing that must agree that a label was lost before a served model is rolled back.
        tries: how often a packet is tried that would have harmed; what lies about its labels is never tried again.
        alarm: false alarms of drift, as a share of the packets.
        batch: packets that are absorbed at once, at most.
        every_s: between two looks for what was announced while nobody listened.
        samples_max: that one packet may claim: a count is influence.
        step_log2, clip: the grid on which features lie; packets on another are refused.
        ridge: of the head; None chooses it from the sums by generalised cross-validation, at ten times the work.
    """

    bound: Share = 0.1
    guard: Share = 0.05
    creep: Share = 0.3
    taken: Share = 0.5
    min_samples: Positive = 4
    protected: tuple[LabelId, ...] = ()
    resembles: Share = 0.5
    evaluate: bool = False
    patience_s: Annotated[float, Meta(gt=0)] = 30.0
    witnesses: Positive = 2
    tries: Positive = 3
    alarm: Annotated[float, Meta(gt=0, lt=1)] = 0.001
    batch: Positive = 16
    every_s: Annotated[float, Meta(gt=0)] = 30.0
    samples_max: Positive = 1_000_000
    step_log2: StepLog2 = 8
    clip: Annotated[float, Meta(gt=0)] = 16.0
    ridge: Annotated[float, Meta(gt=0)] | None = None
