"""Who may do what here: the rule that every request passes before its handler sees it.

Three policies, stated by the realm's owner on the roll: `open` (everybody who is not revoked), `known` (who is on the roll or
in the own keyring, or vouched for), `listed` (who is on the roll, with the rights stated there). Under the latter two a roll
that nobody has confirmed for `max_stale_s` seconds lets nobody in any more: whoever could be revoked meanwhile, is refused.
"Seconds" are those of a monotonic clock since the hub was last heard, so a wall clock that jumps changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId
from kuberml.worlds.live.trust.roll import Right, SignedRoll

__all__ = ["NotAdmitted", "Right", "Trust", "how_to_admit", "right_for", "right_to_announce"]

NAMES_MAX = 65536
"""Node names that are remembered with their keys; names are first come, so a flood of them must end somewhere."""

_RIGHTS: dict[str, Right | None] = {
    **dict.fromkeys(("announce", "verdict", "fraud", "withdraw", "report", "keep"), "publish"),
    **dict.fromkeys(("find", "verdicts", "cards", "withdrawn"), "find"),
    "read": "fetch",
    **dict.fromkeys(("door", "hello", "roll", "vouch", "linked", "linked_read"), None),
}


def right_for(name: str) -> Right | None:
    """The right that a request of this name needs; None: none, but no revoked key either. Unknown names need "ask"."""
    return _RIGHTS.get(name, "ask")


def right_to_announce(topic: str) -> Right | None:
    """The right that an announcement needs. The roll itself needs none: a stale one could never become fresh again."""
    return None if topic == "roll" else "publish"


class NotAdmitted(RemoteError):
    """A key may not because of what the roll says, or does not say: its owner can change that."""

    def __init__(self, why: str, *, needs: tuple[Right, ...] = ()) -> None:
        """`needs`: the rights that would have to stand on the roll; (): it is enough to be on it."""
        super().__init__(why)
        self.needs = needs


def how_to_admit(key: str, name: str, rights: tuple[Right, ...] = ()) -> str:
    """What whoever was refused has to tell the owner of the realm; the rights are all that it will have, none: every one."""
    may = "".join(f" --may {right}" for right in rights)
    return f"the realm's owner can change that: `kuberml keys admit {key} {name} --hub FOLDER{may}`"


class Trust(Protocol):
    """What the live world asks before it lets a key do anything."""

    @property
    def is_open(self) -> bool:
        """Whether whoever is not revoked may do everything, at this moment. Then blobs are for everybody, without a ticket."""
        ...

    def check(self, key: str, right: Right | None) -> None:
        """Nothing, if `key` may.

        Raises:
            RemoteError: it may not; the message says why. None asks only whether the key is revoked.
            NotAdmitted: the same, where it is not on the roll, or not with that right.
        """
        ...

    def believes(self, node: NodeId, key: str) -> bool:
        """Whether the name belongs to the key: the roll says so, or nobody had the name before."""
        ...

    def revoked(self, key: str) -> bool:
        """Whether the key's owner, or ours, has taken it back."""
        ...

    def take(self, signed: SignedRoll) -> bool:
        """Hear a roll (already read by `read_roll`); True if it was new.

        Raises:
            RemoteError: another owner, another realm, or an older serial than before: a downgrade.
        """
        ...

    def heard(self, serial: int, digest: str) -> bool:
        """The hub says this is its roll now. True: it is ours too, which is thereby fresh. False: ask for the new one."""
        ...


class Names:
    """Names of nodes, bound to the first key that came with them."""

    def __init__(self, bound: Mapping[NodeId, str] = {}, *, limit: int = NAMES_MAX) -> None:
        self._bound, self._limit = dict(bound), limit

    def belongs(self, node: NodeId, key: str) -> bool:
        """Bind a free name; whether it is this key's then. A full table binds nothing more."""
        if node not in self._bound and len(self._bound) < self._limit:
            self._bound[node] = key
        return self._bound.get(node) == key
