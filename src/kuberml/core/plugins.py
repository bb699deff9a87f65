"""Named parts that others may add: paradigms, kinds, data sets, models, extractors.

A package adds one by an entry point and nothing else:

    [project.entry-points."kuberml.paradigms"]
    my-paradigm = "my_package.my_paradigm"

Only what is installed on this machine is ever loaded: a name in a package or a card never imports anything new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from kuberml.core.errors import ConfigError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """Parts of one sort by name: built-in ones registered as lazy loaders, others found as entry points."""

    def __init__(self, sort: str, group: str) -> None:
        """`sort` is for messages ("paradigm"), `group` the entry point group ("kuberml.paradigms")."""
        self.sort, self.group = sort, group
        self._loaders: dict[str, Callable[[], T]] = {}
        self._loaded: dict[str, T] = {}

    def add(self, name: str, loader: Callable[[], T]) -> None:
        """Register a part; `loader` is called at first use, so registering imports nothing heavy."""
        self._loaders[name] = loader

    def names(self) -> list[str]:
        """All known names, sorted, entry points included."""
        return sorted({*self._loaders, *(point.name for point in entry_points(group=self.group))})

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def get(self, name: str) -> T:
        """The part called `name`.

        Raises:
            ConfigError: there is none; the message names the nearest.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> T:
        if name in self._loaders:
            return self._loaders[name]()
        for point in entry_points(group=self.group):
            if point.name == name:
                loaded: Any = point.load()
                return loaded  # type: ignore[no-any-return]
        raise ConfigError(f"unknown {self.sort} {name!r}; {nearest(name, self.names())}")
