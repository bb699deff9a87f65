from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kuberml.core import plugins
from kuberml.core.errors import ConfigError
from kuberml.core.plugins import Registry


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages of its own; what is installed is read once per process, so forget it around the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins._points.cache_clear()
    yield tmp_path
    plugins._points.cache_clear()


def install(site: Path, package: str, group: str, *lines: str) -> None:
    """What pip leaves of a package that has entry points."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "\n".join(lines) + "\n")


def registry() -> Registry[object]:
    return Registry("part", "kuberml.test_parts")


def test_a_part_is_loaded_at_first_use_and_once() -> None:
    loads: list[str] = []
    parts = registry()
    parts.add("a", lambda: loads.append("a") or object())
    assert loads == []
    assert parts.get("a") is parts.get("a")
    assert loads == ["a"]


def test_names_are_sorted_and_known() -> None:
    parts = registry()
    for name in ("b", "c", "a"):
        parts.add(name, object)
    assert list(parts) == parts.names() == ["a", "b", "c"]
    assert "a" in parts
    assert "d" not in parts
    assert 7 not in parts


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    parts = registry()
    parts.add("fedavg", object)
    with pytest.raises(ConfigError, match="unknown part 'fedvag'; did you mean 'fedavg'"):
        parts.get("fedvag")


def test_a_loader_that_fails_is_asked_again() -> None:
    parts = registry()
    answers = iter([ConfigError("not yet"), None])

    def loader() -> str:
        error = next(answers)
        if error:
            raise error
        return "here"

    parts.add("a", loader)
    with pytest.raises(ConfigError, match="not yet"):
        parts.get("a")
    assert parts.get("a") == "here"


def test_a_later_part_replaces_an_earlier_one_even_after_use() -> None:
    parts = registry()
    parts.add("a", lambda: "old")
    assert parts.get("a") == "old"
    parts.add("a", lambda: "new")
    assert parts.get("a") == "new"


def test_another_package_adds_a_part(site: Path) -> None:
    (site / "their_part.py").write_text("PART = 'theirs'\n")
    install(site, "theirs", "kuberml.test_parts", "their-part = their_part:PART", "whole = their_part")
    parts = registry()
    parts.add("ours", lambda: "ours")
    assert parts.names() == ["ours", "their-part", "whole"]
    assert "their_part" not in sys.modules
    assert "their-part" in parts
    assert parts.get("their-part") == "theirs"
    assert parts.get("whole") is sys.modules["their_part"]


def test_our_own_part_cannot_be_replaced_from_outside(site: Path) -> None:
    (site / "their_part2.py").write_text("PART = 'theirs'\n")
    install(site, "theirs", "kuberml.test_parts", "ours = their_part2:PART")
    parts = registry()
    parts.add("ours", lambda: "ours")
    assert parts.get("ours") == "ours"


def test_two_packages_with_one_name_are_refused(site: Path) -> None:
    install(site, "one", "kuberml.test_parts", "x = one_module:X")
    install(site, "two", "kuberml.test_parts", "x = two_module:X")
    with pytest.raises(ConfigError, match=r"several packages offer a part 'x': one_module:X, two_module:X"):
        registry().get("x")


@pytest.mark.parametrize("place", ["no_such_module", "broken_part:NOTHING"])
def test_a_broken_package_is_named(site: Path, place: str) -> None:
    (site / "broken_part.py").write_text("PART = 1\n")
    install(site, "broken", "kuberml.test_parts", f"b = {place}")
    with pytest.raises(ConfigError, match=f"the part 'b' .{place}. cannot be loaded"):
        registry().get("b")
