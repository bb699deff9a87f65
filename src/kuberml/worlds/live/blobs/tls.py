"""TLS between members of a realm: both sides show a certificate that the realm's owner signed.

Whose certificate is it? Every member has one, so "signed by our owner" alone would let any member stand in for any other.
Two checks say who is at the other end; one of them always runs:

- *by name* (`client_context()`): the certificate names the host or address that was dialled. For hubs: their address is
  known beforehand and is in their certificate. Zenoh can check nothing else, so its links always use this.
- *by key* (`client_context(by_key=True)`): the certificate carries the URI `kuberml:KEY`, and KEY is the public key under
  which the holder announced itself, signed. For vaults of nodes, whose address changes and is in no certificate. Python has no
  such check, so the name check is off in this context and `BlobReader` compares the key after the handshake, before it sends
  a request; it refuses to dial with such a context where it was told no key.

Revocation is not in TLS: a certificate lives until it runs out. Who is revoked is refused one floor up, by the `gate` that
sees ticket and certificate key of every request.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kuberml.core.errors import ConfigError

URI_PREFIX = "kuberml:"
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Tls:
    """Where a member's certificates lie; all PEM.

    ca: the realm's own authority, nothing else is trusted. cert: this member's, with the chain. key: its secret key.
    """

    ca: Path
    cert: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """For listening: TLS 1.2 or newer, and whoever dials must show a certificate of the realm.

        Raises:
            ConfigError: a file is missing, not PEM, or certificate and key do not belong together.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return self._loaded(context)

    def client_context(self, *, by_key: bool = False) -> ssl.SSLContext:
        """For dialling; shows our certificate. `by_key`: the dialler compares the key instead of the name (see above).

        Raises:
            ConfigError: as `server_context`.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = not by_key
        return self._loaded(context)

    def zenoh(self) -> dict[str, Any]:
        """Zenoh's configuration entries (key -> value) for `tls/` links: mutual, by name, closed when a certificate ends."""
        return {
            "transport/link/tls/root_ca_certificate": str(self.ca),
            "transport/link/tls/listen_certificate": str(self.cert),
            "transport/link/tls/listen_private_key": str(self.key),
            "transport/link/tls/connect_certificate": str(self.cert),
            "transport/link/tls/connect_private_key": str(self.key),
            "transport/link/tls/enable_mtls": True,
            "transport/link/tls/verify_name_on_connect": True,
            "transport/link/tls/close_link_on_expiration": True,
        }

    def _loaded(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        for file in (self.ca, self.cert, self.key):
            if not file.is_file():
                raise ConfigError(f"no file {file}: certificates of a realm come from `kuberml keys`")
        try:
            context.load_verify_locations(self.ca)
            context.load_cert_chain(self.cert, self.key)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(f"cannot use {self.cert} with {self.key} and {self.ca} for TLS: {error}") from error
        return context


def key_of(certificate: Mapping[str, Any] | None) -> str | None:
    """The public key (64 hex characters) that a peer's certificate names in its URI, None if it names none or several.

    Args:
        certificate: what `SSLSocket.getpeercert()` gives: a certificate that was verified, or nothing.
    """
    names = (certificate or {}).get("subjectAltName", ())
    keys = {text[len(URI_PREFIX) :] for sort, text in names if sort == "URI" and text.startswith(URI_PREFIX)}
    key = keys.pop() if len(keys) == 1 else ""
    return key if _KEY.fullmatch(key) else None
