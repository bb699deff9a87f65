"""Who a member is where its program does not say: the same program with the same arguments is the same member.

identity()    # of `learner.py 5 6 7`: learner-5-6-7-3f9c, with learner-5-6-7.key and learner-5-6-7.vault
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import NodeId, check_node, digest_of
from kuberml.knowledge.signing import Keys
from kuberml.worlds.live.trust.keyring import home
from kuberml.worlds.member.keyfile import keys_in

NAME_VARIABLE, KEY_VARIABLE = "KUBERML_NAME", "KUBERML_KEY"
"""Environment variables with the name and the key to take where a program gives none; options of `kuberml join` set them."""

STEM_CHARACTERS = 40
KEY_CHARACTERS = 4
"""Of the public key, at the end of a name that nobody chose: another machine that runs the same program has another."""


class Identity(NamedTuple):
    """Who a member is: its name, its keys and their file, and the folder of its own for what it publishes and fetches."""

    node: NodeId
    keys: Keys
    key: Path
    vault: Path


def known_as(name: str = "", *, key: Path | str | None = None, vault: Path | str | None = None, stem: str = "") -> Identity:
    """Who a member is, its keys drawn at first use.

    Args:
        name: as the user chose it; "": $KUBERML_NAME, else made from `stem` and the key, so that it stays the same as long
            as the key file is there.
        key: file of the secret key, or the name of one in the user's keyring; default `NAME.key` in the current folder
            (`STEM.key` for a made name).
        vault: default `NAME.vault`, or `STEM.vault`.
        stem: what a made name begins with where `name` is "", whatever $KUBERML_NAME says; default: the program and its
            arguments.

    Raises:
        ConfigError: the name cannot be one, or the key file cannot be used.
    """
    chosen = name or ("" if stem else os.environ.get(NAME_VARIABLE, ""))
    key = key or ("" if stem else os.environ.get(KEY_VARIABLE, "")) or None
    base = _checked(chosen) if chosen else stem or _stem(Path(sys.argv[0]).stem, sys.argv[1:])
    file = key_file(Path(key)) if key is not None else Path(f"{base}.key")
    keys = keys_in(file)
    node = base if chosen else f"{base}-{keys.public[:KEY_CHARACTERS]}"
    return Identity(NodeId(node), keys, file, Path(vault) if vault is not None else Path(f"{base}.vault"))


def key_file(key: Path) -> Path:
    """The file of a secret key: as given, or, where there is none and the user's keyring has a key of this name, that one."""
    if not key.exists() and key.name == str(key) and (own := home() / "keys" / f"{key}.key").is_file():
        return own
    return key


def _checked(name: str) -> str:
    try:
        return check_node(name)
    except RemoteError as error:
        raise ConfigError(f"name = {name!r}: {error}") from error


def _stem(program: str, arguments: list[str]) -> str:
    """From a program's name and its arguments; what does not fit into a name is replaced by a digest of all of it."""
    whole = "-".join([program, *arguments])
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", whole) and len(whole) <= STEM_CHARACTERS:
        return whole
    plain = re.sub(r"[^A-Za-z0-9]+", "-", program).strip("-")[: STEM_CHARACTERS // 2]
    return f"{plain or 'learner'}-{digest_of(whole.encode())[:8]}"
