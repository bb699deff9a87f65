"""Which HTTP doors can be dialled from here: those over which something came of late, a blob or an answer."""

from __future__ import annotations

MOST = 65536
"""Beyond so many, doors are not remembered."""


class Ways:
    """See the module."""

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._deaf: set[str] = set()

    def __contains__(self, url: str) -> bool:
        return url in self._open

    def came(self, url: str) -> None:
        """It can be dialled from here."""
        if url not in self._deaf and len(self._open) < MOST:
            self._open.add(url)

    def failed(self, url: str) -> None:
        """It cannot, at the moment."""
        self._open.discard(url)

    def is_deaf(self, url: str) -> None:
        """Somebody is there who takes no requests: a web server in front of a vault, for instance."""
        self._open.discard(url)
        if len(self._deaf) < MOST:
            self._deaf.add(url)
