"""Contender (b) of `simulation.py`: a whole run as `kuberml run` makes it, cards signed, checked and accounted for.

python simulation_ours.py task.json scenario.toml folder workers
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from kuberml import __version__
from kuberml.scenario.config import load
from kuberml.scenario.progress import Progress
from kuberml.scenario.run import run_scenario


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    served: list[float] = []

    def watch(step: Progress) -> None:
        served.append(time.time())

    result = run_scenario(load(Path(sys.argv[2])), out=Path(sys.argv[3]), workers=int(sys.argv[4]), progress=watch)
    # A client serves what it is about to train: `cohort` times a round, at its beginning, and all clients at the very end.
    began = served[:: task["cohort"]][: task["rounds"] + 1]
    told = {"stamps_s": began[1:], "ended_s": time.time(), "version": f"kuberml {__version__}"}
    print(json.dumps({**told, "trace_hash": result.runs[0].trace_hash}), flush=True)


if __name__ == "__main__":
    main()
