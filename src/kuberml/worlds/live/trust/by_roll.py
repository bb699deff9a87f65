"""The rule of a realm that has a roll. See `policy` for what the three policies mean.

Where no owner is pinned, the realm is open until a roll comes, and whoever signed that one is its owner from then on (trust on
first use). Where one is pinned, nobody but the owner may do anything before its first roll is here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId
from kuberml.worlds.live.trust.policy import Names, NotAdmitted
from kuberml.worlds.live.trust.roll import Right, Roll, SignedRoll


class RollTrust:
    """What a realm's roll says, now and whenever a newer one comes."""

    def __init__(
        self,
        realm: str,
        *,
        owner: str | None = None,
        roll: SignedRoll | None = None,
        trusted: Mapping[str, str] = {},
        revoked: Iterable[str] = (),
        names: Mapping[NodeId, str] = {},
        max_stale_s: float | None = None,
        now_s: Callable[[], float] = time.monotonic,
        on_new: Callable[[SignedRoll], None] = lambda signed: None,
    ) -> None:
        """A node's or a hub's view of one realm.

        Args:
            realm: its name; rolls of another are refused.
            owner: the pinned public key of its owner; None takes the first that comes (trust on first use).
            roll: one from an earlier life, already read; it counts as stale until the hub confirms it, but no older one is
                taken.
            trusted: own keyring, key -> name: let in under "known".
            revoked: keys that this machine's user does not want, whatever the roll says.
            names: names that belong to known keys from the start.
            max_stale_s: less patience than the roll states; more is not possible.
            now_s: a monotonic clock.
            on_new: called with each new roll, to keep it.
        """
        self.realm, self.owner = realm, owner
        self._signed: SignedRoll | None = None
        self._trusted, self._own_revoked = trusted, set(revoked)
        self._revoked: frozenset[str] = frozenset()
        self._on_roll: dict[NodeId, str] = {}
        self._names, self._patience_s = Names(names), max_stale_s
        self._now_s, self._heard_at_s, self._on_new = now_s, float("-inf"), on_new
        self._vouched: dict[str, str] = {}
        if roll is not None:
            self._adopt(roll)

    @property
    def roll(self) -> Roll | None:
        """The newest roll."""
        return None if self._signed is None else self._signed.roll

    @property
    def signed(self) -> SignedRoll | None:
        """The newest roll as it was signed, to pass on."""
        return self._signed

    @property
    def is_open(self) -> bool:
        """Whether whoever is not revoked may do everything, at this moment."""
        return self.owner is None if self.roll is None else self.roll.policy == "open"

    @property
    def stale_s(self) -> float:
        """Seconds since the hub last confirmed this roll; infinite before it first did."""
        return self._now_s() - self._heard_at_s

    @property
    def max_stale_s(self) -> float:
        """How many of them are too many."""
        stated_s = float("inf") if self.roll is None else float(self.roll.max_stale_s)
        return stated_s if self._patience_s is None else min(stated_s, self._patience_s)

    def take(self, signed: SignedRoll) -> bool:
        """See Trust."""
        roll, before = signed.roll, self.roll
        if roll.realm != self.realm:
            raise RemoteError(f"a roll of realm {roll.realm!r}; this is {self.realm!r}")
        if self.owner is not None and roll.owner != self.owner:
            raise RemoteError(f"a roll signed by {roll.owner[:12]}...; realm {self.realm!r} belongs to {self.owner[:12]}...")
        if before is not None and roll.serial < before.serial:
            raise RemoteError(f"a roll with serial {roll.serial}; {before.serial} is known: rolls do not go back")
        if before is not None and roll.serial == before.serial and roll.digest != before.digest:
            raise RemoteError(f"two different rolls with serial {roll.serial}: its owner, or a thief of its key, says both")
        self._heard_at_s = self._now_s()
        if before is not None and roll.serial == before.serial:
            return False
        self._adopt(signed)
        self._on_new(signed)
        return True

    def heard(self, serial: int, digest: str) -> bool:
        """See Trust. An older serial than ours confirms nothing."""
        same = self.roll is not None and (serial, digest) == (self.roll.serial, self.roll.digest)
        if same:
            self._heard_at_s = self._now_s()
        return same or (self.roll is not None and serial < self.roll.serial)

    def check(self, key: str, right: Right | None) -> None:
        """See Trust."""
        if self.revoked(key):
            raise RemoteError(f"the key {key[:12]}... is revoked in realm {self.realm!r}")
        roll = self.roll
        if right is None or self.is_open or key == self.owner:
            return
        if roll is None:
            raise RemoteError(f"no roll of realm {self.realm!r} has come yet from its owner {str(self.owner)[:12]}...")
        if self.stale_s > self.max_stale_s:
            raise RemoteError(self._stale())
        member = roll.members.get(key)
        if member is None and (roll.policy == "listed" or not self._known(key)):
            raise NotAdmitted(f"the key {key[:12]}... is not on the roll of realm {self.realm!r}, which is {roll.policy!r}")
        if member is not None and right not in member.rights:
            allowed = ", ".join(member.rights) or "nothing"
            why = f"{member.name!r} may not {right} in realm {self.realm!r}; it may: {allowed}"
            raise NotAdmitted(why, needs=(*member.rights, right))

    def believes(self, node: NodeId, key: str) -> bool:
        """See Trust."""
        if self.revoked(key):
            return False
        if node in self._on_roll:
            return self._on_roll[node] == key
        is_listed = self.roll is not None and self.roll.policy == "listed"
        return (not is_listed or key == self.owner) and self._names.belongs(node, key)

    def revoked(self, key: str) -> bool:
        """See Trust."""
        return key in self._revoked or key in self._own_revoked

    def revoke(self, key: str) -> None:
        """Refuse a key here, whatever the roll says."""
        self._own_revoked.add(key)

    def _known(self, key: str) -> bool:
        return key in self._trusted

    def _stale(self) -> str:
        since = "never since this process began" if self.stale_s == float("inf") else f"{self.stale_s:.0f} s ago"
        return (
            f"the roll of realm {self.realm!r} was last confirmed {since}, and at most {self.max_stale_s:g} s are allowed:"
            " nobody is let in before the hub is heard again"
        )

    def _adopt(self, signed: SignedRoll) -> None:
        self._signed, self.owner = signed, signed.roll.owner
        self._revoked = frozenset(signed.roll.revoked)
        self._on_roll = {member.name: key for key, member in signed.roll.members.items()}
