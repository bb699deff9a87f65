import json
import os
import re
import sys

import pytest

from kuberml.cli import watching
from kuberml.scenario.progress import Progress
from kuberml.scenario.result_files import read_result

TEXT = """
seeds = 2
[data]
partition = "labels"
options = {per_learner = 5}
public = 10
limit = 120
[learners]
count = 3
models = ["linear"]
[world]
curve_points = 2
[paradigms.local]
epochs = 1
[paradigms.kuber-statistics]
use = "kuber"
looks = 1
"""


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    return path


def test_run_writes_result_and_report_and_says_what_came_out(cli, engine, scenario, tmp_path):
    status, out, err = cli("run", scenario)
    assert status == 0
    folder = tmp_path / "runs" / "mine"
    names = {"result.json", "runs.json", "report.html", "scenario.json", "ledger.sqlite"}
    assert names == {path.name for path in folder.iterdir()}
    assert "kuber-statistics reached" in out
    assert "accuracy, mean" in out
    assert "energy: to the end of the run, idling included" in out
    assert re.search(r"^\[1/4\] local, seed 0: [0-9.]+ %, [0-9.]+ m?s, 0 B$", err, re.MULTILINE)
    assert "report: runs/mine/report.html" in err
    assert read_result(folder).scenario.seeds == (0, 1)


def test_json_is_alone_on_stdout(cli, engine, scenario):
    status, out, _ = cli("run", scenario, "--json")
    assert status == 0
    assert json.loads(out)["schema"] == "kuberml.result/1"


def test_some_paradigms_of_a_scenario_are_run_in_its_order(cli, engine, scenario):
    status, out, _ = cli("run", scenario, "--paradigm", "local", "--seeds", "1", "--json")
    assert (status, list(json.loads(out)["paradigms"])) == (0, ["local"])
    status, _, err = cli("run", scenario, "--paradigm", "lokal")
    assert status == 2
    assert "--paradigm lokal: did you mean 'local'?" in err


