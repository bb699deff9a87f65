"""What a scenario ends in: the result over seeds (`result.json`, schema kuberml.result/1).

Accuracies are shares from 0 to 1. A field that could not be measured, or a target that a seed did not reach, is None (null).
"""

from __future__ import annotations

import msgspec

from kuberml.scenario.run_summary import CurvePoint
from kuberml.scenario.served_result import ServedResult

SCHEMA = "kuberml.result/1"


class RunRef(msgspec.Struct, frozen=True):
    """One run's identity."""

    paradigm: str
    seed: int
    trace_hash: str
    integer_hash: str = ""


class FailedRun(msgspec.Struct, frozen=True):
    """A run of a comparison that broke, so that nothing is known of it. `why`: its error in a line."""

    paradigm: str
    seed: int
    why: str

    def __str__(self) -> str:
        return f"{self.paradigm}, seed {self.seed}, failed: {self.why}"


class Freshness(msgspec.Struct, frozen=True):
    """Seconds from learned at A to used at B."""

    median: float | None
    p99: float | None


class Interval(msgspec.Struct, frozen=True):
    """A 95 % confidence interval of a mean over seeds (Student's t)."""

    low: float
    high: float


class ParadigmResult(msgspec.Struct, frozen=True, kw_only=True):
    """One paradigm over seeds: means, and `_std`, the sample deviation over seeds (None for one seed).

    `bias` is accuracy_fast - accuracy_slow: by how much what is served fits fast devices' data better than slow devices'.
    """

    use: str = ""
    note: str = ""
    seeds: int
    accuracy_mean: float | None  # None: no learner served anything
    accuracy_mean_std: float | None
    accuracy_mean_interval: Interval | None
    accuracy_p10: float | None
    accuracy_p10_std: float | None
    accuracy_own: float | None
    accuracy_own_std: float | None
    accuracy_slow: float | None = None
    accuracy_slow_std: float | None = None
    accuracy_fast: float | None = None
    accuracy_fast_std: float | None = None
    bias: float | None = None
    bias_std: float | None = None
    accuracy_before: float | None
    accuracy_before_std: float | None
    accuracy_network: float | None
    accuracy_network_std: float | None
    accuracy_pooled_reference: float | None
    accuracy_pooled_reference_std: float | None
    virtual_time_s: float
    virtual_time_s_std: float | None
    time_to_target_s: float | None
    time_to_target_s_std: float | None
    bytes_moved: float
    bytes_moved_std: float | None
    bytes_to_target: float | None
    bytes_to_target_std: float | None
    energy_j: float
    energy_j_std: float | None
    energy_to_target_j: float | None
    energy_to_target_j_std: float | None
    freshness_s: Freshness
    freshness_s_std: Freshness
    latency_p50_ms: float | None
    latency_p50_ms_std: float | None
    latency_p99_ms: float | None
    latency_p99_ms_std: float | None
    flops: float
    flops_std: float | None
    regret: float | None
    regret_std: float | None
    target_reached: int  # by how many of the seeds
    harmed: int | None  # honest learners that ended below where they began, over all seeds; None = not measured
    curve: tuple[CurvePoint, ...]
    curve_std: tuple[CurvePoint, ...] | None
    served: ServedResult | None = None  # the cloud model's, where data arrive over time


class Target(msgspec.Struct, frozen=True):
    """The accuracy that the `_to_target` figures are measured to, and where it comes from."""

    accuracy: float
    how: str


class Rank(msgspec.Struct, frozen=True):
    """A place in the ranking by accuracy_mean (who has none is not ranked). `ties`: paradigms whose intervals overlap."""

    paradigm: str
    accuracy_mean: float
    interval: Interval | None
    ties: tuple[str, ...]


class ScenarioRef(msgspec.Struct, frozen=True):
    """Which scenario a result is of."""

    name: str
    digest: str
    data_digest: str
    seeds: tuple[int, ...]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """`result.json`."""

    schema: str = SCHEMA
    task: str
    learners: int
    wall_s: float
    scenario: ScenarioRef
    target: Target | None
    runs: tuple[RunRef, ...]
    paradigms: dict[str, ParadigmResult]
    ranking: tuple[Rank, ...]
    sentence: str  # what the reader sees, in plain words
    versions: dict[str, str] = {}
    remarks: tuple[str, ...] = ()  # what the scenario asks for and did not get
    failed: tuple[FailedRun, ...] = ()  # they are in none of the figures; a paradigm of which all failed is not in `paradigms`

    @property
    def is_live(self) -> bool:
        """Whether real processes played it, in real time: such a run never repeats, so it has no trace hash."""
        return not any(run.trace_hash for run in self.runs)
