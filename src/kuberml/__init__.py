"""kuberml: learned knowledge, delivered.

kuberml.join(folder, ...)     a user's own learner in a shared folder    (worlds.folder.member)
kuberml.agree(folder, ...)    what its members agree on, once            (worlds.folder.commons)
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "agree", "join"]

_DOORS = {"join": "kuberml.worlds.folder.member", "agree": "kuberml.worlds.folder.commons"}


def __getattr__(name: str) -> Any:
    # The front door stands above the house: it is looked up when somebody uses it, so importing kuberml stays cheap.
    if name in _DOORS:
        return getattr(import_module(_DOORS[name]), name)
    raise AttributeError(f"module 'kuberml' has no attribute {name!r}")
