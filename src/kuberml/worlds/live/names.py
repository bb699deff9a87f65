"""Names on the wire: where a hub is, and which key expression carries what. See docs/protocol.md.

kuberml/1/REALM/ask/NODE/NAME               a question to NODE
kuberml/1/REALM/news/TOPIC                  an announcement
kuberml/1/REALM/here/NODE/ROLE/KEY/EPOCH    somebody is present
kuberml/1/REALM/blob/NODE/DIGEST            a range of a blob that NODE holds
"""

from __future__ import annotations

import re
import socket

import msgspec

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, NodeId, check_node

PROTOCOL = 1
PORT, HTTP_PORT = 7447, 7448
HUB = NodeId("hub")
"""The node that every hub is to its members."""

_ROOT = f"kuberml/{PROTOCOL}"
_KEY, _EPOCH = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{32}")


class Endpoint(msgspec.Struct, frozen=True):
    """One way to a hub."""

    host: str
    port: int
    secure: bool = False

    def __str__(self) -> str:
        """As people write it, and as Zenoh does."""
        return f"{'tls' if self.secure else 'tcp'}/{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class Presence(msgspec.Struct, frozen=True):
    """What a token says: who is here, as what, with which key, since which start of its process."""

    node: NodeId
    role: str
    key: str
    epoch: str


def endpoints(address: str, *, port: int | None = None) -> tuple[Endpoint, ...]:
    """The endpoints of an address: `host:port`, `tcp/host:port`, `tls/host:port`; several with commas.

    Args:
        address: the text.
        port: what is meant where none is named; None: one has to be.

    Raises:
        ConfigError: it is none of these.
    """
    return tuple(_endpoint(part.strip(), port) for part in address.split(","))


def _endpoint(text: str, default: int | None) -> Endpoint:
    scheme, _, rest = text.rpartition("/")
    host, colon, port = rest.rpartition(":")
    is_bare = not colon or rest.endswith("]")
    if is_bare:
        host, port = rest, str(PORT if default is None else default)
    host = host.removeprefix("[").removesuffix("]")
    if scheme not in ("", "tcp", "tls") or not host or not port.isdecimal() or not 0 <= int(port) < 65536:
        raise ConfigError(f"{text!r} is not a hub's address: right are host:port, tcp/host:port and tls/host:port")
    if is_bare and default is None:  # not guessed: `kuberml.join` takes a bare name for a folder
        raise ConfigError(f"{text!r} names no port: {text}:{PORT}, where a hub listens on its usual one")
    return Endpoint(host, int(port), scheme == "tls")


def free_port(host: str) -> int:
    """A port that nobody listens on now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def ask_key(realm: str, node: NodeId, name: str) -> str:
    """Where `node` answers `name`; "*" is all that it answers."""
    return f"{_ROOT}/{_part(realm)}/ask/{_part(node)}/{name if name == '*' else _part(name)}"


def news_key(realm: str, topic: str) -> str:
    """Where `topic` is announced. Its parts are between slashes."""
    return f"{_ROOT}/{_part(realm)}/news/{'/'.join(_part(part) for part in topic.split('/'))}"


def here_key(realm: str, presence: Presence) -> str:
    """The token of somebody who is present."""
    node, role = _part(presence.node), _part(presence.role)
    return f"{_ROOT}/{_part(realm)}/here/{node}/{role}/{presence.key}/{presence.epoch}"


def here_keys(realm: str) -> str:
    """All tokens of a realm."""
    return f"{_ROOT}/{_part(realm)}/here/**"


def read_here(key: str) -> Presence:
    """What a token's key says. Anybody can declare one: it is checked, and it proves nothing yet.

    Raises:
        RemoteError: not a token's key.
    """
    parts = key.split("/")
    if len(parts) != 8 or not _KEY.fullmatch(parts[6]) or not _EPOCH.fullmatch(parts[7]) or not 1 <= len(parts[5]) <= 64:
        raise RemoteError(f"not a token of presence: {key!r:.120}")
    return Presence(check_node(parts[4]), _unpart(parts[5]), parts[6], parts[7])


def blob_key(realm: str, holder: NodeId, digest: Digest) -> str:
    """Where `holder` gives ranges of a blob."""
    return f"{blob_prefix(realm, holder)}/{digest}"


def blob_prefix(realm: str, holder: NodeId) -> str:
    """What the keys of all its blobs begin with."""
    return f"{_ROOT}/{_part(realm)}/blob/{_part(holder)}"


def _part(text: str) -> str:
    """One chunk of a key expression: what is not a letter, digit, `-`, `_` or `.` as %HH of its UTF-8 bytes."""
    if not text:
        return "%"
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "".join(f"%{b:02X}" for b in c.encode()) for c in text)


def _unpart(chunk: str) -> str:
    if chunk == "%":
        return ""
    try:
        return re.sub(rb"%([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), chunk.encode()).decode()
    except UnicodeDecodeError as error:
        raise RemoteError(f"not a name: {chunk!r:.120}") from error
