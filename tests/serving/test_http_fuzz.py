"""Fuzzed from its own description by schemathesis' own command: a real server on loopback, a bounded number of examples."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kuberml.serving.service import Service, Settings
from kuberml.worlds.member.background import Background
from tests.serving.parts import SHAPE, served

pytest.importorskip("schemathesis", reason="fuzzing needs the extra dev")
ROOT = Path(__file__).parents[2]
EXAMPLES = 25
"""Random ones of each operation, beside those at every edge of the description."""


def statuses(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
    found: dict[str, float] = {}
    for sample in (one for family in families for one in family.samples if one.name == "kuberml_serve_requests_total"):
        found[sample.labels["status"]] = found.get(sample.labels["status"], 0) + sample.value
    return found


def test_no_request_breaks_it_and_every_answer_is_as_described() -> None:
    """Every check: no 5xx, described statuses, types and schemas, what it allows is accepted, what it forbids is not."""
    assert SHAPE == (8, 8, 1)  # as the hooks have it
    background = Background("a server to be fuzzed")
    service = Service(Settings(engine="eager", max_rows=8))
    try:
        url = f"http://127.0.0.1:{background.run(service.open('127.0.0.1', 0))}"
        service.take(served()).result()
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--phases", "coverage,fuzzing",
            "--max-examples", str(EXAMPLES), "--generation-deterministic", "--continue-on-failure", "--no-color",
        ]  # fmt: skip
        hooks = {"SCHEMATHESIS_HOOKS": "tests.serving.http_hooks", "PYTHONPATH": f"{ROOT}"}
        done = subprocess.run(command, env={**os.environ, **hooks}, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert "Tested: 10" in done.stdout, done.stdout[-2000:]
        found = statuses(url)
    finally:
        background.run(service.close())
        background.close()
    assert found["200"] >= 50
    assert found["400"] >= 20
    assert not [status for status in found if status >= "500"], found
