"""The hub's page over real HTTP, in a real browser: what it shows, that strangers' text stays text, that it comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from kuberml.core.ids import NodeId
from kuberml.worlds.live.hub import page as pages
from kuberml.worlds.live.hub.page import add_page, html
from kuberml.worlds.live.hub.people import About
from kuberml.worlds.live.hub.scene import Scene
from kuberml.worlds.live.hub.visitors import guarded
from kuberml.worlds.live.names import free_port
from kuberml.worlds.live.reports import Happening
from tests.worlds.live.browser import Tab, needs_chromium, opened
from tests.worlds.live.test_scene import Stage, keys_of

EVIL = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>\'"`{{7*7}}</svg><b id=bold>'


@contextlib.asynccontextmanager
async def served(scene: Scene, port: int = 0) -> AsyncIterator[str]:
    app = web.Application()
    add_page(app, scene, guarded(["hub.example"]))
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port or free_port("127.0.0.1"))
    await site.start()
    try:
        yield site.name
    finally:
        await runner.cleanup()


async def answer(url: str, path: str = "/", host: str = "") -> tuple[int, str, dict[str, str]]:
    async with aiohttp.ClientSession() as client, client.get(url + path, headers={"Host": host} if host else {}) as found:
        return found.status, await found.text(), dict(found.headers)


def town() -> Stage:
    """Three nodes; c has learned from a and refused b's; something is on its way to b."""
    stage = Stage("a", "b", "c")
    for name, labels in (("a", ("1", "2")), ("b", ("2", "3"))):
        digest = name * 64
        stage.scene._cards[digest] = About(keys_of(name).public, "statistics", labels, 1000)
        stage.knows(name, *labels)
    stage.tell("c", Happening("absorbed", card="a" * 64, why="9 more right"), Happening("refused", card="b" * 64, why="worse"),
               Happening("deployed", accuracy_ppm=912_345))  # fmt: skip
    stage.tell("b", Happening("delivering", card="a" * 64, holder="a", done_bytes=250))
    return stage


# --- the page and its policy --------------------------------------------------------------------------------------------------


