"""What a virtual loop is to call: soon, or when its clock gets there. asyncio's handles do the same, for any sort of loop."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

from kuberml.core.units import NS


class Call:
    """A callback with its arguments and its context; what `call_soon` hands out."""

    __slots__ = ("args", "callback", "context", "is_cancelled")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context) -> None:
        self.callback, self.args, self.context, self.is_cancelled = callback, args, context, False

    def cancel(self) -> None:
        """See asyncio.Handle. It lets go of what would have been called."""
        self.is_cancelled, self.callback, self.args = True, _nothing, ()

    def cancelled(self) -> bool:
        """See asyncio.Handle."""
        return self.is_cancelled


class Timer(Call):
    """A call at an instant; what `call_later`, `call_at` and `at_ns` hand out.

    Attributes:
        when_ns: its deadline.
        pending: it has neither fired nor been thrown away.
    """

    __slots__ = ("on_cancel", "pending", "when_ns")

    def __init__(
        self,
        when_ns: int,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context,
        on_cancel: Callable[[], None],
    ) -> None:
        self.callback, self.args, self.context, self.is_cancelled = callback, args, context, False
        self.when_ns, self.on_cancel, self.pending = when_ns, on_cancel, True

    def when(self) -> float:
        """See asyncio.TimerHandle. Seconds."""
        return self.when_ns / NS

    def cancel(self) -> None:
        """See asyncio.Handle; nothing where it has fired: `asyncio.sleep` cancels that too."""
        if self.pending and not self.is_cancelled:
            super().cancel()
            self.on_cancel()


def _nothing(*_: object) -> None:
    """In the place of a callback that was cancelled."""
