"""What a scenario ends in: summaries of single runs, and the result over seeds (`result.json`, schema kuberml.result/1).

Accuracies are shares from 0 to 1. A field that could not be measured, or a target that a seed did not reach, is None (null).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from kuberml.core.damage import NOT_JSON
from kuberml.core.errors import ConfigError
from kuberml.scenario.served_result import ServedResult, ServedRun

SCHEMA = "kuberml.result/1"
RUNS_SCHEMA = "kuberml.runs/1"
RESULT_FILE, RUNS_FILE, REPORT_FILE = "result.json", "runs.json", "report.html"

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


class Runs(msgspec.Struct, frozen=True):
    """`runs.json`: every run's summary; reports and comparisons are drawn from it."""

    runs: tuple[RunSummary, ...]
    schema: str = RUNS_SCHEMA


def write_result(out: Path, result: Result, runs: tuple[RunSummary, ...]) -> None:
    """Write `result.json` and `runs.json` into the folder `out`, each whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    _write(out / RUNS_FILE, Runs(runs))
    _write(out / RESULT_FILE, result)


def read_result(folder: Path) -> Result:
    """The result of a run folder. Raises ConfigError: there is none, or it is of another schema."""
    return _read(folder / RESULT_FILE, Result, SCHEMA)


def read_runs(folder: Path) -> tuple[RunSummary, ...]:
    """The summaries of a run folder. Raises ConfigError: there are none, or they are of another schema."""
    return _read(folder / RUNS_FILE, Runs, RUNS_SCHEMA).runs


T = TypeVar("T", Result, Runs)


def _write(path: Path, struct: msgspec.Struct) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(struct), indent=1) + b"\n")
    part.replace(path)


def _read(path: Path, struct: type[T], schema: str) -> T:
    try:
        read = msgspec.json.decode(path.read_bytes(), type=struct)
    except OSError as error:
        raise ConfigError(f"no {path.name} in {path.parent}: give the folder that `kuberml run --out` wrote") from error
    except NOT_JSON as error:
        raise ConfigError(f"{path} is not a {schema}: {error}") from error
    if read.schema != schema:
        raise ConfigError(f"{path} has schema {read.schema!r}, not {schema!r}")
    return read
