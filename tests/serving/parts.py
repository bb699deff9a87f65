"""Real versions of a cloud model for tests of serving: heads on digits, solved from statistics; and a service that listens."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import numpy as np

from kuberml.core.ids import digest_of
from kuberml.core.values import digest
from kuberml.exchange.continual.served import Served, Taught
from kuberml.knowledge.kinds.extractor import basis_of
from kuberml.knowledge.kinds.statistics import describe, merge_all, solve
from kuberml.learning.datasets import DATASETS
from kuberml.learning.extractors import features, patch_filters
from kuberml.learning.predictor import HeadOn
from kuberml.serving.service import Service, Settings

DIGITS = DATASETS.get("digits")
TEST = DIGITS.split("test")
SHAPE = (8, 8, 1)
AUTHORS = {label: digest_of(f"author of {label}".encode()) for label in DIGITS.labels}


@functools.cache
def extractor() -> Any:
    return patch_filters(DIGITS.split("public").x_N, patch=3, filters=32, grid=2, sides=1, components=64)


@functools.cache
def described(label: str) -> Any:
    part = DIGITS.split("train")
    x_N = part.x_N[part.y_N == DIGITS.labels.index(label)]
    return describe(features(extractor(), x_N), [label] * len(x_N), basis=basis_of(extractor()))[0]


@functools.cache
def served(labels: str = "0123456789", number: int = 1, learned_at_ms: int = 1000) -> Served:
    """The head of these digits' statistics, each by an author of its own."""
    parts = [described(label) for label in labels]
    predictor = HeadOn(extractor(), solve(merge_all(parts)), SHAPE)
    taught = {
        label: (Taught(AUTHORS[label], digest_of(f"card of {label}".encode()), part.samples, learned_at_ms),)
        for label, part in zip(labels, parts, strict=True)
    }
    return Served(number, digest_of(labels.encode()), digest(predictor), predictor, SHAPE, taught, since_ms=2000 + number)


def rows(count: int, labels: str = "0123456789") -> tuple[Any, list[str]]:
    """Test samples of these digits, and what they are."""
    those = np.flatnonzero(np.isin(TEST.y_N, [DIGITS.labels.index(label) for label in labels]))[:count]
    return TEST.x_N[those], [DIGITS.labels[at] for at in TEST.y_N[those]]


class Running:
    """A service that listens, and a client of it."""

    def __init__(self, service: Service, port: int, client: aiohttp.ClientSession) -> None:
        self.service, self.port, self.client, self.url = service, port, client, f"http://127.0.0.1:{port}"

    async def take(self, version: Served) -> None:
        import asyncio

        await asyncio.wrap_future(self.service.take(version))

    async def get(self, path: str, **options: Any) -> tuple[int, Any]:
        async with self.client.get(self.url + path, **options) as answer:
            return answer.status, await answer.json(content_type=None)

    async def post(self, path: str = "/v1/predict", **options: Any) -> tuple[int, Any, Any]:
        async with self.client.post(self.url + path, **options) as answer:
            body = await answer.read()
            plain = "json" in answer.headers.get("Content-Type", "")
            return answer.status, await answer.json(content_type=None) if plain else body, answer.headers


@contextlib.asynccontextmanager
async def running(*versions: Served, connections: int = 100, **settings: Any) -> AsyncIterator[Running]:
    service = Service(Settings(**{"engine": "eager", **settings}))
    try:
        port = await service.open("127.0.0.1", 0)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as client:
            here = Running(service, port, client)
            for version in versions:
                await here.take(version)
            yield here
    finally:
        await service.close()


def right(answer: Any, wanted: Sequence[str]) -> float:
    """Share of an answer's predictions that are right."""
    return float(np.mean([one["label"] == label for one, label in zip(answer["predictions"], wanted, strict=True)]))
