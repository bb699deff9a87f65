"""`kuberml serve` as real processes: hub, service, edges. What an edge learns, the service answers within seconds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kuberml.core.errors import ConfigError
from kuberml.learning.datasets import DATASETS
from kuberml.serving.admin import Removal, Rollback, ask
from tests.cli.live import hub, kuberml, start

DIGITS = DATASETS.get("digits")
TEST = DIGITS.split("test")

EDGE = """
import sys, time
import numpy as np
import kuberml
from kuberml.learning.datasets import DATASETS
digits = DATASETS.get("digits")
train, public = digits.split("train"), digits.split("public")
name, mine = sys.argv[1], list(sys.argv[2])
those = np.isin(train.y_N, [digits.labels.index(label) for label in mine])
if name == "first":
    kuberml.agree(task="digits", labels=digits.labels, x=public.x_N, y=public.y_N, levels=16)
with kuberml.join(task="digits", name=name, labels=digits.labels, data=(train.x_N[those], train.y_N[those])) as me:
    me.statistics()
    print("ready", flush=True)
    sys.stdin.readline()
    learned_at_s = time.time()
    me.publish(me.statistics())
    print(learned_at_s, flush=True)
    sys.stdin.readline()
"""


class Process:
    """A running `kuberml serve`, and what it said of itself."""

    def __init__(self, running: Any, told: dict[str, Any], folder: Path) -> None:
        self.running, self.told, self.folder, self.url = running, told, folder, told["http"]

    def get(self, path: str) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def predict(self, x_N: Any) -> tuple[int, Any]:
        body = json.dumps({"inputs": np.asarray(x_N).tolist(), "log_probabilities": True}).encode()
        request = urllib.request.Request(self.url + "/v1/predict", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def until(self, label: str, timeout_s: float = 20) -> float:
        """When it first answered that this label is known."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            serving = self.get("/v1/models")[1]["serving"]
            if serving is not None and label in serving["labels"]:
                return time.time()
            time.sleep(0.02)
        raise AssertionError(f"{label} was not served within {timeout_s} s: {self.get('/v1/models')}")

    def stop(self, number: int = signal.SIGTERM) -> str:
        self.running.send_signal(number)
        _, err = self.running.communicate(timeout=20)
        assert self.running.returncode == 0, err
        assert "Traceback" not in err, err
        return str(err)


@contextlib.contextmanager
def serve(folder: Path, place: object, *options: object) -> Iterator[Process]:
    folder.mkdir(exist_ok=True)
    running = start(folder, "serve", "--hub", place, "--task", "digits", "--http", "127.0.0.1:0", "--engine", "eager",
                    "--json", *options)  # fmt: skip
    try:
        lines = ""
        while not lines.endswith("}\n"):
            line = running.stdout.readline()
            assert line, running.communicate()[1][-3000:]
            lines += line
        yield Process(running, json.loads(lines), folder)
    finally:
        running.kill()
        running.communicate()


@contextlib.contextmanager
def edge(folder: Path, address: str, name: str, mine: str) -> Iterator[Any]:
    program = folder / "edge.py"
    program.write_text(EDGE)
    running = start(folder, "join", "--hub", address, "--quiet", program, name, mine, stdin=-1)
    try:
        assert running.stdout.readline() == "ready\n", running.communicate()[1][-2000:]
        yield running
    finally:
        running.kill()
        running.communicate()


def publish(running: Any) -> float:
    running.stdin.write("\n")
    running.stdin.flush()
    line = running.stdout.readline()
    assert line, running.communicate()[1][-2000:]
    return float(line)


def of(labels: str, count: int = 100) -> tuple[Any, list[str]]:
    those = np.flatnonzero(np.isin(TEST.y_N, [DIGITS.labels.index(label) for label in labels]))[:count]
    return TEST.x_N[those], [DIGITS.labels[at] for at in TEST.y_N[those]]


def right(answer: Any, wanted: list[str]) -> float:
    return float(np.mean([one["label"] == label for one, label in zip(answer["predictions"], wanted, strict=True)]))


def metrics(process: Process) -> dict[tuple[str, tuple[str, ...]], float]:
    with urllib.request.urlopen(process.url + "/metrics", timeout=10) as answer:
        page = answer.read().decode()
    families = text_string_to_metric_families(page)
    return {(one.name, tuple(sorted(one.labels.values()))): one.value for family in families for one in family.samples}


