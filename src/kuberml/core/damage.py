"""What reading JSON can raise that somebody else wrote, or that a disk has spoiled."""

from __future__ import annotations

import msgspec

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""No JSON, or another form; bytes that are no text; brackets without end. msgspec has a class of its own for the first only."""
