"""How long a want takes in a catalog of 10,000 cards: `python benchmarks/catalog.py`.

Two cases: all cards are about one task (the worst: every second card knows a wanted label), and 20 tasks.
"""

from __future__ import annotations

import statistics
import time

from kuberml.core.ids import NodeId, digest_of
from kuberml.core.rng import rng
from kuberml.knowledge.card import BlobRef, Card
from kuberml.knowledge.signing import Keys, sign_card
from kuberml.knowledge.want import Want
from kuberml.vault.catalog import Catalog

CARDS, AUTHORS, LABELS = 10_000, 100, 10


def filled(tasks: int) -> tuple[Catalog, float]:
    draw, catalog = rng(0, "catalog", tasks), Catalog()
    keys = [Keys(bytes([number] * 32)) for number in range(AUTHORS)]
    ref = BlobRef(digest_of(b""), 16_000, (16_000,), bytes(32))
    signed = [
        sign_card(
            Card(
                kind=("statistics", "weights")[number % 2],
                task=f"task-{number // AUTHORS % tasks}",
                labels={str(label): 50 for label in draw.choice(LABELS, 3, replace=False)},
                basis=digest_of(b"basis") if number % 2 == 0 else None,
                author=keys[number % AUTHORS].public,
                slot=f"shard-{number // AUTHORS}",
                version=1,
                blobs=(ref,),
                learned_at_ms=int(draw.integers(1, 10**9)),
            ),
            keys[number % AUTHORS],
        )
        for number in range(CARDS)
    ]
    began = time.perf_counter()
    for number, card in enumerate(signed):
        catalog.add(card, NodeId(f"n{number % AUTHORS}"))
    return catalog, (time.perf_counter() - began) / CARDS


def milliseconds(catalog: Catalog, want: Want, limit: int) -> tuple[float, int]:
    took, found = [], 0
    for _ in range(30):
        began = time.perf_counter()
        found = len(catalog.candidates(want, 0, limit=limit))
        took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took), found


def main() -> None:
    for tasks in (1, 20):
        catalog, add_s = filled(tasks)
        print(f"{CARDS} cards, {tasks} tasks; add (with check of the signature) {add_s * 1e6:.0f} us")
        wants = {
            "two labels": Want("task-0", labels_ppm={"3": 1, "7": 1}),
            "two labels, one kind and basis": Want(
                "task-0", labels_ppm={"3": 1, "7": 1}, kinds=("statistics",), bases=(digest_of(b"basis"),)
            ),
            "the freshest tenth": Want("task-0", newer_than_ms=9 * 10**8),
            "a label nobody has": Want("task-0", labels_ppm={"99": 1}),
        }
        for name, want in wants.items():
            for limit in (64, 512):
                took_ms, found = milliseconds(catalog, want, limit)
                print(f"  {name:32} at most {limit:3}: {took_ms:6.2f} ms, {found} candidates")


if __name__ == "__main__":
    main()
