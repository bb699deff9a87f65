"""Blobs that are served through the router, to those who cannot dial this node: one get, one chunk of a blob.

`windows` is the other side.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import zenoh

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import check_digest
from kuberml.core.seam import Store
from kuberml.worlds.live.blobs.bucket import Bucket
from kuberml.worlds.live.blobs.pace import CHUNK_BYTES

_RANGE = re.compile(r"start=(\d{1,15});stop=(\d{1,15})")
REFUSED = "refused: "
"""How the holder's own refusals begin."""
BEHIND_S = 1.0
"""With a limit, gets are answered in their turn as long as that is so near. Others get no answer, at once: who asks then slows
down and asks again, which is better than an answer that comes when nobody waits for it any more."""

Gate = Callable[[bytes | None], None]
"""(ticket) -> nothing; or RemoteError with the reason; or Unreachable: an old ticket."""


class ServedBlobs:
    """Blobs that are served until this is closed."""

    def __init__(self, store: Store, gate: Gate, bucket: Bucket) -> None:
        self._store, self._gate, self._bucket = store, gate, bucket
        self._queryable: Any = None
        self._closed = threading.Event()
        self._later = None if bucket.limit_bytes_s is None else ThreadPoolExecutor(1, thread_name_prefix="kuberml-give")
        self.sent_bytes = 0

    def declare(self, session: zenoh.Session, key_prefix: str) -> None:
        """Answer for every digest under `key_prefix`."""
        self._queryable = session.declare_queryable(f"{key_prefix}/*", self._heard)

    def close(self) -> None:
        """Answer no more."""
        self._closed.set()
        with contextlib.suppress(zenoh.ZError):  # the session has gone before
            self._queryable.undeclare()
        if self._later is not None:
            self._later.shutdown(wait=False, cancel_futures=True)

    def _heard(self, query: zenoh.Query) -> None:
        """On Zenoh's thread: the event loop is not troubled. To wait here would hold up all else that comes over the link."""
        if self._bucket.behind_s() > BEHIND_S:
            return
        try:
            data = self._range(query)
        except RemoteError as error:
            query.reply_err(f"{REFUSED}{error}"[:200])
        except Unreachable as error:  # no refusal: see `BlobServer`
            query.reply_err(str(error)[:200])
        except Exception as error:
            query.reply_err(f"{REFUSED}cannot read here: {type(error).__name__}")
        else:
            wait_s = self._bucket.take(len(data))
            if self._later is None:
                self._give(query, data)
            else:
                with contextlib.suppress(RuntimeError):  # closed meanwhile
                    self._later.submit(self._give_at, time.monotonic() + wait_s, query, data)

    def _give_at(self, due_s: float, query: zenoh.Query, data: bytes) -> None:
        if not self._closed.wait(max(0.0, due_s - time.monotonic())):
            with contextlib.suppress(zenoh.ZError):  # the session has gone before
                self._give(query, data)

    def _give(self, query: zenoh.Query, data: bytes) -> None:
        self.sent_bytes += len(data)
        query.reply(query.key_expr, data)

    def _range(self, query: zenoh.Query) -> bytes:
        self._gate(query.attachment.to_bytes() if query.attachment is not None else None)
        digest = check_digest(str(query.key_expr).rpartition("/")[2])
        asked = _RANGE.fullmatch(str(query.parameters))
        start, stop = (int(asked[1]), int(asked[2])) if asked else (0, 0)
        if not 0 < stop - start <= CHUNK_BYTES:
            raise RemoteError(f"a range must be start=..;stop=.. of 1 to {CHUNK_BYTES} bytes, not {query.parameters!s:.80}")
        try:
            return self._store.read(digest, start, stop)
        except KeyError:
            raise RemoteError(f"blob {digest[:12]}... is not here") from None
        except ValueError as error:
            raise RemoteError(str(error)) from None


def serve_blobs(session: zenoh.Session, key_prefix: str, store: Store, gate: Gate, bucket: Bucket | None = None) -> ServedBlobs:
    """Answer gets of ranges of this store's blobs under `key_prefix`/DIGEST; `bucket`: bandwidth, shared with others."""
    serving = ServedBlobs(store, gate, bucket or Bucket(None))
    serving.declare(session, key_prefix)
    return serving
