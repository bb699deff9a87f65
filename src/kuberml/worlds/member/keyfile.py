"""A member's secret key in a file of its own: 32 bytes, readable by its owner only, drawn at first use."""

from __future__ import annotations

from pathlib import Path

from kuberml.core.errors import ConfigError
from kuberml.knowledge.signing import Keys
from kuberml.worlds.live.trust.secret_files import KEY_BYTES, keys_from, new_keys

__all__ = ["KEY_BYTES", "keys_in"]


def keys_in(path: Path) -> Keys:
    """The keys in a file, drawn at first use.

    The file is there with a whole key in it, or not at all: who is killed while drawing one can start again.

    Raises:
        ConfigError: others can read the file, it is not a key, or it cannot be written.
    """
    if not path.exists():
        try:
            return new_keys(path)
        except ConfigError:
            if not path.exists():  # else somebody else was first: that key it is
                raise
    return keys_from(path)
