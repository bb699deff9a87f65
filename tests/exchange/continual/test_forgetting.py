"""The accuracy matrix over versions: a line for each task and for each edge, with what was forgotten."""

from __future__ import annotations

import pytest

from kuberml.core.ids import Digest
from kuberml.exchange.continual.forgetting import by_edge, by_task
from kuberml.exchange.continual.history import Entry
from tests.exchange.continual.test_gate import judged


def entry(number: int, labels: str, **recall: float) -> Entry:
    some = Digest("a" * 64)
    told = {label.removeprefix("_"): share for label, share in recall.items()}
    return Entry(number, some, some, 1.0, some, 5, "why", tuple(labels), recall=told)


def test_a_task_is_known_from_the_version_that_brought_it_and_loses_from_its_best() -> None:
    entries = [
        entry(1, "01", _0=1.0, _1=0.5),
        entry(2, "012", _0=1.0, _1=1.0, _2=0.75),
        entry(3, "012", _0=0.5, _1=1.0, _2=0.5),
    ]
    first, second = by_task(entries)
    assert (first.of, first.name, first.accuracy, first.forgotten) == ("task", "0,1", (0.75, 1.0, 0.75), 0.25)
    assert (second.name, second.accuracy, second.forgotten) == ("2", (None, 0.75, 0.5), 0.25)
    assert by_task([entry(1, "01")]) == []  # no public sample tells


def test_an_edge_is_a_domain_and_may_have_been_away() -> None:
    far, near = by_edge([{"near": (10, 9)}, {"near": (10, 8), "far": (4, 4)}, {"far": (4, 1), "near": (0, 0)}])
    assert (far.of, far.name, far.accuracy, far.forgotten) == ("edge", "far", (None, 1.0, 0.25), 0.75)
    assert near.accuracy == (0.9, 0.8, None)
    assert near.forgotten == pytest.approx(0.1)


def test_what_edges_said_is_kept_with_each_version() -> None:
    here = judged()
    lines = {line.of: line for line in here.forgetting}
    assert set(lines) == {"task", "edge"}
    assert len(lines["edge"].accuracy) == len(lines["task"].accuracy) == len(here.history)
    last = lines["edge"].accuracy[-1]
    assert last is not None
    assert last > 0.7
    assert sum(line.of == "edge" for line in here.forgetting) == 4
