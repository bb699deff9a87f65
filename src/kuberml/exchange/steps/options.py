"""Options of the steps, as a scenario's tables give them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from kuberml.core.ranges import Positive

Name = Literal["clip", "top-k", "quantise", "dp", "masks", "krum", "median", "trimmed-mean", "centred-clip"]
Share = Annotated[float, Meta(gt=0, le=1)]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Clip(Table, frozen=True, kw_only=True):
    """`norm`: the greatest Euclidean norm of an update."""

    norm: Positive = 1.0


class TopK(Table, frozen=True, kw_only=True):
    """Which values are sent.

    Attributes:
        fraction: share of them.
        support: "own": each client its largest; "common": the same places for all, drawn each round.
        feedback: carry what is left out to the next update.
    """

    fraction: Share = 0.1
    support: Literal["own", "common"] = "own"
    feedback: bool = True


class Quantise(Table, frozen=True, kw_only=True):
    """`bits` of each value, with its sign."""

    bits: Annotated[int, Meta(ge=2, le=8)] = 8


class Dp(Table, frozen=True, kw_only=True):
    """Differential privacy.

    Attributes:
        noise: standard deviation of the noise on a sum, in clip norms.
        delta: of (epsilon, delta).
        at: "server": it is trusted, and adds the noise; "client": each adds its own, before anything leaves it.
    """

    noise: Positive = 1.0
    delta: Annotated[float, Meta(gt=0, lt=1)] = 1e-5
    at: Literal["server", "client"] = "server"


class Masks(Table, frozen=True, kw_only=True):
    """Secure aggregation.

    Attributes:
        threshold: share of a cohort that must answer to the end, over a half; fewer, and the round is lost.
        limit: values beyond -limit..limit are cut off; the smaller, the finer the fixed-point numbers.
        weight_cap: a client weighs by its samples, at most so many.
    """

    threshold: Annotated[float, Meta(gt=0.5, le=1)] = 0.67
    limit: Positive = 4.0
    weight_cap: Annotated[int, Meta(ge=1)] = 1000


class Krum(Table, frozen=True, kw_only=True):
    """Against how many `liars`, and how many updates to `keep` (1: Krum, more: multi-Krum)."""

    liars: Annotated[int, Meta(ge=0)] = 1
    keep: Annotated[int, Meta(ge=1)] = 1


class TrimmedMean(Table, frozen=True, kw_only=True):
    """`share` of the updates that is left out at either end, value by value."""

    share: Annotated[float, Meta(ge=0, lt=0.5)] = 0.2


class CentredClip(Table, frozen=True, kw_only=True):
    """Updates are clipped to `radius` around the mean of the round before, `passes` times."""

    radius: Positive = 1.0
    passes: Annotated[int, Meta(ge=1)] = 1


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of one run, in their order, and the options of each."""

    names: tuple[Name, ...] = ()
    clip: Clip = Clip()
    top_k: TopK = TopK()
    quantise: Quantise = Quantise()
    dp: Dp = Dp()
    masks: Masks = Masks()
    krum: Krum = Krum()
    trimmed_mean: TrimmedMean = TrimmedMean()
    centred_clip: CentredClip = CentredClip()

    def __bool__(self) -> bool:
        return bool(self.names)

    @property
    def alike(self) -> bool:
        """Whether all clients count alike: where one's weight would tell of it, or let it lie."""
        return bool({"dp", "krum", "median", "trimmed-mean", "centred-clip"} & set(self.names))

    @property
    def silent(self) -> bool:
        """Whether an update does not say how many samples of which label are behind it."""
        return bool({"dp", "masks"} & set(self.names))
