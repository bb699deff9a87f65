"""docs/python.md, as a stranger follows it: its program twice at a real hub, a network fetched, a service asked."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import threading
from pathlib import Path

from tests.cli.live import hub, kuberml, start

GUIDE = (Path(__file__).parent.parent / "docs/python.md").read_text()
PROGRAM, LOADING, _, _, ASKING = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
JOINS, FIND, SERVE = (re.findall(rf"^kuberml ({word} .*)$", GUIDE, re.MULTILINE) for word in ("join", "find", "serve"))


def typed(line: str, address: str) -> list[str]:
    """A command of the guide, as its words, at this hub."""
    assert "127.0.0.1:7447" in line
    return shlex.split(line.replace("127.0.0.1:7447", address))


def test_the_guide_leads_from_an_own_network_to_a_served_model(tmp_path: Path) -> None:
    (tmp_path / "ward.py").write_text(PROGRAM)
    with hub(tmp_path / "place") as running:
        at = running["address"]
        wards = [start(tmp_path, *typed(line, at)) for line in JOINS]
        try:
            said = [ward.communicate(timeout=120) for ward in wards]
        finally:
            for ward in wards:
                ward.kill()
        assert [ward.returncode for ward in wards] == [0, 0], said
        for out, _ in said:
            assert int(re.findall(r"(\d+)% right on labels that I have no sample of", out)[0]) >= 75, said
        status, out, err = kuberml(tmp_path, *typed(FIND[0], at), "--json")
        assert status == 0, err
        assert_a_network_can_be_fetched(tmp_path, at, out)
        assert_the_service_answers(tmp_path, typed(SERVE[0], at))


def assert_a_network_can_be_fetched(folder: Path, at: str, found: str) -> None:
    card = next(one["digest"] for one in json.loads(found) if one["kind"] == "weights")[:8]
    for words in (["fetch", card, "--out", "mine", "--hub", at], ["export", "mine", card, "net.safetensors"]):
        status, _, err = kuberml(folder, *words)
        assert status == 0, err
    model = re.search(r"^class Net.*?(?=^def )", PROGRAM, re.MULTILINE | re.DOTALL)
    assert model
    own = folder / "own.py"
    tensors = str(folder / "net.safetensors")
    own.write_text(f"import torch\nLABELS = range(10)\n{model[0]}\n{LOADING.replace('net.safetensors', tensors)}")
    assert runpy.run_path(str(own))["net"].head.out_features == 10


def assert_the_service_answers(folder: Path, words: list[str]) -> None:
    service = start(folder, *words, "--http", "127.0.0.1:0", "--json")
    patience = threading.Timer(60, service.kill)
    patience.start()
    try:
        lines = ""
        while not lines.endswith("}\n"):
            lines += service.stdout.readline() or "}\n"
        next((line for line in service.stderr if line.startswith("version")), None)
        asking = folder / "asking.py"
        asking.write_text(ASKING.replace("http://127.0.0.1:8080", json.loads(lines)["http"]))
        assert len(runpy.run_path(str(asking))["answer"]["predictions"]) == 3
    finally:
        patience.cancel()
        service.kill()
        service.communicate()
