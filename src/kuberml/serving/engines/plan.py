"""Which engines to try, in which order, and which to take: pure functions of the CPU, of proofs and of timings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from kuberml.core.errors import ConfigError
from kuberml.serving.engines.cpu import ENGINES, Cpu, refusal
from kuberml.serving.engines.engine import PRECISIONS, Precision
from kuberml.serving.engines.proof import Proof
from kuberml.serving.engines.timing import Speed

_BY_ITSELF: tuple[Precision, ...] = ("fp32", "bf16", "int8")
"""Precisions that "auto" tries; int8-reduced only when it is asked for: it is a choice to lose accuracy."""

LEAD = 0.95
"""A later candidate must take less than this share of the best one's time: timings wobble, and the earlier loses less."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A runtime in a precision, and why it is not tried ("" if it is)."""

    engine: str
    precision: str
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a candidate.

    Attributes:
        candidate: what was tried.
        why_not: "" if it is admitted.
        proof: against the predictor; None for the predictor itself, or where it came to none.
        speed: if it is admitted.
    """

    candidate: Candidate
    why_not: str
    proof: Proof | None = None
    speed: Speed | None = None


def candidates(cpu: Cpu, engine: str = "auto", precision: str = "auto") -> list[Candidate]:
    """What to try on a CPU, the predictor itself first; fp32 before what loses more.

    Args:
        cpu: flags, modules and compiler.
        engine: a name of ENGINES or "auto".
        precision: one of PRECISIONS or "auto".
    """
    engines = ENGINES if engine == "auto" else (engine,)
    precisions = _BY_ITSELF if precision == "auto" else (cast(Precision, precision),)
    found = [Candidate(each, one, refusal(cpu, each, one)) for one in precisions for each in engines if _exists(each, one)]
    quick = {each.engine for each in found if not each.refusal} & {"onnx", "openvino"}
    if engine != "auto" or not quick:
        return found
    spared = f"it takes a minute to compile, and {' and '.join(sorted(quick))} can be had at once"
    return [
        Candidate(one.engine, one.precision, spared) if one.engine == "compiled" and not one.refusal else one for one in found
    ]


def _exists(engine: str, precision: Precision) -> bool:
    """Whether a runtime has a precision at all."""
    has = {"eager": ("fp32",), "torch": ("fp32", "bf16"), "onnx": ("fp32", *PRECISIONS[2:])}
    return precision in has.get(engine, PRECISIONS)


def chosen(trials: Sequence[Trial]) -> tuple[Trial, str, str]:
    """The fastest that is admitted, a line that says why, and a long one that says why not the others ("": there are none).

    Raises:
        ConfigError: none is admitted; the message has all reasons.
    """
    admitted = [trial for trial in trials if not trial.why_not]
    reasons = "; ".join(
        f"not {each.candidate.engine} {each.candidate.precision}: {each.why_not}" for each in trials if each.why_not
    )
    if not admitted:
        raise ConfigError(f"no engine can be taken: {reasons or 'there is none of that name and precision'}")
    best = admitted[0]
    for each in admitted[1:]:
        if _score_s(each) < LEAD * _score_s(best):
            best = each
    return best, _praise(best, admitted), reasons


def _praise(best: Trial, admitted: Sequence[Trial]) -> str:
    eager = next((each for each in admitted if each.candidate.engine == "eager"), None)
    said = f"{best.candidate.engine} {best.candidate.precision}"
    if eager is not None and eager is not best and eager.speed and best.speed:
        said += f": {eager.speed.one_s / best.speed.one_s:.1f} x eager alone and {eager.speed.some_s / best.speed.some_s:.1f} x"
        said += " in a batch"
    elif len(admitted) > 1:
        said += " is the fastest of " + ", ".join(f"{one.candidate.engine} {one.candidate.precision}" for one in admitted)
    elif eager is best:
        said += ": nothing else can be had"
    if best.proof is not None:
        said += f"; {best.proof.agreement:.4f} of {best.proof.samples} answers agree"
    return said


def _score_s(trial: Trial) -> float:
    return trial.speed.score_s if trial.speed else float("inf")
