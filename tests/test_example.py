"""The example package is installed as a user would, and its paradigm, data, model, extractor and kind are used by name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "my_paradigm"
SMALL = ("data.limit=200", "learners.count=4", "paradigms.local.epochs=2", "paradigms.dpsgd.rounds=2",
         "paradigms.gossip-learning.cycles=3", "paradigms.kuber-statistics.looks=1", "seeds=1")  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that finds the package, installed offline into an empty folder."""
    folder = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(folder / "source")], check=True, capture_output=True)
    paths = (str(ROOT / "src"), str(folder / "site"))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def kuberml(environment: dict[str, str], folder: Path, *arguments: str) -> str:
    """What the command prints, in a folder of its own."""
    command = [sys.executable, "-W", "error", "-m", "kuberml.cli", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_paradigm_from_outside_runs_and_is_compared(installed: dict[str, str], tmp_path: Path) -> None:
    settings = [part for setting in SMALL for part in ("--set", setting)]
    scenario = str(EXAMPLE / "compare_gossip.toml")
    result = json.loads(kuberml(installed, tmp_path, "run", scenario, *settings, "--workers", "1", "--out", "a", "--json"))
    assert sorted(result["paradigms"]) == ["dpsgd", "gossip-learning", "kuber-statistics", "local"]
    assert result["task"] == "two-moons"
    gossip = result["paradigms"]["gossip-learning"]
    assert 0 < gossip["bytes_moved"] < result["paradigms"]["dpsgd"]["bytes_moved"] * 2
    assert gossip["accuracy_mean"] > 0.5
    more = ["--set", "paradigms.gossip-learning.cycles=6", "--set", "paradigms.local.epochs=3"]
    kuberml(installed, tmp_path, "run", scenario, *settings, *more, "--workers", "1", "--out", "b", "--json")
    both = json.loads(kuberml(installed, tmp_path, "compare", "a", "b", "--json"))
    assert {"a/gossip-learning", "b/gossip-learning", "a/kuber-statistics"} <= both["paradigms"].keys()
    assert both["paradigms"]["b/gossip-learning"]["bytes_moved"] > both["paradigms"]["a/gossip-learning"]["bytes_moved"]


def test_a_kind_from_outside_is_packed_and_checked(installed: dict[str, str], tmp_path: Path) -> None:
    code = """
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.knowledge.kind import KINDS, kind_of
from kuberml.knowledge.card import Knowledge
from kuberml.knowledge.pack import make, open_value
from kuberml.knowledge.signing import Keys, sign_card
from my_paradigm.label_counts import LabelCounts
import msgspec
keys = Keys(bytes(32))
mine = LabelCounts({"a": 3, "b": 1})
made = make(kind_of(mine), mine, keys=keys, task="t", slot="s", version=0, learned_at_ms=0)
assert made.card.kind == "label-counts" and "label-counts" in KINDS.names() and open_value(made) == mine
lie = Knowledge(sign_card(msgspec.structs.replace(made.card, labels={"a": 9, "b": 1}), keys), made.blobs)
empty = LabelCounts({"a": 0})
for error, broken in ((RemoteError, lambda: open_value(lie)), (ConfigError, lambda: KINDS.get("label-counts").pack(empty))):
    try:
        broken()
    except error:
        continue
    raise AssertionError(error)
print("checked")
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=installed, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("checked", "")


def test_its_algorithm_is_as_short_as_it_says() -> None:
    lines = (EXAMPLE / "src" / "my_paradigm" / "gossip_learning.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 50
    assert "DAIS 2019" in lines[2]