def test_a_class_learned_at_an_edge_is_answered_within_two_seconds_and_survives_hub_and_service(tmp_path: Path) -> None:
    with hub(tmp_path / "place") as place:
        address = place["address"]
        with serve(tmp_path / "cloud", address) as cloud:
            assert cloud.get("/v1/health")[1]["status"] == "no model"
            with edge(tmp_path, address, "first", "01234567") as first, edge(tmp_path, address, "second", "89") as second:
                publish(first)
                cloud.until("0")
                time.sleep(0.5)
                learned_at_s = publish(second)
                answered_s = cloud.until("9") - learned_at_s
                status, answer = cloud.predict(of("89")[0])
                assert status == 200
                assert right(answer, of("89")[1]) >= 0.85
                assert answered_s < 2, answered_s
                assert right(cloud.predict(of("01234567")[0])[1], of("01234567")[1]) >= 0.85  # and nothing was forgotten
                now = cloud.get("/v1/models")[1]["serving"]
                assert 0 < now["freshness_s"]["9"] < 2, now
                told_s = metrics(cloud)["kuberml_serve_freshness_seconds", ("9",)]
                assert told_s == pytest.approx(now["freshness_s"]["9"], abs=1e-3)
                wanted = ("find", "digits", "--labels", "9", "--kinds", "statistics", "--hub", address, "--json")
                author = json.loads(kuberml(tmp_path, *wanted)[1])[0]["author"]
                origin = cloud.get(f"/v1/origin?label=9&model={answer['model']}")[1]
                assert [one["author"] for one in origin["taught"]] == [author]
                assert cloud.get("/v1/health")[1]["hub"] == "there"
                for running in (first, second):
                    running.communicate("\n", timeout=20)
            os.kill(place["pid"], signal.SIGKILL)
            before = cloud.predict(of("0189")[0])
            assert before[0] == 200
            end_s = time.monotonic() + 20
            while cloud.get("/v1/health")[1]["hub"] != "away":
                assert time.monotonic() < end_s
                time.sleep(0.1)
            assert cloud.predict(of("0189")[0])[0] == 200
            err = cloud.stop()
            assert "answers" in err
            assert "9 after" in err
    with serve(tmp_path / "cloud", address) as cloud:  # the hub is still away
        cloud.until("9")
        again = cloud.predict(of("0189")[0])
        assert again[1] == before[1]
        assert cloud.get("/v1/models")[1]["serving"]["freshness_s"] == {}
        cloud.stop(signal.SIGINT)


def test_an_operator_goes_back_and_forgets_and_nobody_else_can(tmp_path: Path) -> None:
    with hub(tmp_path / "place") as place, serve(tmp_path / "cloud", place["address"], "--quiet") as cloud:
        address, folder = place["address"], tmp_path / "cloud"
        with edge(tmp_path, address, "first", "01234") as first, edge(tmp_path, address, "second", "56789") as second:
            publish(first)
            cloud.until("0")
            publish(second)
            cloud.until("9")
            first.communicate("\n", timeout=20)
            second.communicate("\n", timeout=20)
        own = folder / "kuberml-serve"
        versions = asyncio.run(ask(own, "history"))["versions"]
        assert [row["labels"] for row in versions] == [list("01234"), list("0123456789")]
        model = cloud.get("/v1/models")[1]["serving"]["model"]
        status, out, err = kuberml(folder, "serve", "rollback", "--json")
        assert status == 0, err
        assert json.loads(out)["labels"] == list("01234")
        now = cloud.get("/v1/models")[1]["serving"]
        assert (now["labels"], now["number"], now["manifest"]) == (list("01234"), 3, versions[0]["manifest"])
        assert cloud.predict(of("0")[0][:1])[1]["model"] == now["model"] == versions[0]["model"]
        assert asyncio.run(ask(own, "rollback", Rollback(versions[1]["manifest"][:10])))["number"] == 4
        assert cloud.get("/v1/models")[1]["serving"]["model"] == model
        author = cloud.get("/v1/origin?label=9")[1]["taught"][0]["author"]
        status, _, err = kuberml(folder, "serve", "remove", author)
        assert (status, "version 5 answers now" in err) == (0, True), err
        assert cloud.get("/v1/origin?label=9")[0] == 404
        status, out, err = kuberml(folder, "serve", "history")
        assert (status, "removed" in out, "rolled back to version 1" in out) == (0, True, True), err
        with pytest.raises(ConfigError, match="no version"):
            asyncio.run(ask(own, "rollback", Rollback("f" * 64)))
        with pytest.raises(ConfigError, match="nothing of"):
            asyncio.run(ask(own, "remove", Removal(author)))
        with pytest.raises(ConfigError, match="unknown field `to`"):
            asyncio.run(ask(own, "remove", Rollback("x")))
        with pytest.raises(ConfigError, match="no service runs in elsewhere"):
            asyncio.run(ask(Path("elsewhere"), "history"))
        file = own / "admin.json"
        assert file.stat().st_mode & 0o777 == 0o600
        access = json.loads(file.read_text())
        for headers in ({}, {"Authorization": "Bearer " + "0" * 64}, {"Authorization": "Basic " + access["token"]}):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(urllib.request.Request(access["url"] + "/history", headers=headers), timeout=5)
            with refused.value:
                assert refused.value.code == 401
        file.chmod(0o644)
        with pytest.raises(ConfigError, match="others can read"):
            asyncio.run(ask(own, "history"))
        assert cloud.stop() == ""
        assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--http", "127.0.0.1:0"), 2, "--task is missing"),
        (("--task", "digits", "--http", "127.0.0.1:0", "--https", "none.pem,none.key"), 2, "not a certificate"),
        (("--task", "digits", "--http", "127.0.0.1:0", "--engine", "warp"), 2, "unknown 'warp'"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, arguments: tuple[str, ...], status: int, says: str) -> None:
    found, _, err = kuberml(tmp_path, "serve", "--hub", tmp_path / "shared", *arguments)
    assert (found, says in err, "Traceback" in err) == (status, True, False), err
