"""Threads that move bulk give way to those that answer: a request does not wait for a core while a blob is hashed."""

from __future__ import annotations

import contextlib
import os
import sys

BEHIND = 5
"""Steps of niceness. With 10 the 99th percentile of requests beside a bulk transfer on two cores was halved, and no throughput
lost; 5 because a thread that loses its core while it has the interpreter must get it back soon, on a busy machine too."""


def step_back() -> None:
    """Make this thread less urgent than the rest of its process, where the system knows urgency by thread."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.nice(BEHIND)
