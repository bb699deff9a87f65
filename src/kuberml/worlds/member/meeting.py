"""Where members meet: what a member needs of the place, and which sort of place an address names.

A path is a shared folder; `host:port` is a live hub (several with commas: the next is tried when one is away).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from kuberml.core.errors import ConfigError
from kuberml.core.ids import NodeId
from kuberml.core.seam import Clock, Compute, Recorder, Store, Transport
from kuberml.exchange.delivery.progress import Watch
from kuberml.knowledge.card import Card
from kuberml.knowledge.signing import Keys
from kuberml.knowledge.want import Offer

HUB_VARIABLE = "KUBERML_HUB"
"""Environment variable with the place to join where a program names none; `kuberml join` sets it."""

MEMBER = "peer"
"""The role of whoever joins with a training loop of his own."""

_HUB = re.compile(r"(?:(?:tcp|tls)/)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):\d{1,5}")


class Meeting(Protocol):
    """A place, entered by one member: the seam's four interfaces, who brokers there, and how one leaves."""

    @property
    def clock(self) -> Clock:
        """What time it is there."""
        ...

    @property
    def transport(self) -> Transport:
        """The member's door."""
        ...

    @property
    def compute(self) -> Compute:
        """Where its jobs run."""
        ...

    @property
    def store(self) -> Store:
        """What it holds, and its memory."""
        ...

    @property
    def recorder(self) -> Recorder:
        """Takes down what it does."""
        ...

    @property
    def watch(self) -> Callable[[Card], Watch] | None:
        """Who looks on while a package is on its way; None: nobody."""
        ...

    @property
    def hub(self) -> NodeId:
        """Who brokers."""
        ...

    async def handed_over(self, offer: Offer, keep: int) -> None:
        """Return once others get what I published even if I leave now; or, with a warning, if nobody answers for long.

        Raises:
            RemoteError: the place refuses it, and says why.
        """
        ...

    async def close(self) -> None:
        """Leave; what was handed over stays. Calling it twice is fine."""
        ...


def where_to(place: Path | str | None) -> Path | str:
    """The folder (a Path) or the hub's address (text) that a user means.

    Args:
        place: a path, an address, or None: what $KUBERML_HUB says.

    Raises:
        ConfigError: None, and the variable is not set either.
    """
    if place is None:
        place = os.environ.get(HUB_VARIABLE, "")
        if not place:
            raise ConfigError(
                f"no place to join: give a folder or a hub's address, as in join('127.0.0.1:7447', ...); or start the program"
                f" with `kuberml join --hub 127.0.0.1:7447 PROGRAM.py`, which sets ${HUB_VARIABLE}"
            )
    return place if isinstance(place, str) and is_address(place) else Path(place)


def is_address(text: str) -> bool:
    """Whether this is `host:port`, `tcp/host:port`, `tls/host:port`, or several of them with commas."""
    return all(_HUB.fullmatch(part.strip()) is not None for part in text.split(","))


async def enter(where: Path | str, node: NodeId, keys: Keys, vault: Path, role: str = MEMBER) -> Meeting:
    """Go in, and be known there as `node`.

    Args:
        where: a Path is a folder, text the address of a hub, see `where_to`.
        node: the name.
        keys: whose public half the name belongs to from now on.
        vault: folder of one's own for what is published and fetched; a shared folder is the vault itself.
        role: what one is to others.

    Raises:
        ConfigError: the name belongs to other keys, or the folder cannot be used.
        Unreachable: no hub answers at the address.
    """
    if isinstance(where, Path):
        from kuberml.worlds.folder.meeting import FolderMeeting

        return FolderMeeting(where, node, keys.public, role)
    from kuberml.worlds.live.meeting import LiveMeeting

    return await LiveMeeting.enter(where, node, keys, vault, role)
