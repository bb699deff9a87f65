"""A hub's list, read page after page: it comes to an end, whatever the hub says.

The pages of an honest hub lead on, each further than the one before. Those of a liar need not end: what they cost in memory is
bounded where they are read, what they cost in time here.
"""

from __future__ import annotations

from collections.abc import Callable

PAGES_MAX = 2048
"""In one go. Where pages are full (`wire.OFFERED`) that is a million offers."""


class Pages:
    """How far one list has been read."""

    def __init__(self, since: int, note: Callable[[str], None]) -> None:
        """`since`: where it begins. `note`: told where a list that is said to go on was left, and why."""
        self._upto, self._note, self._read = since, note, 0

    def lead_on(self, upto: int) -> bool:
        """Whether to ask for what comes after `upto`, where the hub says that there is more."""
        self._read += 1
        before, self._upto = self._upto, upto
        if upto <= before:
            self._note(f"the hub's list goes on and does not get on: after place {before} it is at {upto}")
        elif self._read >= PAGES_MAX:
            self._note(f"the hub's list was left after {PAGES_MAX} pages, at place {upto}")
        else:
            return True
        return False
