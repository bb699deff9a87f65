"""The served cloud model in words and columns, for terminals and pages."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kuberml.core.units import show_seconds
from kuberml.scenario.factors import NONE, show_accuracy
from kuberml.scenario.result import ParadigmResult
from kuberml.scenario.served_over_seeds import JOINT
from kuberml.scenario.served_result import ServedResult

OURS = "continual"


class Column(msgspec.Struct, frozen=True):
    """A measure: its heading, the field of `Continual`, and how it is shown."""

    heading: str
    field: str
    show: Callable[[float], str]

    def value(self, served: ServedResult) -> str:
        """For people."""
        number = getattr(served.mean, self.field)
        return NONE if number is None else self.show(number)

    def spread(self, served: ServedResult) -> str:
        """± its deviation over seeds; "" where there is none."""
        number = None if served.std is None else getattr(served.std, self.field)
        return "" if number is None else f"± {self.show(number).removesuffix(' %')}"


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


COLUMNS = (
    Column("at the end", "accuracy", show_accuracy),
    Column("on the way", "accuracy_on_the_way", show_accuracy),
    Column("gap to joint", "gap_to_joint", _points),
    Column("forgetting", "forgetting", _points),
    Column("BWT", "backward_transfer", _points),
    Column("FWT", "forward_transfer", _points),
    Column("answered after", "answered_s", show_seconds),
    Column("never", "unanswered", lambda number: f"{number:.1f}"),
)


def rows(paradigms: dict[str, ParadigmResult], apart: str = " ") -> list[list[str]]:
    """One row a paradigm that served something: its label, then every column with its spread."""
    return [
        [label, *(f"{column.value(item.served)}{apart}{column.spread(item.served)}".strip() for column in COLUMNS)]
        for label, item in paradigms.items()
        if item.served is not None
    ]


def served_sentence(paradigms: dict[str, ParadigmResult]) -> str:
    """What came of the served model: ours (else the best) against joint training and the others. "": there is no stream."""
    found = {label: item.served.mean for label, item in paradigms.items() if item.served is not None}
    end = {label: one.accuracy for label, one in found.items() if one.accuracy is not None}
    own = {label: accuracy for label, accuracy in end.items() if paradigms[label].use != JOINT}
    if not own:
        return ""
    ours = next((label for label in own if paradigms[label].use == OURS), max(own, key=lambda label: own[label]))
    gap = found[ours].gap_to_joint
    parts = [f"in the end the cloud model of {ours} answers {show_accuracy(end[ours])} of all tasks right"]
    if gap is not None:
        parts.append(f"{abs(100 * gap):.1f} points {'below' if gap >= 0 else 'above'} joint training")
    others = sorted((label for label in own if label != ours), key=lambda label: -own[label])
    parts += [f"{label} {show_accuracy(own[label])}" for label in others]
    text = "; ".join([", ".join(parts[:2]), *parts[2:]]) if gap is not None else "; ".join(parts)
    seeds = "; one seed decides nothing" if paradigms[ours].seeds == 1 else ""
    return f"{text[0].upper()}{text[1:]}{seeds}."
