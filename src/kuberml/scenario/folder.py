"""The folder of a run: which scenario it is of, so that nobody resumes or overwrites another one by mistake."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from kuberml.core.damage import NOT_JSON
from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest
from kuberml.scenario.config import Config
from kuberml.scenario.digests import scenario_digest
from kuberml.scenario.result_files import REPORT_FILE, RESULT_FILE, RUNS_FILE
from kuberml.scenario.user_files import file_digests

SCENARIO_FILE = "scenario.json"
_OURS = (SCENARIO_FILE, RESULT_FILE, RUNS_FILE, REPORT_FILE)


class Marker(msgspec.Struct, frozen=True):
    """`scenario.json`: the settings of a run with all defaults filled in, and their digest.

    `files`: digests of the user's own files at its beginning (None: an older run, which did not note them).
    """

    digest: str
    scenario: Config
    schema: str = "kuberml.scenario/1"
    files: dict[str, Digest] | None = None


def open_folder(out: Path, config: Config, *, resume: bool) -> None:
    """Make `out` the folder of this scenario's run.

    Raises:
        ConfigError: it holds another scenario's run, one of other code, or this one's and `resume` was not asked for; or it
            cannot be written.
    """
    files = file_digests(config)
    found = _marker(out)
    if found is not None and found.digest != scenario_digest(config):
        raise ConfigError(f"{out} holds a run of another scenario or with other settings: choose another --out")
    if found is not None and found.files is not None and found.files != files:
        raise ConfigError(_changed(out, found.files, files))
    if found is not None and not resume:
        raise ConfigError(f"{out} holds a run of this scenario already: add --resume to go on with it, or choose another --out")
    if found is None and out.is_dir() and any((out / name).exists() for name in _OURS):
        raise ConfigError(f"{out} holds a run without {SCENARIO_FILE}: choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        part = out / f"{SCENARIO_FILE}.part"
        part.write_bytes(
            msgspec.json.format(msgspec.json.encode(Marker(scenario_digest(config), config, files=files)), indent=1)
        )
        part.replace(out / SCENARIO_FILE)
    except OSError as error:
        raise ConfigError(f"cannot write into {out}: {error}") from error


def _changed(out: Path, before: Mapping[str, str], now: Mapping[str, str]) -> str:
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return (
        f"{', '.join(names)} changed since the run in {out} began, and what is done there came from the code as it was: put it"
        " back, or choose another --out (`kuberml compare` shows both)"
    )


def free_folder(base: Path) -> Path:
    """`base`, or `base-2`, `base-3` ... : the first that is not there."""
    return next(path for path in _numbered(base) if not path.exists())


def last_folder(base: Path) -> Path:
    """The highest numbered folder of `base` that is there; `base` itself if none is."""
    last = base
    for path in _numbered(base):
        if not path.exists():
            return last
        last = path
    return last


def _numbered(base: Path) -> list[Path]:
    return [base, *(base.with_name(f"{base.name}-{number}") for number in range(2, 10_000))]


def _marker(out: Path) -> Marker | None:
    try:
        return msgspec.json.decode((out / SCENARIO_FILE).read_bytes(), type=Marker)
    except FileNotFoundError:
        return None
    except (OSError, *NOT_JSON) as error:
        raise ConfigError(f"{out / SCENARIO_FILE} cannot be read: {error}") from error
