"""Under load: no answer of two versions, no failure at a swap or a stop, and a clear 429 before answers are late."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import threading
from typing import Any

import aiohttp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberml.core.ids import digest_of
from kuberml.core.values import digest
from kuberml.learning.predictor import HeadOn
from kuberml.serving.http.bodies import RAW
from kuberml.serving.http.pace import Pace
from tests.serving.parts import SHAPE, TEST, Running, described, extractor, running, served


def other() -> Any:
    """A version with the same labels that answers otherwise: solved with a hundred thousand times the ridge."""
    from kuberml.knowledge.kinds.statistics import merge_all, solve

    sums = merge_all([described(label) for label in "0123456789"])
    predictor = HeadOn(extractor(), solve(sums, ridge=1e5), SHAPE)
    return dataclasses.replace(served(), number=2, manifest=digest_of(b"other"), model=digest(predictor), predictor=predictor)


@pytest.mark.parametrize(("threads", "wanted"), [(1, 1600), (2, 600)])
def test_thousands_of_swaps_under_load_fail_nobody_and_mix_nothing(threads: int, wanted: int) -> None:
    versions = served(), other()
    exact = {version.model: version.predictor.predict(TEST.x_N[:64]) for version in versions}
    assert np.abs(exact[versions[0].model] - exact[versions[1].model]).max(axis=1).min() > 0.05  # every row tells them apart
    seen = {version.model: 0 for version in versions}
    batched = 0

    async def ask(here: Running, turns: itertools.count[int], until: asyncio.Event) -> None:
        while not until.is_set():
            k = next(turns)
            first, count = k % 48, 1 + k % 16
            raw = TEST.x_N[first : first + count].astype("<f4").tobytes()
            status, answer, headers = await here.post(data=raw, headers={"Content-Type": RAW, "Accept": RAW})
            assert status == 200, answer
            found_NC = np.frombuffer(answer, "<f4").reshape(count, 10)
            np.testing.assert_allclose(found_NC, exact[headers["Kuberml-Model"]][first : first + count], atol=2e-3)
            seen[headers["Kuberml-Model"]] += 1

    async def main() -> int:
        nonlocal batched
        until, turns = asyncio.Event(), itertools.count()
        async with running(versions[0], threads=threads, max_wait_s=30) as here, asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(ask(here, turns, until))
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            while here.service.slot.swaps < wanted and loop.time() - began_s < 8:
                await here.take(versions[here.service.slot.swaps % 2])
            while min(seen.values()) < 50:
                await here.take(versions[here.service.slot.swaps % 2])
            until.set()
            batched = here.service._batcher.batches  # type: ignore[union-attr]
            return here.service.slot.swaps

    swaps = asyncio.run(main())
    assert swaps > 50, swaps  # on a machine with nothing else to do: all that were wanted
    assert min(seen.values()) >= 50, seen
    assert batched < sum(seen.values()), "requests that came together were answered together"


def test_over_saturation_the_served_stay_quick_and_the_rest_is_told_when_to_come_back() -> None:
    """Open loop: requests come at three times the rate that the engine bears, whatever becomes of those before."""
    rows, max_wait_s = 512, 0.3
    raw = np.resize(TEST.x_N, (rows, *SHAPE)).astype("<f4").tobytes()
    found: list[tuple[int, float]] = []

    async def one(here: Running) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        status, answer, headers = await here.post(data=raw, headers={"Content-Type": RAW, "Accept": RAW})
        found.append((status, loop.time() - began_s))
        if status == 429:
            assert int(headers["Retry-After"]) >= 1
            assert "busy" in answer["detail"]

    async def main() -> float:
        async with running(served(), max_rows=rows, max_wait_s=max_wait_s, connections=0) as here:
            loop = asyncio.get_running_loop()
            for _ in range(5):
                await one(here)
            alone_s = min(seconds for _, seconds in found)
            found.clear()
            began_s, period_s = loop.time(), alone_s / 3
            async with asyncio.TaskGroup() as group:
                for k in range(200):
                    await asyncio.sleep(max(0.0, began_s + k * period_s - loop.time()))
                    group.create_task(one(here))
            await asyncio.sleep(0.2)
            assert (await here.get("/v1/health"))[1]["status"] == "ok"
            await one(here)
            assert found[-1][0] == 200
            return alone_s

    alone_s = asyncio.run(main())
    served_s = sorted(seconds for status, seconds in found if status == 200)
    assert {status for status, _ in found} == {200, 429}
    assert len(served_s) >= 5
    assert len(found) - len(served_s) >= 40
    unbounded_s = 200 * 2 / 3 * alone_s  # what the last one would wait if all were let in
    assert served_s[int(0.95 * len(served_s))] < max(0.5 * unbounded_s, 1.5), (served_s[-5:], alone_s)


def test_a_stop_answers_what_is_under_way_first() -> None:
    raw = np.resize(TEST.x_N, (512, *SHAPE)).astype("<f4").tobytes()
    found: list[int] = []

    async def one(client: aiohttp.ClientSession, url: str) -> None:
        async with client.post(url + "/v1/predict", data=raw, headers={"Content-Type": RAW, "Accept": RAW}) as answer:
            assert len(await answer.read()) == 512 * 10 * 4
            found.append(answer.status)

    async def main() -> None:
        async with running(served(), max_rows=512, max_wait_s=10) as here:
            await one(here.client, here.url)
            under_way = [asyncio.create_task(one(here.client, here.url)) for _ in range(8)]
            while (await here.get("/v1/health"))[1]["queued_rows"] < 4 * 512:
                pass
            await here.service.close()
            await asyncio.gather(*under_way)
            with pytest.raises(aiohttp.ClientConnectionError):
                await one(here.client, here.url)

    asyncio.run(main())
    assert found == [200] * 9


def test_an_engine_that_takes_long_to_build_keeps_nobody_waiting_and_one_that_fails_neither(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The new version is served by the predictor itself meanwhile; real engines, built late."""
    from kuberml.serving import service
    from kuberml.serving.engines import build

    gate = threading.Event()

    def late(predictor: Any, shape: Any, **options: Any) -> Any:
        assert gate.wait(10)
        if predictor is served("0123", 3).predictor:
            raise RuntimeError("a compiler that is broken")
        return dataclasses.replace(build(predictor, shape, engine="eager"), name="late")  # type: ignore[type-var]

    monkeypatch.setattr(service, "build", late)

    async def main() -> None:
        async with running(engine="auto", patience_s=0.05) as here:
            await here.take(served("01"))
            engine = (await here.get("/v1/models"))[1]["serving"]["engine"]
            assert (engine["name"], engine["why"]) == ("eager", "until the engine that was asked for is built")
            await here.take(served("012", 2))  # and the next one does not wait for it
            assert (await here.get("/v1/models"))[1]["serving"]["labels"] == ["0", "1", "2"]
            gate.set()
            while (now := (await here.get("/v1/models"))[1]["serving"])["engine"]["name"] == "eager":
                pass
            assert (now["engine"]["name"], now["model"]) == ("late", served("012", 2).model)
            await here.take(served("0123", 3))
            now = (await here.get("/v1/models"))[1]["serving"]
            assert (now["engine"]["name"], now["model"]) == ("eager", served("0123", 3).model)
            assert "a compiler that is broken" in now["engine"]["why"]

    asyncio.run(main())


