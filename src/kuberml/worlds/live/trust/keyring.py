"""A user's keyring: own secret keys, whom the user trusts, and which owner and hub each realm had when it was first met.

    HOME/keys/NAME.key      secret keys, mode 600
    HOME/keyring.json       trusted keys with names, keys refused, owners of realms, keys of hubs; nothing secret
    HOME/rolls/REALM.roll   the newest roll seen of each realm: no older one is taken after a restart

HOME is $KUBERML_HOME, else `kuberml` in the user's configuration folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from kuberml.core import canonical
from kuberml.core.damage import NOT_JSON
from kuberml.core.errors import ConfigError, RemoteError, nearest
from kuberml.core.ids import NodeId, check_digest, check_node
from kuberml.knowledge.signing import Keys
from kuberml.worlds.live.trust.by_roll import RollTrust
from kuberml.worlds.live.trust.roll import SignedRoll, read_roll
from kuberml.worlds.live.trust.secret_files import keys_from, new_keys

HOME_VARIABLE = "KUBERML_HOME"
HUB = NodeId("hub")


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a keyring remembers of others. Keys are public keys, 64 hex characters.

    Attributes:
        trusted: key -> the name that the user gave it.
        refused: keys that the user does not want, whatever a roll says.
        owners: realm -> its owner's key.
        hubs: realm -> its hub's key.
    """

    trusted: dict[str, str] = {}
    refused: tuple[str, ...] = ()
    owners: dict[str, str] = {}
    hubs: dict[str, str] = {}


def home() -> Path:
    """Where the user's keyring is; see the module."""
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kuberml"


class Keyring:
    """One user's."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder`: default `home()`. Nothing is made before something is kept."""
        self.folder = home() if folder is None else folder

    def create(self, name: str) -> Keys:
        """A new key pair under a name. Raises ConfigError: the name is taken or cannot be a file's."""
        self._make(self.folder / "keys")
        return new_keys(self._path(name))

    def keys(self, name: str) -> Keys:
        """Own keys by name. Raises ConfigError: no such key, or others can read its file."""
        path = self._path(name)
        if not path.exists():
            raise ConfigError(f"no key {name!r} in {self.folder}: {nearest(name, self.names())}; `kuberml keys create {name}`")
        return keys_from(path)

    def names(self) -> tuple[str, ...]:
        """Names of own keys."""
        return tuple(sorted(path.stem for path in (self.folder / "keys").glob("*.key")))

    @property
    def known(self) -> Known:
        """What is remembered of others. Raises ConfigError: the file is damaged."""
        path = self.folder / "keyring.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Known)
        except FileNotFoundError:
            return Known()
        except (OSError, *NOT_JSON) as error:
            raise ConfigError(f"{path} is not a keyring: {error}") from error

    def change(self, edit: Callable[[Known], Known]) -> Known:
        """Replace what is remembered by what `edit` makes of it; one writer at a time. Raises ConfigError: cannot write."""
        self._make(self.folder)
        try:
            with (self.folder / ".keyring.lock").open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                after = edit(self.known)
                self._put("keyring.json", msgspec.json.format(msgspec.json.encode(after), indent=1) + b"\n")
                return after
        except OSError as error:
            raise ConfigError(f"cannot write the keyring in {self.folder}: {error}") from error

    def trust(self, key: str, name: str) -> None:
        """Let a key in under "known", by a name of the user's choice. Raises ConfigError: not a public key."""
        public = public_key(key)
        self.change(
            lambda now: msgspec.structs.replace(
                now, trusted={**now.trusted, public: name}, refused=tuple(other for other in now.refused if other != public)
            )
        )

    def refuse(self, key: str) -> None:
        """Neither trust a key nor let it in, whatever a roll says. Raises ConfigError: not a public key."""
        public = public_key(key)
        self.change(
            lambda now: msgspec.structs.replace(
                now,
                trusted={other: name for other, name in now.trusted.items() if other != public},
                refused=(*(other for other in now.refused if other != public), public),
            )
        )

    def pin(self, realm: str, *, owner: str | None = None, hub: str | None = None) -> None:
        """Remember whose realm it is, and its hub's key: from then on another one is refused."""
        owners = {} if owner is None else {realm: public_key(owner)}
        hubs = {} if hub is None else {realm: public_key(hub)}
        self.change(lambda now: msgspec.structs.replace(now, owners={**now.owners, **owners}, hubs={**now.hubs, **hubs}))

    def trust_in(self, realm: str) -> RollTrust:
        """The trust of a node of this user in a realm: pinned owner and hub, newest roll seen, own friends and foes.

        An owner that was not pinned is pinned when its first roll comes: trust on first use. Raises ConfigError: damage.
        """
        known, path = self.known, self.folder / "rolls" / f"{check_node(realm)}.roll"
        owner, roll = known.owners.get(realm), None
        if path.exists():
            try:
                roll = read_roll(path.read_bytes())
            except (OSError, RemoteError) as error:
                raise ConfigError(f"{path} is damaged ({error}); remove it to begin anew with this realm") from error
            if owner is not None and roll.roll.owner != owner:
                roll = None  # the user has pinned another owner since
        names = {HUB: known.hubs[realm]} if realm in known.hubs else {}
        return RollTrust(
            realm, owner=owner, roll=roll, trusted=known.trusted, revoked=known.refused, names=names, on_new=self._keep
        )

    def _keep(self, signed: SignedRoll) -> None:
        realm = signed.roll.realm
        self._make(self.folder / "rolls")
        self._put(f"rolls/{realm}.roll", canonical.encode(signed))
        if realm not in self.known.owners:
            self.pin(realm, owner=signed.roll.owner)

    def _path(self, name: str) -> Path:
        try:
            return self.folder / "keys" / f"{check_node(name)}.key"
        except RemoteError as error:
            raise ConfigError(f"a key's name is letters, digits, - _ . and at most 64 of them, not {name!r:.80}") from error

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(f"cannot make the keyring {folder}: {error}; name another one by ${HOME_VARIABLE}") from error

    def _put(self, name: str, content: bytes) -> None:
        beside = self.folder / f"{name}.new"
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(beside.open("wb"))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.folder / name)


def public_key(text: str) -> str:
    """A public key as users type it. Raises ConfigError: not 64 hex characters."""
    try:
        return check_digest(text.strip().lower())
    except RemoteError as error:
        raise ConfigError(f"a public key has 64 hex characters, not {text!r:.80}: `kuberml keys show` prints yours") from error
