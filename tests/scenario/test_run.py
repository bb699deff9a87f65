"""Whole scenario runs: the same whatever the number of workers, interrupted and resumed, audited, and written down in full."""

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kuberml.core.errors import ConfigError
from kuberml.exchange import wire
from kuberml.scenario.config import Config, parse
from kuberml.scenario.progress import Progress
from kuberml.scenario.result import ParadigmResult
from kuberml.scenario.result_files import read_result, read_runs
from kuberml.scenario.run import run_scenario
from tests.scenario.small import PARADIGMS, SMALL

MIXED = ("fedavg-head", "fed3r", "kuber")
GOLDEN = "d1c6fea6c8fe4dd32277db4309d8d9973e8de09126f16289c4c3a03a60cb5e62"
"""Integer hash of fed3r on `SMALL`: order and times of events, sizes, flops. It is the same on every machine."""


def scenario(*labels: str, **changed: Any) -> Config:
    return parse({**SMALL, "paradigms": {label: PARADIGMS[label] for label in labels}, **changed})


def hashes(out: Path) -> list[tuple[str, int, str, str]]:
    return [(run.paradigm, run.seed, run.trace_hash, run.integer_hash) for run in read_result(out).runs]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that others are compared with: two seeds, one worker."""
    out: Path = tmp_path_factory.mktemp("alone")
    run_scenario(scenario(*MIXED, seeds=2), out=out, workers=1)
    return out


def same_result(one: Path, two: Path) -> bool:
    """Equal but for how long it took."""
    a, b = (msgspec.structs.replace(read_result(out), wall_s=0.0) for out in (one, two))
    return a == b and read_runs(one) == read_runs(two)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_number_of_workers_changes_nothing(alone: Path, workers: int, tmp_path: Path) -> None:
    run_scenario(scenario(*MIXED, seeds=2), out=tmp_path, workers=workers)
    assert hashes(tmp_path) == hashes(alone)
    assert same_result(tmp_path, alone)


def test_networks_are_trained_the_same_on_any_worker(tmp_path: Path) -> None:
    for workers in (1, 2):
        run_scenario(scenario("fedavg", "dpsgd"), out=tmp_path / str(workers), workers=workers)
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")
    assert same_result(tmp_path / "1", tmp_path / "2")


def test_seeds_and_paradigms_differ(alone: Path) -> None:
    found = hashes(alone)
    assert [(label, seed) for label, seed, _, _ in found] == [(label, seed) for label in MIXED for seed in (0, 1)]
    assert len({trace for _, _, trace, _ in found}) == len(found)
    assert len({integers for _, _, _, integers in found}) == len(found)


def test_a_run_does_not_depend_on_what_ran_before_it(alone: Path, tmp_path: Path) -> None:
    run_scenario(scenario("kuber", seed=1), out=tmp_path, workers=1)
    assert hashes(tmp_path) == [one for one in hashes(alone) if one[:2] == ("kuber", 1)]


def test_the_integer_hash_is_golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Identity features and integer sums: nothing that decides a time or a size depends on how a machine rounds.

    Messages travel as they are: how small they become is another version of zstd's own business.
    """
    monkeypatch.setattr(wire, "COMPRESS_FROM_BYTES", wire.LIMIT_BYTES)
    run_scenario(scenario("fed3r"), out=tmp_path, workers=1)
    assert hashes(tmp_path)[0][3] == GOLDEN


# --- interrupted and resumed --------------------------------------------------------------------------------------------------


class Interrupt:
    """Presses Ctrl-C at the n-th time that progress is told."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, step: Progress) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("at", "workers"), [(1, 1), (7, 1), (20, 1), (40, 1), (20, 2)])
def test_an_interrupted_run_goes_on_and_ends_the_same(alone: Path, at: int, workers: int, tmp_path: Path) -> None:
    config = scenario(*MIXED, seeds=2)
    with pytest.raises(KeyboardInterrupt):
        run_scenario(config, out=tmp_path, workers=workers, progress=Interrupt(at))
    assert not (tmp_path / "result.json").exists()
    with pytest.raises(KeyboardInterrupt):
        run_scenario(config, out=tmp_path, workers=workers, resume=True, progress=Interrupt(at + 3))
    run_scenario(config, out=tmp_path, workers=workers, resume=True)
    assert same_result(tmp_path, alone)
    assert sorted(path.name for path in tmp_path.iterdir() if "ledger" not in path.name) == ["result.json", "runs.json"]


def test_what_was_finished_is_not_run_again(tmp_path: Path) -> None:
    told: list[tuple[str, bool]] = []
    config = scenario("fed3r", "kuber")

    def stop_at_kuber(step: Progress) -> None:
        if step.paradigm == "kuber":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_scenario(config, out=tmp_path, workers=1, progress=stop_at_kuber)
    run_scenario(config, out=tmp_path, workers=1, resume=True, progress=lambda step: told.append((step.paradigm, step.done)))
    assert told[0] == ("fed3r", True)


def test_a_finished_run_that_is_resumed_has_nothing_to_do(tmp_path: Path) -> None:
    config = scenario("fed3r")
    first = run_scenario(config, out=tmp_path, workers=1)
    told: list[Progress] = []
    assert run_scenario(config, out=tmp_path, workers=1, resume=True, progress=told.append) == first
    assert told == []


def test_a_resumed_run_s_ledger_says_everything_once(alone: Path, tmp_path: Path) -> None:
    config = scenario("fed3r", "kuber")
    run_scenario(config, out=tmp_path / "whole", workers=1)
    with pytest.raises(KeyboardInterrupt):
        run_scenario(config, out=tmp_path / "broken", workers=1, progress=Interrupt(10))
    run_scenario(config, out=tmp_path / "broken", workers=1, resume=True)
    counts = []
    for name in ("whole", "broken"):
        rows = sqlite3.connect(tmp_path / name / "ledger.sqlite")
        tables = [table for (table,) in rows.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        counts.append({table: rows.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables})
        rows.close()
    assert counts[0] == counts[1]


# --- audit --------------------------------------------------------------------------------------------------------------------


def test_all_built_in_paradigms_pass_the_audit(tmp_path: Path) -> None:
    run_scenario(scenario(*PARADIGMS, world={**SMALL["world"], "audit": True}), out=tmp_path / "audited", workers=1)
    run_scenario(scenario(*PARADIGMS), out=tmp_path / "not", workers=1)
    assert hashes(tmp_path / "audited") == hashes(tmp_path / "not")


CHEATS = {
    "time.time()": "the wall clock",
    "random.random()": "global randomness",
    "np.random.rand()": "global randomness",
    "datetime.datetime.now()": "the wall clock",
    "open('/dev/null').close()": "files",
    "threading.Thread(target=print).start()": "threads",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_paradigm_that_cheats_fails_the_audit(cheat: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"""
