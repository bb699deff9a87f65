"""The comparison of paradigms runs in slices, goes on where it stopped, and says the same at the end."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "paradigms.py"


def told(*arguments: str) -> str:
    command = [sys.executable, str(SCRIPT), *arguments, "--group", "smoke", "--workers", "1"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def test_a_smoke_slice_measures_resumes_and_is_summed_up(tmp_path: Path) -> None:
    few = ("--out", str(tmp_path), "--paradigms", "fedavg", "aedfl", "split", "--seeds", "1")
    assert "smoke" in told(*few, "--dry-run")
    assert not list(tmp_path.glob("*.json"))
    told(*few)
    first = {path.name: path.read_text() for path in tmp_path.glob("*.json")}
    assert set(first) == {f"smoke.{label}.0.json" for label in ("fedavg", "aedfl", "split")}
    for text in first.values():
        run = json.loads(text)
        assert 0 < run["accuracy_p10"] <= run["accuracy"] <= 1
        assert run["measured"] == len(run["devices"]) == 4
        assert run["bytes"] > 10_000
        assert run["flops"] > 0
        assert run["energy_j"] > 0
        assert run["freshness_median_s"] is not None
        assert 0 < run["accuracy_mean_model"] < 1
        assert len(run["curve"]) >= 2
    (tmp_path / "smoke.split.0.json").unlink()
    told(*few)  # only what is missing is done again, and comes to the same
    again = json.loads((tmp_path / "smoke.split.0.json").read_text())
    assert again["trace_hash"] == json.loads(first["smoke.split.0.json"])["trace_hash"]
    assert (tmp_path / "smoke.fedavg.0.json").read_text() == first["smoke.fedavg.0.json"]
    assert not list((tmp_path / "unfinished").iterdir())
    table = told("--out", str(tmp_path), "--overview")
    for word in ("### smoke", "| fedavg | 1 |", "worst tenth", "to 30%", "Commits:"):
        assert word in table
