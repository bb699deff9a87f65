"""What one run comes to: one paradigm under one seed.

Accuracies are shares from 0 to 1. A field that could not be measured is None (null).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from kuberml.scenario.served_result import ServedRun

Outcome = Literal["tested", "on credit", "untested", "refused", "not chosen"]
"""A trial's verdict on a label or a package; "not chosen": the broker left the offer (budget, rank, no gain)."""


class CurvePoint(msgspec.Struct, frozen=True):
    """Where a run stood at one virtual time. Bytes, energy: spent so far by all nodes.

    `accuracy_mean` is over all honest learners; who serves nothing yet answers nothing and counts as 0.
    """

    time_s: float
    bytes: float
    accuracy_mean: float
    energy_j: float = 0.0


class Decision(msgspec.Struct, frozen=True):
    """What one learner did with one offer.

    Attributes:
        receiver, author: node ids.
        outcome: what the trial said; `why`: its reason in words.
        gains: per wanted label, recall after less before as the receiver could measure it, -1..1; {} if it could not.
        gain_true: rise of the receiver's accuracy on the unseen balanced test set (an oracle's view); None if not measured.
    """

    at_s: float
    receiver: str
    author: str
    outcome: Outcome
    why: str
    kind: str = ""
    labels: tuple[str, ...] = ()
    size_bytes: int = 0
    gains: dict[str, float] = {}
    gain_true: float | None = None


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One paradigm under one seed.

    Attributes:
        paradigm: its label in the scenario.
        accuracy: per learner, on the disjoint label-balanced test set, with the predictor that it serves.
        accuracy_own: per learner, on its own label mix.
        accuracy_slow, accuracy_fast: of what learners serve, on held-out data of the slowest and fastest third of devices.
        accuracy_before, accuracy_network: per learner, balanced: before anything was shared; its own network at the end
            (differs from `accuracy` when a shared head is served). {} when not measured.
        recall_before, recall: per learner and label, balanced test set.
        accuracy_pooled_reference: the same predictor trained on all that may be published.
        virtual_time_s, bytes_moved: until what is served last changed; energy_j, flops: to the end of the run, idling included.
        liars: learners that lied; means over learners leave them out.
        freshness_s: samples of (learned at A -> used at B); latency_ms: samples of prediction latency.
        regret: accuracy lost against an oracle that tries every offer; None when not asked for.
        extra: anything else that is worth keeping, plain values.
    """

    paradigm: str
    seed: int
    trace_hash: str
    integer_hash: str = ""
    accuracy: dict[str, float]
    accuracy_own: dict[str, float] = {}
    accuracy_slow: float | None = None
    accuracy_fast: float | None = None
    accuracy_before: dict[str, float] = {}
    accuracy_network: dict[str, float] = {}
    recall_before: dict[str, dict[str, float]] = {}
    recall: dict[str, dict[str, float]] = {}
    accuracy_pooled_reference: float | None = None
    liars: tuple[str, ...] = ()
    virtual_time_s: float
    bytes_moved: int
    energy_j: float
    flops: int
    freshness_s: tuple[float, ...] = ()
    latency_ms: tuple[float, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    decisions: tuple[Decision, ...] = ()
    withheld: dict[str, int] = {}  # samples per label that min_class_count kept from being published
    regret: float | None = None
    served: ServedRun | None = None  # the cloud model's, where data arrive over time
    note: str = ""  # what a reader must know, for instance the architecture that a baseline was given
    extra: dict[str, Any] = {}
