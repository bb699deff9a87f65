"""Blocking connections to HTTP servers, and those that wait to be used again."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections import defaultdict

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.worlds.live.blobs.tls import key_of

Place = tuple[str, int, ssl.SSLContext | None, str | None]
"""host, port, TLS, whose certificate it must be"""

IDLE_S = 20.0
"""Kept so long: less than servers usually wait."""
IDLE_PER_PLACE = 16


class Connection:
    """One socket; `used` says whether it has answered before (then its end may mean no more than that it was kept too long)."""

    def __init__(self, place: Place, stall_s: float) -> None:
        """Dial.

        Raises:
            Unreachable: nobody there.
            RemoteError: its certificate is not what it should be.
        """
        host, port, context, key = place
        self.place, self.used, self.rest_since_s = place, False, 0.0
        try:
            raw = socket.create_connection((host, port), timeout=stall_s)
        except OSError as error:
            raise Unreachable(f"{host}:{port}: {error.strerror or error}") from error
        self.socket: socket.socket = raw
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                self.socket = context.wrap_socket(raw, server_hostname=host)
                if key is not None and key_of(self.socket.getpeercert()) != key:
                    raise RemoteError(f"the certificate at {host}:{port} is not that of key {key[:12]}...")
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise RemoteError(f"the certificate at {host}:{port} is refused: {error.verify_message}") from error
        except OSError as error:
            self.close()
            raise Unreachable(f"{host}:{port}: no TLS: {error}") from error
        except RemoteError:
            self.close()
            raise

    def interrupt(self) -> None:
        """Make whoever waits for this connection, in another thread, fail now."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of it."""
        self.socket.close()


class Pool:
    """Connections at rest. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._resting: dict[Place, list[Connection]] = defaultdict(list)
        self._closed = False

    def take(self, place: Place) -> Connection | None:
        """The one that rested least, or None."""
        with self._lock:
            resting = self._resting.get(place, [])
            late = [one for one in resting if time.monotonic() - one.rest_since_s > IDLE_S]
            for one in late:
                resting.remove(one)
                one.close()
            return resting.pop() if resting else None

    def give(self, connection: Connection) -> None:
        """Take it back for the next read."""
        connection.used, connection.rest_since_s = True, time.monotonic()
        with self._lock:
            resting = self._resting[connection.place]
            if not self._closed and len(resting) < IDLE_PER_PLACE:
                resting.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close all that rest, and from now on all that come back."""
        with self._lock:
            self._closed = True
            for resting in self._resting.values():
                for one in resting:
                    one.close()
            self._resting.clear()
