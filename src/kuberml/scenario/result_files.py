"""The files of a run folder: `result.json`, the result over seeds, and `runs.json`, the summaries that it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from kuberml.core.damage import NOT_JSON
from kuberml.core.errors import ConfigError
from kuberml.scenario.result import SCHEMA, Result
from kuberml.scenario.run_summary import RunSummary

RUNS_SCHEMA = "kuberml.runs/1"
RESULT_FILE, RUNS_FILE, REPORT_FILE = "result.json", "runs.json", "report.html"


class Runs(msgspec.Struct, frozen=True):
    """`runs.json`: every run's summary; reports and comparisons are drawn from it."""

    runs: tuple[RunSummary, ...]
    schema: str = RUNS_SCHEMA


def write_result(out: Path, result: Result, runs: tuple[RunSummary, ...]) -> None:
    """Write `result.json` and `runs.json` into the folder `out`, each whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    _write(out / RUNS_FILE, Runs(runs))
    _write(out / RESULT_FILE, result)


def read_result(folder: Path) -> Result:
    """The result of a run folder. Raises ConfigError: there is none, or it is of another schema."""
    return _read(folder / RESULT_FILE, Result, SCHEMA)


def read_runs(folder: Path) -> tuple[RunSummary, ...]:
    """The summaries of a run folder. Raises ConfigError: there are none, or they are of another schema."""
    return _read(folder / RUNS_FILE, Runs, RUNS_SCHEMA).runs


T = TypeVar("T", Result, Runs)


def _write(path: Path, struct: msgspec.Struct) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(struct), indent=1) + b"\n")
    part.replace(path)


def _read(path: Path, struct: type[T], schema: str) -> T:
    try:
        read = msgspec.json.decode(path.read_bytes(), type=struct)
    except OSError as error:
        raise ConfigError(f"no {path.name} in {path.parent}: give the folder that `kuberml run --out` wrote") from error
    except NOT_JSON as error:
        raise ConfigError(f"{path} is not a {schema}: {error}") from error
    if read.schema != schema:
        raise ConfigError(f"{path} has schema {read.schema!r}, not {schema!r}")
    return read
