"""Where a live node stands: it looks on at what its part records and deploys, for the table now and for the summary later.

What is served is kept by its digest in the run's folder, so that it can be scored after the end; everything else is in the
node's ledger, which is written at once where a summary needs it: a process that is killed takes nothing of it away.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kuberml.core.ids import Digest, NodeId
from kuberml.core.seam import Recorder
from kuberml.core.values import dumps
from kuberml.learning.jobs import score
from kuberml.learning.types import DataRef
from kuberml.ledger.ledger import Ledger
from kuberml.scenario.live.playbill import PREDICTORS
from kuberml.scenario.notes import KEPT

USAGE = "usage"
"""Event with what one process of a node has caused so far: process, moved_bytes, energy_mj, flops."""
THIS_PROCESS = secrets.token_hex(4)
CHEAP_FLOPS = 2_000_000_000
"""Of scoring a predictor on a node's own held-out data: beyond it the table does without."""


class Standing:
    """A Recorder and an Observer of one node; see the module."""

    def __init__(
        self, folder: Path, recorder: Recorder, ledger: Ledger, heldout: DataRef | None, labels: tuple[str, ...],
        usage: Callable[[], dict[str, int]],
    ) -> None:  # fmt: skip
        """Nothing has happened yet.

        Args:
            folder: of the run.
            recorder, ledger: the node's own.
            heldout: what it keeps back, if it learns.
            labels: that it has data of.
            usage: the fields of a USAGE event, now.
        """
        self._folder, self._recorder, self._ledger, self._heldout = folder / PREDICTORS, recorder, ledger, heldout
        self._usage, self._said = usage, {"moved_bytes": -1}
        self.labels = set(labels)
        self.step = self.accepted = self.refused = 0
        self.accuracy_ppm: int | None = None
        self._scorer = ThreadPoolExecutor(1, thread_name_prefix="score")
        self._scoring: Future[None] | None = None
        for past in ledger.events("event IN ('absorbed', 'refused', 'found', 'published')"):  # of the processes before
            self._count(past.event, past.fields)

    def record(self, event: str, **fields: Any) -> None:
        """See `core.seam.Recorder`."""
        self._recorder.record(event, **fields)
        self._count(event, fields)
        if event in KEPT or event in ("deployed", "gave up"):
            self.flush()

    def _count(self, event: str, fields: dict[str, Any]) -> None:
        if event == "absorbed":
            self.accepted += 1
            self.labels |= set(fields["labels"])
        elif event == "refused":
            self.refused += 1
        elif event == "found":
            self.step += 1
        elif event == "published":
            self.step = max(self.step, fields["version"] + 1 if fields["version"] else 0)

    def deployed(self, node: NodeId, model: Digest, predictor: Any, learned_at_ms: tuple[int, ...]) -> None:
        """See `exchange.place.Observer`."""
        self._keep(model, predictor)
        self.use()
        if self._heldout is not None and predictor.flops_per_sample * len(self._heldout) <= CHEAP_FLOPS:
            if self._scoring is not None:
                self._scoring.cancel()  # if it has not begun, nobody needs it any more
            self._scoring = self._scorer.submit(self._score, predictor, self._heldout)

    async def settled(self) -> None:
        """Until `accuracy_ppm` is that of what was deployed last."""
        if self._scoring is not None:
            await asyncio.wait([asyncio.wrap_future(self._scoring)])

    def use(self) -> None:
        """Take down what was caused so far, if it is more than before."""
        usage = self._usage()
        if usage["moved_bytes"] != self._said["moved_bytes"]:
            self._recorder.record(USAGE, process=THIS_PROCESS, **usage)
            self._said = usage
            self.flush()

    def flush(self) -> None:
        """Write what was recorded. A full disk is borne: it waits in memory."""
        with contextlib.suppress(OSError):
            self._ledger.flush()

    def _keep(self, model: Digest, predictor: Any) -> None:
        path = self._folder / model
        if not path.exists():
            part = path.with_name(f"{model}.{os.getpid()}.part")
            with contextlib.suppress(OSError):  # without it this deployment is not scored; the node goes on
                part.write_bytes(dumps(predictor))
                part.replace(path)

    def _score(self, predictor: Any, heldout: DataRef) -> None:
        accuracy = score(predictor, heldout).accuracy
        self.accuracy_ppm = round(1e6 * accuracy) if math.isfinite(accuracy) else None
