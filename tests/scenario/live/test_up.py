"""`kuberml up` as people use it: a whole run, a learner that is killed, a stop in the middle, mistakes. Real processes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import msgspec
import pytest

from kuberml.ledger.ledger import Ledger
from kuberml.scenario.config import load
from kuberml.scenario.folder import Marker
from kuberml.scenario.result_files import read_result, read_runs
from tests.cli.live import start
from tests.scenario.live.troupe import events, is_gone, processes_of, scenario, until


def test_a_learner_that_is_killed_goes_on_from_its_vault(tmp_path: Path) -> None:
    path, out = scenario(tmp_path, steps=8, every_s=0.3), tmp_path / "out"
    up = start(tmp_path, "up", path, "--out", out, "--json")
    try:
        ledger = out / "live" / "steps.0" / "nodes" / "n1" / "ledger.sqlite"
        until(lambda: len(events(ledger, "stepped")) >= 2)
        os.kill(processes_of(out)["n1"], signal.SIGKILL)
        printed, said = up.communicate(timeout=60)
    finally:
        up.kill()
    assert up.returncode == 0, said
    assert "n1 was ended by SIGKILL and is started again" in said
    result = json.loads(printed)
    assert result["schema"] == "kuberml.result/1"
    (run,) = read_runs(out)
    assert run.extra["deaths"] == {"n1": 1}
    assert run.extra["finished"] is True
    assert run.accuracy.keys() == {"n0", "n1"}
    with Ledger(out / "ledger.sqlite") as whole:
        steps = [event.fields for event in whole.events("nodes.name = ? AND event = ?", ("steps.0.n1", "stepped"))]
    assert [step["round"] for step in steps] == sorted({step["round"] for step in steps}), "no step was done twice"
    assert steps[-1] == {"round": 8, "start": 2}
    assert steps[0]["start"] == 1
    assert (out / "report.html").stat().st_size > 1000
    assert (out / "logs" / "steps.0" / "n1.log").exists()
    assert not (out / "live").exists()
    assert not processes_of(out)


BROKEN = """
import msgspec
from pathlib import Path
from kuberml.core.errors import RemoteError


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


async def peer(node, cfg):
    await node.sleep(0.1)
    if Path({flag!r}).exists():
        raise RemoteError("nobody can learn like this")
