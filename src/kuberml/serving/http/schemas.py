"""What the service tells of itself, as the structs that are encoded; their schemas make the description."""

from __future__ import annotations

import msgspec

from kuberml.core.ids import Digest, LabelId


class Teacher(msgspec.Struct, frozen=True):
    """One contributor's part in what the model knows of a label.

    Attributes:
        author: public key of who taught it.
        card: digest of the package that brought it.
        samples: behind it, of this label.
        learned_at_ms: when it was learned there, milliseconds since 1970.
    """

    author: str
    card: Digest
    samples: int
    learned_at_ms: int


class Origin(msgspec.Struct, frozen=True):
    """Who taught a model a label, largest part first."""

    label: LabelId
    model: Digest
    manifest: Digest
    taught: list[Teacher]


class EngineInfo(msgspec.Struct, frozen=True):
    """What computes the answers, in which precision, and why this one."""

    name: str
    precision: str
    why: str


class Model(msgspec.Struct, frozen=True):
    """The version that answers now.

    Attributes:
        model, manifest, number: as every answer names them.
        labels: that it knows.
        shape: of one sample.
        max_rows: of a request.
        since_ms: when it began to be served, milliseconds since 1970.
        engine: what computes its answers.
        authors: how many contributors it has.
        freshness_s: by label: seconds from learning at an edge to being served here, as measured the last time it changed.
    """

    model: Digest
    manifest: Digest
    number: int
    labels: tuple[LabelId, ...]
    shape: tuple[int, ...]
    max_rows: int
    since_ms: int
    engine: EngineInfo
    authors: int
    freshness_s: dict[LabelId, float]


class Version(msgspec.Struct, frozen=True):
    """A version that was served before, as long as it is remembered."""

    model: Digest
    manifest: Digest
    number: int
    labels: tuple[LabelId, ...]
    since_ms: int


class Models(msgspec.Struct, frozen=True):
    """What is served now (null: nothing yet), and what was lately, newest first."""

    serving: Model | None
    recent: list[Version]


class Health(msgspec.Struct, frozen=True):
    """Whether a query would be answered now.

    Attributes:
        status: "ok", "no model", "stopping" or "busy".
        wait_s: what a request would wait for its engine now.
        queued_rows: that wait for an engine.
        hub: whether the hub is there, "" where there is none; queries do not need it.
    """

    status: str
    wait_s: float
    queued_rows: int
    hub: str
