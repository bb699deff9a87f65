"""A member's secret key in a file of its own: 32 bytes, readable by its owner only."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from kuberml.core.errors import ConfigError
from kuberml.knowledge.signing import Keys

KEY_BYTES = 32


def keys_in(path: Path) -> Keys:
    """The keys in a file, drawn at first use.

    The file is there with a whole key in it, or not at all: who is killed while drawing one can start again.

    Raises:
        ConfigError: others can read the file, it is not a key, or it cannot be written.
    """
    if path.exists():
        return _read(path)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            _write(beside, secrets.token_bytes(KEY_BYTES))
            with contextlib.suppress(FileExistsError):  # somebody else was first: that key it is
                os.link(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the key file {path}: {error}") from error
    return _read(path)


def _write(path: Path, seed: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(seed)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> Keys:
    try:
        mode, seed = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the key file {path}: {error}") from error
    if mode & 0o077:
        raise ConfigError(f"others can read the secret key {path} (mode {mode & 0o777:o}); chmod 600 {path}")
    if len(seed) != KEY_BYTES:
        raise ConfigError(f"{path} is not a secret key: it has {len(seed)} bytes, not {KEY_BYTES}")
    return Keys(seed)
