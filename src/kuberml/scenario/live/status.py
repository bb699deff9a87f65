"""What a node's process tells the prompter about itself, and what it is told. All of it is for people and for the start."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from kuberml.core.damage import NOT_JSON
from kuberml.core.errors import RemoteError

ASK = "cue"
"""Name of the request: a Status, answered by a Cue."""
LIMIT_BYTES = 16 * 1024

Phase = Literal["ready", "playing", "done", "gave up", "leaving"]
Act = Literal["wait", "play", "end"]
Count = Annotated[int, Meta(ge=0, le=2**62)]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One node, now.

    Attributes:
        phase: "ready": waits to begin; "done": its part is over, it still answers; "leaving": its time is up, not its part.
        step: rounds done, or looks for offers; what its paradigm has.
        labels: that it can tell: its own and those it absorbed.
        accuracy_ppm: on its own held-out data, with what it serves; None: nothing yet, or too costly to know.
        accepted, refused: trials.
        moved_bytes: control that it caused and blobs that it read: over all nodes each byte counts once.
    """

    phase: Phase
    why: Annotated[str, Meta(max_length=2000)] = ""
    step: Count = 0
    labels: Annotated[tuple[str, ...], Meta(max_length=1000)] = ()
    accuracy_ppm: Count | None = None
    sent_bytes: Count = 0
    received_bytes: Count = 0
    moved_bytes: Count = 0
    energy_mj: Count = 0
    flops: Count = 0
    accepted: Count = 0
    refused: Count = 0


class Cue(msgspec.Struct, frozen=True):
    """What a node is told to do."""

    act: Act


def read_status(body: bytes) -> Status:
    """From a node. Raises RemoteError: too long, or not one."""
    if len(body) > LIMIT_BYTES:
        raise RemoteError(f"a status of {len(body)} bytes; at most {LIMIT_BYTES} are read")
    try:
        return msgspec.json.decode(body, type=Status)
    except NOT_JSON as error:
        raise RemoteError(f"not a status: {error}") from error
