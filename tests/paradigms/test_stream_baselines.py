"""What continual learning is measured against: each does what it says, and none is crippled."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from kuberml.exchange.place import LocalData, Stage
from kuberml.learning.datasets import samples
from kuberml.learning.types import DataRef
from kuberml.learning.views import by_views
from kuberml.paradigms.fedavg_replay import rehearsed
from kuberml.scenario.config import parse
from kuberml.scenario.play import Play
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.run import scorer
from kuberml.scenario.run_summary import RunSummary
from kuberml.scenario.served_over_seeds import continual
from kuberml.scenario.summary import summarise
from kuberml.worlds.simulated.workers import make_workers
from tests.exchange.town import data
from tests.scenario.small import Silent

TREE: dict[str, Any] = {
    "name": "stream",
    "data": {"partition": "iid", "limit": 500, "stream": {"tasks": 5, "every_s": 30, "order": "same"}},
    "learners": {"count": 3, "models": ["linear"]},
    "extractor": {"name": "identity"},
    "world": {"until_s": 150, "curve_points": 8},
    "train": {"lr": 0.1, "epochs": 10},
}
OPTIONS: dict[str, dict[str, Any]] = {"fedavg-replay": {"buffer": 60}, "joint": {"epochs": 20}}
PARADIGMS = ("frozen", "sequential", "fedavg-replay", "joint")


def ran(paradigm: str, tree: dict[str, Any] = TREE, workers: int = 1, **options: Any) -> tuple[RunSummary, Play]:
    config = parse({**tree, "paradigms": {paradigm: {**OPTIONS.get(paradigm, {}), **options}}})
    pool = make_workers(workers)
    try:
        play = Play(config, paradigm, 0, things=PublicThings(config), workers=pool, cache=None, records=lambda *_: Silent())
        outcome = play.run()
        assert outcome.finished, "whoever has told everything is done, and then the server is"
        return summarise(play, outcome, scorer(pool)), play
    finally:
        pool.close()


@pytest.fixture(scope="module")
def runs() -> dict[str, RunSummary]:
    return {paradigm: ran(paradigm)[0] for paradigm in PARADIGMS}


def test_the_frozen_model_knows_the_first_task_for_ever(runs: dict[str, RunSummary]) -> None:
    served = runs["frozen"].served
    assert served is not None
    assert served.whose == "server"
    assert served.arrived == (0, 1, 2, 3, 4)
    assert len(set(served.accuracy)) == 1, "it never changes"
    assert served.accuracy[0][0] > 0.9
    assert served.accuracy[0][1:] == (0.0,) * 4
    assert served.answered_s[1:] == (None,) * 4


def test_sequential_fine_tuning_knows_the_newest_task_and_forgets_the_others(runs: dict[str, RunSummary]) -> None:
    served = runs["sequential"].served
    assert served is not None
    for t, row in enumerate(served.accuracy):
        assert row[t] > 0.8
        assert all(value == 0.0 for value in row[t + 1 :]), "what nobody has met is not known"
    found = continual(served, None)
    assert found.accuracy is not None
    assert found.forgetting is not None
    assert found.accuracy < 0.4
    assert found.forgetting > 0.6
    assert found.gap_to_joint is None


def test_replay_forgets_less_and_joint_training_is_above_all(runs: dict[str, RunSummary]) -> None:
    found = {label: run.served for label, run in runs.items() if run.served is not None}
    measured = {label: continual(served, found["joint"]) for label, served in found.items()}
    accuracy = {label: one.accuracy or 0.0 for label, one in measured.items()}
    assert accuracy["joint"] > 0.85
    assert accuracy["joint"] > accuracy["fedavg-replay"] - 0.03
    assert accuracy["fedavg-replay"] > accuracy["sequential"] + 0.3
    assert measured["joint"].gap_to_joint == 0
    assert measured["fedavg-replay"].gap_to_joint == pytest.approx(accuracy["joint"] - accuracy["fedavg-replay"])
    assert measured["joint"].unanswered == 0
    assert measured["frozen"].forward_transfer == pytest.approx(-0.1), "chance less nothing"


def test_curves_begin_with_the_first_model_and_fall_where_a_task_comes(runs: dict[str, RunSummary]) -> None:
    served = runs["joint"].served
    assert served is not None
    before = [point for point in served.curve if 20 < point.time_s < 30][-1]
    after = next(point for point in served.curve if point.time_s == 30)
    assert before.seen > 0.9
    assert after.seen == pytest.approx(before.seen / 2, abs=0.01), "two tasks are met, one is known"
    assert after.every == before.every
    assert 0 < served.curve[0].time_s < 20
    assert all(0 < time_s < 15 for time_s in served.answered_s if time_s is not None)


def test_the_same_seed_gives_the_same_run_whatever_the_workers(runs: dict[str, RunSummary]) -> None:
    again = ran("joint", workers=2)[0]
    assert again.trace_hash == runs["joint"].trace_hash
    assert again.served == runs["joint"].served


def test_a_head_on_the_public_extractor_instead_of_a_network() -> None:
    summary, play = ran("sequential", head=True)
    assert summary.note == "everybody trains a head on the public extractor"
    assert summary.served is not None
    assert summary.served.accuracy[-1][-1] > 0.8
    assert any(note.fields["kind"] == "extractor" for note in play.notes.of("published"))


def test_a_client_and_a_server_that_crash_lose_no_stage() -> None:
    faults = [{"at_s": 40.0, "what": "crash", "nodes": ["n1"]}, {"at_s": 70.0, "what": "crash", "nodes": ["server"]}]
    summary, _ = ran("joint", {**TREE, "faults": faults})
    assert summary.served is not None
    assert min(summary.served.accuracy[-1]) > 0.6


def test_without_a_stream_there_is_one_stage_and_nothing_is_said_of_a_served_model() -> None:
    tree = {**TREE, "data": {"partition": "iid", "limit": 500}}
    for paradigm in PARADIGMS:
        summary, _ = ran(paradigm, tree)
        assert summary.served is None
        assert min(summary.accuracy.values()) > 0.5


# --- the buffer ---------------------------------------------------------------------------------------------------------------

STAGES = tuple(Stage(10.0 * i, data(labels)) for i, labels in enumerate(("12", "3", "456")))


def groups(ref: DataRef) -> Counter[int]:
    return Counter(int(y) for y in samples(ref).y_N)


def test_the_first_stage_is_all_there_is() -> None:
    assert rehearsed(STAGES[:1], 10, 0, balance=True) is STAGES[0].data
    assert rehearsed(STAGES[:2], 1, 0, balance=True) is STAGES[1].data, "not one exemplar for each of two labels"
    assert rehearsed(STAGES[:2], 0, 0, balance=True) is STAGES[1].data


def test_the_buffer_is_bounded_and_every_label_has_its_part() -> None:
    shown = rehearsed(STAGES, 12, 0, balance=False)
    assert groups(shown.train) == {1: 4, 2: 4, 3: 4, 4: 14, 5: 14, 6: 14}
    assert shown.counts == {"1": 4, "2": 4, "3": 4, "4": 14, "5": 14, "6": 14}
    balanced = rehearsed(STAGES, 12, 0, balance=True)
    assert groups(balanced.train) == {1: 16, 2: 16, 3: 16, 4: 14, 5: 14, 6: 14}
    assert set(balanced.train.indices_N.tolist()) == set(shown.train.indices_N.tolist()), "shown more often, not more of them"
    assert balanced.counts == shown.counts


def test_what_was_dropped_never_comes_back() -> None:
    def kept(stages: tuple[Stage, ...], label: str) -> set[int]:
        shown = rehearsed(stages, 12, 7, balance=False).train
        y_N = samples(shown).y_N
        return {int(i) for i, y in zip(shown.indices_N, y_N, strict=True) if int(y) == int(label)}

    earlier, later = kept(STAGES[:2], "1"), kept(STAGES, "1")
    assert len(earlier) == 6
    assert later < earlier


def test_exemplars_keep_their_domain_and_their_name() -> None:
    first = data("1", relabel={"1": "7", "7": "1"})
    inverted = DataRef("digits", "train", first.train.indices_N, "inverted", first.train.relabel)
    second = data("2", relabel={"1": "7", "7": "1"})
    shown = rehearsed((Stage(0.0, LocalData(inverted, first.heldout, first.counts)), Stage(1.0, second)), 5, 0, balance=False)
    assert [(part.view, len(part)) for part in by_views(shown.train)] == [("plain", 14), ("inverted", 5)]
    assert shown.counts == {"2": 14, "7": 5}
    assert np.all(samples(shown.train).y_N[14:] == 7)
