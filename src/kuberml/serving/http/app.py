"""The routes. Each request takes the served version once, and all of its answer is of that version."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from kuberml.core.ids import Digest
from kuberml.serving.http.answers import accepted, named, written
from kuberml.serving.http.batching import Batcher
from kuberml.serving.http.bodies import JSON, SHAPE_HEADER, TYPES, Inputs
from kuberml.serving.http.description import described
from kuberml.serving.http.measures import Measures
from kuberml.serving.http.problem import Refusal
from kuberml.serving.http.schemas import EngineInfo, Health, Model, Models, Origin, Teacher, Version
from kuberml.serving.http.slot import Live, Slot
from kuberml.worlds.live.hub.page import html
from kuberml.worlds.live.hub.visitors import HEADERS

log = logging.getLogger("kuberml.serving")

IN_MEMORY_BYTES = 256 << 20
"""Of bodies that are being read, all together."""
ASIDE_BYTES = 256 << 10
"""A body larger than this is read into numbers beside the loop."""
NO_MODEL_RETRY_S = 2
LINGERING_S = 1.0
"""A refused body is read away for so long, so that its sender gets to see the answer before the connection closes."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Answering:
    """The handlers, over a slot and a batcher."""

    def __init__(self, slot: Slot, batcher: Batcher, measures: Measures, hub: Callable[[], str]) -> None:
        """`hub`: how the hub is, for people and monitors."""
        self._slot, self._batcher, self._measures, self._hub = slot, batcher, measures, hub
        self._reading_bytes = 0
        self.stopping = False

    def app(self) -> web.Application:
        """The application, not yet running."""
        app = web.Application(
            middlewares=[self._refusing], handler_args={"lingering_time": LINGERING_S, "auto_decompress": False}
        )
        app.add_routes(
            [
                web.post("/v1/predict", self._predict),
                web.get("/v1/models", self._models),
                web.get("/v1/health", self._health),
                web.get("/v1/origin", self._origin),
                web.get("/metrics", self._metrics),
                web.get("/openapi.json", self._openapi),
                web.get("/", self._page),
                web.get("/favicon.ico", self._icon),
            ]
        )
        return app

    @web.middleware
    async def _refusing(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every way of not answering is a `Problem`; every request is counted."""
        began_s = asyncio.get_running_loop().time()
        path = request.match_info.route.resource.canonical if request.match_info.route.resource else "other"
        try:
            response = await self._refused(request, handler)
        except asyncio.CancelledError:
            self._measures.left(path)
            raise
        self._measures.answered(path, response.status, asyncio.get_running_loop().time() - began_s)
        response.headers.update(HEADERS)
        if self.stopping:
            response.force_close()
        return response

    async def _refused(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refusal as refusal:
            return refusal.response()
        except web.HTTPException as error:  # of aiohttp's own: no such path, no such method
            allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            what = {404: "there is no such path; /openapi.json says what there is", 405: "this path has no such method"}
            detail = what.get(error.status, error.reason)
            return Refusal(error.status, detail, field="path", value=request.path, headers=allow).response()
        except ConnectionError:
            raise
        except Exception:
            log.exception("%s %s was not answered", request.method, request.path)
            return Refusal(500, "this is our fault; the log says more").response()

    # --- answers ---------------------------------------------------------------------------------------------------

    async def _predict(self, request: web.Request) -> web.StreamResponse:
        live = self._live()
        if request.content_type not in TYPES:
            raise Refusal(415, "a body of this type is not read here", field="Content-Type", value=request.content_type,
                          right=" or ".join(TYPES), closes=True)  # fmt: skip
        if coding := request.headers.get("Content-Encoding", ""):
            raise Refusal(415, "a body is read as it is", field="Content-Encoding", value=coding, right="none", closes=True)
        content_type = accepted(request.headers.get("Accept", ""))
        self._batcher.check()  # before a byte of the body is read
        body = await self._body(request, live.form.max_bytes)
        inputs = await self._inputs(live, request, body)
        answers_NC = await self._batcher.answer(live, inputs.x_N)
        return written(live.served, answers_NC, content_type, full=inputs.full)

    def _live(self) -> Live:
        live = self._slot.now
        if live is None:
            raise Refusal(503, "no model is served yet: it comes with the first knowledge at the hub", retry_s=NO_MODEL_RETRY_S)
        return live

    async def _body(self, request: web.Request, max_bytes: int) -> bytes:
        """The whole body. Raises Refusal: 413, too large; known from its head, or as soon as it is; 429: too many at once."""
        told_bytes, most_bytes = request.content_length or 0, min(max_bytes, IN_MEMORY_BYTES)
        parts: list[bytes] = []
        size_bytes = 0
        try:
            self._bear(told_bytes, most_bytes, to_come_bytes=told_bytes)
            async for part in request.content.iter_any():
                parts.append(part)
                size_bytes += len(part)
                self._reading_bytes += len(part)
                self._bear(size_bytes, most_bytes)
        finally:
            self._reading_bytes -= size_bytes
        return b"".join(parts)

    def _bear(self, size_bytes: int, max_bytes: int, *, to_come_bytes: int = 0) -> None:
        if size_bytes > max_bytes:
            raise Refusal(413, "the body is too large; it was not read", field="body", value=f"{size_bytes} bytes or more",
                          right=f"{max_bytes} bytes at most: send several requests", closes=True)  # fmt: skip
        if self._reading_bytes + to_come_bytes > IN_MEMORY_BYTES:
            raise Refusal(429, "busy: too many bodies are being read", right="try again after Retry-After seconds", retry_s=1,
                          closes=True)  # fmt: skip

    async def _inputs(self, live: Live, request: web.Request, body: bytes) -> Inputs:
        arguments = request.content_type, body, request.headers.get(SHAPE_HEADER)
        if len(body) <= ASIDE_BYTES:
            return live.form.read(*arguments)
        return await asyncio.get_running_loop().run_in_executor(None, live.form.read, *arguments)

    async def _origin(self, request: web.Request) -> web.StreamResponse:
        live = self._live()
        label, model = self._query(request, "label"), request.query.get("model", live.served.model)
        served = self._slot.past(Digest(model))
        if served is None:
            raise Refusal(404, "no model of this digest was served here lately", field="model", value=model,
                          right="the model that an answer named; /v1/models lists those of lately")  # fmt: skip
        if label not in served.labels:
            raise Refusal(404, "the model does not know this label", field="label", value=label,
                          right=f"one of {list(served.labels)}")  # fmt: skip
        taught = [Teacher(one.author, one.card, one.samples, one.learned_at_ms) for one in served.taught.get(label, ())]
        return _json(Origin(label, served.model, served.manifest, taught), named(served))

    @staticmethod
    def _query(request: web.Request, name: str) -> str:
        if name not in request.query:
            raise Refusal(400, f"{name} is missing", field=name, right=f"?{name}=...")
        return request.query[name]

    # --- about itself ----------------------------------------------------------------------------------------------

    async def _models(self, request: web.Request) -> web.StreamResponse:
        live = self._slot.now
        recent = [
            Version(one.model, one.manifest, one.number, one.labels, one.since_ms)
            for one in self._slot.recent()
            if live is None or one.model != live.served.model
        ]
        return _json(Models(None if live is None else self._model(live), recent), {} if live is None else named(live.served))

    def _model(self, live: Live) -> Model:
        served, engine = live.served, live.engine
        authors = {one.author for taught in served.taught.values() for one in taught}
        labels = tuple(served.predictor.labels)
        freshness_s = {label: round(s, 3) for label, s in self._slot.freshness_s.items() if label in labels}
        about = EngineInfo(engine.name, engine.precision, engine.why)
        return Model(served.model, served.manifest, served.number, labels, tuple(served.shape), live.form.max_rows,
                     served.since_ms, about, len(authors), freshness_s)  # fmt: skip

    async def _health(self, request: web.Request) -> web.StreamResponse:
        wait_s = self._batcher.wait_s
        status = "ok" if wait_s <= self._batcher.max_wait_s else "busy"
        status = "no model" if self._slot.now is None else status
        status = "stopping" if self.stopping else status
        health = Health(status, round(wait_s, 4), self._batcher.queued_rows, self._hub())
        return _json(health, status=503 if status in ("no model", "stopping") else 200)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        body, content_type = self._measures.page(self._slot, self._batcher, self._hub())
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _page(self, request: web.Request) -> web.StreamResponse:
        text, policy = html("kuberml.serving.http")
        return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": policy})

    async def _icon(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    async def _openapi(self, request: web.Request) -> web.StreamResponse:
        live = self._slot.now
        return _json(described(None if live is None else live.form))


def _json(tree: Any, headers: dict[str, str] | None = None, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(tree), content_type=JSON, headers=headers, status=status)