def test_an_engine_that_is_still_prepared_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from kuberml.serving import service
    from kuberml.serving.engines import build
    from kuberml.serving.upkeep import blank

    gate = threading.Event()
    monkeypatch.setattr(service, "build", lambda *a, **options: gate.wait(20) and build(*a, **{**options, "engine": "eager"}))

    async def main() -> None:
        async with running(engine="auto", patience_s=20) as here:
            here.service.prepare(blank(extractor(), SHAPE), SHAPE)
            async with asyncio.timeout(10):
                await here.take(served("01"))
            assert (await here.get("/v1/models"))[1]["serving"]["engine"]["name"] == "eager"
            gate.set()

    asyncio.run(main())


@given(st.floats(0, 0.01), st.floats(1e-6, 0.01), st.lists(st.integers(1, 256), min_size=3, max_size=60))
def test_pace_learns_what_a_batch_and_a_row_cost(a_s: float, b_s: float, sizes: list[int]) -> None:
    pace = Pace()
    assert pace.seconds(10) == 0
    for rows in sizes:
        pace.took(rows, a_s + b_s * rows)
    if len(set(sizes)) > 1:
        assert pace.seconds(500, 4) == pytest.approx(4 * a_s + 500 * b_s, rel=0.02, abs=1e-5)
    assert pace.seconds(sizes[0], 1) == pytest.approx(a_s + b_s * sizes[0], rel=0.02, abs=1e-5)
