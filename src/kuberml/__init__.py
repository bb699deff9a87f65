"""kuberml: learned knowledge, delivered.

kuberml.join(place, ...)     a user's own learner, at a hub or in a shared folder    (worlds.member.member)
kuberml.agree(place, ...)    what everybody there agrees on, once                    (worlds.member.commons)
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "agree", "join"]

_DOORS = {"join": "kuberml.worlds.member.member", "agree": "kuberml.worlds.member.commons"}


def __getattr__(name: str) -> Any:
    # The front door stands above the house: it is looked up when somebody uses it, so importing kuberml stays cheap.
    if name in _DOORS:
        return getattr(import_module(_DOORS[name]), name)
    raise AttributeError(f"module 'kuberml' has no attribute {name!r}")
