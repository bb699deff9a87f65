"""What the conductor of a run in lockstep and the node processes tell each other at a barrier.

The conductor orders, a node carries out and reports. An order that did not arrive is given again under its serial number:
it is carried out once. All of this stays among the processes that one run has started on one machine.
"""

from __future__ import annotations

import builtins
from typing import TypeVar

import msgspec

from kuberml.core import errors
from kuberml.core.errors import InternalError, KuberError, RemoteError
from kuberml.core.ids import Digest, NodeId

M = TypeVar("M")


class Sent(msgspec.Struct, frozen=True, array_like=True):
    """A letter that was sent: to whom (None: to everybody else), which, and the digest of its bytes."""

    to: NodeId | None
    number: int
    digest: Digest


class Name(msgspec.Struct, frozen=True, array_like=True, order=True):
    """A letter that is to be received. Names are in the order of an inbox."""

    sender: NodeId
    number: int
    digest: Digest


class Attend(msgspec.Struct, frozen=True, tag=True):
    """Say that you are there. Who is there gets letters; a play begins when everybody is."""

    serial: int


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Begin the play with this number, and do step 0. `body`: what is played, and as whom."""

    serial: int
    play: int
    step_ns: int
    body: bytes


class Step(msgspec.Struct, frozen=True, tag=True):
    """Receive these letters and do everything that is due before the step ends."""

    serial: int
    step: int
    letters: tuple[Name, ...]


class End(msgspec.Struct, frozen=True, tag=True):
    """It is over, at this time."""

    serial: int
    time_ns: int


Order = Attend | Begin | Step | End


class Report(msgspec.Struct, frozen=True, tag=True):
    """A step is done: when this node is due next (None: when something arrives), what it sent, whether its part is over."""

    due_ns: int | None
    sent: tuple[Sent, ...]
    is_over: bool


class Final(msgspec.Struct, frozen=True, tag=True):
    """What the play came to here."""

    body: bytes


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The play broke here."""

    kind: str
    message: str
    trace: str


Told = Report | Final | Failed


def write(message: Order | Told) -> bytes:
    """The bytes of a message."""
    return msgspec.msgpack.encode(message)


def read_order(data: bytes) -> Order:
    """The order in these bytes. Raises RemoteError: there is none."""
    return _read(data, Order)


def read_told(data: bytes) -> Told:
    """What a node tells in these bytes. Raises RemoteError: nothing."""
    return _read(data, Told)


def failure(node: NodeId, failed: Failed) -> Exception:
    """The error that broke a node's play, as its own class if that is a builtin or one of ours."""
    kind = getattr(errors, failed.kind, None) or getattr(builtins, failed.kind, None)
    known = isinstance(kind, type) and issubclass(kind, Exception) and kind not in (KuberError, errors.MissingExtra)
    try:
        error = kind(failed.message) if known else None  # type: ignore[misc]
    except TypeError:  # a class that wants other arguments
        error = None
    error = error or InternalError(f"{failed.kind}: {failed.message}")
    error.add_note(f"in the process of node {node}\n{failed.trace}")
    return error


def _read(data: bytes, sort: object) -> M:  # type: ignore[type-var]
    try:
        return msgspec.msgpack.decode(data, type=sort)  # type: ignore[no-any-return]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteError(f"neither an order nor a report: {error}") from error
