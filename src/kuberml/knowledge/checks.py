"""Checks that several kinds share. Each is told whose fault a failure is: ours when packing, the peer's when unpacking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, TypeVar

import msgspec

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import LabelId
from kuberml.knowledge.card import Card

Fault: TypeAlias = type[ConfigError] | type[RemoteError]
"""Which error to raise: a value that breaks a rule is the caller's fault before the wire and the peer's after it."""

MAX_LABELS = 65_536
MAX_NAME_CHARS = 256
MAX_COUNT = 2**53

F = TypeVar("F", bound=msgspec.Struct)


def read_facts(card: Card, form: type[F]) -> F:
    """The card's facts as a struct of the kind; a struct that forbids unknown fields makes this strict.

    Raises:
        RemoteError: a fact is missing, unknown, of another type or outside its bounds.
    """
    try:
        return msgspec.convert(dict(card.facts), form)
    except msgspec.ValidationError as error:
        raise RemoteError(f"the facts of a {card.kind} card are wrong: {error}") from error


def only_blob(card: Card, blobs: tuple[bytes, ...], limit_bytes: int) -> bytes:
    """The one blob of a kind that has one.

    Raises:
        RemoteError: there are none or several, or it is over limit_bytes.
    """
    if len(blobs) != 1:
        raise RemoteError(f"{card.kind} has one blob, not {len(blobs)}")
    if len(blobs[0]) > limit_bytes:
        raise RemoteError(f"a blob of {len(blobs[0])} bytes is over the limit of {limit_bytes} for {card.kind}")
    return blobs[0]


def check_labels(labels: Mapping[LabelId, int], fault: Fault, *, minimum: int = 1) -> None:
    """Names of sensible length, each with at least `minimum` samples behind it.

    Raises:
        fault: one is not.
    """
    check_names(tuple(labels), fault)
    for name, count in labels.items():
        if not isinstance(count, int) or isinstance(count, bool) or not minimum <= count <= MAX_COUNT:
            raise fault(f"label {name!r} stands on {count!r} samples; needed are {minimum} to 2^53")


def check_names(names: tuple[LabelId, ...], fault: Fault) -> None:
    """At most MAX_LABELS different names of 1 to MAX_NAME_CHARS characters.

    Raises:
        fault: they are not.
    """
    if len(names) > MAX_LABELS:
        raise fault(f"{len(names)} labels are over the limit of {MAX_LABELS}")
    if len(set(names)) != len(names):
        raise fault("a label is named twice")
    for name in names:
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_CHARS:
            raise fault(f"a label has 1 to {MAX_NAME_CHARS} characters, unlike {name!r:.80}")
