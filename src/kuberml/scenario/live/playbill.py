"""What every process of one live run reads: which run it is, where the hub is, and the secret that all its keys follow from.

The realm of a run is closed: only its own cast is on the roll, so that nobody else on the machine or network takes part.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import blake3
import msgspec

from kuberml.core.canonical import encode
from kuberml.core.damage import NOT_JSON
from kuberml.core.errors import ConfigError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.knowledge.signing import Keys
from kuberml.scenario.config import Config
from kuberml.worlds.live.trust.realm import change, found, owner_in
from kuberml.worlds.live.trust.roll import Member, Roll
from kuberml.worlds.member.keyfile import keys_in

PROMPTER = NodeId("prompter")
"""The process that began the run: it tells the others when to begin and when it is over."""

FILE, WHERE, SECRET_BYTES = "playbill.json", "hub.json", 32
PATIENCE_S, LOOK_S = 120.0, 0.05
PREDICTORS = "predictors"
"""Folder of what was served, by digest."""

Deal = Callable[[int, NodeId], Keys]
"""Keys of a node in a run: (seed, node) -> Keys."""


class Playbill(msgspec.Struct, frozen=True, kw_only=True):
    """One live run.

    Attributes:
        host: where the hub listens; which ports it found free stands in `hub.json` (see `Whereabouts`).
        doors: whether members have HTTP doors of their own; False: they only dial out.
        owner: public key of the realm's owner.
        secret: hex, drawn for this run; keys of all nodes follow from it.
        scripts: folder of the scenario's file: a user's own paradigms and models lie there.
    """

    config: Config
    label: str
    seed: int
    host: str
    doors: bool
    realm: str
    owner: str
    secret: str
    scripts: str = ""

    @property
    def deal(self) -> Deal:
        """The run's keys."""
        return drawn(bytes.fromhex(self.secret))


class Whereabouts(msgspec.Struct, frozen=True):
    """Where the hub is: what members dial, and its page. Written by the hub when it is ready, read again when it restarts."""

    address: str
    page: str


def whereabouts(folder: Path) -> Whereabouts | None:
    """Where the hub of a run is; None: it has not been ready yet."""
    try:
        return msgspec.json.decode((folder / WHERE).read_bytes(), type=Whereabouts)
    except (OSError, *NOT_JSON):
        return None


async def find_hub(folder: Path, patience_s: float = PATIENCE_S) -> Whereabouts:
    """The same, waiting for it. Raises Unreachable: not within the patience."""
    until_s = time.monotonic() + patience_s
    while (found := whereabouts(folder)) is None:
        if time.monotonic() > until_s:
            raise Unreachable(f"the hub was not ready {patience_s:g} s after the start; see {folder}/logs/hub.log")
        await asyncio.sleep(LOOK_S)
    return found


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


def is_begun(folder: Path) -> bool:
    """Whether a folder holds a run whose stage was set."""
    return (folder / FILE).exists()


def read_playbill(folder: Path) -> Playbill:
    """From a run's folder. Raises ConfigError: there is none."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Playbill)
    except (OSError, *NOT_JSON) as error:
        raise ConfigError(f"{folder} is not the folder of a live run: {error}") from error
