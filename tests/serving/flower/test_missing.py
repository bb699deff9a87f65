"""Without the extra, an app that needs Flower is told what to install."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from kuberml.core.errors import MissingExtra
from kuberml.serving.flower.arrays import named_thing


@pytest.mark.skipif(importlib.util.find_spec("flwr") is not None, reason="the extra 'flower' is installed")
def test_an_app_that_imports_flower_is_told_of_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "an_app_of_somebody.py").write_text("from flwr.app import Context\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingExtra, match="flower"):
        named_thing("an_app_of_somebody:app", "app")
