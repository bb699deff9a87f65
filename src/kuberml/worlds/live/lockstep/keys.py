"""Key expressions of runs in lockstep. RUN is 32 random hex characters that only its own processes are told."""

from __future__ import annotations

from kuberml.core.ids import NodeId

_ROOT = "kuberml-lockstep/1"


def order_key(run: str, node: NodeId) -> str:
    """Where a node takes orders."""
    return f"{_ROOT}/{run}/order/{node}"


def letter_key(run: str, play: int, to: NodeId | None, sender: NodeId, number: int) -> str:
    """Where a letter goes; `to` None: to everybody."""
    where = "news" if to is None else f"mail/{to}"
    return f"{_ROOT}/{run}/letter/{play}/{where}/{sender}/{number}"


def inbox_keys(run: str, node: NodeId) -> tuple[str, str]:
    """Where a node's letters come: its own, and those to everybody."""
    return f"{_ROOT}/{run}/letter/*/mail/{node}/*/*", f"{_ROOT}/{run}/letter/*/news/*/*"


def letter_of(key: str) -> tuple[int, NodeId, int]:
    """(play, sender, number) in the key of a letter."""
    parts = key.split("/")
    return int(parts[4]), NodeId(parts[-2]), int(parts[-1])
