"""What owners do to a roll, as pure functions from the roll that stands to the next one (see `realm.change`)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import check_node
from kuberml.worlds.live.trust.roll import Member, Policy, Right, Roll

Edit = Callable[[Roll], Roll]


def revoking(key: str, *, with_vouched: bool = False) -> Edit:
    """Take a key back, and with `with_vouched` whom it let in, and those in turn. Raises ConfigError: it is the owner's."""

    def edit(roll: Roll) -> Roll:
        if key == roll.owner:
            raise ConfigError("a realm's owner is not revoked: found the realm anew, with another key")
        gone = {key: None}
        while with_vouched and (more := {other for other, member in roll.members.items() if member.by in gone} - gone.keys()):
            gone |= dict.fromkeys(sorted(more))
        members = {other: member for other, member in roll.members.items() if other not in gone}
        revoked = (*roll.revoked, *(other for other in gone if other not in roll.revoked))
        return msgspec.structs.replace(roll, members=members, revoked=revoked)

    return edit


def admitting(key: str, name: str, rights: tuple[Right, ...]) -> Edit:
    """Put a key on the roll under a name. Raises ConfigError: the name is another member's, or cannot be one."""

    def edit(roll: Roll) -> Roll:
        try:
            member = Member(check_node(name), rights)
        except RemoteError as error:
            raise ConfigError(str(error)) from error
        holder = next((other for other, there in roll.members.items() if there.name == name and other != key), None)
        if holder is not None:
            raise ConfigError(f"the name {name!r} belongs to {holder[:12]}...: revoke that, or choose another name")
        revoked = tuple(other for other in roll.revoked if other != key)
        return msgspec.structs.replace(roll, members={**roll.members, key: member}, revoked=revoked)

    return edit


def stating(policy: Policy, max_stale_s: int | None) -> Edit:
    """Who may come in, and how long a roll is believed without the hub (None: as before)."""

    def edit(roll: Roll) -> Roll:
        stale_s = roll.max_stale_s if max_stale_s is None else max_stale_s
        return msgspec.structs.replace(roll, policy=policy, max_stale_s=stale_s)

    return edit
