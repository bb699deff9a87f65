"""What a live run shows of itself while it goes on."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kuberml.core.ids import NodeId
from kuberml.scenario.live.status import Status


class Row(msgspec.Struct, frozen=True):
    """One node for the table: who, what as, and what it said last (None: nothing yet); how often its process died."""

    node: NodeId
    role: str
    status: Status | None
    deaths: int = 0
    lost: bool = False
    pid: int | None = None


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A live run, now. `time_s`: since it began; None: not everybody is here yet."""

    paradigm: str
    seed: int
    time_s: float | None
    until_s: float
    moved_bytes: int
    page: str
    rows: tuple[Row, ...]
    news: tuple[str, ...] = ()


Tell = Callable[[View], None]
