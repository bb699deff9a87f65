"""What the harness tells its actors, and what they tell it: small files outside the vaults, each written whole or not at all.

control/town.json        {"phase": 4, "quiet": true}       by the harness
control/NAME.clock       how many seconds NAME's wall clock is off, by the harness
status/NAME.json         what NAME has done, by NAME
journal/NAME.jsonl       a publisher's accepted packages, one line each, by NAME
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

LOOK_S = 0.1


LIBFAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
"""Debian's package libfaketime."""


def faked(clock: Path) -> dict[str, str]:
    """The environment of a process whose every look at the wall clock, Python's, SQLite's and Zenoh's, is off by what is in
    the file."""
    return {
        "LD_PRELOAD": str(LIBFAKETIME), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
    }  # fmt: skip


def write_whole(path: Path, text: str) -> None:
    """Write a file that is never seen half-written."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text)
    part.replace(path)


def write_json(path: Path, plain: Any) -> None:
    """The same of plain data."""
    write_whole(path, json.dumps(plain))


def read_json(path: Path, default: Any = None) -> Any:
    """What is in the file; `default`: it is not there."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return default


class Controls:
    """An actor's side."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self.name = folder, name
        self._journal = folder / "journal" / f"{name}.jsonl"
        self._offset_ns = 0
        self._said: Any = None
        true_time, true_time_ns = time.time, time.time_ns
        self.take_clock()
        # Zenoh and SQLite have their own ways to the clock; ours is this one. (With libfaketime all of them jump.)
        time.time_ns = lambda: true_time_ns() + self._offset_ns
        time.time = lambda: true_time() + self._offset_ns / 1e9

    def take_clock(self) -> None:
        """Let this process's wall clock be what the harness says."""
        if "FAKETIME_TIMESTAMP_FILE" not in os.environ:  # else it is off already
            self._offset_ns = int(1e9 * float((self._folder / "control" / f"{self.name}.clock").read_text()))

    @property
    def town(self) -> dict[str, Any]:
        """The phase, and whether everybody is to be quiet."""
        return read_json(self._folder / "control" / "town.json", {"phase": 0, "quiet": False})

    async def following(self) -> None:
        """Follow the clock until cancelled."""
        while True:
            self.take_clock()
            await asyncio.sleep(LOOK_S)

    def say(self, **status: Any) -> None:
        """Tell the harness how far this actor is."""
        if status != self._said:
            write_json(self._folder / "status" / f"{self.name}.json", status | {"pid": os.getpid()})
            self._said = status

    def journal(self) -> list[dict[str, Any]]:
        """What the hub has accepted from this publisher, oldest first."""
        return journal(self._journal)

    def accept(self, **line: Any) -> None:
        """Write down that the hub has accepted something."""
        with self._journal.open("a") as file:
            file.write(json.dumps(line) + "\n")


def journal(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal: a kill may have cut the last one."""
    if not path.exists():
        return []
    *whole, _ = path.read_text().split("\n")
    return [json.loads(line) for line in whole if line.startswith("{") and line.endswith("}")]
