"""What a run did, in two hashes.

The *trace hash* covers every committed event with its content (parameter digests, message bodies): equal for any number
of workers on one machine. The *integer hash* leaves content out, because floating point differs between machines: event
order, virtual times, sizes and flops are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import blake3
import msgspec

from kuberml.core.ids import Digest

_FLUSH_BYTES = 1 << 16


class Trace:
    """Takes events in the order in which they are committed, about a microsecond each."""

    def __init__(self) -> None:
        self.events = 0
        self._encode = msgspec.msgpack.Encoder().encode
        self._whole, self._whole_bytes = blake3.blake3(b"kuberml.trace/1\0"), bytearray()
        self._integer, self._integer_bytes = blake3.blake3(b"kuberml.trace.integers/1\0"), bytearray()

    def commit(self, kind: str, node: str, time_ns: int, integers: Sequence[int] = (), content: bytes | str = b"") -> None:
        """One event.

        Args:
            kind: what happened, for instance "job".
            node: where.
            time_ns: virtual time, nanoseconds.
            integers: what is the same on every machine: sizes, counts, flops.
            content: what is the same on this machine only: a body or a digest.
        """
        self.events += 1
        head = self._encode((kind, node, time_ns, integers))
        self._integer_bytes += head
        self._whole_bytes += head
        self._whole_bytes += self._encode(content)
        if len(self._whole_bytes) > _FLUSH_BYTES:
            self._flush()

    def trace_hash(self) -> Digest:
        """BLAKE3 over everything committed so far."""
        self._flush()
        return Digest(self._whole.hexdigest())

    def integer_hash(self) -> Digest:
        """BLAKE3 over everything committed so far, without contents."""
        self._flush()
        return Digest(self._integer.hexdigest())

    def _flush(self) -> None:
        self._whole.update(bytes(self._whole_bytes))
        self._integer.update(bytes(self._integer_bytes))
        self._whole_bytes.clear()
        self._integer_bytes.clear()


class NodeTrace(Trace):
    """What one node did; it is also committed to the trace of its world."""

    def __init__(self, world: Trace) -> None:
        super().__init__()
        self._world = world

    def commit(self, kind: str, node: str, time_ns: int, integers: Sequence[int] = (), content: bytes | str = b"") -> None:
        """See Trace."""
        super().commit(kind, node, time_ns, integers, content)
        self._world.commit(kind, node, time_ns, integers, content)
