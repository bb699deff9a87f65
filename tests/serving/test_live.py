"""`kuberml serve` as real processes: hub, service, edges. What an edge learns, the service answers within seconds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from kuberml import agree
from kuberml import join as kuberml_join
from kuberml.cli.main import app
from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest
from kuberml.core.values import digest
from kuberml.exchange.continual.history import Entry
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.continual.slow import Recipe
from kuberml.learning.datasets import DATASETS
from kuberml.learning.extractors import identity
from kuberml.learning.head_learner import HeadLearner
from kuberml.learning.types import FitPlan
from kuberml.serving.admin import Admin, Readmission, Removal, Rollback, ask
from kuberml.serving.live import Serving, as_told
from kuberml.serving.service import Settings
from kuberml.serving.upkeep import AGAIN_MAX_S, AGAIN_S, after_error_s
from kuberml.worlds.member.keyfile import keys_in
from tests.cli.live import ROOT, hub, kuberml, start

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
            with edge(tmp_path, address, "second", "89") as second:
                teach(address, tmp_path, "first", "01234567")
                cloud.until("0")
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
                author = keys_in(tmp_path / "second.key").public
                origin = cloud.get(f"/v1/origin?label=9&model={answer['model']}")[1]
                assert [one["author"] for one in origin["taught"]] == [author]
                assert cloud.get("/v1/health")[1]["hub"] == "there"
                second.communicate("\n", timeout=20)
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


def test_a_hub_s_name_without_its_port_is_said_to_be_a_folder(tmp_path: Path) -> None:
    running = start(tmp_path, "serve", "--hub", "localhost", "--task", "digits", "--http", "127.0.0.1:0", "--engine", "eager")
    try:
        assert "of the shared folder localhost (a hub would be host:port)" in running.stderr.readline()
    finally:
        running.kill()
        running.communicate()


def test_a_hub_that_is_not_there_is_waited_for_aloud(tmp_path: Path) -> None:
    running = start(tmp_path, "serve", "--hub", "127.0.0.1:1", "--task", "digits", "--http", "127.0.0.1:0", "--engine", "eager")
    try:
        assert "dials the hub at 127.0.0.1:1, for 30 s at most" in running.stderr.readline()
    finally:
        running.kill()
        running.communicate()


def test_an_operator_goes_back_and_forgets_and_nobody_else_can(tmp_path: Path) -> None:
    """In a shared folder, so that few processes are needed; the commands are real ones."""
    shared, own = tmp_path / "shared", tmp_path / "kuberml-serve"

    async def command(*arguments: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(kuberml, tmp_path, "serve", *arguments)

    async def main() -> None:
        async with asyncio.timeout(60), opened(shared, own) as serving, administered(serving):
            slot = serving.service.slot
            await until(serving, 5)
            await asyncio.to_thread(teach, shared, tmp_path, "second", "56789")
            await until(serving, 10)
            versions = (await ask(own, "history"))["versions"]
            assert [row["labels"] for row in versions] == [list("01234"), list("0123456789")]
            model = slot.now.served.model
            status, out, err = await command("rollback", "--json")
            assert status == 0, err
            assert json.loads(out)["labels"] == list("01234")
            now = slot.now.served
            assert (now.number, now.manifest, now.model) == (3, versions[0]["manifest"], versions[0]["model"])
            assert (await ask(own, "rollback", Rollback(versions[1]["manifest"][:10])))["number"] == 4
            assert slot.now.served.model == model
            author = slot.now.served.taught["9"][0].author
            status, _, err = await command("remove", author)
            assert (status, "version 5 answers now" in err) == (0, True), err
            assert tuple(slot.now.served.predictor.labels) == tuple("01234")
            status, out, err = await command("history")
            assert (status, "removed" in out, "rolled back to version 1" in out) == (0, True, True), err
            told = (await ask(own, "history"))["kept_out"]
            (packet,) = told["contents"]
            assert (told["removed"], packet["author"], packet["why"]) == ([author], author, "removed with its author")
            assert f"removed {author[:12]}: nothing of this author comes in" in err
            assert f"kept out {packet['content'][:12]}, {packet['slot']!r} of {author[:12]}" in err
            for path, body, says in (
                ("rollback", Rollback("f" * 64), "no version"),
                ("remove", Removal(author), "nothing of"),
                ("remove", Rollback("x"), "unknown field `to`"),
            ):
                with pytest.raises(ConfigError, match=says):
                    await ask(own, path, body)
            assert await ask(own, "readmit", Readmission()) == {"readmitted": []}
            assert (await ask(own, "history"))["kept_out"] == {"removed": [], "contents": []}
            await until(serving, 10)  # it looks at the folder often
            assert slot.now.freshness_s == {}  # it was learned long ago, and let in again now
            file = own / "admin.json"
            assert file.stat().st_mode & 0o777 == 0o600
            access = json.loads(file.read_text())
            async with aiohttp.ClientSession() as client:
                for token in (None, "Bearer " + "0" * 64, "Basic " + access["token"], "Bearer \u00e9"):
                    headers = {} if token is None else {"Authorization": token}
                    async with client.post(access["url"] + "/rollback", json={}, headers=headers) as refused:
                        assert refused.status == 401
            file.chmod(0o644)
            with pytest.raises(ConfigError, match="others can read"):
                await ask(own, "history")
        assert not file.exists()
        with pytest.raises(ConfigError, match="no service runs in"):
            await ask(own, "history")

    public = DIGITS.split("public")
    agree(shared, task="digits", labels=DIGITS.labels, x=public.x_N, y=public.y_N, levels=16, key=tmp_path / "commons.key")
    teach(shared, tmp_path, "first", "01234")
    asyncio.run(main())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--http", "127.0.0.1:0"), "--task is missing"),
        (("--task", "digits", "--http", "nowhere"), "is not host:port"),
        (("--task", "digits", "--http", "127.0.0.1:0", "--https", "none.pem,none.key"), "not a certificate"),
        (("--task", "digits", "--http", "127.0.0.1:0", "--engine", "warp"), "unknown 'warp'"),
        (("--task", "digits", "--http", "127.0.0.1:0", "--bound", "0.5", "--precision", "fp3"), "unknown 'fp3'"),
    ],
)
def test_what_cannot_be_is_named(
    tmp_path: Path, arguments: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("KUBERML_REALM", "KUBERML_TLS"):
        monkeypatch.setenv(name, "")
    found = CliRunner().invoke(app, ["serve", "--hub", "shared", *arguments])
    assert isinstance(found.exception, ConfigError)
    assert says in str(found.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_process_does_not_wait_for_an_engine_in_the_making(tmp_path: Path) -> None:
    code = "import time; from kuberml.serving.aside import Aside; aside = Aside('a'); print(aside.submit(lambda: 7).result())\n"
    code += "slow, late = aside.submit(lambda: time.sleep(60)), aside.submit(print); time.sleep(0.1); aside.close()\n"
    code += "print(aside.submit(print).cancelled(), slow.done())"
    began_s = time.monotonic()
    paths = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, env=paths, check=True)
    assert done.stdout.split() == ["7", "True", "False"], done
    assert time.monotonic() - began_s < 40


def test_a_version_that_was_learned_further_is_told_as_json_too() -> None:
    learner = HeadLearner(identity(64), tuple("01"), 64, (8, 8, 1))
    recipe = Recipe(Digest("a" * 64), (), (), FitPlan(lr=0.1), 0, learner)
    entry = Entry(1, Digest("b" * 64), Digest("c" * 64), 1.0, Digest("d" * 64), 5, "tuned", tuple("01"), recipe=recipe)
    told = json.loads(json.dumps(as_told(entry)))
    assert told["recipe"]["learner"] == digest(learner)
    assert (told["why"], told["recipe"]["plan"]["lr"]) == ("tuned", 0.1)


def test_errors_are_waited_out_longer_and_longer_and_after_a_good_stretch_shortly_again() -> None:
    waits = [0.0]
    for _ in range(8):
        waits.append(after_error_s(waits[-1], 0.5))
    assert waits[1:6] == [1, 2, 4, 8, 16]
    assert waits[-1] == AGAIN_MAX_S
    assert after_error_s(waits[-1], AGAIN_MAX_S) == AGAIN_S
    assert after_error_s(waits[-1], AGAIN_MAX_S - 1) == AGAIN_MAX_S


def teach(place: Path | str, folder: Path, name: str, labels: str) -> None:
    train = DIGITS.split("train")
    those = np.isin(train.y_N, [DIGITS.labels.index(label) for label in labels])
    data, own = (train.x_N[those], train.y_N[those]), {"key": folder / f"{name}.key", "vault": folder / f"{name}.vault"}
    with kuberml_join(place, task="digits", name=name, labels=DIGITS.labels, data=data, **own) as me:
        me.publish(me.statistics())


def opened(shared: Path, own: Path) -> Any:
    return Serving.opened(shared, task="digits", http=("127.0.0.1", 0), folder=own, seed=1, rules=Rules(every_s=0.2),
                          settings=Settings(engine="eager"))  # fmt: skip


@contextlib.asynccontextmanager
async def administered(serving: Serving) -> AsyncIterator[None]:
    admin = Admin(serving)
    await admin.open()
    try:
        yield
    finally:
        await admin.close()


async def until(serving: Serving, labels: int) -> None:
    while (now := serving.service.slot.now) is None or len(now.served.predictor.labels) < labels:
        await asyncio.to_thread(time.sleep, 0.05)


def test_a_shared_folder_is_served_too_what_comes_later_is_seen_and_a_restart_serves_the_same(tmp_path: Path) -> None:
    shared, own = tmp_path / "shared", tmp_path / "cloud"

    async def main() -> None:
        async with asyncio.timeout(30), opened(shared, own) as serving:
            await until(serving, 5)
            await asyncio.to_thread(teach, shared, tmp_path, "second", "56789")
            await until(serving, 10)
            model, x_N = serving.service.slot.now.served.model, TEST.x_N[:50]
            answers_NC = serving.service.slot.now.engine.predict(x_N)
            assert serving.hub == ""
            with pytest.raises(ConfigError, match="a service runs in this folder already"):
                async with opened(shared, own):
                    raise AssertionError
        async with asyncio.timeout(30), opened(shared, own) as serving:
            await until(serving, 10)
            assert serving.service.slot.now.served.model == model
            np.testing.assert_array_equal(serving.service.slot.now.engine.predict(x_N), answers_NC)

    public = DIGITS.split("public")
    agree(shared, task="digits", labels=DIGITS.labels, x=public.x_N, y=public.y_N, levels=16, key=tmp_path / "commons.key")
    teach(shared, tmp_path, "first", "01234")
    asyncio.run(main())
