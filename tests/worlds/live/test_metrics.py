"""Metrics: the official parser reads every line, strangers cannot make series up, numbers are what happened."""

from __future__ import annotations

import asyncio
import math
import os
import time

import aiohttp
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from kuberml.core.ids import NodeId
from kuberml.worlds.live.energy import Modelled
from kuberml.worlds.live.hub.metrics import REASONS, ROLES, Metrics, add_metrics, of_process, of_scene, reason_of
from kuberml.worlds.live.hub.prometheus import LATENCIES_S, MAX_SERIES, Counts, Family, Histogram, text
from kuberml.worlds.live.hub.visitors import guarded
from kuberml.worlds.live.names import free_port
from kuberml.worlds.live.reports import Happening
from tests.worlds.live.test_scene import Stage, card


def parsed(page: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


TEXT = st.text(max_size=20).filter(lambda found: ("\r" not in found and found.isprintable()) or "\n" in found or "\\" in found)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.tuples(TEXT, TEXT), st.floats(0, 1e300) | st.integers(0, 2**60), max_size=6), TEXT)
def test_whatever_a_label_says_the_parser_reads_it_back(samples: dict[tuple[str, str], float], told: str) -> None:
    page = text([Family("kuberml_x_total", "counter", told, samples.items(), ("one", "two"))])
    found = parsed(page)
    assert found == {("kuberml_x_total", (("one", one), ("two", two))): float(number) for (one, two), number in samples.items()}


def test_a_histogram_adds_up() -> None:
    histogram = Histogram("kuberml_s", "Seconds.", "name")
    for seconds in (0.0001, 0.003, 0.003, 0.02, 99.0):
        histogram.observe("find", seconds)
    found = parsed(text([], [histogram]))
    below = {float(labels[0][1]): number for (name, labels), number in found.items() if name == "kuberml_s_bucket"}
    assert below == {bound: sum(s <= bound for s in (0.0001, 0.003, 0.003, 0.02, 99.0)) for bound in (*LATENCIES_S, math.inf)}
    assert found["kuberml_s_count", (("name", "find"),)] == 5
    assert math.isclose(found["kuberml_s_sum", (("name", "find"),)], 99.0261)


def test_series_are_bounded() -> None:
    metrics, counts = Metrics(), Counts("kuberml_x_total", "x", ("a", "b"))
    for i in range(3 * MAX_SERIES):
        counts.add(str(i), "b")
        metrics.answered(f"made up {i}", "refused", 0.1, f"made up {i}")
    found = parsed(text([counts.family()]))
    assert len(found) == MAX_SERIES + 1
    assert found["kuberml_x_total", (("a", "other"), ("b", "other"))] == 2 * MAX_SERIES
    assert len(list(metrics.latency.lines())) == 2 + (MAX_SERIES + 1) * (len(LATENCIES_S) + 3)
    assert parsed(text([metrics.refusals.family()])) == {("kuberml_refusals_total", (("reason", "other"),)): 3 * MAX_SERIES}


def test_a_role_that_a_member_made_up_is_no_series() -> None:
    scene = Stage("a", "b").scene
    made_up = ['x"} 1\nkuberml_members{role="hub', *(f"role {i}" for i in range(40)), "Peer"]
    scene.present([(NodeId(f"n{i}"), role, "k" * 64) for i, role in enumerate([*ROLES, "peer", *made_up])])
    found = parsed(text([family for family in of_scene(scene) if family.name == "kuberml_members"]))
    of_role = {labels[0][1]: int(number) for (_, labels), number in found.items()}
    assert of_role == {**dict.fromkeys(ROLES, 1), "peer": 2, "other": len(made_up)}


def test_reasons_are_found_in_what_refusals_say() -> None:
    said = {
        "a replay: number 3 of this session was used before": "replay",
        "the key 0123... is revoked": "revoked",
        "the name a belongs to another key than 0123...": "other key",
        "a request of realm 'x'; this is 'default'": "other realm",
        "the signature is not by 0123...": "signature",
        "hub is busy: 256 requests in flight, 64 of yours": "busy",
        "a card of 300000 bytes is over the limit of 262144": "too large",
        "hub serves no 'nothing'": "unknown request",
        "a verdict older than its witness's last one on this card": "stale",
        "not canonical bytes: x": "malformed",
        "something else": "other",
    }
    assert {why: reason_of(why) for why in said} == said
    assert len({reason for reason, _ in REASONS}) == len(REASONS)


def test_a_hub_s_numbers_are_what_happened() -> None:
    stage, other, metrics, spent_s = Stage("a", "b"), card("b"), Metrics(), [0.0]
    stage.announce("b", other)
    stage.tell("a", Happening("fetched", card=other.digest), Happening("absorbed", card=other.digest),
               Happening("delivering", card="c" * 64, size_bytes=9), Happening("refused", card="d" * 64))  # fmt: skip
    metrics.answered("find", "ok", 0.002)
    metrics.answered("announce", "refused", 0.5, "a replay")

    async def main() -> str:
        app = web.Application()
        meter = Modelled(20, lambda: spent_s[0])
        add_metrics(app, metrics, (lambda: of_scene(stage.scene),), guarded(), energy=[meter])
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", free_port("127.0.0.1"))
        await site.start()
        spent_s[0] = 3.0
        try:
            async with aiohttp.ClientSession() as client:
                async with client.get(f"{site.name}/metrics", headers={"Host": "evil.example"}) as refused:
                    assert refused.status == 421
                async with client.get(f"{site.name}/metrics") as answer:
                    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
                    return await answer.text()
        finally:
            await runner.cleanup()

    page = asyncio.run(main())
    found = parsed(page)
    assert found["kuberml_members", (("role", "peer"),)] == 2
    assert found["kuberml_deliveries_total", (("state", "done"),)] == 1
    assert found["kuberml_delivered_bytes_total", ()] == other.card.size_bytes
    assert found["kuberml_deliveries_open", ()] == 1
    assert found["kuberml_trials_total", (("verdict", "accepted"),)] == 1
    assert found["kuberml_trials_total", (("verdict", "refused"),)] == 1
    assert found["kuberml_requests_total", (("name", "find"), ("outcome", "ok"))] == 1
    assert found["kuberml_refusals_total", (("reason", "replay"),)] == 1
    assert found["kuberml_energy_joules_total", (("source", "modelled: 20 W per busy core"),)] == 60
    assert found["kuberml_request_seconds_count", (("name", "announce"),)] == 1
    assert 10e6 < found["process_resident_memory_bytes", ()] < 64e9
    assert abs(found["process_cpu_seconds_total", ()] - sum(os.times()[:2])) < 5
    assert time.time() - 7200 < found["process_start_time_seconds", ()] < time.time()
    assert len({parsed(text(of_process()))["process_start_time_seconds", ()] for _ in range(50)}) == 1  # or it looks restarted
    assert "\na " not in page
    assert other.digest not in page  # numbers only
