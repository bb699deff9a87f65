"""Files with a secret in them: their owner's only (mode 600), whole or not there, and never written over."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from kuberml.core.errors import ConfigError
from kuberml.knowledge.signing import Keys

KEY_BYTES = 32
SECRET_MAX_BYTES = 64 * 1024


def write_secret(path: Path, secret: bytes) -> None:
    """Put a secret into a new file that only its owner can read.

    Raises:
        ConfigError: there is a file already (a lost secret cannot be made again), or it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secret)
                file.flush()
                os.fsync(file.fileno())
            os.link(beside, path)  # unlike a rename, it never replaces what is there
        finally:
            beside.unlink()
    except FileExistsError as error:
        raise ConfigError(f"{path} is there already; a secret is never written over: choose another name") from error
    except OSError as error:
        raise ConfigError(f"cannot make the secret file {path}: {error}") from error


def read_secret(path: Path) -> bytes:
    """What is in a secret file, if nobody but its owner could have read it.

    Raises:
        ConfigError: it is not there, not a plain file, somebody else's, too long, or others can read it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{path} is not a plain file: a secret key is one")
            if status.st_uid not in (os.geteuid(), 0):
                raise ConfigError(f"the secret {path} belongs to user {status.st_uid}: make your own, or be that user")
            if status.st_mode & 0o077:
                mode = stat.S_IMODE(status.st_mode)
                raise ConfigError(f"others can read the secret key {path} (mode {mode:o}); chmod 600 {path}")
            secret = file.read(SECRET_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the secret key {path}: {error}") from error
    if len(secret) > SECRET_MAX_BYTES:
        raise ConfigError(f"{path} is not a secret key: it is longer than {SECRET_MAX_BYTES} bytes")
    return secret


def new_keys(path: Path) -> Keys:
    """Fresh keys, in a file of their own. Raises ConfigError: as `write_secret`."""
    seed = secrets.token_bytes(KEY_BYTES)
    write_secret(path, seed)
    return Keys(seed)


def keys_from(path: Path) -> Keys:
    """The keys in a file that is there. Raises ConfigError: as `read_secret`, or it does not hold a key."""
    seed = read_secret(path)
    if len(seed) != KEY_BYTES:
        raise ConfigError(f"{path} is not a secret key: it has {len(seed)} bytes, not {KEY_BYTES}")
    return Keys(seed)
