"""How much of a live run's time has passed, on disk: a run that was stopped goes on with what is left of it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from kuberml.core.damage import NOT_JSON
from kuberml.core.errors import ConfigError

FILE = "elapsed.json"


class Elapsed(msgspec.Struct, frozen=True):
    """Times of the system's clock.

    Attributes:
        began_ns: when the run began.
        seen_ns: when it was last seen running.
        away_ns: how long it was stopped in between, all times together.
    """

    began_ns: int
    seen_ns: int
    away_ns: int = 0

    def again(self, now_ns: int) -> Elapsed:
        """It goes on now."""
        return Elapsed(self.began_ns, now_ns, self.away_ns + max(0, now_ns - self.seen_ns))

    def played_ns(self, now_ns: int) -> int:
        """What of its time has passed."""
        return now_ns - self.began_ns - self.away_ns


def read_elapsed(folder: Path) -> Elapsed | None:
    """Of the run in a folder; None: it has not begun.

    Raises:
        ConfigError: the file is damaged.
    """
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Elapsed)
    except FileNotFoundError:
        return None
    except (OSError, *NOT_JSON) as error:
        raise ConfigError(f"{folder / FILE} cannot be read: {error}; begin anew with another --out") from error


def write_elapsed(folder: Path, elapsed: Elapsed) -> None:
    """Take it down. Raises OSError: the folder cannot be written."""
    part = folder / f"{FILE}.part"
    part.write_bytes(msgspec.json.encode(elapsed))
    part.replace(folder / FILE)
