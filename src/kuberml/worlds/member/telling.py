"""What a member does, a line for each step, to stderr: for people who watch. `kuberml join` switches it on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from kuberml.core.ids import NodeId
from kuberml.core.seam import Recorder
from kuberml.core.units import plain, show_bytes

TELL_VARIABLE = "KUBERML_TELL"
"""Environment variable; anything but "" switches the lines on."""

SHORT = 12
"""Characters of a digest that people are shown."""

MAX_SAID = 4096
"""Lines that are remembered, so as not to write them twice."""

Fields = Mapping[str, Any]


class Telling:
    """A Recorder that also tells."""

    def __init__(self, recorder: Recorder, node: NodeId, write: Callable[[str], object] = sys.stderr.write) -> None:
        self._recorder, self._node, self._write = recorder, node, write
        self._said: set[str] = set()

    def record(self, event: str, **fields: Any) -> None:
        """See the seam."""
        self._recorder.record(event, **fields)
        line = plain(_LINES[event](fields)) if event in _LINES else ""
        if line and line not in self._said:  # what is looked at again is not told again
            if len(self._said) >= MAX_SAID:
                self._said.clear()
            self._said.add(line)
            self._write(f"{self._node}: {line}\n")


def telling(recorder: Recorder, node: NodeId) -> Recorder:
    """The recorder, and lines on stderr if $KUBERML_TELL asks for them."""
    return Telling(recorder, node) if os.environ.get(TELL_VARIABLE) else recorder


def _published(fields: Fields) -> str:
    return f"published {fields['kind']}{_of(fields)}, {show_bytes(fields['size_bytes'])}: {_card(fields)}"


def _fetched(fields: Fields) -> str:
    holder = fields["holder"]
    sources = holder if isinstance(holder, str) else " and ".join(holder)
    return f"fetched {_card(fields)} from {sources}, {show_bytes(fields['size_bytes'])}"


def _tried(fields: Fields) -> str:
    return f"tried {_card(fields)}: {fields['verdict']}, {fields['why']}"


def _absorbed(fields: Fields) -> str:
    return f"absorbed {_card(fields)}"


def _refused(fields: Fields) -> str:
    return f"refused {_card(fields)}: {fields['why']}"


def _forgot(fields: Fields) -> str:
    return f"forgot {_card(fields)}"


def _undelivered(fields: Fields) -> str:
    return f"{_card(fields)} was not delivered: {fields['why']}"


def _hub(fields: Fields) -> str:
    return f"the hub did not answer {fields['asked']!r}: {fields['why']}"


_LINES: Mapping[str, Callable[[Fields], str]] = {
    "published": _published,
    "fetched": _fetched,
    "tried": _tried,
    "absorbed": _absorbed,
    "refused": _refused,
    "forgot": _forgot,
    "undelivered": _undelivered,
    "hub": _hub,
}


def _card(fields: Fields) -> str:
    return str(fields["card"])[:SHORT]


def _of(fields: Fields) -> str:
    return f" of {', '.join(fields['labels'])}" if fields["labels"] else ""
