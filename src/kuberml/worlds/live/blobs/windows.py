"""Ranges of blobs through the router."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import zenoh

from kuberml.core.errors import KuberError, RemoteError, Unreachable
from kuberml.core.ids import check_digest
from kuberml.core.seam import Store


class ServedBlobs:
    """What is served until it is closed."""

    def __init__(self, queryable: zenoh.Queryable[None]) -> None:
        self._queryable = queryable

    def close(self) -> None:
        """Serve no more."""
        self._queryable.undeclare()  # type: ignore[no-untyped-call]


def serve_blobs(session: zenoh.Session, prefix: str, store: Store, gate: Callable[[bytes | None], None]) -> ServedBlobs:
    """Answer ranges of what is in the store."""

    def answer(query: zenoh.Query) -> None:
        try:
            gate(query.attachment.to_bytes() if query.attachment else None)
            asked = dict(part.split("=") for part in str(query.parameters).split(";"))
            digest = check_digest(str(query.key_expr).rpartition("/")[2])
            content = store.read(digest, int(asked["start"]), int(asked["stop"]))
        except (KuberError, KeyError, ValueError) as error:
            query.reply_err(f"{type(error).__name__}: {error}".encode())
        else:
            query.reply(query.key_expr, content)

    return ServedBlobs(session.declare_queryable(f"{prefix}/*", answer))


async def read_windowed(
    session: zenoh.Session, key: str, start: int, stop: int, *, ticket: bytes | None = None, stall_s: float = 5.0
) -> bytes:
    """Bytes start..stop. Raises Unreachable, RemoteError."""

    def ask() -> bytes:
        for reply in session.get(f"{key}?start={start};stop={stop}", timeout=stall_s, attachment=ticket):
            if reply.ok is not None:
                return bytes(reply.ok.payload.to_bytes())
            if reply.err is not None:
                raise RemoteError(reply.err.payload.to_bytes().decode("utf-8", "replace")[:1000])
        raise Unreachable(f"no answer under {key}")

    return await asyncio.to_thread(ask)
