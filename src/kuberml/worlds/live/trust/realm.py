"""A hub's side of its realm: a folder with the signed roll, which the owner's commands rewrite while the hub runs.

    FOLDER/roll         the signed roll, canonical bytes; replaced whole
    FOLDER/owner.key    the owner's secret, where the hub owns its realm (the default); an owner who keeps it elsewhere signs
                        there and brings the roll

Whoever can write the folder could put another roll there, but not one that a running hub, or a node, takes: another owner and
an older serial are refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, KuberError, RemoteError
from kuberml.core.ids import NodeId, check_digest, check_node
from kuberml.knowledge.signing import Keys
from kuberml.worlds.live.trust.by_roll import RollTrust
from kuberml.worlds.live.trust.roll import SIZE_MAX_BYTES, Member, Policy, Roll, SignedRoll, read_roll, sign_roll
from kuberml.worlds.live.trust.secret_files import keys_from, new_keys

HUB = NodeId("hub")
VOUCHES_MAX = 32
"""Keys that one member may let in."""
ROLL_FILE, OWNER_FILE = "roll", "owner.key"

log = logging.getLogger("kuberml.live")


class Realm:
    """The roll in a hub's folder, and the trust that follows from it."""

    def __init__(self, folder: Path, name: str, hub: str, *, policy: Policy = "open") -> None:
        """Open, and found the realm at the first time: its owner is then a key in the folder.

        Args:
            folder: of the hub.
            name: of the realm.
            hub: the hub's public key; the name "hub" is its.
            policy: of a realm that is founded here; of one that is there, the roll says it.

        Raises:
            ConfigError: the roll there is of another realm or another hub, or is not a roll.
        """
        self.folder = folder
        if not (folder / ROLL_FILE).exists():
            found(folder, name, hub, owner_in(folder), policy=policy)
        signed = roll_in(folder)
        if signed.roll.realm != name:
            raise ConfigError(f"{folder} is the hub of realm {signed.roll.realm!r}, not {name!r}")
        member = signed.roll.members.get(hub)
        if member is None or member.name != HUB:
            raise ConfigError(
                f"the roll in {folder} does not name this hub's key: `kuberml keys admit {hub} hub --hub {folder}`"
            )
        self.trust = RollTrust(name, owner=signed.roll.owner, now_s=lambda: 0.0)  # the hub's own roll is never stale
        self._seen = _stamp(folder / ROLL_FILE)
        self.trust.take(signed)

    @property
    def signed(self) -> SignedRoll:
        """The roll that stands now."""
        assert self.trust.signed is not None
        return self.trust.signed

    def refresh(self) -> bool:
        """Look whether the file has changed; True if there is a new roll. A bad one changes nothing and is logged once."""
        stamp = _stamp(self.folder / ROLL_FILE)
        if stamp == self._seen:
            return False
        self._seen = stamp
        try:
            return self.trust.take(roll_in(self.folder))
        except KuberError as error:
            log.warning("the roll in %s is not taken, the one before stands: %s", self.folder, error)
            return False

    def offer(self, signed: SignedRoll) -> bool:
        """A roll that somebody brought, already read; its owner's signature is what counts. True if it was new.

        Raises:
            RemoteError: as `RollTrust.take`.
        """
        with _locked(self.folder):
            self.refresh()
            new = self.trust.take(signed)
            if new:
                _write(self.folder, signed)
                self._seen = _stamp(self.folder / ROLL_FILE)
        return new

    def vouch(self, voucher: NodeId, key: str, name: NodeId) -> None:
        """Put a key on the roll because a member asks for it, with that member's rights.

        Raises:
            RemoteError: the policy is not "known", the voucher is no member or has vouched for enough, the key is revoked or
                named already, or the owner signs elsewhere.
        """
        roll = self.signed.roll
        by = next((member for member in roll.members.items() if member[1].name == voucher), None)
        if roll.policy != "known" or by is None:
            raise RemoteError(f"{voucher} cannot vouch: realm {roll.realm!r} is {roll.policy!r}, and only members vouch")
        if check_digest(key) in roll.revoked or key in roll.members or not self.trust.believes(check_node(name), key):
            raise RemoteError(f"the key {key[:12]}... is revoked or a member already, or the name {name!r} is taken")
        if sum(member.by == by[0] for member in roll.members.values()) >= VOUCHES_MAX:
            raise RemoteError(f"{voucher} has vouched for {VOUCHES_MAX} keys, no more")
        if not (self.folder / OWNER_FILE).exists():
            raise RemoteError(f"the owner of realm {roll.realm!r} signs elsewhere: ask it")
        newcomer = Member(name, by[1].rights, by[0])
        change(self.folder, None, lambda now: msgspec.structs.replace(now, members={**now.members, key: newcomer}))
        self.refresh()


def found(
    folder: Path, name: str, hub: str, owner: Keys, *, policy: Policy = "open", max_stale_s: int | None = None
) -> SignedRoll:
    """Write the first roll of a realm, with its hub as the only member. Raises ConfigError: there is one, or it cannot be."""
    roll = Roll(name, owner.public, 1, _now_ms(), policy, {hub: Member(HUB)})
    if max_stale_s is not None:
        roll = msgspec.structs.replace(roll, max_stale_s=max_stale_s)
    with _locked(folder):
        if (folder / ROLL_FILE).exists():
            raise ConfigError(f"{folder} has a roll already")
        return _write(folder, sign_roll(roll, owner))


def change(folder: Path, owner: Keys | None, edit: Callable[[Roll], Roll]) -> SignedRoll:
    """Sign and write the next roll: what `edit` makes of the one there. A running hub takes it up within a second.

    Args:
        folder: of the hub.
        owner: the realm's owner; None: the key in the folder.
        edit: from the roll that stands to the next; its serial and time are set afterwards.

    Raises:
        ConfigError: no roll there, the wrong owner, or a roll that cannot be.
    """
    with _locked(folder):
        before = roll_in(folder).roll
        after = edit(before)
        if after == before:
            return roll_in(folder)
        after = msgspec.structs.replace(after, serial=before.serial + 1, issued_at_ms=max(_now_ms(), before.issued_at_ms))
        return _write(folder, sign_roll(after, owner or keys_from(folder / OWNER_FILE)))


def owner_in(folder: Path) -> Keys:
    """The owner's keys in a hub's folder, drawn at the first time. Raises ConfigError: unreadable."""
    path = folder / OWNER_FILE
    with contextlib.suppress(FileExistsError):
        folder.mkdir(parents=True, mode=0o700)
    return keys_from(path) if path.exists() else new_keys(path)


def roll_in(folder: Path) -> SignedRoll:
    """The roll in a hub's folder. Raises ConfigError: none, or not one."""
    path = folder / ROLL_FILE
    try:
        with path.open("rb") as file:
            return read_roll(file.read(SIZE_MAX_BYTES + 1))
    except OSError as error:
        raise ConfigError(f"{folder} is not a hub's folder with a roll: {error}") from error
    except RemoteError as error:
        raise ConfigError(f"{path}: {error}") from error


def _write(folder: Path, signed: SignedRoll) -> SignedRoll:
    beside = folder / f".{ROLL_FILE}.new"
    try:
        with beside.open("wb") as file:
            file.write(canonical.encode(signed))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(folder / ROLL_FILE)
    except OSError as error:
        raise ConfigError(f"cannot write the roll in {folder}: {error}") from error
    return signed


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer of the roll at a time, across processes."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (folder / ".roll.lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise ConfigError(f"cannot lock the roll in {folder}: {error}") from error


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
