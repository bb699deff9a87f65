"""What a node says when it joins a hub, and what the hub answers."""

from __future__ import annotations

import msgspec

from kuberml.worlds.live.names import PROTOCOL


class Hello(msgspec.Struct, frozen=True):
    """Of a node. Unknown fields are passed over: later versions say more."""

    role: str
    urls: tuple[str, ...] = ()
    software: str = ""
    protocol: int = PROTOCOL


class Welcome(msgspec.Struct, frozen=True):
    """Of the hub.

    Attributes:
        key: the hub's public key.
        urls: where its HTTP door is: blobs, the page, and requests when its router cannot be reached.
        roll: the realm's signed roll; b"" where the realm has none.
        software, protocol: for people, and for rolling upgrades.
    """

    key: str
    urls: tuple[str, ...] = ()
    roll: bytes = b""
    software: str = ""
    protocol: int = PROTOCOL
