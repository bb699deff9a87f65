"""How a user's own process enters a realm: as the keyring says, with the certificates in a folder."""

from __future__ import annotations

import os
from pathlib import Path

from kuberml.core.errors import ConfigError
from kuberml.worlds.live.blobs.tls import Tls
from kuberml.worlds.live.trust.keyring import Keyring
from kuberml.worlds.live.trust.policy import Trust

DEFAULT_REALM = "default"
"""The realm of hubs that were given none: for trying things out. Its owner is pinned nowhere: every such hub has another."""

REALM_VARIABLE, TLS_VARIABLE = "KUBERML_REALM", "KUBERML_TLS"
"""Environment variables: the hub's realm, and the folder with certificates; `kuberml join` sets them."""


def realm_named(realm: str = "") -> str:
    """The realm that is meant: as given, else $KUBERML_REALM, else the default one."""
    return realm or os.environ.get(REALM_VARIABLE) or DEFAULT_REALM


def trust_for(realm: str) -> Trust | None:
    """Whom to believe in a realm: its owner and hub as the keyring has pinned them; None, in the default realm: as it comes.

    Raises:
        ConfigError: the keyring is damaged.
    """
    return None if realm == DEFAULT_REALM else Keyring().trust_in(realm)


def tls_in(folder: Path | str | None = None) -> Tls | None:
    """The certificates in a folder, as `kuberml keys certify` leaves them: ca.pem, NAME.pem, NAME.tls.key.

    Args:
        folder: None or "": $KUBERML_TLS; where that is empty too, there is no TLS.

    Raises:
        ConfigError: one of the three is missing, or there are several.
    """
    path = folder or os.environ.get(TLS_VARIABLE) or None
    if path is None:
        return None
    secret = sorted(Path(path).glob("*.tls.key"))
    if len(secret) != 1:
        raise ConfigError(f"{path} has {len(secret) or 'no'} files *.tls.key; one is right: see `kuberml keys certify --help`")
    name = secret[0].name.removesuffix(".tls.key")
    tls = Tls(Path(path) / "ca.pem", Path(path) / f"{name}.pem", secret[0])
    for file in (tls.ca, tls.cert):
        if not file.is_file():
            raise ConfigError(f"{file} is missing; see `kuberml keys certify --help`")
    return tls


def advice(address: str, tls: Tls | None) -> str:
    """What to try where no hub answers at an address: with certificates a hub is dialled otherwise, and says nothing else."""
    if "tls/" in address:
        return "it may be away" if tls else "a hub at tls/... lets in who has a certificate: --tls FOLDER, or $KUBERML_TLS"
    if tls:
        return "a hub with --tls is dialled as tls/HOST:PORT"
    return "`kuberml hub` starts one; one with --tls answers at tls/HOST:PORT only"
