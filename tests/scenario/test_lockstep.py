"""schedule = "lockstep" in the simulated world; that the live world comes to the same: tests/worlds/live/test_lockstep.py."""

import pytest

from kuberml.core.errors import ConfigError
from kuberml.scenario.config import parse
from kuberml.scenario.play import Play
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.run import scorer
from kuberml.scenario.summary import summarise
from kuberml.worlds.simulated.workers import make_workers
from tests.scenario.small import PARADIGMS, SMALL, Silent


def run(paradigm: str, schedule: str, workers: int = 1, audit: bool = False):
    world = {**SMALL["world"], "schedule": schedule, "audit": audit}
    config = parse({**SMALL, "world": world, "paradigms": {paradigm: PARADIGMS[paradigm]}})
    pool = make_workers(workers)
    try:
        play = Play(config, paradigm, 0, things=PublicThings(config), workers=pool, cache=None, records=lambda *_: Silent())
        return summarise(play, play.run(), scorer(pool))
    finally:
        pool.close()


@pytest.mark.parametrize("paradigm", ["kuber", "fedavg"])
def test_the_number_of_workers_does_not_show_nor_does_an_audit(paradigm):
    one, two = run(paradigm, "lockstep"), run(paradigm, "lockstep", workers=2, audit=True)
    assert (one.trace_hash, one.accuracy, one.bytes_moved) == (two.trace_hash, two.accuracy, two.bytes_moved)


def test_the_schedule_is_another_network_and_the_same_learning():
    free, lockstep = run("fedavg", "free"), run("fedavg", "lockstep")
    assert free.trace_hash != lockstep.trace_hash
    assert free.accuracy == lockstep.accuracy, "fedavg averages in node order, however long messages take"
    assert lockstep.virtual_time_s < free.virtual_time_s


def test_faults_are_refused_with_the_setting_that_is_wrong():
    faults = [{"at_s": 1.0, "what": "leave"}]
    with pytest.raises(ConfigError, match=r"world\.schedule = 'lockstep': nothing fails in it; leave out \[\[faults\]\]"):
        parse({**SMALL, "faults": faults, "world": {"schedule": "lockstep"}, "paradigms": {"local": {}}})
    with pytest.raises(ConfigError, match=r"world\.schedule = 'lockstp'"):
        parse({**SMALL, "world": {"schedule": "lockstp"}, "paradigms": {"local": {}}})
