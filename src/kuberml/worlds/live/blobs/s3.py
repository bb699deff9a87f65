"""Buckets of S3 and what speaks like it, with credentials: through `obstore` (the extra `s3`).

Credentials and endpoint come from the environment, as for other tools: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,
AWS_ENDPOINT_URL (of another provider), AWS_ALLOW_HTTP. A public bucket needs none of this: its http address is a mirror.
"""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any

from kuberml.core.errors import ConfigError, MissingExtra, RemoteError, Unreachable

SCHEME = "s3://"
_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,62}(/[\x21-\x7e]*)?")
_RETRIES = {"max_retries": 2}


class Bucket:
    """A bucket, or what is under a prefix in it. All calls block; threads may share it."""

    def __init__(self, url: str, stall_s: float) -> None:
        """Open "s3://bucket/prefix"; asks nothing yet.

        Raises:
            MissingExtra: obstore is not installed.
            ConfigError: not such an address, or an environment that cannot be.
        """
        if not _URL.fullmatch(url):
            raise ConfigError(f"{url!r:.200} is not s3://bucket or s3://bucket/prefix")
        try:
            import obstore.store
        except ImportError:
            raise MissingExtra(f"the mirror {url}", "s3") from None
        plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")  # our options would hide that of the environment
        options = {
            "allow_http": plain,
            "connect_timeout": f"{stall_s:.3f}s",
            "read_timeout": f"{stall_s:.3f}s",
            "timeout": "1h",
        }
        self.url = url
        try:
            opening: Any = obstore.store.S3Store.from_url
            self._store: Any = opening(url.rstrip("/"), client_options=options, retry_config=_RETRIES)
        except Exception as error:
            raise ConfigError(f"cannot use {url}: {error}") from error

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Bytes start..stop of an object.

        Raises:
            RemoteError: it is not there, or shorter.
            Unreachable: nobody there, no permission, or silent.
        """
        try:
            data = self._store.get_range(path, start=start, end=stop)
        except FileNotFoundError:
            raise RemoteError(f"{self.url} has no {path}") from None
        except Exception as error:
            raise Unreachable(f"{self.url}: {_line(error)}") from error
        if len(data) != stop - start:
            raise RemoteError(f"{self.url}: {len(data)} bytes of {path} came, {stop - start} were asked for")
        return bytes(memoryview(data))

    def size_bytes(self, path: str) -> int | None:
        """Size of an object, or None if it is not there. Raises Unreachable: see `read`."""
        try:
            return int(self._store.head(path)["size"])
        except FileNotFoundError:
            return None
        except Exception as error:
            raise Unreachable(f"{self.url}: {_line(error)}") from error

    def write(self, path: str, source: Path | bytes) -> None:
        """Store a file or some bytes, all or nothing. Raises Unreachable: see `read`."""
        try:
            self._store.put(path, source)
        except Exception as error:
            raise Unreachable(f"{self.url}: cannot write {path}: {_line(error)}") from error


class Buckets:
    """Those that were opened, by address."""

    def __init__(self) -> None:
        self._lock, self._open = threading.Lock(), dict[tuple[str, float], Bucket]()

    def at(self, url: str, stall_s: float) -> Bucket:
        """The one at `url`. Raises MissingExtra, ConfigError: see `Bucket`."""
        with self._lock:
            if (url, stall_s) not in self._open:
                self._open[url, stall_s] = Bucket(url, stall_s)
            return self._open[url, stall_s]


def _line(error: Exception) -> str:
    """What went wrong, in one line; it names no secrets."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
