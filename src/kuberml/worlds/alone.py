"""One process at a time: a lock on a file or folder that the system drops when its holder ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from kuberml.core.errors import ConfigError


@contextlib.contextmanager
def alone(path: Path, *, busy: str | None = None) -> Iterator[None]:
    """Until it is left, nobody else on this machine has `path` under `alone`.

    Args:
        path: a file or folder that is there.
        busy: what to say where somebody has; None: wait until it is free.

    Raises:
        ConfigError: somebody has it, and `busy` says what; or it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"cannot open {path}: {error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if busy is None else fcntl.LOCK_NB))
        yield
    except BlockingIOError:
        raise ConfigError(f"{path}: {busy}") from None
    finally:
        os.close(descriptor)
