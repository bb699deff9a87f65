"""Whom a paradigm serves: accuracy on slow devices' data against accuracy on fast devices' data.

Where fast devices train more often and have other data than slow ones, everybody's model may become the fast ones'. Data are
what the devices hold back from training, so their labels and their views are those that they have.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from kuberml.core.ids import Digest
from kuberml.learning.types import DataRef
from kuberml.learning.views import by_views
from kuberml.scenario.measure import Board
from kuberml.scenario.stage import Actor

SAMPLES = 600
"""Held-out samples of each group at most, spread over its devices."""


def slow_and_fast(actors: Sequence[Actor], served: Sequence[Digest], board: Board) -> tuple[float | None, float | None]:
    """Mean accuracy of the models that honest learners serve, on the data of the slowest and of the fastest third of them.

    (None, None) where nobody is slower, nothing is served, or a group holds nothing back.

    Args:
        actors: the honest learners.
        served: what they serve, as far as they do.
        board: scores it.
    """
    order = sorted(actors, key=lambda actor: (actor.device.flops_per_s, actor.node))
    third = max(1, len(order) // 3)
    if not served or len(order) < 2 or order[0].device.flops_per_s == order[-1].device.flops_per_s:
        return None, None
    return _accuracy(order[:third], served, board), _accuracy(order[-third:], served, board)


def _accuracy(group: Sequence[Actor], served: Sequence[Digest], board: Board) -> float | None:
    parts = _data(group)
    total = sum(len(part) for part in parts)
    if not total:
        return None
    scores = board.score([(model, part) for model in served for part in parts])
    return sum(int(one.correct_C.sum()) for one in scores) / (total * len(served))


def _data(group: Sequence[Actor]) -> list[DataRef]:
    """The group's held-out samples, one reference for each view of them."""
    by_view: dict[str, list[DataRef]] = defaultdict(list)
    for actor in group:
        if actor.data is not None and len(actor.data.heldout):
            for part in by_views(actor.data.heldout):
                by_view[part.view].append(part)
    every = max(1, sum(len(one) for held in by_view.values() for one in held) // SAMPLES)
    return [
        DataRef(held[0].dataset, held[0].split, np.sort(np.concatenate([one.indices_N for one in held]))[::every], view)
        for view, held in sorted(by_view.items())
    ]
