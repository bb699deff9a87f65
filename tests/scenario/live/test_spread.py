"""Free-running live results lie within the seeds' spread of the simulated world: the same learning, whatever the delays are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from kuberml.scenario.live.up import narrowed, play_live
from kuberml.scenario.play import Play
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.run import scorer
from kuberml.scenario.spread import deviation, mean, t_95
from kuberml.scenario.summary import summarise
from kuberml.worlds.simulated.workers import make_workers
from tests.scenario.live.troupe import digits
from tests.scenario.small import Silent

SEEDS = 6
PARADIGMS = {"kuber": {"looks": 5, "every_s": 0.5}, "fedavg": {"rounds": 6, "epochs": 4, "batch": 16, "lr": 0.1}}


def averaged(accuracy: dict[str, float]) -> float:
    return sum(accuracy.values()) / len(accuracy)


def simulated(label: str) -> list[float]:
    """Mean accuracy of the learners under each seed."""
    config = digits(PARADIGMS)
    found = []
    pool = make_workers(1)
    try:
        for seed in range(SEEDS):
            play = Play(config, label, seed, things=PublicThings(config), workers=pool, cache=None, records=lambda *_: Silent())
            found.append(averaged(summarise(play, play.run(), scorer(pool)).accuracy))
    finally:
        pool.close()
    return found


@pytest.mark.parametrize("label", PARADIGMS)
def test_a_live_run_is_one_more_seed(tmp_path: Path, label: str) -> None:
    config = narrowed(digits(PARADIGMS), paradigm=label, seed=2, until_s=None)
    views = []
    result = play_live(config, out=tmp_path, tell=views.append)
    live = result.paradigms[label]
    spread = simulated(label)
    # 95 % prediction interval for one more run of the same kind: Student's t, widened by the run's own deviation.
    half = t_95(SEEDS - 1) * deviation(spread) * math.sqrt(1 + 1 / SEEDS)
    assert abs(live.accuracy_mean - mean(spread)) <= half, f"{live.accuracy_mean:.3f} live, simulated {spread}"
    assert live.accuracy_mean > live.accuracy_before + 0.15, "something was learned at all"
    assert half < 0.25, f"the interval says something: {spread}"
    assert live.bytes_moved > 10_000
    assert live.energy_j > 0
    assert "energy m" in live.note, "measured or modelled, and it says which"
    assert all(row.status.phase == "done" for row in views[-1].rows if row.role in ("peer", "server"))
    assert views[-1].rows[-1].status.accuracy_ppm > 0
