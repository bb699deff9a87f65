"""A node's durable memory: what it must still know after a crash, one transaction per commit.

    node.memory.setdefault(round=0, weights=w)     # the first start
    node.memory.update(round=1, weights=w1)        # both or neither
    node.memory.round                              # read back, read-only

Values are those of `core.values`: plain data, arrays and registered structs.
"""

from __future__ import annotations

from typing import Any

from kuberml.core.seam import Store
from kuberml.core.values import dumps, loads


class Memory:
    """Named values over a Store's memory; what is read is what a restart would read."""

    def __init__(self, store: Store) -> None:
        self.__dict__["_store"] = store
        self.__dict__["_values"] = {name: loads(data) for name, data in store.memory().items()}

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(f"nothing is remembered under {name!r}; set it with memory.setdefault({name}=...)") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self.update(**{name: value})

    def __contains__(self, name: object) -> bool:
        return name in self.__dict__["_values"]

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or `default` if nothing is remembered."""
        return self.__dict__["_values"].get(name, default)

    def update(self, **entries: Any) -> None:
        """Commit several values in one transaction.

        Raises:
            InternalError: a value cannot be written (see `core.values`); OSError: the disk is full. Nothing changed then.
        """
        encoded = {name: dumps(value) for name, value in entries.items()}
        self.__dict__["_store"].remember(encoded)
        self.__dict__["_values"].update({name: loads(data) for name, data in encoded.items()})

    def setdefault(self, **entries: Any) -> None:
        """Commit those of `entries` that are not remembered yet: what a paradigm starts with."""
        fresh = {name: value for name, value in entries.items() if name not in self}
        if fresh:
            self.update(**fresh)
