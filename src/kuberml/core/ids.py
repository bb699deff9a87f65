"""Names of things: digests of content and ids of nodes.

A digest is the lower-case hex of BLAKE3-256 (64 characters). Content *is* its digest; a digest that comes from outside is
checked with `check_digest` before it names a file or a row.
"""

from __future__ import annotations

import re
from typing import NewType

import blake3

from kuberml.core.errors import RemoteError

Digest = NewType("Digest", str)
"""Lower-case hex of BLAKE3-256."""

NodeId = NewType("NodeId", str)
"""Name of one learner's place in the world, unique in its realm: letters, digits, `-`, `_`, `.`; 1 to 64 of them."""

LabelId = str
"""Name of a class, for instance "3" or "Ankle boot". Packets of learners with other label sets meet by this name."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def digest_of(content: bytes | bytearray | memoryview) -> Digest:
    """BLAKE3-256 of content as 64 hex characters."""
    return Digest(blake3.blake3(content).hexdigest())


def check_digest(text: object) -> Digest:
    """`text` as a Digest.

    Raises:
        RemoteError: not 64 lower-case hex characters.
    """
    if not isinstance(text, str) or _DIGEST.fullmatch(text) is None:
        raise RemoteError(f"not a digest (64 hex characters): {text!r:.80}")
    return Digest(text)


def check_node(text: object) -> NodeId:
    """`text` as a NodeId.

    Raises:
        RemoteError: empty, longer than 64 characters, or with other characters than letters, digits, `-`, `_`, `.`.
    """
    if not isinstance(text, str) or _NODE.fullmatch(text) is None:
        raise RemoteError(f"not a node id (letters, digits, - _ . ; at most 64): {text!r:.80}")
    return NodeId(text)
