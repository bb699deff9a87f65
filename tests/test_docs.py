"""What the documents point at exists: tests that threats name, files that links and paths name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house import modules

ROOT = Path(__file__).parents[1]
PACKAGES = sorted({module.package for module in modules().values()} - {""})
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_that_is_named_exists(document: Path) -> None:
    missing = []
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", document.read_text()):
        path = ROOT / file
        if not path.is_file() or not re.search(rf"def {name}\b", path.read_text()):
            missing.append(f"{file}::{name}")
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_and_path_leads_somewhere(document: Path) -> None:
    text = document.read_text()
    links = [
        link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link and not link.startswith("#")
    ]
    paths = re.findall(r"`((?:docs|tests|src|examples|benchmarks|tools)/[\w./-]+)`", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    missing += [path for path in paths if not (ROOT / path).exists()]
    ours = re.findall(rf"`((?:{'|'.join(PACKAGES)})/[\w/]+\.py)`", text)
    missing += [path for path in ours if not (ROOT / "src/kuberml" / path).exists()]
    assert missing == []


def test_threats_name_a_test_in_every_row() -> None:
    rows = [line for line in (ROOT / "THREATS.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    assert [row[:60] for row in rows if "::test_" not in row and not set(row) <= set("| -")] == []
