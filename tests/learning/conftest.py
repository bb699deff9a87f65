from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kuberml.learning import datasets


def data_folder() -> Path | None:
    """The data folder of this machine: $KUBERML_DATA, else `shared/data` beside or inside the checkout."""
    here = Path(__file__).resolve().parents[2]
    named = [Path(os.environ["KUBERML_DATA"])] if os.environ.get("KUBERML_DATA") else []
    return next((path for path in [*named, here / "shared/data", here.parent / "shared/data"] if path.is_dir()), None)


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of real data, read afresh; the test is skipped where there is none."""
    folder = data_folder()
    if folder is None:
        pytest.skip("no data folder: set KUBERML_DATA")
    monkeypatch.setenv("KUBERML_DATA", str(folder))
    datasets._part.cache_clear()
    yield folder
    datasets._part.cache_clear()
