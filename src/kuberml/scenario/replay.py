"""What a resumed run records. It is a replay from the beginning, in the same order; the ledger has its first part already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kuberml.core.ids import NodeId
from kuberml.core.seam import Recorder
from kuberml.ledger.ledger import Ledger


class RunRecords:
    """Makes the recorders of one run, of which the ledger takes down every event once, however often the run was begun."""

    def __init__(self, ledger: Ledger, run: str) -> None:
        """`run`: its name, before which there is no other's; the ledger's nodes are called run.node."""
        self._ledger, self._run = ledger, f"{run}."
        query = "SELECT count(*) FROM events JOIN nodes ON nodes.id = events.node WHERE substr(nodes.name, 1, ?) = ?"
        self.said: int = ledger.read(query, (len(self._run), self._run))[0][0]
        """Events of the run that the ledger has and that the replay has not come to yet."""

    def __call__(self, node: NodeId, now_ns: Callable[[], int]) -> Recorder:
        """A node's recorder."""
        return _Once(self, self._ledger.recorder(NodeId(self._run + node), now_ns))


class _Once:
    def __init__(self, records: RunRecords, recorder: Recorder) -> None:
        self._records, self._recorder = records, recorder

    def record(self, event: str, **fields: Any) -> None:
        if self._records.said:
            self._records.said -= 1
        else:
            self._recorder.record(event, **fields)
