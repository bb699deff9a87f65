"""A scenario: one TOML file that says everything about a run. What it does not say has the default that stands here.

    name = "mine"
    [data]
    partition = "labels"
    [learners]
    count = 12
    [paradigms.local]
    [paradigms.fedavg]
    rounds = 20

The table name under `paradigms` is the label in the result; `use` names the paradigm (default: the label), the rest are that
paradigm's own options, checked by its own `Config`. Sizes may be text: `budget_bytes = "64 KB"`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from kuberml.core.errors import ConfigError
from kuberml.core.ranges import Count, Fading, NonNegative, Positive, Whole
from kuberml.core.reading import read

Option = bool | int | float | str | list[bool | int | float | str]
Options = dict[str, Option]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Stream(Section, frozen=True, kw_only=True):
    """Data that come over time: each learner's samples in tasks, one after the other. The server's model is measured."""

    tasks: Count = 5
    every_s: Positive = 60.0  # from one task's arrival to the next; the first is there at the beginning
    by: Literal["labels", "domains"] = "labels"  # a task is some labels (class-incremental), or one view of all of them
    order: Literal["own", "same"] = "own"  # in which learners meet the tasks: each in one of its own, or all in the same


class Data(Section, frozen=True, kw_only=True):
    """Which data, and how the learners hold it."""

    dataset: str = "digits"
    partition: str = "iid"  # iid, dirichlet, shards, natural, labels
    options: Options = {}  # of the partition, for instance {alpha = 0.1}
    domains: tuple[str, ...] = ("plain",)  # views of the samples, dealt to the learners in turn
    heldout: Annotated[float, Meta(gt=0, lt=1)] = 0.25  # share of a learner's samples that it keeps for its trials
    public: Whole = 0  # samples set aside as public: to build extractors on and as a probe
    probe_labels: bool = False  # whether the public samples carry labels
    judge: Literal["test", "public", "heldout"] = "test"  # what accuracy is measured on; all but "test" are for tuning only
    limit: Whole = 0  # training samples used at most; 0 = all
    stream: Stream | None = None  # None: everything is there from the beginning


class Learners(Section, frozen=True, kw_only=True):
    """Who learns, with what, and under which limits."""

    count: Count = 8
    adapter: Literal["torch", "sklearn"] = "torch"
    models: tuple[str, ...] = ("mlp",)  # architectures, dealt to the learners in turn (torch)
    options: dict[str, Options] = {}  # of an architecture, for instance {mlp = {hidden = [32]}}
    device: Literal["cpu", "cuda"] = "cpu"  # where torch trains; "cuda": fits of one shape in stacks, within rounding of "cpu"
    common_model: str = ""  # the one architecture of averaging baselines; "" = the first of models
    estimator: str = ""  # scikit-learn class, for instance "sklearn.linear_model:LogisticRegression"
    params: Options = {}  # of the estimator
    liars: Whole = 0  # learners that relabel their data and claim that it is right
    budget_bytes: Whole | None = None  # what one learner may fetch; None = no limit
    min_class_count: Whole = 5  # classes with fewer samples are withheld from what is published


class Part(Section, frozen=True, kw_only=True):
    """A registered part and its options."""

    name: str = "identity"
    options: Options = {}


class Places(Section, frozen=True, kw_only=True):
    """Devices, links and who sees whom. Names are rows of the tables that ship with the simulator, or mixes of them."""

    devices: str = "phones"
    links: str = "flash-wifi"
    server_device: str = "cloud"
    server_link: str = "wan"
    topology: str = "random-regular"
    degree: Whole = 0  # neighbours of a learner; 0 = 4, or all others where there are fewer


class Train(Section, frozen=True, kw_only=True):
    """Defaults of every paradigm that has an option of the same name; what is not set here, the paradigm says itself."""

    lr: Positive | None = None
    epochs: Count | None = None
    steps: Whole | None = None  # minibatches of one fit; 0 = by epochs
    batch: Count | None = None
    momentum: Fading | None = None
    weight_decay: NonNegative | None = None
    bf16: bool | None = None


class World(Section, frozen=True, kw_only=True):
    """How long, how far, and how closely it is watched."""

    until_s: Positive = 3600.0  # virtual seconds at most
    target: float | str | None = None  # accuracy to reach; or a paradigm's label (within a point of its best); None = derived
    curve_points: Count = 24  # measurements of accuracy along a run
    workers: Whole | Literal["ray"] = 0  # worker processes; 0 = one a core; "ray" = a cluster. Never changes a result.
    audit: bool = False  # fail a paradigm that touches clocks, files, threads or global randomness
    schedule: Literal["free", "lockstep"] = "free"  # lockstep: in steps, as real processes play it too; no links, no faults


class Fault(Section, frozen=True, kw_only=True):
    """Something that goes wrong at a time; what it does stands in `worlds.simulated.faults`."""

    at_s: NonNegative
    what: str
    nodes: tuple[str, ...] = ()  # node ids; () = all learners
    until_s: Positive | None = None  # None = for ever (a crash: it restarts at once)
    others: tuple[str, ...] = ()  # the other side of a partition; () = everybody else
    factor: Count = 10  # bandwidths are divided by it (slow)


class Paradigm(Section, frozen=True, kw_only=True):
    """One way of learning together: which, and its own options."""

    use: str
    options: dict[str, Any] = {}


class Config(Section, frozen=True, kw_only=True):
    """A whole scenario, checked. Build it with `load` or `parse`."""

    name: str
    task: str  # what knowledge is about; default: the data set's name
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0  # as far as whole numbers of TOML go
    seeds: Count = 1  # repetitions, with seeds seed, seed + 1, ...
    data: Data = Data()
    learners: Learners = Learners()
    extractor: Part = Part()
    places: Places = Places()
    train: Train = Train()
    world: World = World()
    faults: tuple[Fault, ...] = ()
    paradigms: dict[str, Paradigm] = {}

    @property
    def run_seeds(self) -> tuple[int, ...]:
        """The seeds of the repetitions."""
        return tuple(range(self.seed, self.seed + self.seeds))

    @property
    def common_model(self) -> str:
        """The architecture that averaging paradigms share."""
        return self.learners.common_model or self.learners.models[0]

    @property
    def degree(self) -> int:
        """Neighbours of a learner."""
        return self.places.degree or min(4, self.learners.count - 1)

    def options_of(self, label: str, known: Collection[str]) -> dict[str, Any]:
        """Options of one paradigm: what its table says, over what `[train]` says of the names in `known`."""
        said = {name: getattr(self.train, name) for name in self.train.__struct_fields__ if name in known}
        return {**{name: value for name, value in said.items() if value is not None}, **self.paradigms[label].options}


def load(path: Path, settings: tuple[str, ...] = ()) -> Config:
    """The scenario of a TOML file, with `--set` settings ("learners.count=20") applied over it.

    Raises:
        ConfigError: no such file, not TOML, or a setting that is unknown or impossible.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"no scenario file {path}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error
    tree.setdefault("name", path.stem)
    return parse(tree, settings)


def parse(tree: Mapping[str, Any], settings: tuple[str, ...] = ()) -> Config:
    """The scenario of a tree of plain values.

    Raises:
        ConfigError: a setting is unknown or impossible; the message names its path, the value and what would be right.
    """
    from kuberml.scenario.overrides import apply
    from kuberml.scenario.validate import check_possible

    whole = apply(tree, settings)
    whole.setdefault("name", "scenario")
    data = whole.get("data")
    whole.setdefault("task", data.get("dataset", Data().dataset) if isinstance(data, dict) else Data().dataset)
    whole["paradigms"] = _split(whole.get("paradigms", {}))
    config = read(Config, whole)
    check_possible(config)
    return config


def _split(paradigms: Any) -> Any:
    """Each paradigm's table as `use` and `options`: in the file they stand side by side."""
    if not isinstance(paradigms, dict):
        return paradigms  # refused by `read`, which says what is right
    tables: dict[str, Any] = {}
    for label, table in paradigms.items():
        if not isinstance(table, dict):
            raise ConfigError(f"paradigms.{label} = {table!r}: write a table, [paradigms.{label}]")
        options = {name: item for name, item in table.items() if name != "use"}
        tables[label] = {"use": table.get("use", label), "options": options}
    return tables