def test_the_page_is_one_file_that_never_parses_what_it_is_told() -> None:
    text, policy = html()
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "new Function", "javascript:"):
        assert forbidden not in text
    assert set(re.findall(r"https?://[^\s\"'<]*", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(r"<[^>]*\s(on\w+|style)\s*=", text.split("<script>")[0])
    assert "unsafe" not in policy
    assert re.fullmatch(r".*script-src 'sha256-[A-Za-z0-9+/]{43}=';.*", policy)
    assert {"default-src 'none'", "frame-ancestors 'none'", "connect-src 'self'"} < set(policy.split("; "))


def test_every_answer_says_how_it_may_be_used() -> None:
    async def main() -> None:
        async with served(town().scene) as url:
            for path, kind in (("/", "text/html"), ("/v1/scene", "application/json")):
                status, text, headers = await answer(url, path)
                assert (status, headers["Content-Type"].split(";")[0]) == (200, kind)
                assert text
                assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
                assert "Access-Control-Allow-Origin" not in headers
            assert "Content-Security-Policy" in (await answer(url))[2]

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/", "/v1/scene", "/v1/scene/live"])
def test_a_foreign_name_for_this_address_is_refused(path: str) -> None:
    async def main() -> None:
        async with served(town().scene) as url:
            status, text, _ = await answer(url, path, "evil.example")
            assert status == 421
            assert "--advertise" in text  # whoever runs it reads this
            assert (await answer(url, path, "127.0.0.1.evil.example:80"))[0] == 421
            if path != "/v1/scene/live":
                for good in ("localhost:7448", "hub.example", "HUB.example.", "[::1]:7448", "10.1.2.3:80"):
                    assert (await answer(url, path, good))[0] == 200

    asyncio.run(main())


@pytest.mark.parametrize(
    ("remote", "certificate", "status"),
    [("127.0.0.1", None, 200), ("::1", None, 200), ("::ffff:127.0.0.1", None, 200), ("10.0.0.5", {"subject": ()}, 200),
     ("10.0.0.5", None, 403), ("", None, 403), ("fe80::1%eth0", None, 403)],
)  # fmt: skip
def test_a_realm_that_is_not_open_is_shown_to_its_own_only(remote: str, certificate: object, status: int) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(text="members")

    class Wire(asyncio.Transport):
        def get_extra_info(self, name: str, default: object = None) -> object:
            return {"peercert": certificate, "peername": (remote, 5000)}.get(name, default)

    async def main(*, is_open: bool) -> int:
        request = make_mocked_request("GET", "/", headers={"Host": "10.0.0.1:7448"}, transport=Wire())
        try:
            return (await guarded((), lambda: is_open)(page)(request)).status
        except web.HTTPForbidden as refused:
            return refused.status

    assert asyncio.run(main(is_open=False)) == status
    assert asyncio.run(main(is_open=True)) == 200


# --- as it changes ------------------------------------------------------------------------------------------------------------


async def events(answer: aiohttp.ClientResponse, count: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    while len(found) < count:
        block = (await answer.content.readuntil(b"\n\n")).decode()
        lines = dict(line.split(":", 1) for line in block.strip().split("\n"))
        found.append((lines["event"].strip(), lines["data"].strip()))
    return found


def test_changes_are_told_as_they_come_and_silence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "EVERY_S", 0.02)
    monkeypatch.setattr(pages, "ALIVE_S", 0.1)
    stage = town()

    async def main() -> None:
        async with served(stage.scene) as url, aiohttp.ClientSession() as client, client.get(f"{url}/v1/scene/live") as live:
            assert live.headers["Content-Type"] == "text/event-stream"
            (first,) = await events(live, 1)
            assert first[0] == "scene"
            assert json.loads(first[1])["here"] == 3
            assert await events(live, 1) == [("alive", "")]
            stage.here("a")
            assert json.loads((await events(live, 1))[0][1])["here"] == 1

    asyncio.run(main())


def test_so_many_readers_and_no_more_and_places_become_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "READERS", 2)
    monkeypatch.setattr(pages, "EVERY_S", 0.02)
    monkeypatch.setattr(pages, "ALIVE_S", 0.02)

    async def main() -> None:
        async with served(town().scene) as url, aiohttp.ClientSession() as client:
            first, second = [await client.get(f"{url}/v1/scene/live") for _ in range(2)]
            refused = await client.get(f"{url}/v1/scene/live")
            assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
            first.close()
            async with asyncio.timeout(10):
                while (again := await client.get(f"{url}/v1/scene/live")).status != 200:
                    again.close()
                    await asyncio.sleep(0.02)
            for one in (second, refused, again):
                one.close()

    asyncio.run(main())


# --- in a browser -------------------------------------------------------------------------------------------------------------

STATE = "document.getElementById('state').className"


async def said(tab: Tab, place: str) -> str:
    return str(await tab.js(f"document.querySelector('{place}').innerText"))


@needs_chromium
def test_a_browser_shows_it_on_a_desk_and_on_a_phone(tmp_path: Path) -> None:
    stage = town()

    async def main() -> None:
        async with served(stage.scene) as url, opened(url, tmp_path) as tab:
            await tab.until(f"{STATE} === 'live'")
            people = await said(tab, "#people")
            assert "3 now" in people
            assert "91.2 %" in people
            assert await tab.js("document.querySelectorAll('#knows td .k1').length") == 4
            assert await tab.js("document.querySelectorAll('#knows td .k2').length") == 2
            assert await tab.js("document.querySelector('#moving .fill').style.width") == "25%"
            assert "a → b" in await said(tab, "#moving")
            trials = await said(tab, "#trials")
            assert "1 accepted, 1 refused" in trials
            assert {"accepted", "refused", "9 more right", "worse"} <= set(re.split(r"[\n\t]+", trials))
            assert await tab.js("document.querySelector('#taught title').textContent") == "a taught c: 1"
            for width, height in ((1280, 900), (390, 844), (380, 700)):
                for dark in (False, True):
                    await tab.size(width, height, dark=dark)
                    assert await tab.js("document.documentElement.scrollWidth <= innerWidth"), "it must not scroll sideways"
                    ground = await tab.js("getComputedStyle(document.body).backgroundColor")
                    assert ground == ("rgb(15, 19, 27)" if dark else "rgb(246, 247, 249)")
            await tab.picture(tmp_path / "phone.png")
            assert (tmp_path / "phone.png").read_bytes().startswith(b"\x89PNG")
            stage.tell("b", Happening("delivering", card="a" * 64, holder="a", done_bytes=750))
            await tab.until("document.querySelector('#moving .fill').style.width === '75%'")
            assert tab.messages == []
            assert {re.sub(r"^http://[^/]*", "", one) for one in tab.requests} <= {"/", "/v1/scene/live", "/favicon.ico"}

    asyncio.run(main())


@needs_chromium
def test_strangers_text_stays_text(tmp_path: Path) -> None:
    stage = Stage("a")
    scene = stage.scene
    scene.present([(NodeId(EVIL), EVIL[:64], "f" * 64), (NodeId("b"), "peer", "e" * 64)])
    scene._cards["a" * 64] = About("f" * 64, EVIL, (EVIL, "</script>"), 1000)
    scene.people[NodeId(EVIL)].works.publishes(scene._cards["a" * 64])
    stage.tell("b", Happening("absorbed", card="a" * 64, why=EVIL), Happening("delivering", card="a" * 64, holder=EVIL[:64]))
    scene.realm = EVIL

    async def main() -> None:
        async with served(scene) as url, opened(url, tmp_path) as tab:
            await tab.until(f"{STATE} === 'live'")
            assert EVIL in await said(tab, "#people")
            assert EVIL in await said(tab, "#trials")
            assert EVIL in await tab.js("[...document.querySelectorAll('#knows th.l')].map((one) => one.title)")
            assert await tab.js("document.querySelector('#taught title').textContent") == f"{EVIL} taught b: 1"
            assert await tab.js("document.querySelectorAll('img, #bold, main script').length") == 0
            assert await tab.js("typeof window.pwned") == "undefined"
            assert tab.messages == []
            # and should a mistake in the page ever let markup through, the policy does not let it run
            for attempt in (
                "document.body.innerHTML = '<img src=x onerror=\"pwned=1\">'",
                "document.createElement('img').setAttribute('onerror', 'pwned=1')",
                "document.body.append(Object.assign(document.createElement('script'), { text: 'pwned=1' }))",
                "setTimeout('pwned=1', 0)",
            ):
                assert (
                    await tab.js(f"(() => {{ try {{ {attempt}; return 'done' }} catch {{ return 'stopped' }} }})()")
                    == "stopped"
                )
            await tab.js(
                "document.body.append(Object.assign(document.createElement('iframe'), { src: 'https://evil.example/' }))"
            )
            await asyncio.sleep(0.3)
            assert not any("evil.example" in one for one in tab.requests)
            assert await tab.js("typeof window.pwned") == "undefined"

    asyncio.run(main())


@needs_chromium
def test_a_page_comes_back_when_its_hub_does(tmp_path: Path) -> None:
    stage, port = town(), free_port("127.0.0.1")

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            first = contextlib.AsyncExitStack()
            url = await first.enter_async_context(served(stage.scene, port))
            tab = await stack.enter_async_context(opened(url, tmp_path))
            await tab.until(f"{STATE} === 'live'")
            await first.aclose()
            await tab.until(f"{STATE} === 'lost'")
            assert "3 now" in await said(tab, "#people")  # what was known stays on the screen
            stage.here("a")
            await stack.enter_async_context(served(stage.scene, port))
            await tab.until(f"{STATE} === 'live' && document.querySelector('#people').innerText.includes('1 now')")

    asyncio.run(main())


@needs_chromium
def test_names_around_the_circle_are_whole_or_end_in_dots(tmp_path: Path) -> None:
    names = [f"ward-{i:02d}-{'mn' * 20}" for i in range(16)]
    stage = Stage(*names)
    stage.scene._cards["a" * 64] = About(keys_of(names[0]).public, "statistics", ("1",), 1000)
    for name in names[1:]:
        stage.tell(name, Happening("absorbed", card="a" * 64))

    async def main() -> None:
        async with served(stage.scene) as url, opened(url, tmp_path) as tab:
            await tab.until(f"{STATE} === 'live' && document.querySelectorAll('#taught text').length === 16")
            for width in (1280, 390):
                await tab.size(width, 844)
                outside = """(() => { const v = document.querySelector('#taught svg').viewBox.baseVal;
                    return [...document.querySelectorAll('#taught text')].map((one) => one.getBBox())
                        .filter((b) => b.x < v.x || b.x + b.width > v.x + v.width).length })()"""
                assert await tab.js(outside) == 0

    asyncio.run(main())
