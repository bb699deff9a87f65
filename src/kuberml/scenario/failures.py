"""Runs of a comparison that break: what is noted of them, so that the others can go on."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import traceback
from collections.abc import Container, Sequence
from pathlib import Path

import kuberml
from kuberml.core.errors import KuberError, told
from kuberml.scenario.result import FailedRun

FAILED = "failed"
"""Folder of the tracebacks of errors that nobody raised on purpose."""

ENDS_ALL = (OSError, sqlite3.Error, MemoryError)
"""Of this machine, not of a paradigm: the next run would meet it too."""


class Failures:
    """Those of one call of `run_scenario` or `play_live`."""

    def __init__(self, out: Path, runs: int) -> None:
        """`out`: the folder; what it says of failures of earlier attempts is thrown away. `runs`: how many there will be."""
        self.runs: list[FailedRun] = []
        self._first: Exception | None = None
        self._of = runs
        self._folder = out / FAILED
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, label: str, seed: int, error: Exception) -> FailedRun:
        """Note a run that broke. Raises the error itself if there is no other run, or if it is not of that run alone."""
        why = _in_a_line(told(error)) if isinstance(error, KuberError) else _unforeseen(error)
        error.add_note(f"in paradigm {label!r}, seed {seed}")
        if self._of == 1 or isinstance(error, ENDS_ALL):
            raise error
        if not isinstance(error, KuberError):  # somebody's mistake: the traceback is kept for who looks for it
            self._folder.mkdir(exist_ok=True)
            (self._folder / f"{label}.{seed}.txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        self._first = self._first or error
        self.runs.append(FailedRun(label, seed, why))
        return self.runs[-1]

    def check_one_is_left(self) -> None:
        """Raise the first error if no run is left: there is nothing to compare."""
        if self._first is not None and len(self.runs) == self._of:
            self._first.add_note(f"all {self._of} runs failed")
            raise self._first


def _in_a_line(text: str) -> str:
    """What happened, and the last that a process said of it: the rest is in its log."""
    first, *rest = text.splitlines() or [""]
    return f"{first} {rest[-1]}" if rest else first


def _unforeseen(error: Exception) -> str:
    """What a mistake in somebody's code says, in a line."""
    notes = [note for note in getattr(error, "__notes__", ()) if "\n" not in note]
    return f"{type(error).__name__}: {error} ({', '.join([_place(error), *notes])})"


def _place(error: Exception) -> str:
    """Where it happened: the innermost line that is neither ours nor a library's, if there is one."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = (str(Path(kuberml.__file__).parent), sys.prefix, sys.base_prefix, "<")
    frame = next((one for one in reversed(frames) if not one.filename.startswith(libraries)), frames[-1])
    return f"{Path(frame.filename).name} line {frame.lineno}"


def seeds_left(label: str, failed: Sequence[FailedRun], seeds: int) -> str:
    """A paradigm's label for a table: where some of its runs failed, it says over how many seeds the figures are."""
    lost = sum(one.paradigm == label for one in failed)
    return f"{label} ({seeds} of {seeds + lost} seeds)" if lost else label


def all_failed(paradigms: Container[str], failed: Sequence[FailedRun]) -> list[str]:
    """The paradigms of which nothing is known but that they failed, each once."""
    return [label for label in dict.fromkeys(one.paradigm for one in failed) if label not in paradigms]
