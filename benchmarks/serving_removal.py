"""How soon a contributor is forgotten: a real service and ten contributors, each removed and let in again.

    python benchmarks/serving_removal.py [--dims 2000] [--contributors 10] [--removals 10] [--json out.json]

Seconds from the operator's word to the moment in which the model without that contributor answers queries: its packet
opened, integers subtracted, head solved, version committed to disk, engine built, swapped. Each time it is checked that the
integers are those of the other contributors' packets, added anew (bit for bit), that the head is that of training without
it, and that no label names it any more. On a busy machine the CPU seconds of the process say more than those that passed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import kuberml
from kuberml.exchange.continual.cloud import Cloud
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.continual.served import Served
from kuberml.knowledge.algebra import merge_all
from kuberml.knowledge.kinds.extractor import basis_of
from kuberml.knowledge.kinds.statistics import Statistics, describe, solve
from kuberml.learning.extractors import identity
from kuberml.serving.live import Serving
from kuberml.serving.service import Settings
from kuberml.worlds.member.keyfile import keys_in

LABELS = tuple("0123456789")
SAMPLES, PUBLIC = 400, 200
NEAR = 1e-9


def data_of(number: int, features: int, count: int) -> tuple[Any, Any]:
    """Ten overlapping classes in 0..1; each contributor draws its own samples of them."""
    means_Ck = np.random.default_rng(0).uniform(0.3, 0.7, (len(LABELS), features))
    rng = np.random.default_rng(1 + number)
    y_N = rng.integers(0, len(LABELS), count)
    noise_Nk = rng.normal(0, 0.3, (count, features))
    return np.clip(means_Ck[y_N] + noise_Nk, 0, 1).astype(np.float32), y_N


def publish(place: Path, folder: Path, number: int, features: int) -> tuple[str, Statistics]:
    """What a contributor publishes, and under which key."""
    x_Nk, y_N = data_of(number, features, SAMPLES)
    described, _ = describe(x_Nk, [LABELS[y] for y in y_N], basis=basis_of(identity(features)))
    own = {"key": folder / f"edge-{number}.key", "vault": folder / f"edge-{number}"}
    with kuberml.join(place, task="vectors", name=f"edge-{number}", labels=LABELS, data=(x_Nk, y_N), **own) as me:
        me.publish(described)
    return keys_in(own["key"]).public, described


async def until(serving: Serving, contents: int) -> Cloud:
    while serving.cloud is None or len(serving.cloud._model.contents) != contents:
        await asyncio.to_thread(time.sleep, 0.05)
    return serving.cloud


def check(served: Served, cloud: Cloud, author: str, others: list[Statistics]) -> None:
    """What is served is what would be served had this author never been."""
    sums, entry = merge_all(others), cloud.history[-1]
    assert served.manifest == entry.manifest
    assert sums.digest == entry.sums
    head = solve(sums, entry.ridge)
    assert float(np.abs(served.predictor.head.weights_dC - head.weights_dC).max()) < NEAR  # type: ignore[attr-defined]
    assert author not in {one.author for parts in served.taught.values() for one in parts}


async def measure(place: Path, folder: Path, told: list[tuple[str, Statistics]], removals: int) -> list[tuple[float, float]]:
    took_s: list[tuple[float, float]] = []
    async with Serving.opened(place, task="vectors", http=("127.0.0.1", 0), folder=folder / "cloud", seed=1,
                              rules=Rules(every_s=0.2), settings=Settings(engine="eager")) as serving:  # fmt: skip
        for turn in range(removals):
            cloud = await until(serving, len(told))
            author, _ = told[turn % len(told)]
            began_s, worked_s = time.perf_counter(), time.process_time()
            served = await serving.remove(author)
            took_s.append((time.perf_counter() - began_s, time.process_time() - worked_s))
            live = serving.service.slot.now
            assert live is not None, "something answers"
            assert live.served.model == served.model, "and it is what remove returned"
            check(served, cloud, author, [packet for name, packet in told if name != author])
            await serving.readmit()
    return took_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, default=2000, help="of the statistics, the constant included")
    parser.add_argument("--contributors", type=int, default=10)
    parser.add_argument("--removals", type=int, default=10)
    parser.add_argument("--json", type=Path)
    wish = parser.parse_args()
    features = wish.dims - 1
    with tempfile.TemporaryDirectory(prefix="kuberml-removal-") as made:
        folder, place = Path(made), Path(made) / "place"
        x_Nk, y_N = data_of(-1, features, PUBLIC)
        kuberml.agree(place, task="vectors", labels=LABELS, x=x_Nk, y=y_N, extractor=identity(features), key=folder / "c.key")
        told = [publish(place, folder, number, features) for number in range(wish.contributors)]
        took_s = asyncio.run(measure(place, folder, told, wish.removals))
    wall_s, cpu_s = np.array(took_s).T
    found: dict[str, Any] = {"dims": wish.dims, "contributors": wish.contributors, "removals": len(took_s)}
    for name, each_s in (("wall", wall_s), ("cpu", cpu_s)):
        found[name] = {"median_s": round(float(np.median(each_s)), 3), "worst_s": round(float(each_s.max()), 3),
                       "each_s": each_s.round(3).tolist()}  # fmt: skip
    print(json.dumps(found))
    if wish.json:
        wish.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
