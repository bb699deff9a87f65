"""The hub's page: one HTML file, and the scene behind it as JSON, once or as it changes (server-sent events).

What is shown are strangers' names and texts. They reach the browser as JSON only, the page sets them as text only, and its
policy lets nothing run or load but what is in the file. A page elsewhere can neither embed nor read it (see `visitors`).
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import re
from collections.abc import AsyncIterator
from importlib.resources import files

from aiohttp import web

from kuberml.worlds.live.hub.scene import Scene
from kuberml.worlds.live.hub.snapshot import snapshot
from kuberml.worlds.live.hub.visitors import HEADERS, Guard

EVERY_S, ALIVE_S = 0.5, 10.0
"""How often a page is told of changes, and after how long it is told that there are none."""
STALL_S = 20.0
"""A reader that takes nothing for so long is dropped."""
READERS = 64
"""Pages that may be open at a time."""


@functools.cache
def html(package: str = "kuberml.worlds.live.hub") -> tuple[str, str]:
    """A package's `page.html`, and the policy that lets a browser run exactly the script and the style that are in it."""
    text = files(package).joinpath("page.html").read_text("utf-8")
    script, style = (_hash(text, tag) for tag in ("script", "style"))
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return text, policy


def _hash(text: str, tag: str) -> str:
    (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"


def add_page(app: web.Application, scene: Scene, only: Guard) -> None:
    """Serve the page at `/`, the scene at `/v1/scene` and as it changes at `/v1/scene/live`.

    Args:
        app: not yet running.
        scene: what is shown.
        only: who may look (`visitors.guarded`).
    """
    page = _Page(scene)
    app.add_routes(
        [
            web.get("/", only(page.page)),
            web.get("/favicon.ico", page.icon),
            web.get("/v1/scene", only(page.now)),
            web.get("/v1/scene/live", only(page.live)),
        ]
    )
    app.on_shutdown.append(page.close)


class _Page:
    def __init__(self, scene: Scene) -> None:
        self._scene, self._readers, self._closing = scene, 0, asyncio.Event()
        self._made: tuple[int, bytes] = (-1, b"")

    async def page(self, request: web.Request) -> web.StreamResponse:
        text, policy = html()
        return web.Response(text=text, content_type="text/html", headers={**HEADERS, "Content-Security-Policy": policy})

    async def icon(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=204, headers=HEADERS)

    async def now(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=snapshot(self._scene), content_type="application/json", headers=HEADERS)

    async def live(self, request: web.Request) -> web.StreamResponse:
        if self._readers >= READERS:
            raise web.HTTPServiceUnavailable(
                text=f"{READERS} pages are open already\n", headers={**HEADERS, "Retry-After": "5"}
            )
        self._readers += 1
        try:
            response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
            await response.prepare(request)
            async for message in self._messages():
                await asyncio.wait_for(response.write(message), STALL_S)
            return response
        except (ConnectionError, TimeoutError):  # it has left, or takes nothing
            if request.transport is not None:
                request.transport.abort()
            raise asyncio.CancelledError from None
        finally:
            self._readers -= 1

    async def _messages(self) -> AsyncIterator[bytes]:
        """The scene now, and again whenever it has changed; a sign of life where it has not."""
        told, quiet_s = -1, 0.0
        while not self._closing.is_set():
            self._scene.settle()
            if self._scene.version != told:
                told, quiet_s = self._scene.version, 0.0
                yield self._event()
            elif quiet_s >= ALIVE_S:
                quiet_s = 0.0
                yield b"event: alive\ndata:\n\n"
            try:
                await asyncio.wait_for(self._closing.wait(), EVERY_S)
            except TimeoutError:
                quiet_s += EVERY_S

    def _event(self) -> bytes:
        """One text for all readers; JSON has no line breaks of its own."""
        if self._made[0] != self._scene.version:
            text = snapshot(self._scene)
            self._made = self._scene.version, b"event: scene\ndata: " + text + b"\n\n"
        return self._made[1]

    async def close(self, app: web.Application) -> None:
        self._closing.set()
