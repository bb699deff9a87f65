"""`kuberml up --on slurm` on a real Slurm of one machine: learners as jobs, and a walltime that ends before they are done."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kuberml.ledger.ledger import Ledger
from kuberml.scenario.live.slurm import Slurm
from kuberml.scenario.result_files import read_runs
from tests.cli.live import start
from tests.scenario.live.cluster import cluster, why_not
from tests.scenario.live.troupe import events, processes_of, scenario, until

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with cluster(tmp_path_factory.mktemp("slurm")) as environment, pytest.MonkeyPatch.context() as patch:
        for name, text in environment.items():
            patch.setenv(name, text)
        yield environment


def queue() -> list[str]:
    return subprocess.run(
        ["squeue", "--noheader", "--array", "--format=%F_%K"], capture_output=True, text=True, check=True
    ).stdout.split()


def test_learners_are_jobs_and_a_job_whose_time_is_up_goes_on_in_another(tmp_path: Path, slurm: dict[str, str]) -> None:
    """The signal is the one that Slurm sends before the walltime ends; the second test lets a real walltime end."""
    path, out = scenario(tmp_path, steps=12, every_s=0.5), tmp_path / "out"
    up = start(tmp_path, "up", path, "--on", "slurm", "--host", "127.0.0.1", "--time", "10", "--out", out)
    try:
        live = out / "live" / "steps.0"
        until(lambda: len(events(live / "nodes" / "n1" / "ledger.sqlite", "stepped")) >= 3)
        jobs = queue()
        assert len(jobs) == 2, "one job a learner"
        assert processes_of(out).keys() == {"hub", "n0", "n1"}
        n1 = next(job for job in jobs if job.endswith("_1"))
        subprocess.run(["scancel", "--signal=USR1", "--batch", n1], check=True)
        until((live / "logs" / "n1.exit").exists)
        assert (live / "logs" / "n1.exit").read_text() == "75", "it says: again"
        _, said = up.communicate(timeout=90)
    finally:
        up.kill()
    assert up.returncode == 0, said
    assert "n1 left because its time was up and is started again" in said
    check_every_step_was_done_once(out, "n1", 12)
    assert read_runs(out)[0].extra["deaths"] == {"n1": 0}, "to leave in order is not to die"
    assert queue() == []


def test_a_mistake_is_told_before_anything_is_submitted(tmp_path: Path, slurm: dict[str, str]) -> None:
    path = scenario(tmp_path)
    for options, says in (
        (["--on", "slrum"], "--on 'slrum': only 'slurm' is known"),
        (["--on", "slurm", "--time", "soon"], "--time 'soon'"),
        (["--on", "slurm", "--host", "127.0.0.1", "--partition", "gpu"], "invalid partition"),
    ):
        up = start(tmp_path, "up", path, *options)
        _, said = up.communicate(timeout=60)
        assert up.returncode == 2, said
        assert says in said
    assert queue() == []


@pytest.mark.skipif(not os.environ.get("KUBERML_SOAK"), reason="takes two minutes: set KUBERML_SOAK=1")
def test_a_real_walltime_ends_twice(tmp_path: Path, slurm: dict[str, str]) -> None:
    path, out = scenario(tmp_path, steps=60, every_s=1.0, until_s=600), tmp_path / "out"
    up = start(tmp_path, "up", path, "--on", "slurm", "--host", "127.0.0.1", "--time", "1", "--grace", "20", "--out", out)
    _, said = up.communicate(timeout=400)
    assert up.returncode == 0, said
    assert said.count("left because its time was up and is started again") >= 2
    check_every_step_was_done_once(out, "n0", 60)


def check_every_step_was_done_once(out: Path, node: str, steps: int) -> None:
    with Ledger(out / "ledger.sqlite") as whole:
        told = [event.fields for event in whole.events("nodes.name = ? AND event = ?", (f"steps.0.{node}", "stepped"))]
    assert [step["round"] for step in told] == list(range(1, steps + 1))
    assert told[-1]["start"] >= 2, "its second job did the last one"


def test_the_address_of_this_machine_must_be_one_that_others_can_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    from kuberml.core.errors import ConfigError

    monkeypatch.setattr("socket.gethostbyname", lambda name: "127.0.1.1")
    with pytest.raises(ConfigError, match="--host is missing"):
        _ = Slurm().address
    assert Slurm(host="10.0.0.1").address == "10.0.0.1"
