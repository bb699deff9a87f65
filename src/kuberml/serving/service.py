"""The HTTP service: slot, batcher and door on a thread of their own, so that nothing else that goes on here delays a query.

service = Service(settings)
await service.open("127.0.0.1", 8080)
service.take(served)          # from any thread: the engine is built beside, then swapped in at once
await service.close()         # what is under way is answered first
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from kuberml.core.errors import ConfigError, nearest
from kuberml.exchange.continual.served import Served
from kuberml.learning.predictor import Predictor
from kuberml.learning.types import Samples
from kuberml.serving.aside import Aside
from kuberml.serving.engines import Engine, build
from kuberml.serving.engines.cpu import ENGINES
from kuberml.serving.engines.engine import PRECISIONS, Eager
from kuberml.serving.http.app import Answering
from kuberml.serving.http.batching import Batcher
from kuberml.serving.http.bodies import Form
from kuberml.serving.http.measures import Measures
from kuberml.serving.http.slot import Live, Slot, freshness_s
from kuberml.worlds.live.blobs.door import Door
from kuberml.worlds.live.blobs.guard import Limits
from kuberml.worlds.member.background import Background

log = logging.getLogger("kuberml.serving")

DRAIN_S = 5.0
"""For answers under way when the service stops."""
SWITCH_S = 0.0005
"""How long another thread of this process keeps the interpreter once an answer wants it. Python's own 5 ms are some answers;
niceness would be inherited by the threads of engines that are built."""


LIMITS = Limits(connections=1024, per_peer=1024, head_s=10.0, body_s=10.0, idle_s=75.0)
"""Of connections: a proxy in front is one peer."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How it serves.

    engine, precision: see `serving.engines.build`. patience_s: where building the engine takes longer, the new version is
    served by the predictor itself until it is ready. max_rows: of a request; max_batch: that an engine gets at once.
    max_wait_s: see `http.batching`. threads: engines at work at a time. limits: of connections.
    """

    engine: str = "auto"
    precision: str = "auto"
    patience_s: float = 1.0
    max_rows: int = 256
    max_batch: int = 64
    max_wait_s: float = 0.25
    threads: int = 1
    limits: Limits = LIMITS

    def __post_init__(self) -> None:
        """Raises ConfigError: no such engine or precision."""
        for name, value, known in (("engine", self.engine, ENGINES), ("precision", self.precision, PRECISIONS)):
            if value not in ("auto", *known):
                raise ConfigError(f"{name}: unknown {value!r}; {nearest(value, ('auto', *known))}")


def _nothing() -> str:
    return ""


class Service:
    """See the module. `on_swap` is called from the builder's thread after each swap."""

    def __init__(
        self, settings: Settings = Settings(), *, hub: Callable[[], str] = _nothing,
        on_swap: Callable[[Live], None] | None = None,
    ) -> None:  # fmt: skip
        """`hub`: how the hub is, as `/v1/health` says it."""
        self.settings, self.slot = settings, Slot()
        self._hub, self._on_swap = hub, on_swap
        self._measures = Measures()
        self._background: Background | None = None
        self._door: Door | None = None
        self._answering: Answering | None = None
        self._batcher: Batcher | None = None
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="kuberml engine builder")
        self._aside = Aside("kuberml engine, in the making")
        self._switch_s = sys.getswitchinterval()
        self._latest: Served | None = None
        self._building: Future[Any] | None = None
        self._lock = threading.Lock()
        self._started_ms = time.time_ns() // 1_000_000
        self.calibration: Samples | None = None
        """Labelled samples that nobody was trained on: what reduced precisions are proven with."""

    async def open(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen; returns the port (0 asks for a free one). Raises ConfigError: it is taken."""
        self._background = Background("kuberml http")
        sys.setswitchinterval(SWITCH_S)
        opening = asyncio.get_running_loop().run_in_executor(None, self._background.run, self._open(host, port, tls))
        try:
            return await opening
        except BaseException:
            self._background.close()
            self._background = None
            raise

    async def _open(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        settings = self.settings
        self._batcher = Batcher(max_batch=settings.max_batch, max_wait_s=settings.max_wait_s, threads=settings.threads)
        self._answering = Answering(self.slot, self._batcher, self._measures, self._hub)
        self._door = Door(self._answering.app(), tls=tls, limits=settings.limits)
        self._batcher.start()
        try:
            return await self._door.open(host, port)
        except BaseException:
            await self._batcher.close()
            raise

    def take(self, served: Served) -> Future[None]:
        """Serve this version as soon as its engine is ready; one that was asked for before and is not built yet is left out."""
        with self._lock:
            self._latest = served
        return self._submit(self._take, served)

    def prepare(self, predictor: Predictor, shape: tuple[int, ...]) -> None:
        """Have an engine built like this one before there is anything to serve: what is compiled for an extractor is kept."""
        name, precision = self.settings.engine, self.settings.precision
        self._building = self._aside.submit(
            lambda: build(predictor, shape, engine=name, precision=precision, calibration=self.calibration)
        )

    def _take(self, served: Served) -> None:
        """In the builder's thread, one at a time."""
        now = self.slot.now
        if served is not self._latest:  # a newer one is waiting
            self._measures.builds.add("passed over")
            return
        if now is not None and now.served is served:
            return
        patience_s = 0.0 if self._building is not None and not self._building.done() else self.settings.patience_s
        building = self._building = self._aside.submit(lambda: self._engine(served))
        try:
            self._swap(served, building.result(patience_s))
        except TimeoutError:
            self._swap(served, self._eager(served, "until the engine that was asked for is built"))
            building.add_done_callback(lambda done: self._late(served, done))

    def _late(self, served: Served, building: Future[Engine]) -> None:
        """An engine that took long is ready: it replaces the predictor itself, unless a newer version does."""
        if not building.cancelled():
            with contextlib.suppress(RuntimeError):  # the service has stopped meanwhile
                self._submit(self._replace, served, building)

    def _replace(self, served: Served, building: Future[Engine]) -> None:
        if served is self._latest:
            self._swap(served, building.result())

    def _submit(self, work: Callable[..., None], served: Served, *more: Any) -> Future[None]:
        """Have the builder do it. What goes wrong is told here: not everybody waits for what comes of it."""

        def done() -> None:
            try:
                work(served, *more)
            except Exception:
                log.exception("version %d: what is answered stays as it is", served.number)
                raise

        return self._builder.submit(done)

    def _engine(self, served: Served) -> Engine:
        """The engine that was asked for; where it cannot be had for this model, the predictor itself, which says why."""
        settings = self.settings
        if served is not self._latest:
            return self._eager(served, "it was replaced before its engine was built")
        try:
            engine = build(served.predictor, tuple(served.shape), engine=settings.engine, precision=settings.precision,
                           calibration=self.calibration)  # fmt: skip
            _warm(engine, served)
        except Exception as error:  # whatever a runtime raises: the version is served nevertheless
            why = f"{settings.engine!r} in {settings.precision!r} cannot be had: {error}"
            log.warning("version %d is answered by the predictor itself: %s", served.number, why,
                        exc_info=None if isinstance(error, ConfigError) else error)  # fmt: skip
            self._measures.builds.add("failed")
            return self._eager(served, why)
        self._measures.builds.add("built")
        return engine

    def _eager(self, served: Served, why: str) -> Engine:
        engine = Eager(served.predictor, tuple(served.shape), why)
        _warm(engine, served)
        return engine

    def _swap(self, served: Served, engine: Engine) -> None:
        before = self.slot.now.served if self.slot.now is not None else None
        now_ms = time.time_ns() // 1_000_000
        fresh = {} if before is served else freshness_s(before, served, now_ms, self._started_ms)
        live = Live(served, engine, Form(served.shape, self.settings.max_rows), fresh)
        self.slot.swap(live)
        if self._on_swap is not None:
            self._on_swap(live)

    async def close(self) -> None:
        """Answer what is under way, take nothing more, and let go of everything. Calling it twice is fine."""
        loop = asyncio.get_running_loop()
        if self._background is not None:
            await loop.run_in_executor(None, self._background.run, self._close())
            await loop.run_in_executor(None, self._background.close)
            self._background = None
        sys.setswitchinterval(self._switch_s)
        self._aside.close()
        self._builder.shutdown(wait=False, cancel_futures=True)

    async def _close(self) -> None:
        assert self._answering is not None
        assert self._door is not None
        assert self._batcher is not None
        self._answering.stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._door.close()
        await self._batcher.close()


def _warm(engine: Engine, served: Served) -> None:
    """The first answer is slow (kernels are chosen, memory is taken): it is nobody's."""
    with np.errstate(all="ignore"):
        engine.predict(np.zeros((1, *served.shape), np.float32))
