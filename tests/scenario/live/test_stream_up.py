"""The continual cloud as real processes: what an edge learns, the cloud answers, in real time."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from tests.cli.live import start

SETTINGS = (
    *("data.stream.tasks=2", "data.stream.every_s=5", "learners.count=2", "data.limit=400", "extractor.name=identity"),
    *("extractor.options={}", "world.until_s=60", "paradigms.continual.quiet_s=2", "learners.models=['linear']"),
)


def test_edges_teach_the_cloud_as_data_arrive(tmp_path: Path) -> None:
    with resources.as_file(resources.files("kuberml.scenario").joinpath("continual_cloud.toml")) as path:
        changes = [word for setting in SETTINGS for word in ("--set", setting)]
        up = start(tmp_path, "up", path, "--paradigm", "continual", *changes, "--out", tmp_path / "out", "--json")
        try:
            printed, said = up.communicate(timeout=90)
        finally:
            up.kill()
    assert up.returncode == 0, said
    served = json.loads(printed)["paradigms"]["continual"]["served"]
    assert served["whose"] == "server"
    assert served["mean"]["accuracy"] > 0.8
    assert served["mean"]["unanswered"] == 0
    assert 0 <= served["mean"]["answered_s"] < 30, "real seconds, on a machine that may be busy"
    assert len(served["accuracy"]) == 2
    assert min(served["accuracy"][-1]) > 0.7
