"""The ledger: what happened, by whom, from what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from kuberml.core.ids import NodeId
from kuberml.ledger.capture import Capture
from kuberml.ledger.store import LedgerStore, Record


class Event(msgspec.Struct, frozen=True):
    """One record: its number in the ledger (its activity is called "<event>/<seq>"), when, who, what."""

    seq: int
    time_ns: int
    node: NodeId
    event: str
    fields: dict[str, Any]


class Ledger:
    """Append-only records of one or many nodes. Queries are in `ledger.query`, the PROV export in `ledger.prov`."""

    def __init__(self, path: Path | str = ":memory:", *, background: bool = False) -> None:
        """Open or make a ledger.

        Args:
            path: the file (several processes may share it), or ":memory:".
            background: write batches on a thread, for live nodes. Otherwise every 1,024th record writes its batch.

        Raises:
            ConfigError: the file is not a ledger or cannot be opened.
        """
        self._store = LedgerStore(path)
        self._capture = Capture(self._store.append, background=background)

    def recorder(self, node: NodeId, now_ns: Callable[[], int]) -> NodeRecorder:
        """A `core.seam.Recorder` for one node; `now_ns` is read at each record."""
        return NodeRecorder(node, now_ns, self._capture.append)

    def events(self, sql: str = "", parameters: Sequence[Any] = ()) -> Iterator[Event]:
        """Records in order; `sql` is a condition of ours on columns of events and the node's name, with question marks."""
        condition = f"WHERE {sql}" if sql else ""
        query = (
            "SELECT seq, time_ns, nodes.name, event, fields FROM events JOIN nodes ON nodes.id = events.node"  # noqa: S608
            f" {condition} ORDER BY seq"
        )
        for seq, time_ns, node, event, fields in self.read(query, parameters):
            yield Event(seq, time_ns, NodeId(node), event, msgspec.json.decode(fields))

    def read(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        """All rows of a query over the tables of `ledger.store`, after writing what waits."""
        self.flush()
        return self._store.rows.read(sql, parameters)

    def flush(self) -> None:
        """Write what waits. Raises OSError: the disk refuses; it goes on waiting."""
        self._capture.flush()

    def close(self) -> None:
        """Write what waits and let go of the file. Calling it twice is fine. Raises OSError: the disk refuses."""
        try:
            self._capture.close()
        finally:
            self._store.rows.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class NodeRecorder:
    """Takes down what one node does."""

    __slots__ = ("_append", "_node", "_now_ns")

    def __init__(self, node: NodeId, now_ns: Callable[[], int], append: Callable[[Record], None]) -> None:
        self._node, self._now_ns, self._append = node, now_ns, append

    def record(self, event: str, **fields: Any) -> None:
        """One event with plain fields. They are not copied: hand over nothing that changes later."""
        self._append((self._now_ns(), self._node, event, fields))
