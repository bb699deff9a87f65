"""A minute of everything at once. The long one: `python -m tests.faults.soak --minutes 10`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.soak import soak


@pytest.mark.slow
def test_a_minute_of_faults_loses_nothing_and_applies_nothing_twice(tmp_path: Path) -> None:
    result = asyncio.run(soak(tmp_path / "town", 60.0, seed=11, publishers=2, receivers=2))
    assert result.broken == []
    assert result.faults.total() >= 15
    assert result.accepted >= 30
    assert len(result.recoveries_s) == result.rounds >= 2