def test_settings_reach_the_engine(cli, engine, scenario, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBERML_DATA", "before")
    status, _, err = cli(
        "run",
        scenario,
        "--set",
        "learners.count=7",
        "--seed",
        5,
        "--seeds",
        1,
        "--workers",
        2,
        "--out",
        "x",
        "--data",
        tmp_path,
    )
    assert (status, err.startswith("[1/2] local, seed 5: ")) == (0, True)
    call = engine[0]
    assert (call["config"].learners.count, call["config"].run_seeds, call["workers"]) == (7, (5,), 2)
    assert (str(call["out"]), call["resume"], os.environ["KUBERML_DATA"]) == ("x", False, str(tmp_path))
    assert sys.path[0] == str(tmp_path)


def test_runs_do_not_overwrite_each_other(cli, engine, scenario, tmp_path):
    assert [cli("run", scenario)[0] for _ in range(2)] == [0, 0]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["mine", "mine-2"]
    status, _, err = cli("run", scenario, "--out", "runs/mine")
    assert status == 2
    assert "add --resume" in err
    status, _, err = cli("run", scenario, "--out", "runs/mine", "--resume", "--set", "train.lr=0.5")
    assert status == 2
    assert "other settings" in err
    assert cli("run", scenario, "--resume")[0] == 0
    assert str(engine[-1]["out"]) == "runs/mine-2"


def test_stopping_keeps_what_is_done_and_resuming_ends_in_the_same_hashes(cli, engine, scenario, tmp_path):
    status, out, err = cli("run", scenario, "--set", "name=stopped")
    assert (status, out) == (130, "")
    assert "--resume --out runs/stopped" in err
    assert cli("run", scenario, "--set", "name=stopped", "--resume", "--out", "runs/stopped")[0] == 0
    assert engine[-1]["resume"]
    cli("run", scenario, "--out", "whole")
    stopped, whole = (read_result(tmp_path / folder) for folder in ("runs/stopped", "whole"))
    assert stopped.runs == whole.runs  # paradigm, seed and trace hash of each


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "none.toml"], "no scenario file none.toml"),
        (["run", "mine.toml", "--set", "learners.cuont=3"], "did you mean 'count'?"),
        (["run", "mine.toml", "--set", "learners"], "write a path"),
        (["run", "mine.toml", "--seeds", "0"], "--seeds"),
        (["run", "mine.toml", "--workers", "spark"], "give a number of processes (0 = one a core), or 'ray'"),
        (["nur", "mine.toml"], "No such command"),
    ],
)
def test_wrong_settings_are_one_clear_line(cli, engine, scenario, arguments, says):
    status, out, err = cli(*arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert "Traceback" not in err
    assert engine == []


def test_bars_follow_the_runs(capsys, monkeypatch):
    """A run that ends leaves one line, however often its end is told."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with watching.watching() as watch:
        watch(Progress(paradigm="local", seed=0, run=0, runs=2, time_s=1, until_s=2, bytes_moved=10, accuracy_mean=0.5))
        watch(Progress(paradigm="local", seed=0, run=0, runs=2, time_s=2, until_s=2, done=True))
        watch(Progress(paradigm="local", seed=0, run=0, runs=2, time_s=2, until_s=2, done=True))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("[1/2] local, seed 0") == 1


def test_nobody_watches_quietly(capsys):
    with watching.watching(quiet=True) as watch:
        watch(Progress(paradigm="local", seed=0, run=0, runs=1, done=True))
    assert capsys.readouterr() == ("", "")


def test_compare_shows_both_and_warns(cli, engine, scenario, tmp_path):
    cli("run", scenario, "--out", "a")
    cli("run", scenario, "--out", "b", "--seeds", 1)
    status, out, err = cli("compare", "a", "b")
    assert status == 0
    assert "a/local" in out
    assert "warning: a and b have different seeds" in err
    assert (tmp_path / "compare.html").exists()
    status, out, _ = cli("compare", "a", "b", "--json")
    assert sorted(json.loads(out)["paradigms"]) == ["a/kuber-statistics", "a/local", "b/kuber-statistics", "b/local"]


def test_show_a_run(cli, engine, scenario):
    cli("run", scenario, "--out", "a")
    status, out, _ = cli("show", "a")
    assert status == 0
    assert "kuber-statistics reached" in out
    assert json.loads(cli("show", "a", "--json")[1])["task"] == "digits"


def test_public_samples_that_are_not_there_are_told(cli, engine, scenario):
    status, out, err = cli("run", scenario, "--seeds", 1, "--set", "data.public=5000", "--json")
    assert status == 0
    (remark,) = json.loads(out)["remarks"]
    assert re.match(r"data\.public = 5000, but the data set 'digits' has \d+ public samples", remark)
    assert f"note: {remark}" in err


MINE = "import msgspec\nimport own_part\nclass Config(msgspec.Struct): pass\nasync def peer(node, cfg): await node.sleep(1)\n"


def test_code_that_changed_is_not_mixed_with_what_it_did_before(cli, engine, scenario, tmp_path):
    (tmp_path / "own_idea.py").write_text(MINE)
    (tmp_path / "own_part.py").write_text("A = 1\n")
    scenario.write_text(TEXT + '[paradigms.mine]\nuse = "own_idea.py"\n')
    assert cli("run", scenario, "--set", "name=stopped")[0] == 130
    (tmp_path / "own_part.py").write_text("A = 2\n")
    for arguments in (("--resume",), ("--out", "runs/stopped")):
        status, _, err = cli("run", scenario, "--set", "name=stopped", *arguments)
        assert status == 2
        assert "own_part.py changed since the run in runs/stopped began" in err
    (tmp_path / "own_part.py").write_text("A = 1\n")
    assert cli("run", scenario, "--set", "name=stopped", "--resume")[0] == 0
    assert cli("run", scenario, "--set", "name=stopped", "--resume")[0] == 0


WILD = '[paradigms.wild]\nuse = "dpsgd"\nrounds = 3\nepochs = 5\nlr = 1e38\n'


def test_a_run_that_fails_is_told_and_does_not_end_the_others(cli, engine, scenario):
    scenario.write_text(TEXT.replace("[paradigms.local]", WILD + "[paradigms.local]"))
    status, out, err = cli("run", scenario, "--seeds", 1)
    assert status == 5
    assert re.search(r"^ *wild +failed +–", out, re.MULTILINE)
    assert "wild, seed 0, failed: tensor 'state' holds NaN or infinity" in out
    assert "kuber-statistics reached" in out
    assert "[1/3] wild, seed 0: failed: tensor 'state'" in err
    assert err.splitlines()[-1].startswith("1 of 3 runs failed, see above; --resume --out runs/mine tries these again")
    assert "wild, seed 0, failed: tensor" in cli("show", "runs/mine")[1]
    status, out, err = cli("run", scenario, "--seeds", 1, "--resume", "--json")
    assert (status, [run["paradigm"] for run in json.loads(out)["failed"]]) == (5, ["wild"])
    cli("run", scenario, "--seeds", 1, "--set", "paradigms.wild.lr=0.1", "--out", "tamed")
    assert "mine: wild, seed 0, failed: tensor" in cli("compare", "runs/mine", "tamed")[2]
