"""A real headless Chromium, driven over its DevTools socket with what is installed anyway (aiohttp)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
START_S = 40.0


class Tab:
    """One page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0
        self.messages: list[str] = []
        """What it logged: errors, violations of the page's policy."""
        self.requests: list[str] = []
        """Addresses that it asked for."""

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json(timeout=START_S)
            if message.get("id") == self._number:
                assert "error" not in message, message["error"]
                return dict(message["result"])
            self._heard(message)

    def _heard(self, message: dict[str, Any]) -> None:
        inside = message.get("params", {})
        if message.get("method") == "Log.entryAdded":
            self.messages.append(inside["entry"]["text"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.messages.append(str(inside["exceptionDetails"]))
        elif message.get("method") == "Network.requestWillBeSent":
            self.requests.append(inside["request"]["url"])

    async def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def until(self, expression: str, timeout_s: float = 15.0) -> None:
        """Wait until an expression is true in the page."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        while not await self.js(f"(() => {{ try {{ return {expression} }} catch {{ return false }} }})()"):
            assert loop.time() < end_s, f"not within {timeout_s} s: {expression}; {self.messages[-3:]}"
            await asyncio.sleep(0.05)

    async def size(self, width: int, height: int, *, dark: bool = False) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self, path: Path) -> None:
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))  # noqa: ASYNC240 - a test's own picture


@contextlib.asynccontextmanager
async def opened(url: str, folder: Path) -> AsyncIterator[Tab]:
    """Chromium at `url`; `folder` is for its profile."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--remote-debugging-port=0",
        f"--user-data-dir={folder / 'chromium'}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port = await _port(folder / "chromium" / "DevToolsActivePort")
        async with aiohttp.ClientSession() as client:
            async with client.get(f"http://127.0.0.1:{port}/json/list") as answer:
                (target,) = [one for one in await answer.json() if one["type"] == "page"]
            async with client.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                tab = Tab(socket)
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await tab.call(f"{domain}.enable")
                await tab.call("Page.navigate", url=url)
                yield tab
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _port(file: Path) -> int:
    """Chromium writes down where it listens."""
    loop = asyncio.get_running_loop()
    end_s, text = loop.time() + START_S, ""
    while "\n" not in text:
        assert loop.time() < end_s, "chromium did not start"
        await asyncio.sleep(0.05)
        text = await asyncio.to_thread(lambda: file.read_text() if file.is_file() else "")
    return int(text.split("\n", maxsplit=1)[0])
