"""While a large packet is opened, judged and taken in, nothing holds up the loops: the member's, and that of the answers."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kuberml import agree
from kuberml import join as kuberml_join
from kuberml.exchange import receiving
from kuberml.exchange.continual.rules import Rules
from kuberml.knowledge.kinds.extractor import basis_of
from kuberml.knowledge.kinds.statistics import describe
from kuberml.learning.extractors import identity
from kuberml.serving.live import Serving
from kuberml.serving.service import Settings

FEATURES, LABELS = 1500, tuple("abcd")
EXTRACTOR = identity(FEATURES)
GENEROUS_S = 0.5
"""The longest time in which a loop does nothing else; a shared machine takes some of it."""


def vectors(count: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    y_N = np.arange(count) % len(LABELS)
    means_Ck = np.random.default_rng(0).uniform(0.3, 0.7, (len(LABELS), FEATURES))
    return np.clip(means_Ck[y_N] + rng.normal(0, 0.2, (count, FEATURES)), 0, 1).astype(np.float32), y_N


async def longest_gap_s(ending: threading.Event) -> float:
    """How long this loop did not come round, at most."""
    longest_s, last_s = 0.0, time.monotonic()
    while not ending.is_set():
        await asyncio.sleep(0.005)
        now_s = time.monotonic()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s
    return longest_s


def test_a_large_packet_is_opened_beside_the_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened_in: list[str] = []
    really = receiving.open_value

    def seen(knowledge: Any, **how: Any) -> Any:
        if knowledge.card.kind == "statistics":
            opened_in.append(threading.current_thread().name)
        return really(knowledge, **how)

    monkeypatch.setattr(receiving, "open_value", seen)
    x_N, y_N = vectors(200, 1)
    place, own = tmp_path / "place", {"key": tmp_path / "edge.key"}
    agree(place, task="vectors", labels=LABELS, x=x_N, y=y_N, extractor=EXTRACTOR, key=tmp_path / "commons.key")
    many_N, of_N = vectors(600, 2)
    packet, _ = describe(many_N, [LABELS[y] for y in of_N], basis=basis_of(EXTRACTOR))

    def publish() -> None:
        with kuberml_join(place, task="vectors", name="edge", labels=LABELS, data=(many_N, of_N), **own) as me:  # type: ignore[arg-type]
            me.publish(packet)

    async def main() -> tuple[float, float]:
        ending = threading.Event()
        how: dict[str, Any] = {"rules": Rules(every_s=0.1, ridge=64.0), "settings": Settings(engine="eager"), "seed": 1}
        here = {"http": ("127.0.0.1", 0), "folder": tmp_path / "cloud", **how}
        async with Serving.opened(place, task="vectors", **here) as serving:
            while serving.cloud is None:
                await asyncio.to_thread(time.sleep, 0.05)
            await asyncio.to_thread(publish)
            background = serving.service._background
            assert background is not None
            answering = asyncio.ensure_future(asyncio.to_thread(background.run, longest_gap_s(ending)))
            learning = asyncio.ensure_future(longest_gap_s(ending))
            end_s = time.monotonic() + 30
            while serving.service.slot.now is None:
                assert time.monotonic() < end_s, serving.history()
                await asyncio.to_thread(time.sleep, 0.02)
            ending.set()
            return await learning, await answering

    gaps_s = asyncio.run(main())
    assert opened_in
    assert not any("MainThread" in name or "http" in name for name in opened_in), opened_in
    assert max(gaps_s) < GENEROUS_S, gaps_s
