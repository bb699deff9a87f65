"""The gossip benchmark in small: it does what its figures say."""

import argparse
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROUNDS = 6


@pytest.fixture(scope="module")
def gossip() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "gossip.py"
    spec = importlib.util.spec_from_file_location("gossip", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("fanout", "ask"), [(1, False), (4, False), (1, True)])
def test_every_message_is_signed_verified_and_merged(gossip: ModuleType, fanout: int, ask: bool) -> None:
    hours = ROUNDS * 10 / 3600
    args = argparse.Namespace(nodes=20, degree=4, fanout=fanout, period_s=10.0, hours=hours, seed=1, ask=ask)
    outcome, received = gossip.simulate(args)
    again, _ = gossip.simulate(args)
    assert 20 * (ROUNDS - 1) * fanout <= received <= 20 * ROUNDS * fanout
    assert again.trace_hash == outcome.trace_hash
