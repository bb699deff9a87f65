"""What the documents show runs: every python block, in its document's order, in an empty folder; the README's commands too.

A block that cannot run here has the line `<!-- not run: why -->` before it.
"""

from __future__ import annotations

import re
import shlex
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.cli.live import hub, kuberml, start

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
BLOCK = re.compile(r"(?P<skip><!-- not run: [^>]+-->\n+)?^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```sh\n(kuberml .*?)\n```$", re.MULTILINE)
LINES = 25
"""That many the patch of an existing loop may have."""


def blocks(document: Path) -> list[tuple[int, str]]:
    """Line and text of each python block that is to be run."""
    text = document.read_text()
    return [(text.count("\n", 0, m.start("code")) + 1, m["code"]) for m in BLOCK.finditer(text) if not m["skip"]]


def executed(document: Path) -> dict[str, Any]:
    """The names that a document's blocks leave behind."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for line, code in blocks(document):
        exec(compile("\n" * (line - 1) + code, str(document), "exec"), names)
    return names


def test_every_python_block_of_the_other_documents_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, document in enumerate(DOCUMENTS[1:]):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        assert "__name__" in executed(document)


def test_the_readme_teaches_a_network_what_it_has_never_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = executed(ROOT / "README.md")
    out = capsys.readouterr().out
    assert "ward-2: credit" in out
    assert int(re.findall(r"(\d+)% right", out)[0]) >= 80
    patched = [code for _, code in blocks(ROOT / "README.md") if "me.absorb" in code]
    assert [len(code.splitlines()) <= LINES for code in patched] == [True]
    x, y = names["tensors"]("test", [7, 8, 9])
    alone = names["network"](64)
    optimizer = names["torch"].optim.SGD(alone.parameters(), lr=0.1)
    x_own, y_own = names["tensors"]("train", [0, 1, 2])
    for _ in range(20):
        optimizer.zero_grad()
        names["cross_entropy"](alone(x_own), y_own).backward()
        optimizer.step()
    assert (alone(x).argmax(1) == y).float().mean() < 0.2  # nobody guesses digits that were never shown


def commands() -> list[list[str]]:
    """What the README tells to type, each as its words."""
    return [shlex.split(block) for block in COMMANDS.findall((ROOT / "README.md").read_text())]


def test_what_a_stranger_types_first_works(tmp_path: Path) -> None:
    """The README's own commands, as processes, on a port that is free here."""
    hub_command, *joins, find, serve = commands()
    assert hub_command == ["kuberml", "hub"]
    with hub(tmp_path / "place") as running:
        typed = (*joins, find, serve)
        here = [[word.replace("127.0.0.1:7447", running["address"]) for word in command[1:]] for command in typed]
        assert len(joins) == 2
        assert all(running["address"] in words for words in here)
        paths = [[str(ROOT / word) if word.startswith("examples/") else word for word in words] for words in here]
        learners = [start(tmp_path, *words) for words in paths[:2]]
        said = [learner.communicate(timeout=90) for learner in learners]
        assert [learner.returncode for learner in learners] == [0, 0], said
        for out, _ in said:
            assert int(re.findall(r"(\d+)% right on digits that I have never seen", out)[0]) >= 80
        status, out, err = kuberml(tmp_path, *here[2])
        assert (status, "statistics" in out) == (0, True), err
        service = start(tmp_path, *here[3], "--http", "127.0.0.1:0")
        patience = threading.Timer(60, service.kill)
        patience.start()
        try:
            first = next((line for line in service.stderr if line.startswith("version")), "nothing is served")
            service.send_signal(signal.SIGTERM)
            _, err = service.communicate(timeout=30)
        finally:
            patience.cancel()
            service.kill()
        assert (service.returncode, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in first) == (0, True), first + err
        shown = told("\n".join(err for _, err in said))
        printed = (ROOT / "README.md").read_text().partition("```text\n")[2].partition("```")[0]
        assert [line for line in told(printed)[:4] if line not in shown] == []


def told(text: str) -> list[str]:
    """Its lines without what differs from run to run: names with their key, digests, sizes."""
    return [re.sub(r"\b[0-9a-f]{12}\b|[0-9.]+ KB", "", line.partition(": ")[2]) for line in text.splitlines()]


def test_blocks_are_found_and_marked_ones_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("x\n```python\na = 1\n```\n<!-- not run: needs a network -->\n```python\nb = 2\n```\n```toml\nc = 3\n```\n")
    assert blocks(path) == [(3, "a = 1\n")]


def test_the_readme_names_the_two_commands_and_shows_results() -> None:
    text = (ROOT / "README.md").read_text()
    assert all(part in text for part in ("make setup", "make demo", "make test", "(docs/results.md)"))
