"""A kind of knowledge: how a value becomes blobs and how blobs become a checked value. One file each in `kinds/`.

value --pack--> Packed(blobs, labels, basis, ...) --make--> signed card + blobs = Knowledge
Knowledge --open_value--> value, or RemoteError and no trace
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from kuberml.core.ids import Digest, LabelId
from kuberml.core.plugins import Registry
from kuberml.knowledge.card import Card, Fact


class Packed(msgspec.Struct, frozen=True):
    """What a kind says of a value when it packs it."""

    blobs: tuple[bytes, ...]
    labels: dict[LabelId, int]
    basis: Digest | None = None
    facts: Mapping[str, Fact] = {}
    cuts: tuple[tuple[int, ...], ...] = ()  # per blob: where it may be cut; () = by size
    flops: int = 0


class Kind(Protocol):
    """The contract of a kind. Stateless; `merge` and `remove` exist only where they are exact (see `statistics`)."""

    name: str

    def pack(self, value: Any) -> Packed:
        """Blobs and facts of a value, deterministic. Raises ConfigError: the value breaks a rule of the kind."""
        ...

    def unpack(self, card: Card, blobs: tuple[bytes, ...]) -> Any:
        """The value, with every check that needs nothing but card and blobs. Raises RemoteError that says what is wrong."""
        ...


KINDS: Registry[Kind] = Registry("kind", "kuberml.kinds")


def kind_of(value: object) -> str:
    """The name of a value's kind: its class says so as `KIND`, else it is the class name in kebab-case (`SoftLabels`)."""
    named = getattr(type(value), "KIND", None)
    return named or re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(value).__name__).lower()
