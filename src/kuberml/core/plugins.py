"""Named parts that others may add: paradigms, kinds, data sets, models, extractors.

A package adds one by an entry point and nothing else:

    [project.entry-points."kuberml.paradigms"]
    my-paradigm = "my_package.my_paradigm"

Only what is installed on this machine is ever loaded: a name in a package or a card never imports anything new.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
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
        """Register a part; `loader` is called at first use, so registering imports nothing heavy.

        A part that is added wins over an entry point of that name; one that is added later replaces an earlier one.
        """
        self._loaders[name] = loader
        self._loaded.pop(name, None)

    def names(self) -> list[str]:
        """All known names, sorted, entry points included."""
        return sorted({*self._loaders, *(point.name for point in _points(self.group))})

    def __contains__(self, name: object) -> bool:
        return name in self._loaders or any(point.name == name for point in _points(self.group))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def get(self, name: str) -> T:
        """The part called `name`.

        Raises:
            ConfigError: there is none (the message names the nearest), two packages offer different ones, or the package
                that offers it cannot be imported.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> T:
        if name in self._loaders:
            return self._loaders[name]()
        offered = sorted({point.value for point in _points(self.group) if point.name == name})
        if not offered:
            raise ConfigError(f"unknown {self.sort} {name!r}; {nearest(name, self.names())}")
        if len(offered) > 1:
            raise ConfigError(f"several packages offer a {self.sort} {name!r}: {', '.join(offered)}; uninstall all but one")
        try:
            loaded: Any = EntryPoint(name, offered[0], self.group).load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"the {self.sort} {name!r} ({offered[0]}) cannot be loaded: {error}") from error
        return loaded  # type: ignore[no-any-return]


@functools.cache
def _points(group: str) -> tuple[EntryPoint, ...]:
    # Reading the metadata of all installed packages takes milliseconds, and names arrive in every card.
    return tuple(entry_points(group=group))