"""


def test_a_run_that_fails_does_not_end_the_others_and_is_tried_again_alone(tmp_path: Path) -> None:
    path, out, flag = scenario(tmp_path, steps=2, every_s=0.05), tmp_path / "out", tmp_path / "flag"
    (tmp_path / "broken_here.py").write_text(BROKEN.format(flag=str(flag)))
    text = path.read_text()
    path.write_text(text.replace("[paradigms.steps]", '[paradigms.broken]\nuse = "broken_here.py"\n[paradigms.steps]'))
    flag.touch()
    up = start(tmp_path, "up", path, "--out", out)
    printed, said = up.communicate(timeout=90)
    assert up.returncode == 5, said
    assert "broken, seed 0: failed: " in said
    assert f"1 of 2 runs failed, see above; --resume --out {out} tries these again and no other" in said
    result = read_result(out)
    (failed,) = result.failed
    assert (failed.paradigm, failed.seed, "nobody can learn like this" in failed.why) == ("broken", 0, True)
    assert list(result.paradigms) == ["steps"]
    assert "broken, seed 0, failed: " in printed
    assert not processes_of(out)
    flag.unlink()
    again = start(tmp_path, "up", path, "--out", out, "--resume", "--json")
    printed, said = again.communicate(timeout=90)
    assert again.returncode == 0, said
    assert "steps, seed 0: all 3 processes" not in said, "what was finished is not played again"
    whole = read_result(out)
    assert (whole.failed, list(whole.paradigms)) == ((), ["broken", "steps"])
    assert not (out / "live").exists()
    assert (out / "logs" / "broken.0" / "n0.log").exists()


def test_what_would_befall_every_run_ends_the_first(tmp_path: Path) -> None:
    """Here: a file stands where processes are to write their logs."""
    path, out = scenario(tmp_path), tmp_path / "out"
    path.write_text(
        path.read_text().replace("[paradigms.steps]", '[paradigms.other]\nuse = "count_steps.py"\n[paradigms.steps]')
    )
    out.mkdir()
    (out / "live").write_text("in the way")
    up = start(tmp_path, "up", path, "--out", out)
    _, said = up.communicate(timeout=60)
    assert up.returncode == 2, said
    assert "runs failed" not in said
    assert not (out / "result.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_stop_in_the_middle_ends_every_process(tmp_path: Path, number: signal.Signals) -> None:
    path, out = scenario(tmp_path, steps=1000), tmp_path / "out"
    up = start(tmp_path, "up", path, "--out", out)
    try:
        until(lambda: events(out / "live" / "steps.0" / "nodes" / "n0" / "ledger.sqlite", "stepped"))
        running = processes_of(out)
        assert running.keys() == {"hub", "n0", "n1"}
        up.send_signal(number)
        _, said = up.communicate(timeout=30)
    finally:
        up.kill()
    assert up.returncode == 130
    assert "stopped; every process has ended" in said
    assert all(is_gone(pid) for pid in running.values())
    assert not (out / "result.json").exists()


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    path, out = scenario(tmp_path, steps=40, every_s=0.2), tmp_path / "out"
    up = start(tmp_path, "up", path, "--out", out)
    try:
        until(lambda: len(events(out / "live" / "steps.0" / "nodes" / "n0" / "ledger.sqlite", "stepped")) >= 2)
        running = processes_of(out)
        assert {"hub", "n0"} <= running.keys()
    finally:
        up.kill()
        up.communicate()
    until(lambda: all(is_gone(pid) for pid in running.values()), 20.0)
    again = start(tmp_path, "up", path, "--out", out)
    _, said = again.communicate(timeout=30)
    assert again.returncode == 2
    assert "add --resume to go on with it" in said
    again = start(tmp_path, "up", path, "--out", out, "--resume", "--json")
    printed, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert json.loads(printed)["schema"] == "kuberml.result/1"
    (run,) = read_runs(out)
    assert run.extra["finished"] is True
    assert "in which it was stopped" in run.note
    with Ledger(out / "ledger.sqlite") as whole:
        steps = [event.fields for event in whole.events("nodes.name = ? AND event = ?", ("steps.0.n0", "stepped"))]
    assert [step["round"] for step in steps] == sorted({step["round"] for step in steps}), "no step was done twice"
    assert [steps[0]["start"], steps[-1]] == [1, {"round": 40, "start": 2}]
    assert not (out / "live").exists()
    assert not (out / "finished").exists()


@pytest.mark.parametrize("schedule", ["free", "lockstep"])
def test_a_run_that_was_finished_is_not_played_again(tmp_path: Path, schedule: str) -> None:
    path, out = scenario(tmp_path, steps=2, every_s=0.05), tmp_path / "out"
    up = ("up", path, "--out", out, "--json", "--set", f"world.schedule={schedule}")
    first = start(tmp_path, *up).communicate(timeout=60)
    when = (out / "ledger.sqlite").stat().st_mtime_ns
    again = start(tmp_path, *up, "--resume")
    printed, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert printed == first[0], "the same result, its wall time included"
    assert (out / "ledger.sqlite").stat().st_mtime_ns == when
    assert not (out / "live").exists()


def test_when_the_command_itself_is_killed_its_processes_leave(tmp_path: Path) -> None:
    path, out = scenario(tmp_path, steps=1000), tmp_path / "out"
    up = start(tmp_path, "up", path, "--out", out)
    try:
        until(lambda: events(out / "live" / "steps.0" / "nodes" / "n0" / "ledger.sqlite", "stepped"))
        running = processes_of(out)
        assert {"hub", "n0"} <= running.keys()
    finally:
        up.kill()
        up.communicate()
    until(lambda: all(is_gone(pid) for pid in running.values()), 20.0)


def test_time_is_up(tmp_path: Path) -> None:
    out = tmp_path / "out"
    up = start(tmp_path, "up", scenario(tmp_path, steps=1000), "--out", out, "--until", 2)
    _, said = up.communicate(timeout=60)
    assert up.returncode == 0, said
    (run,) = read_runs(out)
    assert run.extra["finished"] is False
    assert read_result(out).paradigms["steps"].accuracy_mean is None, "nobody had served anything by then"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.toml"], "no scenario file missing.toml"),
        (["steps.toml", "--paradigm", "step"], "--paradigm step: did you mean 'steps'?"),
        (["steps.toml", "--set", "learners.cuont=3"], "learners.cuont"),
        (["steps.toml", "--set", "paradigms.steps.stepps=3"], "paradigms.steps.stepps"),
        (["steps.toml", "--out", "full"], "full holds a run"),
        (
            ["steps.toml", "--out", "begun"],
            "begun holds a run of another scenario or with other settings",
        ),
    ],
)
def test_a_mistake_is_one_line_and_no_process(tmp_path: Path, arguments: list[str], says: str) -> None:
    scenario(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "begun").mkdir()
    other = Marker(digest="0" * 64, scenario=load(tmp_path / "steps.toml"))
    (tmp_path / "begun" / "scenario.json").write_bytes(msgspec.json.encode(other))
    (tmp_path / "full" / "result.json").write_bytes(msgspec.json.encode({}))
    up = start(tmp_path, "up", *arguments)
    _, said = up.communicate(timeout=30)
    assert up.returncode == 2
    assert says in said
    assert said.count("\n") == 1, said


def test_a_scenario_in_lockstep_is_played_live_and_comes_to_the_simulated_numbers(tmp_path: Path) -> None:
    path = scenario(tmp_path, schedule="lockstep")
    for command, out in (("up", "live"), ("run", "simulated")):
        process = start(tmp_path, command, path, "--out", out)
        _, said = process.communicate(timeout=90)
        assert process.returncode == 0, said
    (live,), (simulated,) = read_runs(tmp_path / "live"), read_runs(tmp_path / "simulated")
    assert "live in lockstep, 3 processes: equal to the simulated run" in live.note
    assert live.accuracy == simulated.accuracy
    assert len(live.accuracy) == 2
    assert (live.trace_hash, live.bytes_moved) == (simulated.trace_hash, simulated.bytes_moved)
    assert (tmp_path / "live" / "logs" / "steps.0" / "n0.log").exists()
