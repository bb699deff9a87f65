"""A soak: rounds of several faults at once, and the law after each.

python -m tests.faults.soak --minutes 10 --seed 7 --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from kuberml.core.rng import rng
from tests.faults.controls import LIBFAKETIME
from tests.faults.kinds import FAULTS
from tests.faults.law import SETTLE_S, Broken, Law
from tests.faults.town import Town, town

START_S = 40.0
ROUND_S = 6.0
FAULTS_A_ROUND = (8, 20)
WEIGHTS = {"kill": 5, "kill_hub": 2, "restart": 1, "restart_hub": 1, "freeze": 4, "cut": 3, "silence": 3, "delay": 2,
           "disk_full": 2, "disk_full_hub": 1, "clock": 3}  # fmt: skip


@dataclass
class Result:
    """What came of it."""

    seed: int
    seconds: float = 0.0
    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    recoveries_s: list[float] = field(default_factory=list)
    accepted: int = 0
    starts: int = 0
    max_resident_mib: int = 0
    broken: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        """Plain figures."""
        plain = asdict(self)
        recoveries_s = plain.pop("recoveries_s")
        quantiles = np.quantile(recoveries_s, [0.5, 0.99, 1.0]).round(2).tolist() if recoveries_s else [None] * 3
        lost_or_twice = 0 if not self.broken else None
        return plain | {
            "faults": dict(sorted(self.faults.items())),
            "faults_in_all": self.faults.total(),
            **dict(zip(("recovery_p50_s", "recovery_p99_s", "recovery_max_s"), quantiles, strict=True)),
            "lost": lost_or_twice,
            "applied_twice": lost_or_twice,
        }


async def soak(
    folder: Path,
    seconds: float,
    seed: int,
    *,
    say: bool = False,
    publishers: int = 3,
    receivers: int = 3,
    faketime: bool = False,
) -> Result:
    """Rounds until `seconds` are over, or the law is broken."""
    result, draw, began_s = Result(seed), rng(seed, "soak"), time.monotonic()
    async with town(folder, publishers=publishers, receivers=receivers, faketime=faketime) as here:
        law = Law(here)
        await law.settle(START_S)
        try:
            while time.monotonic() - began_s < seconds:
                done = await one_round(here, draw, result)
                result.recoveries_s.append(await law.settle(SETTLE_S))
                result.rounds += 1
                if say:
                    took = f"{time.monotonic() - began_s:6.1f} s  {result.recoveries_s[-1]:5.2f} s"
                    print(f"{took} after {', '.join(done)}; last: {law.last_problem}", file=sys.stderr)
        except Broken as error:
            result.broken.append(f"{error}\n  after {done}")
            for actor in here.actors.values():
                actor.signal(signal.SIGUSR1)
            await asyncio.sleep(1.0)
        result.accepted = sum(len(path.read_text().splitlines()) for path in (folder / "journal").iterdir())
        result.starts = sum(actor.starts for actor in here.actors.values())
        result.max_resident_mib = max(actor.resident_bytes() for actor in here.actors.values()) >> 20
    result.broken += [crash for actor in here.actors.values() for crash in actor.crashes]
    result.seconds = round(time.monotonic() - began_s, 1)
    return result


async def one_round(here: Town, draw: np.random.Generator, result: Result) -> list[str]:
    """Several faults that overlap; all are over when it returns."""
    names = list(FAULTS)
    chances = np.array([WEIGHTS[name] for name in names], float)

    async def later(name: str, wait_s: float, own: np.random.Generator) -> str:
        await asyncio.sleep(wait_s)
        here.note(f"{name} ...")
        said = await FAULTS[name](here, own)
        here.note(f"{name} {said} is over")
        result.faults[name] += 1
        return f"{name} {said}"

    count = int(draw.integers(*FAULTS_A_ROUND, endpoint=True))
    chosen = draw.choice(names, count, p=chances / chances.sum())
    return await asyncio.gather(*(later(str(name), draw.uniform(0, ROUND_S), draw) for name in chosen))


def main() -> int:
    """See the module."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--minutes", type=float, default=10.0)
    reader.add_argument("--seed", type=int, default=7)
    reader.add_argument("--json", action="store_true", help="the summary as JSON, on standard output")
    reader.add_argument("--folder", type=Path, default=None, help="where vaults and logs lie; default: a temporary one")
    reader.add_argument("--faketime", action="store_true", help=f"clocks jump for all code of a process ({LIBFAKETIME})")
    asked = reader.parse_args()
    with tempfile.TemporaryDirectory(prefix="kuberml-soak-", ignore_cleanup_errors=True) as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        result = asyncio.run(soak(folder, 60 * asked.minutes, asked.seed, say=True, faketime=asked.faketime))
    print(json.dumps(result.summary(), indent=None if asked.json else 2))
    return 1 if result.broken else 0


if __name__ == "__main__":
    sys.exit(main())
