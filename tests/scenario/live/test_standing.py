"""Where a live node stands: how well it does is that of what it deployed last, also in the very last row of the table."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from kuberml.core.ids import Digest, LabelId, NodeId
from kuberml.core.values import value
from kuberml.learning.datasets import samples
from kuberml.learning.types import DataRef
from kuberml.ledger.ledger import Ledger
from kuberml.scenario.live.playbill import PREDICTORS
from kuberml.scenario.live.standing import Standing

N0 = NodeId("n0")


@value
class Always(msgspec.Struct, frozen=True):
    """A predictor that takes `seconds` to say that everything is its one label."""

    label: str
    seconds: float
    flops_per_sample: int = 1

    @property
    def labels(self) -> tuple[LabelId, ...]:
        return (LabelId(self.label),)

    def predict(self, x_N: Any) -> Any:
        time.sleep(self.seconds)
        return np.zeros((len(x_N), 1), np.float32)


def test_the_accuracy_is_that_of_the_last_deployment_however_long_the_others_take(tmp_path: Path) -> None:
    (tmp_path / PREDICTORS).mkdir()
    heldout, ledger = DataRef("digits", "test", np.arange(100, dtype=np.int32)), Ledger()
    told = Standing(tmp_path, ledger.recorder(N0, lambda: 0), ledger, heldout, (), lambda: {"moved_bytes": 0})
    names = samples(heldout).labels
    for number, (label, seconds) in enumerate([(names[0], 0.6), (names[1], 0.4), ("never seen", 0.2)]):
        told.deployed(N0, Digest(f"{number:064x}"), Always(label, seconds), ())
    assert told.accuracy_ppm is None, "nobody waited for it"
    asyncio.run(told.settled())
    assert told.accuracy_ppm == 0
    time.sleep(0.6)
    assert told.accuracy_ppm == 0, "and stays it"


def test_who_deployed_nothing_has_nothing_to_wait_for(tmp_path: Path) -> None:
    ledger = Ledger()
    told = Standing(tmp_path, ledger.recorder(N0, lambda: 0), ledger, None, (), lambda: {"moved_bytes": 0})
    asyncio.run(told.settled())
    assert told.accuracy_ppm is None
