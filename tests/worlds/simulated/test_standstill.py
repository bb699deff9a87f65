"""A node that never waits holds all of virtual time: somebody who looks on says who it is."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kuberml.core.jobs import check_job, job
from kuberml.core.values import dumps
from kuberml.scenario.config import parse
from kuberml.scenario.progress import Progress
from kuberml.scenario.run import run_scenario
from kuberml.worlds.simulated import standstill
from kuberml.worlds.simulated.loop import VirtualLoop
from kuberml.worlds.simulated.workers import Here, open_reply
from tests.scenario.test_odd_runs import TREE


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standstill, "STILL_S", 0.0)
    monkeypatch.setattr(standstill, "LOOK_S", 0.01)


def test_a_loop_without_an_await_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paradigm goes round until somebody has said that it does."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "busy_idea.py").write_text(
        "import msgspec\nTOLD = []\nclass Config(msgspec.Struct): pass\nasync def peer(node, cfg):\n"
        "    await node.sleep(3)\n    while not TOLD:\n        pass\n"
    )
    notes: list[str] = []

    def watch(step: Progress) -> None:
        if step.note:
            __import__("busy_idea").TOLD.append(step.note)
            notes.append(step.note)

    config = parse({**TREE, "paradigms": {"mine": {"use": "busy_idea.py"}}})
    run_scenario(config, out=tmp_path / "out", workers=1, progress=watch)
    assert notes[0].startswith("virtual time has stood still at 3 s for 0 s: n")
    assert any(f" is at busy_idea.py line {line}, peer, and never waits" in notes[0] for line in (6, 7))


LOOKED = threading.Event()


@job(flops=lambda: 1)
def until_looked_at() -> int:
    """Takes as long as it takes until somebody has looked three times."""
    LOOKED.wait()
    return 1


def test_time_in_jobs_is_no_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    looks: list[bool] = []
    works = standstill._works

    def seen(runner: int) -> bool:
        looks.append(works(runner))
        if len(looks) == 3:
            LOOKED.set()
        return looks[-1]

    async def main() -> None:
        here = Here()
        assert open_reply(here.result(here.submit(dumps([check_job(until_looked_at).job_name, []])))) == 1

    monkeypatch.setattr(standstill, "_works", seen)
    loop = VirtualLoop()
    with standstill.looked_on(loop, said.append):
        loop.run(main())
    assert (said, looks[:3]) == ([], [True] * 3)
