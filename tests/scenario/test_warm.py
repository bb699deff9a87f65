"""Workers that measure a network, so that this process need not import torch; and a curve of one point."""

import subprocess
import sys
from pathlib import Path

import pytest

from kuberml.learning.torch_learner import MEASURED
from kuberml.scenario.config import parse
from kuberml.scenario.run import run_scenario
from tests.scenario.small import SMALL

TREE = {**SMALL, "paradigms": {"fedavg": {"rounds": 2}}, "world": {"until_s": 1200, "curve_points": 1}}
SCRIPT = f"""
import sys
from pathlib import Path
from kuberml.scenario.config import parse
from kuberml.scenario.run import run_scenario
result = run_scenario(parse({TREE!r}), out=Path(sys.argv[1]), workers=2)
print(result.runs[0].trace_hash, result.paradigms["fedavg"].flops, "torch" in sys.modules)
"""


def test_a_run_on_workers_is_the_same_and_imports_no_torch_here(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra 'torch'")
    said = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "two")], capture_output=True, text=True, check=True)
    trace_hash, flops, torch_here = said.stdout.split()
    one = run_scenario(parse(TREE), out=tmp_path / "one", workers=1)
    assert trace_hash == one.runs[0].trace_hash
    assert float(flops) == one.paradigms["fedavg"].flops > 0
    assert torch_here == "False"
    assert MEASURED == {}, "nothing is left behind"
    assert len(one.paradigms["fedavg"].curve) == 1
