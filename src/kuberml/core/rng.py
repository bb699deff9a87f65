"""One root seed, named substreams.

`rng(root, "node", "n3", "cohort", 7)` is always the same stream, and no other draw anywhere shifts it: streams are
counter-based (Philox) and keyed by the BLAKE3 digest of their name. There is no global generator in kuberml.
"""

from __future__ import annotations

import blake3
import numpy as np

from kuberml.core.canonical import encode


def seed_of(root: int, *name: str | int) -> int:
    """A 63-bit seed for the substream `name` of `root`, for libraries that want an integer."""
    return int.from_bytes(_key(root, name)[:8], "little") >> 1


def rng(root: int, *name: str | int) -> np.random.Generator:
    """The substream `name` of `root`."""
    key = np.frombuffer(_key(root, name)[:16], dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key))


def _key(root: int, name: tuple[str | int, ...]) -> bytes:
    return blake3.blake3(b"kuberml.rng/1\0" + encode([root, *name])).digest()
