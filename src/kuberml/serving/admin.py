"""What an operator asks of a running service: history, rollback, remove, readmit. On loopback, with the token in its folder.

The service writes `admin.json` (mode 600) with the address and a token that is drawn at each start; `kuberml serve rollback`
reads it. Whoever can read the folder may ask; nobody else on the machine.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from kuberml.core.damage import NOT_JSON
from kuberml.core.errors import ConfigError, KuberError, Unreachable
from kuberml.core.ids import Digest
from kuberml.exchange.continual.served import Served
from kuberml.serving.live import Serving
from kuberml.worlds.live.blobs.door import Door
from kuberml.worlds.live.trust.secret_files import read_secret, write_secret

FILE = "admin.json"
BODY_BYTES = 64 * 1024
PATIENCE_S = 60.0


class Access(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the operator's door is, and what opens it."""

    url: str
    token: str


class Rollback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """To which manifest; null: the version before."""

    to: str | None = None


class Removal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose knowledge is taken out: a public key, or how it begins."""

    author: str


class Readmission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may come in again: contents, authors, cards, or how they begin; none named: all that was kept out."""

    names: tuple[str, ...] = ()


class Now(msgspec.Struct, frozen=True):
    """What is served after a change."""

    number: int
    manifest: Digest
    model: Digest
    labels: tuple[str, ...]


class Admin:
    """The operator's door of one running service."""

    def __init__(self, serving: Serving) -> None:
        self._serving, self._token = serving, secrets.token_hex(32)
        self._file = serving.folder / FILE
        self._door: Door | None = None

    async def open(self) -> None:
        """Listen on loopback, and write where. Raises ConfigError: the file cannot be written."""
        app = web.Application(client_max_size=BODY_BYTES, middlewares=[self._allowed])
        app.add_routes(
            [
                web.get("/history", self._history),
                web.post("/rollback", self._rollback),
                web.post("/remove", self._remove),
                web.post("/readmit", self._readmit),
            ]
        )
        self._door = Door(app)
        port = await self._door.open("127.0.0.1", 0)
        self._file.unlink(missing_ok=True)  # of a service that was killed: this one has the folder alone
        write_secret(self._file, msgspec.json.encode(Access(f"http://127.0.0.1:{port}", self._token)))

    async def close(self) -> None:
        """Listen no more."""
        self._file.unlink(missing_ok=True)
        if self._door is not None:
            await self._door.close()

    @web.middleware
    async def _allowed(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            raise web.HTTPUnauthorized(text=f"the token in {FILE} of the service's folder is needed\n")
        try:
            return await handler(request)
        except (KuberError, *NOT_JSON) as error:
            raise web.HTTPConflict(text=f"{error}\n") from error

    async def _history(self, request: web.Request) -> web.StreamResponse:
        return _json(self._serving.history())

    async def _rollback(self, request: web.Request) -> web.StreamResponse:
        wanted = msgspec.json.decode(await request.read(), type=Rollback)
        return _json(_now(await self._serving.rollback(None if wanted.to is None else Digest(wanted.to))))

    async def _remove(self, request: web.Request) -> web.StreamResponse:
        wanted = msgspec.json.decode(await request.read(), type=Removal)
        return _json(_now(await self._serving.remove(wanted.author)))

    async def _readmit(self, request: web.Request) -> web.StreamResponse:
        wanted = msgspec.json.decode(await request.read(), type=Readmission)
        await self._serving.readmit(*wanted.names)
        return _json({"readmitted": wanted.names})


async def ask(folder: Path, path: str, body: Any = None) -> Any:
    """Ask the service that runs in a folder; plain data back.

    Raises:
        ConfigError: none runs there, or what it says against it.
        Unreachable: it does not answer.
    """
    import aiohttp

    access = access_in(folder)
    limit = aiohttp.ClientTimeout(total=PATIENCE_S)
    headers = {"Authorization": f"Bearer {access.token}"}
    method, data = ("GET", None) if body is None else ("POST", msgspec.json.encode(body))
    try:
        async with (
            aiohttp.ClientSession(timeout=limit, headers=headers) as client,
            client.request(method, f"{access.url}/{path}", data=data, allow_redirects=False) as answer,
        ):
            content = await answer.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unreachable(
            f"the service in {folder} does not answer: {error or type(error).__name__}; is it running?"
        ) from error
    if answer.status != 200:
        raise ConfigError(content.decode("utf-8", "replace").strip())
    return msgspec.json.decode(content)


def access_in(folder: Path) -> Access:
    """Where the operator's door of a folder's service is. Raises ConfigError: no service runs there, or its file is not one."""
    file = folder / FILE
    if not file.exists():
        raise ConfigError(f"no service runs in {folder}: give the --folder that `kuberml serve` was started with")
    try:
        return msgspec.json.decode(read_secret(file), type=Access)
    except NOT_JSON as error:
        raise ConfigError(f"{file} is damaged: {error}; stop the service and start it again") from error


def _now(served: Served) -> Now:
    return Now(served.number, served.manifest, served.model, tuple(served.predictor.labels))


def _json(tree: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(tree), content_type="application/json")
