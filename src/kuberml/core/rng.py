"""One root seed, named substreams.

`rng(root, "node", "n3", "cohort", 7)` is always the same stream, and no other draw anywhere shifts it: streams are
counter-based (Philox) and keyed by the BLAKE3 digest of their name. There is no global generator in kuberml.
"""

from __future__ import annotations

import blake3
import numpy as np

from kuberml.core.canonical import encode
from kuberml.core.errors import InternalError


def seed_of(root: int, *name: str | int) -> int:
    """A 63-bit seed for the substream `name` of `root`, for libraries that want an integer.

    Raises:
        InternalError: as `rng`.
    """
    return int.from_bytes(_key(root, name)[:8], "little") >> 1


def rng(root: int, *name: str | int) -> np.random.Generator:
    """The substream `name` of `root`. Parts never run together: ("a", "b"), ("ab",), (1,) and ("1",) are four streams.

    Raises:
        InternalError: the root or a part of the name is not an integer of -2^63 .. 2^64 - 1 or text (numpy's integers are
            not either: write `int(k)`).
    """
    key = np.frombuffer(_key(root, name)[:16], dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key))


def _key(root: int, name: tuple[str | int, ...]) -> bytes:
    for part in (root, *name):
        if type(part) is not int and type(part) is not str:
            raise InternalError(f"a random stream is named by integers and text, not {part!r:.60}")
    return blake3.blake3(b"kuberml.rng/1\0" + encode([root, *name])).digest()