import datetime, random, threading, time
import msgspec
import numpy as np

class Config(msgspec.Struct, frozen=True):
    pass

async def peer(node, cfg):
    await node.sleep(1)
    {cheat}
"""
    name = f"cheating_{list(CHEATS).index(cheat)}.py"
    (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    use = {"mine": {"use": name}}
    audited = parse({**SMALL, "world": {**SMALL["world"], "audit": True}, "paradigms": use})
    with pytest.raises(ConfigError, match=CHEATS[cheat]) as error:
        run_scenario(audited, out=tmp_path / "out", workers=1)
    assert "peer" in str(error.value)
    assert name in str(error.value)
    run_scenario(parse({**SMALL, "paradigms": use}), out=tmp_path / "out", workers=1)  # without the audit nobody looks


# --- what is written down -----------------------------------------------------------------------------------------------------

NAMED = (
    "accuracy_mean", "accuracy_p10", "accuracy_own", "accuracy_pooled_reference", "virtual_time_s", "time_to_target_s",
    "bytes_moved", "bytes_to_target", "energy_j", "energy_to_target_j", "freshness_s", "latency_p50_ms", "latency_p99_ms",
    "flops", "curve",
)  # fmt: skip


def test_result_json_has_every_field_of_its_schema_with_its_spread(alone: Path) -> None:
    tree = msgspec.json.decode((alone / "result.json").read_bytes())
    assert tree["schema"] == "kuberml.result/1"
    assert {"task", "learners", "wall_s", "runs", "paradigms"} <= tree.keys()
    assert (tree["task"], tree["learners"]) == ("digits", 6)
    for run in tree["runs"]:
        assert {"paradigm", "seed", "trace_hash"} <= run.keys()
        assert len(run["trace_hash"]) == 64
    for label in MIXED:
        found = tree["paradigms"][label]
        for name in NAMED:
            assert name in found, name
            assert f"{name}_std" in found, name
        for name in ("accuracy_mean", "accuracy_p10", "accuracy_own", "virtual_time_s", "bytes_moved", "energy_j", "flops"):
            assert found[name] > 0
            assert found[f"{name}_std"] >= 0
        assert 0 < found["accuracy_p10"] <= found["accuracy_mean"] <= 1
        assert found["freshness_s"].keys() == {"median", "p99"}
        assert len(found["curve"]) == len(found["curve_std"]) > 0
    assert tree["paradigms"].keys() == set(MIXED)
    assert msgspec.convert(tree["paradigms"]["kuber"], ParadigmResult)


def test_a_target_that_was_not_reached_is_null(tmp_path: Path) -> None:
    run_scenario(scenario("fed3r", world={**SMALL["world"], "target": 1.0}), out=tmp_path, workers=1)
    found = msgspec.json.decode((tmp_path / "result.json").read_bytes())["paradigms"]["fed3r"]
    for name in ("time_to_target_s", "bytes_to_target", "energy_to_target_j"):
        assert found[name] is None
    assert found["target_reached"] == 0


def test_the_folder_is_readable_and_its_ledger_knows_the_runs(alone: Path) -> None:
    assert (alone / "ledger.sqlite").stat().st_size > 10_000
    runs = read_runs(alone)
    assert len(runs) == 6
    assert all(run.liars and run.liars[0] not in run.accuracy for run in runs)
    kuber = next(run for run in runs if run.paradigm == "kuber")
    assert {decision.outcome for decision in kuber.decisions} >= {"refused", "untested"}
    assert kuber.bytes_moved > 0


@pytest.mark.parametrize("paradigm", ["fedavg", "dpsgd", "centralised"])
def test_states_that_have_no_mean_are_refused_where_one_is_needed(paradigm: str, tmp_path: Path) -> None:
    trees = {"count": 4, "adapter": "sklearn", "estimator": "sklearn.tree:DecisionTreeClassifier"}
    with pytest.raises(ConfigError, match=rf"paradigms\.{paradigm}.*DecisionTreeClassifier.*local and kuber"):
        run_scenario(parse({**SMALL, "learners": trees, "paradigms": {paradigm: {}}}), out=tmp_path, workers=1)
