"""The edges' signed word on what is served, over a real hub: they try each version, and what they find worse goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kuberml import agree
from kuberml import join as kuberml_join
from kuberml.core.errors import ConfigError
from kuberml.exchange.continual.rules import Rules
from kuberml.knowledge.kinds.extractor import basis_of
from kuberml.knowledge.kinds.statistics import describe
from kuberml.learning.extractors import features
from kuberml.serving.admin import ask
from kuberml.serving.live import Serving
from kuberml.serving.service import Settings
from kuberml.worlds.member.keyfile import keys_in
from tests.cli.live import hub
from tests.serving.parts import DIGITS, extractor
from tests.serving.test_live import serve

TRAIN, PUBLIC = DIGITS.split("train"), DIGITS.split("public")
BASIS = basis_of(extractor())


@contextmanager
def edge(folder: Path, address: str, name: str, rows: Any) -> Iterator[Any]:
    own = {"key": folder / f"{name}.key", "vault": folder / f"{name}.vault"}
    data = (TRAIN.x_N[rows], TRAIN.y_N[rows])
    with kuberml_join(address, task="digits", name=name, labels=DIGITS.labels, data=data, **own) as me:
        yield me


def lie() -> Any:
    """Eights that are called nine, and nines that are called eight: many of them."""
    those = np.repeat(np.flatnonzero(TRAIN.y_N >= 8), 4)
    names = [{8: "9", 9: "8"}[int(y)] for y in TRAIN.y_N[those]]
    return describe(features(extractor(), TRAIN.x_N[those]), names, basis=BASIS)[0]


async def until(true: Callable[[], bool], what: Callable[[], object], timeout_s: float = 30.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end_s, what()
        await asyncio.to_thread(time.sleep, 0.05)


def tried_by(own: Path, keys: list[str]) -> None:
    end_s, found = time.monotonic() + 30, {}
    while not all(found.get(key) for key in keys):
        assert time.monotonic() < end_s, found
        found = asyncio.run(ask(own, "history"))["witnesses"]
        time.sleep(0.1)


def test_what_edges_find_worse_goes_though_no_probe_shows_it(tmp_path: Path) -> None:
    """The public probe has no eights and nines, and the look at the means is switched off: only the edges can tell."""
    shown = PUBLIC.y_N < 8
    rows = [np.flatnonzero(np.arange(len(TRAIN.y_N)) % 2 == k) for k in (0, 1)]
    own = tmp_path / "cloud"

    async def served(address: str, good: list[str], liar: Any) -> None:
        rules = Rules(evaluate=True, resembles=0.0, patience_s=10.0)
        async with Serving.opened(address, task="digits", http=("127.0.0.1", 0), folder=own, seed=1, rules=rules,
                                  settings=Settings(engine="eager")) as serving:  # fmt: skip
            await until(lambda: serving.cloud is not None and serving.cloud.served is not None, serving.history)
            cloud = serving.cloud
            assert cloud is not None
            before = cloud.history[-1]
            await asyncio.to_thread(liar.publish, lie())
            await until(lambda: "rolled back" in cloud.history[-1].why, lambda: [one.why for one in cloud.history])
            assert "2 edges say that" in cloud.history[-1].why
            assert all(cloud.witnesses[key] > 500_000 for key in good)
            assert cloud.history[-1].manifest == before.manifest
            assert cloud.history[-2].recall["0"] > 0.9  # which the probe was content with
            (why,) = cloud.refused.values()
            assert "edges say" in why

    with hub(tmp_path / "place") as place:
        address = place["address"]
        with edge(tmp_path, address, "e0", rows[0]) as first, edge(tmp_path, address, "e1", rows[1]) as second:
            with pytest.raises(ConfigError, match="nobody has published an extractor"):
                first.examine()
            agree(address, task="digits", labels=DIGITS.labels, x=PUBLIC.x_N[shown], y=PUBLIC.y_N[shown], levels=16,
                  extractor=extractor(), key=tmp_path / "commons.key", vault=tmp_path / "commons")  # fmt: skip
            good = [keys_in(tmp_path / f"{name}.key").public for name in ("e0", "e1")]
            for me in (first, second):
                me.examine()
                me.publish(me.statistics())
            with serve(own, address, "--folder", own, "--evaluate", "--witnesses", 2) as cloud:
                tried_by(own, good)
                cloud.stop()
            with edge(tmp_path, address, "liar", rows[0][:20]) as liar:
                asyncio.run(served(address, good, liar))
