"""Fuzzed from its own description by schemathesis: a real server on loopback, a bounded number of examples."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

schemathesis = pytest.importorskip("schemathesis", reason="fuzzing needs the extra dev")

from hypothesis import HealthCheck, Phase, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from safetensors.numpy import save  # noqa: E402

from kuberml.serving.http.bodies import RAW, SAFETENSORS  # noqa: E402
from kuberml.serving.service import Service, Settings  # noqa: E402
from kuberml.worlds.member.background import Background  # noqa: E402
from tests.serving.parts import SHAPE, served  # noqa: E402

EXAMPLES = 25
"""Of each operation."""


def batch(count: int) -> Any:
    return np.full((count, *SHAPE), 0.5, "<f4")


schemathesis.openapi.media_type(RAW, st.integers(1, 8).map(lambda count: batch(count).tobytes()))
schemathesis.openapi.media_type(SAFETENSORS, st.integers(1, 8).map(lambda count: save({"inputs": batch(count)})))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    background = Background("a server to be fuzzed")
    service = Service(Settings(engine="eager", max_rows=8))
    try:
        port = background.run(service.open("127.0.0.1", 0))
        service.take(served()).result()
        yield f"http://127.0.0.1:{port}"
    finally:
        background.run(service.close())
        background.close()


@pytest.fixture(scope="module")
def description(url: str) -> Any:
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


schema = schemathesis.pytest.from_fixture("description")


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate],
          suppress_health_check=list(HealthCheck))  # fmt: skip
def test_no_request_breaks_it_and_every_answer_is_as_described(case: Any) -> None:
    case.call_and_validate(timeout=10)


def test_it_has_been_fuzzed_without_one_fault_of_ours(url: str, caplog: pytest.LogCaptureFixture) -> None:
    import urllib.request

    with urllib.request.urlopen(f"{url}/metrics") as answer:
        page = answer.read().decode()
    statuses = {line.split('status="')[1][:3] for line in page.splitlines() if line.startswith("kuberml_serve_requests_total{")}
    assert {"200", "400"} <= statuses
    assert "500" not in statuses
    assert asyncio.iscoroutinefunction(Service.close)
