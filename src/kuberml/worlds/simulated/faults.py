"""Timed events that go wrong: churn, crashes, partitions, slow links, corrupt bytes, full disks.

| what | effect on `nodes` | at `until_s` |
| --- | --- | --- |
| leave | gone: tasks cancelled, network out, disk frozen | back, restarted from memory |
| crash | the same | the same; without `until_s` it restarts at once |
| join | absent until at_s | |
| partition | nothing passes to or from `others` (default: everybody else) | healed |
| slow | both bandwidths divided by `factor` | as before |
| corrupt | a byte of every blob range read from them is flipped on the way | honest again |
| disk_full | every write fails | writes work |

Faults may overlap: a node is back when every fault that holds it down has ended. Liars are made by the scenario.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from math import prod
from typing import Protocol

import msgspec

from kuberml.core.errors import ConfigError, nearest
from kuberml.core.ids import NodeId
from kuberml.core.units import to_ns

WHATS = ("leave", "crash", "join", "partition", "slow", "corrupt", "disk_full")


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault. Times are virtual seconds; until_s None: for ever (crash: it restarts at once)."""

    at_s: float
    what: str
    nodes: tuple[str, ...]
    until_s: float | None = None
    others: tuple[str, ...] = ()
    factor: int = 10


class Breakable(Protocol):
    """What faults need of a world."""

    def stop_node(self, node: NodeId) -> None:
        """Kill its process."""
        ...

    def start_node(self, node: NodeId) -> None:
        """Start its process."""
        ...

    def cut(self, left: frozenset[NodeId], right: frozenset[NodeId], *, heal: bool) -> None:
        """Cut, or heal a cut, between two sets."""
        ...

    def slow_down(self, node: NodeId, divisor: int) -> None:
        """Divide its bandwidths; 1: as in the table."""
        ...

    def corrupt_reads(self, node: NodeId, on: bool) -> None:
        """Flip bytes of what is read from it."""
        ...

    def fill_disk(self, node: NodeId, on: bool) -> None:
        """Make its disk refuse writes."""
        ...


class Faults:
    """The faults of one run, checked, and who is affected by what at the moment."""

    def __init__(self, faults: tuple[Fault, ...], nodes: tuple[NodeId, ...]) -> None:
        """Raises ConfigError: a fault that cannot be; the message says which and why."""
        for index, fault in enumerate(faults):
            _check(fault, f"fault {index}", nodes)
        self._faults, self._nodes = faults, nodes
        self._down: Counter[NodeId] = Counter()
        self._lying: Counter[NodeId] = Counter()
        self._full: Counter[NodeId] = Counter()
        self._slow: dict[NodeId, list[int]] = defaultdict(list)

    def absent_at_start(self) -> frozenset[NodeId]:
        """Nodes that join later."""
        return frozenset(node for fault in self._faults if fault.what == "join" for node in _ids(fault.nodes))

    def returns(self, node: NodeId, now_ns: int) -> bool:
        """Whether a node that is down now will be started again."""
        mine = [fault for fault in self._faults if node in fault.nodes]
        if any(fault.what == "leave" and fault.until_s is None and to_ns(fault.at_s) <= now_ns for fault in mine):
            return False
        ends = (
            fault.at_s if fault.what == "join" else fault.until_s for fault in mine if fault.what in ("leave", "crash", "join")
        )
        return any(end is not None and to_ns(end) > now_ns for end in ends)

    def schedule(self, world: Breakable, at_ns: Callable[[int, Callable[[], None]], object]) -> None:
        """Put every begin and end into the world's calendar, in the order of the list."""
        for node in sorted(self.absent_at_start()):
            self._down[node] += 1
        for fault in self._faults:
            at_ns(to_ns(fault.at_s), lambda fault=fault: self._apply(world, fault, begins=True))  # type: ignore[misc]
            if fault.until_s is not None and fault.what != "join":
                at_ns(to_ns(fault.until_s), lambda fault=fault: self._apply(world, fault, begins=False))  # type: ignore[misc]

    def _apply(self, world: Breakable, fault: Fault, *, begins: bool) -> None:
        if fault.what == "partition":
            left = frozenset(_ids(fault.nodes))
            right = frozenset(_ids(fault.others)) or frozenset(self._nodes) - left
            world.cut(left, right, heal=not begins)
            return
        for node in _ids(fault.nodes):
            self._apply_to(world, fault, node, begins)

    def _apply_to(self, world: Breakable, fault: Fault, node: NodeId, begins: bool) -> None:
        match fault.what:
            case "join":
                self._set_down(world, node, down=False)
            case "leave":
                self._set_down(world, node, down=begins)
            case "crash":
                self._set_down(world, node, down=begins)
                if begins and fault.until_s is None:
                    self._set_down(world, node, down=False)
            case "slow":
                (self._slow[node].append if begins else self._slow[node].remove)(fault.factor)
                world.slow_down(node, prod(self._slow[node]))
            case "corrupt":
                world.corrupt_reads(node, _count(self._lying, node, begins))
            case _:
                world.fill_disk(node, _count(self._full, node, begins))

    def _set_down(self, world: Breakable, node: NodeId, *, down: bool) -> None:
        was_down = self._down[node] > 0
        is_down = _count(self._down, node, down)
        if is_down and not was_down:
            world.stop_node(node)
        elif was_down and not is_down:
            world.start_node(node)


def _count(counter: Counter[NodeId], node: NodeId, begins: bool) -> bool:
    counter[node] += 1 if begins else -1
    return counter[node] > 0


def _ids(names: tuple[str, ...]) -> tuple[NodeId, ...]:
    return tuple(NodeId(name) for name in names)


def _check(fault: Fault, where: str, nodes: tuple[NodeId, ...]) -> None:
    if fault.what not in WHATS:
        raise ConfigError(f"{where}: unknown what {fault.what!r}; {nearest(fault.what, WHATS)}")
    if not fault.nodes:
        raise ConfigError(f"{where}: nodes is empty; name at least one")
    for node in (*fault.nodes, *fault.others):
        if node not in nodes:
            raise ConfigError(f"{where}: unknown node {node!r}; {nearest(node, nodes)}")
    if to_ns(fault.at_s) < 0 or (fault.until_s is not None and to_ns(fault.until_s) <= to_ns(fault.at_s)):
        raise ConfigError(f"{where}: until_s = {fault.until_s} must be after at_s = {fault.at_s}")
    if fault.factor < 1:
        raise ConfigError(f"{where}: factor must be at least 1, not {fault.factor}")
