"""What every process of one live run reads: which run it is, where the hub is, and the secret that all its keys follow from.

The realm of a run is closed: only its own cast is on the roll, so that nobody else on the machine or network takes part.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

import blake3
import msgspec

from kuberml.core.canonical import encode
from kuberml.core.errors import ConfigError
from kuberml.core.ids import NodeId
from kuberml.knowledge.signing import Keys
from kuberml.scenario.config import Config
from kuberml.worlds.live.trust.realm import change, found, owner_in
from kuberml.worlds.live.trust.roll import Member, Roll
from kuberml.worlds.member.keyfile import keys_in

PROMPTER = NodeId("prompter")
"""The process that began the run: it tells the others when to begin and when it is over."""

FILE, SECRET_BYTES = "playbill.json", 32
PREDICTORS = "predictors"
"""Folder of what was served, by digest."""

Deal = Callable[[int, NodeId], Keys]
"""Keys of a node in a run: (seed, node) -> Keys."""


class Playbill(msgspec.Struct, frozen=True, kw_only=True):
    """One live run.

    Attributes:
        address: of the hub, for members; `listen`, `http`: where it listens.
        doors: whether members have HTTP doors of their own; False: they only dial out.
        owner: public key of the realm's owner.
        secret: hex, drawn for this run; keys of all nodes follow from it.
        scripts: folder of the scenario's file: a user's own paradigms and models lie there.
    """

    config: Config
    label: str
    seed: int
    address: str
    listen: str
    http: str
    doors: bool
    realm: str
    owner: str
    secret: str
    scripts: str = ""

    @property
    def deal(self) -> Deal:
        """The run's keys."""
        return drawn(bytes.fromhex(self.secret))


def new_secret() -> bytes:
    """Of a run."""
    return secrets.token_bytes(SECRET_BYTES)


def drawn(secret: bytes) -> Deal:
    """Keys that follow from a secret; the seed, which everybody can read, adds nothing."""
    return lambda seed, node: Keys(blake3.blake3(b"kuberml.live.keys\0" + secret + encode([node])).digest())


def found_realm(hub: Path, realm: str, members: dict[NodeId, str]) -> str:
    """Make the hub's folder, with a roll that lets these in (name -> public key) and nobody else. Returns the owner's key.

    Raises:
        ConfigError: the folder cannot be written.
    """
    owner = owner_in(hub)
    found(hub, realm, keys_in(hub / "hub.key").public, owner, policy="listed")
    listed = {key: Member(name) for name, key in members.items()}

    def admit(roll: Roll) -> Roll:
        return msgspec.structs.replace(roll, members={**roll.members, **listed})

    change(hub, owner, admit)
    return owner.public


def write_playbill(folder: Path, playbill: Playbill) -> None:
    """Into a folder; only its owner can read it. Raises ConfigError: it cannot be written."""
    try:
        part = folder / f"{FILE}.part"
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(playbill))
        part.replace(folder / FILE)
    except OSError as error:
        raise ConfigError(f"cannot write into {folder}: {error}") from error


def read_playbill(folder: Path) -> Playbill:
    """From a run's folder. Raises ConfigError: there is none."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Playbill)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{folder} is not the folder of a live run: {error}") from error
