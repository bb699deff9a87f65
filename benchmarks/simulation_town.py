"""One run of a scenario, without measuring accuracy at its end: what `simulation_scale.py` times and weighs.

python simulation_town.py scenario.json
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from kuberml.ledger.ledger import Ledger
from kuberml.scenario.config import parse
from kuberml.scenario.play import Play
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.replay import RunRecords
from kuberml.scenario.warm import warm
from kuberml.worlds.simulated.workers import make_workers


def main() -> None:
    config = parse(json.loads(Path(sys.argv[1]).read_text()))
    (label,) = config.paradigms
    pool, ledger = make_workers(len(os.sched_getaffinity(0))), Ledger(Path(sys.argv[1]).with_name("ledger.sqlite"))
    cool = warm(config, pool)
    try:
        records = RunRecords(ledger, label)
        play = Play(config, label, 0, things=PublicThings(config), workers=pool, cache=None, records=records)
        began_s, processor_s = time.time(), time.process_time()
        outcome = play.run()
        ended_s, processor_s = time.time(), time.process_time() - processor_s
    finally:
        cool()
        pool.close()
        ledger.close()
    told = {
        "stamps_s": [began_s, ended_s],
        "ended_s": ended_s,
        "played_s": ended_s - began_s,
        "processor_s": processor_s,
        "events": outcome.events,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
