"""The service as a client sees it: answers in three forms, each by a named model, and errors that say what would be right."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import json
import re
import socket
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from safetensors.numpy import load, save

from kuberml.serving.http import app
from kuberml.serving.http.bodies import RAW, SAFETENSORS, Form
from kuberml.serving.http.problem import Refusal
from kuberml.serving.http.slot import freshness_s
from kuberml.serving.service import Service, Settings
from tests.serving.parts import AUTHORS, SHAPE, right, rows, running, served
from tests.worlds.live.browser import needs_chromium, opened

X, NAMES = rows(40)
ZERO = np.zeros(SHAPE).tolist()
ONES = json.dumps({"inputs": [np.ones(SHAPE).tolist()]}).encode()


def test_json_raw_and_safetensors_give_the_predictor_s_answers_and_name_the_model() -> None:
    version = served()
    exact_NC = version.predictor.predict(X)

    async def main() -> None:
        async with running(version) as here:
            status, answer, headers = await here.post(json={"inputs": X.tolist(), "log_probabilities": True})
            assert (status, answer["model"], answer["manifest"]) == (200, version.model, version.manifest)
            assert headers["Kuberml-Model"] == version.model
            assert answer["labels"] == list(version.predictor.labels)
            assert right(answer, NAMES) >= 0.9
            np.testing.assert_allclose(answer["log_probabilities"], exact_NC, atol=1e-5)
            chances = np.exp(exact_NC.max(axis=1))
            np.testing.assert_allclose([one["probability"] for one in answer["predictions"]], chances, atol=1e-5)
            _, brief, _ = await here.post(json={"inputs": X.tolist()})
            assert "log_probabilities" not in brief
            raw = X.astype("<f4").tobytes()
            for sent in ({"Kuberml-Shape": "40,8,8,1"}, {}):
                status, answer, headers = await here.post(data=raw, headers={"Content-Type": RAW, "Accept": RAW, **sent})
                assert (status, headers["Kuberml-Shape"], headers["Kuberml-Model"]) == (200, "40,10", version.model)
                assert json.loads(headers["Kuberml-Labels"]) == list(version.predictor.labels)
                np.testing.assert_allclose(np.frombuffer(answer, "<f4").reshape(40, 10), exact_NC, atol=1e-6)
            body = save({"inputs": np.ascontiguousarray(X, np.float32)})
            status, answer, _ = await here.post(data=body, headers={"Content-Type": SAFETENSORS, "Accept": SAFETENSORS})
            assert status == 200
            np.testing.assert_allclose(load(answer)["log_probabilities"], exact_NC, atol=1e-6)
            status, answer, _ = await here.post(data=body, headers={"Content-Type": SAFETENSORS})
            assert (status, right(answer, NAMES) >= 0.9) == (200, True)

    asyncio.run(main())


WRONG: list[tuple[int, dict[str, Any], str, str]] = [
    (400, {"data": b"{"}, "body", '{"inputs"'),
    (400, {"data": b"[" * 20_000}, "body", '{"inputs"'),
    (400, {"data": b"\xff\xfe"}, "body", '{"inputs"'),
    (400, {"data": b"[]"}, "inputs", "each of shape [8, 8, 1]"),
    (400, {"data": b"{}"}, "inputs", "each of shape [8, 8, 1]"),
    (400, {"data": b'{"inputs": [], "more": 1}'}, "more", "inputs, and log_probabilities"),
    (400, {"json": {"inputs": []}}, "inputs", "one row or more"),
    (400, {"json": {"inputs": 7}}, "inputs", "a list of rows"),
    (400, {"json": {"inputs": [ZERO, ZERO[:7]]}}, "inputs[1]", "a list of 8"),
    (400, {"json": {"inputs": [[[["0.5"]] * 8] * 8]}}, "inputs[0][0][0][0]", "a finite number"),
    (400, {"json": {"inputs": [[[[True]] * 8] * 8]}}, "inputs[0][0][0][0]", "a finite number"),
    (400, {"json": {"inputs": [[[[None]] * 8] * 8]}}, "inputs[0][0][0][0]", "a finite number"),
    (400, {"json": {"inputs": [[[[1e10]] * 8] * 8]}}, "inputs[0][0][0][0]", "from -1e+09 to 1e+09"),
    (400, {"data": ONES.replace(b"1.0", b"NaN", 1)}, "inputs[0][0][0][0]", "a finite number"),  # as Python writes it
    (400, {"data": ONES.replace(b"1.0", b"1e400", 1)}, "inputs[0][0][0][0]", "a finite number"),
    (400, {"data": b"\xef\xbb\xbf" + ONES}, "body", '{"inputs"'),
    (400, {"json": {"inputs": [ZERO], "log_probabilities": 1}}, "log_probabilities", "true or false"),
    (400, {"json": {"inputs": [ZERO] * 9}}, "inputs", "8 at most"),
    (415, {"data": b"x", "headers": {"Content-Type": "text/csv"}}, "Content-Type", "application/json"),
    (415, {"data": b"x", "headers": {"Content-Type": "application/x-pickle"}}, "Content-Type", "application/json"),
    (415, {"data": b"x" * 99, "headers": {"Content-Type": RAW, "Content-Encoding": "gzip"}}, "Content-Encoding", "none"),
    (406, {"json": {"inputs": [ZERO]}, "headers": {"Accept": "image/png"}}, "Accept", "application/json"),
    (400, {"data": b"\0" * 255, "headers": {"Content-Type": RAW}}, "body", "little-endian float32"),
    (400, {"data": b"", "headers": {"Content-Type": RAW}}, "body", "little-endian float32"),
    (400, {"data": b"\0" * 256, "headers": {"Content-Type": RAW, "Kuberml-Shape": "1,64"}}, "Kuberml-Shape", "N,8,8,1"),
    (400, {"data": b"\0" * 256, "headers": {"Content-Type": RAW, "Kuberml-Shape": "2,8,8,1"}}, "body", "float32"),
    (400, {"data": b"\0" * 256, "headers": {"Content-Type": RAW, "Kuberml-Shape": "-1,8,8,1"}}, "Kuberml-Shape", "N,8"),
    (400, {"data": b"\0" * 256 * 9, "headers": {"Content-Type": RAW}}, "body", "8 at most"),
    (400, {"data": np.full((1, *SHAPE), np.nan, "<f4").tobytes(), "headers": {"Content-Type": RAW}}, "inputs[0][0]", "finite"),
    (400, {"data": np.full((1, *SHAPE), -np.inf, "<f4").tobytes(), "headers": {"Content-Type": RAW}}, "inputs[0]", "finite"),
    (400, {"data": b"not one", "headers": {"Content-Type": SAFETENSORS}}, "body", "one tensor 'inputs'"),
    (400, {"data": save({"x": np.zeros((1, 8), np.float32)}), "headers": {"Content-Type": SAFETENSORS}}, "body", "'inputs'"),
    (400, {"data": save({"inputs": np.zeros((1, 8))}), "headers": {"Content-Type": SAFETENSORS}}, "body", "F32"),
    (400, {"data": save({"inputs": X[0, :, :, 0].copy()}), "headers": {"Content-Type": SAFETENSORS}}, "inputs", "[8, 8, 1]"),
]  # fmt: skip


def test_bad_input_is_told_the_field_the_value_and_what_would_be_right() -> None:
    async def main() -> None:
        async with running(served(), max_rows=8) as here:
            for status, sent, field, says in WRONG:
                usual = {} if "json" in sent else {"headers": {"Content-Type": "application/json"}}
                found, problem, headers = await here.post(**{**usual, **sent})
                assert headers["Content-Type"] == "application/problem+json", (sent, found, problem)
                assert (found, problem["status"]) == (status, status), (sent, problem)
                assert problem["field"].startswith(field), (sent, problem)
                assert says in problem["right"], (sent, problem)
                assert "value" in problem or found == 400, (sent, problem)
            for path, status, field in (
                ("/v1/origin", 400, "label"),
                ("/v1/origin?label=11", 404, "label"),
                ("/v1/origin?label=1&model=abc", 404, "model"),
                ("/v1/nothing", 404, "path"),
                ("/v1/predict", 405, "path"),
            ):
                found, problem = await here.get(path)
                assert (found, problem["field"]) == (status, field), problem
            status, answer, _ = await here.post(json={"inputs": [ZERO]})  # and it goes on
            assert (status, len(answer["predictions"])) == (200, 1)

    asyncio.run(main())


def test_a_body_that_is_too_large_is_refused_before_it_is_read_whether_it_says_so_or_not() -> None:
    async def main() -> None:
        async with running(served(), max_rows=8) as here:
            reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
            head = b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            writer.write(head + b"Content-Length: 99999999999\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 5)  # to the end: the connection is closed
            assert b" 413 " in answer.splitlines()[0]
            assert b"the body is too large" in answer
            writer.close()
            limit_bytes = Form(SHAPE, 8).max_bytes
            reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
            writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
            sent = 0
            try:
                while sent < 100 * limit_bytes:
                    writer.write(b"10000\r\n" + b"[" * 0x10000 + b"\r\n")
                    await writer.drain()
                    sent += 0x10000
            except ConnectionError:
                pass
            answer = b""
            while part := await _read(reader):
                answer += part
            assert not answer or b" 413 " in answer.splitlines()[0]
            assert sent < 10 * limit_bytes + (8 << 20)  # what the sockets hold, not what it would have sent
            writer.close()

    asyncio.run(main())


def test_a_body_counts_once_among_those_that_are_being_read_and_one_that_never_fits_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "IN_MEMORY_BYTES", 12_000)

    async def main() -> None:
        async with running(served()) as here:
            for count, wanted in ((40, 200), (60, 413)):  # 10,240 and 15,360 bytes
                body = rows(count)[0].astype("<f4").tobytes()
                status, answer, _ = await here.post(data=body, headers={"Content-Type": RAW})
                assert status == wanted, answer
            assert "12000 bytes at most" in json.dumps(answer)

    asyncio.run(main())


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(1 << 16), 5)
    except ConnectionError:
        return b""


def test_who_says_nothing_or_too_slowly_is_closed_and_too_many_connections_are_too() -> None:
    from kuberml.worlds.live.blobs.guard import Limits

    async def main() -> None:
        limits = Limits(connections=40, per_peer=30, head_s=0.3, body_s=0.3, idle_s=5)
        async with running(served(), limits=limits) as here:
            begun = asyncio.get_running_loop().time()
            for said in (b"POST /v1/pre", b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                         b"Content-Length: 50\r\n\r\n{"):  # fmt: skip
                reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
                writer.write(said)
                assert b"200" not in await asyncio.wait_for(_read(reader), 5)
                writer.close()
            assert asyncio.get_running_loop().time() - begun < 4
            many = [socket.create_connection(("127.0.0.1", here.port)) for _ in range(60)]
            await asyncio.sleep(0.1)
            closed = 0
            for one in many:
                one.settimeout(0.01)
                try:
                    closed += one.recv(1) == b""
                except ConnectionResetError:
                    closed += 1
                except TimeoutError:
                    pass
            assert 25 <= closed < 60
            for one in many:
                one.close()
            await asyncio.sleep(0.4)
            assert (await here.get("/v1/health"))[0] == 200

    asyncio.run(main())


def test_before_the_first_model_it_says_so_and_afterwards_it_tells_what_it_serves_and_who_taught_it() -> None:
    async def main() -> None:
        async with running() as here:
            assert (await here.get("/v1/health"))[1]["status"] == "no model"
            status, problem, headers = await here.post(json={"inputs": [ZERO]})
            assert (status, headers["Retry-After"], problem["status"]) == (503, "2", 503)
            assert (await here.get("/v1/models"))[1] == {"serving": None, "recent": []}
            assert (await here.get("/openapi.json"))[0] == 200
            old, new = served("01", 1), served("012", 2)
            await here.take(old)
            await here.take(new)
            status, models = await here.get("/v1/models")
            now = models["serving"]
            assert (now["model"], now["labels"], now["shape"], now["number"]) == (new.model, ["0", "1", "2"], [8, 8, 1], 2)
            assert (now["engine"]["name"], now["engine"]["precision"], now["authors"]) == ("eager", "fp32", 3)
            assert [one["model"] for one in models["recent"]] == [old.model]
            assert list(now["freshness_s"]) == ["2"]  # of what came before the service began, nothing was measured
            assert now["freshness_s"]["2"] > 1e6  # taught in 1970
            status, answer, _ = await here.post(json={"inputs": rows(1, "2")[0].tolist()})
            label, model = answer["predictions"][0]["label"], answer["model"]
            status, origin = await here.get("/v1/origin", params={"label": label, "model": model})
            assert (status, origin["taught"][0]["author"], origin["model"]) == (200, AUTHORS["2"], new.model)
            assert origin["taught"][0]["samples"] == new.taught["2"][0].samples
            assert (await here.get("/v1/origin", params={"label": "2", "model": old.model}))[0] == 404
            assert (await here.get("/v1/origin", params={"label": "1", "model": old.model}))[0] == 200

    asyncio.run(main())


def test_what_an_operator_lets_in_again_is_not_called_late() -> None:
    before, after = served("01", 1), served("012", 2, learned_at_ms=1000)
    assert freshness_s(before, after, 60_000, 0) == {"2": 59.0}
    assert freshness_s(before, dataclasses.replace(after, again_ms=5000), 60_000, 0) == {}
    new = dataclasses.replace(served("012", 3, learned_at_ms=50_000), again_ms=5000)
    assert freshness_s(before, new, 60_000, 0) == {"2": 10.0}


def test_it_answers_over_https(tmp_path: Path) -> None:
    from kuberml.cli.serve import https_in
    from kuberml.knowledge.signing import Keys
    from kuberml.worlds.live.trust.certificates import certify, make_authority

    make_authority(tmp_path / "ca", "tests")
    files = certify(tmp_path / "ca", tmp_path / "here", "cloud", key=Keys(bytes(32)).public)
    trusting = ssl.create_default_context(cafile=files.ca)

    async def main() -> None:
        service = Service(Settings(engine="eager"))
        port = await service.open("127.0.0.1", 0, https_in(f"{files.cert},{files.key}"))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as client:
            async with client.get(f"https://localhost:{port}/v1/health") as answer:
                assert (answer.status, (await answer.json())["status"]) == (503, "no model")
            with pytest.raises(aiohttp.ClientError):
                await client.get(f"http://127.0.0.1:{port}/v1/health")
        await service.close()

    asyncio.run(main())


def test_the_page_is_one_file_whose_script_alone_may_run() -> None:
    async def main() -> None:
        async with running(served()) as here, here.client.get(here.url + "/") as answer:
            text, policy = await answer.text(), answer.headers["Content-Security-Policy"]
            assert answer.content_type == "text/html"
            assert "default-src 'none'" in policy
            (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
            assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
            assert not re.search(r"innerHTML|https?://|<link|<img", text)
            for path in set(re.findall(r'get\(["`](/v1/[a-z]+)', script)):
                assert (await here.get(path))[0] in (200, 400), path

    asyncio.run(main())


@needs_chromium
def test_a_browser_shows_what_is_served_and_who_taught_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(served("01", 1), served("012", 2)) as here, opened(here.url + "/", tmp_path) as tab:
            await tab.until("document.querySelector('#state').className === 'ok'")
            text = await tab.js("document.body.innerText")
            assert "version 2, 3 labels, 3 contributors" in text
            assert AUTHORS["2"][:12] in text
            assert served("012", 2).model in text
            for width in (1280, 390):
                for dark in (False, True):
                    await tab.size(width, 900, dark=dark)
                    assert await tab.js("document.documentElement.scrollWidth <= innerWidth"), "it must not scroll sideways"
            await tab.size(1280, 900, dark=False)
            await tab.picture(tmp_path / "page.png")
            await here.take(served("0123", 3))
            await tab.until("document.body.innerText.includes('version 3, 4 labels')")
            assert tab.messages == []

    asyncio.run(main())


def test_metrics_are_read_by_prometheus_and_count_what_happened() -> None:
    async def main() -> str:
        async with running(served("01", 1), served("012", 2)) as here:
            for _ in range(3):
                await here.post(json={"inputs": X[:5].tolist()})
            await here.post(json={"inputs": []})
            await here.get("/made/up")
            async with here.client.get(here.url + "/metrics") as answer:
                assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
                return await answer.text()

    found = {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in text_string_to_metric_families(asyncio.run(main()))
        for sample in family.samples
    }
    assert found["kuberml_serve_requests_total", ("/v1/predict", "200")] == 3
    assert found["kuberml_serve_requests_total", ("/v1/predict", "400")] == 1
    assert found["kuberml_serve_requests_total", ("404", "other")] == 1
    assert found["kuberml_serve_request_seconds_count", ("/v1/predict",)] == 3
    assert found["kuberml_serve_rows_total", ()] == 15
    assert found["kuberml_serve_version", ()] == 2
    assert found["kuberml_serve_swaps_total", ()] == 2
    assert found["kuberml_serve_freshness_seconds", ("2",)] > 1e6
    assert found["kuberml_serve_queued_rows", ()] == 0
    assert found["process_resident_memory_bytes", ()] > 1e6


def test_every_number_that_json_can_say_is_read_as_numpy_would() -> None:
    form = Form((2,), 4)
    body = b'{"inputs": [[1, -2.5], [1e-400, 0.1], [3e8, -0]]}'
    np.testing.assert_array_equal(form.read("application/json", body, None).x_N, np.float32([[1, -2.5], [0, 0.1], [3e8, 0]]))
    for text in ("1e999", "-1e10", "1" * 400, '"1"'):
        with pytest.raises(Refusal) as refused:
            form.read("application/json", b'{"inputs": [[0, %s]]}' % text.encode(), None)
        assert refused.value.problem.status == 400


@pytest.mark.parametrize("text", ["null", "true", "NaN", "-Infinity", '[1, "a"]', '{"x": null}'])
def test_what_was_found_is_told_back_as_json_spells_it(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        Form((2,), 4).read("application/json", b'{"inputs": [[0, 1], [0, %s]]}' % text.encode(), None)
    assert (refused.value.problem.field, refused.value.problem.value) == ("inputs[1][1]", text)


def test_the_description_is_one_and_says_the_shape_that_is_read() -> None:
    async def main() -> Any:
        async with running(served()) as here:
            return (await here.get("/openapi.json"))[1]

    found = asyncio.run(main())
    assert found["openapi"] == "3.1.0"
    rows_of = found["components"]["schemas"]["Predict"]["properties"]["inputs"]
    assert (rows_of["maxItems"], rows_of["items"]["minItems"], rows_of["items"]["items"]["items"]["maxItems"]) == (256, 8, 1)
    named = {part["$ref"] for part in _refs(found)}
    assert {f"#/components/schemas/{name}" for name in found["components"]["schemas"]} >= named
    assert msgspec.json.encode(found)


def test_what_can_be_looked_at_answers_head_as_it_answers_get_without_the_body() -> None:
    paths = ("/v1/models", "/v1/health", "/v1/origin?label=3", "/v1/origin?label=cat", "/openapi.json", "/", "/favicon.ico")

    async def main() -> None:
        async with running(served()) as here:
            for path in paths:
                async with here.client.get(here.url + path) as got, here.client.head(here.url + path) as head:
                    assert (head.status, head.content_type) == (got.status, got.content_type), path
                    assert await head.read() == b""
                    if path != "/v1/health":  # it says how long a request would wait
                        assert head.headers.get("Content-Length") == got.headers.get("Content-Length"), path
            async with here.client.head(f"{here.url}/metrics") as head:
                assert (head.status, await head.read()) == (200, b"")
            async with here.client.head(f"{here.url}/v1/predict") as head:
                assert (head.status, head.headers["Allow"]) == (405, "POST")
            described = (await here.get("/openapi.json"))[1]["paths"]
            assert {path for path, ways in described.items() if "head" in ways} == {*described} - {"/v1/predict"}
        async with running() as empty, empty.client.head(f"{empty.url}/v1/health") as head:
            assert (head.status, await head.read()) == (503, b"")

    asyncio.run(main())


def _refs(tree: Any) -> list[dict[str, str]]:
    if isinstance(tree, dict):
        return ([tree] if "$ref" in tree else []) + [ref for value in tree.values() for ref in _refs(value)]
    return [ref for value in tree for ref in _refs(value)] if isinstance(tree, list) else []


def test_a_version_that_cannot_be_served_is_told_in_the_log_though_nobody_waits_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A cloud hands its versions over and goes on; what was served before is answered still."""
    odd = dataclasses.replace(served("01", 2), shape=(3, 3, 3))  # not what its predictor takes

    async def main() -> None:
        async with running(served()) as here:
            here.service.take(odd)
            while "Traceback" not in caplog.text:  # noqa: ASYNC110 - the builder's thread writes it
                await asyncio.sleep(0.01)
            assert (await here.post(json={"inputs": [ZERO]}))[0] == 200

    asyncio.run(asyncio.wait_for(main(), 20))
    assert "version 2" in caplog.text
