"""Scenarios that are played live in tests: real digits, and a paradigm of a user's own that can be watched step by step."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kuberml.scenario.config import Config, parse

DIGITS: dict[str, Any] = {
    "name": "live",
    "data": {"partition": "labels", "options": {"per_learner": 4}, "public": 60},
    "learners": {"count": 6, "models": ["linear"]},
    "extractor": {"name": "identity"},
    "world": {"until_s": 240, "curve_points": 6},
}

STEPS = """
import msgspec
import numpy as np
from kuberml.learning.extractors import make_extractor
from kuberml.learning.jobs import describe_own, solve_head
from kuberml.learning.predictor import HeadOn


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    steps: int = 5
    every_s: float = 0.2


async def peer(node, cfg):
    node.memory.setdefault(round=0, starts=0)
    node.memory.update(starts=node.memory.starts + 1)
    for r in range(node.memory.round, cfg.steps):
        await node.sleep(cfg.every_s)
        node.memory.update(round=r + 1)
        node.record("stepped", round=r + 1, start=node.memory.starts)
    extractor = make_extractor("identity", np.zeros((1, *node.place.shape), np.float32), 0)
    described = await node.compute(describe_own, extractor, node.data.train, 1, 8)
    node.deploy(HeadOn(extractor, await node.compute(solve_head, described[0]), node.place.shape))
"""
"""Counts to `steps`, a step every `every_s`, remembers each, and serves a head in the end. It needs no torch."""


def digits(paradigms: dict[str, dict[str, Any]], **world: Any) -> Config:
    """Six learners with four digits each."""
    return parse({**DIGITS, "world": {**DIGITS["world"], **world}, "paradigms": paradigms})


def scenario(folder: Path, *, learners: int = 2, steps: int = 5, every_s: float = 0.2, **world: Any) -> Path:
    """A scenario's file with the paradigm STEPS beside it."""
    (folder / "count_steps.py").write_text(STEPS)
    path = folder / "steps.toml"
    settings = "\n".join(f"{name} = {json.dumps(value)}" for name, value in {"until_s": 60, **world}.items())
    path.write_text(
        f'[data]\nlimit = 120\n[learners]\ncount = {learners}\nmodels = ["linear"]\n[places]\ndegree = {min(1, learners - 1)}\n'
        f'[world]\n{settings}\n[paradigms.steps]\nuse = "count_steps.py"\nsteps = {steps}\nevery_s = {every_s}\n'
    )
    return path


def until(condition: Callable[[], Any], timeout_s: float = 40.0) -> Any:
    """What `condition` gives as soon as it is true."""
    end_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end_s, f"not within {timeout_s} s"
        time.sleep(0.05)
    return found


def processes_of(folder: Path) -> dict[str, int]:
    """Ids of the live processes that were started for a folder, by node (the hub's: "hub")."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            except OSError:
                continue
            if any(word.startswith("kuberml.scenario.live.") for word in words) and str(folder) in words[3]:
                found["hub" if "kuberml.scenario.live.host" in words else words[4]] = int(entry.name)
    return found


def events(ledger: Path, event: str) -> list[str]:
    """The fields, as JSON text, of all events of one name in a ledger that may be in use."""
    if not ledger.exists():
        return []
    database = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    try:
        return [row[0] for row in database.execute("SELECT fields FROM events WHERE event = ? ORDER BY seq", (event,))]
    except sqlite3.OperationalError:
        return []
    finally:
        database.close()


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
