"""Whose fault is it? Every error of kuberml answers that with its class.

KuberError
├── ConfigError     yours: a setting, a file, an argument; the message names it and what would be right
├── RemoteError     the peer's: wrong bytes, a bad signature, a false claim, a shape that cannot be
├── Unreachable     nobody's: timed out, gone, cut off; try again or elsewhere
└── InternalError   ours: please report it
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KuberError(Exception):
    """Base of all errors that kuberml raises on purpose. Never raised itself."""

    def __init__(self, message: str) -> None:
        if type(self) is KuberError:
            raise TypeError("raise one of the subclasses: they say whose fault it is")
        super().__init__(message)


class ConfigError(KuberError):
    """The caller's setting is wrong; the message names the field, the value and what would be right."""


class MissingExtra(ConfigError):
    """Something optional is not installed; the message says which extra brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra {extra!r}: pip install 'kuberml[{extra}]'")
        self.extra = extra


class RemoteError(KuberError):
    """A peer sent something that is not what it says. Nothing of it was kept."""


class Unreachable(KuberError):
    """The peer did not answer in time, is gone, or the network is cut."""


class InternalError(KuberError):
    """A promise of our own code was broken."""


def told(error: BaseException) -> str:
    """What it says, and where it happened as far as that was noted. Tracebacks of other processes are left out."""
    where = [note for note in getattr(error, "__notes__", ()) if "\n" not in note]
    return f"{error} ({', '.join(where)})" if where else str(error)


def nearest(wrong: str, known: Iterable[str]) -> str:
    """The tail of an error message for an unknown name: the nearest right one, then all of them.

    Example: `nearest("fedvag", ["fedavg", "local"])` is `"did you mean 'fedavg'? known: fedavg, local"`.
    """
    names = sorted(known)
    close = difflib.get_close_matches(wrong, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names) or 'none'}"
