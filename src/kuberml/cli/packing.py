"""A file of tensors as a signed package in one's own vault: the next version of its slot, or the one that is there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from kuberml.core.errors import ConfigError

if TYPE_CHECKING:
    from kuberml.knowledge.card import SignedCard
    from kuberml.knowledge.signing import Keys
    from kuberml.vault.folder import FolderStore


class Wish(NamedTuple):
    """What is to be published, as its user says it."""

    file: Path
    task: str
    labels: str
    slot: str = ""
    licence: str = ""
    purposes: tuple[str, ...] = ()


def check(wish: Wish) -> None:
    """Whether it can be, before anything is read. Raises ConfigError: it cannot."""
    if wish.file.suffix != ".safetensors":
        raise ConfigError(f"{wish.file}: right is a .safetensors file; other formats could run code when they are opened")
    if not wish.file.is_file():
        raise ConfigError(f"there is no file {wish.file}")
    counts(wish.labels)


def pack_file(wish: Wish, vault: Path, keys: Keys) -> SignedCard:
    """Make the package, in bounded memory. The same file again, with the same words, is the same package.

    Raises:
        ConfigError: the file is not safetensors, or breaks a rule.
    """
    from kuberml.knowledge.card import Terms, encode_card
    from kuberml.knowledge.from_file import make_from_file
    from kuberml.vault.folder import FolderStore

    slot = wish.slot or wish.file.stem
    with FolderStore(vault) as store:
        before = _newest(store, keys.public, slot)
        made = make_from_file(
            wish.file, store, keys=keys, task=wish.task, slot=slot, version=0 if before is None else before.card.version + 1,
            learned_at_ms=time.time_ns() // 1_000_000, labels=counts(wish.labels),
            terms=Terms(licence=wish.licence, purposes=wish.purposes),
        )  # fmt: skip
        if before is not None and _is_same(made, before):
            return before
        store.put_card(made.digest, encode_card(made))
    return made


def counts(text: str) -> dict[str, int]:
    """Samples of each label, from "3=120,8=80". Raises ConfigError: it does not say so."""
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        label, _, count = part.rpartition("=")
        if not label or not count.isdecimal() or int(count) < 1:
            raise ConfigError(f"--labels {part}: say from how many samples it learned each label, as in 3=120,8=80")
        found[label] = int(count)
    return found


def _newest(store: FolderStore, author: str, slot: str) -> SignedCard | None:
    from kuberml.cli.vaults import signed_cards

    mine = [signed for signed in signed_cards(store) if (signed.card.author, signed.card.slot) == (author, slot)]
    return max(mine, key=lambda signed: signed.card.version, default=None)


def _is_same(made: SignedCard, before: SignedCard) -> bool:
    """Whether only version and time are new."""
    card = before.card
    return msgspec.structs.replace(made.card, version=card.version, learned_at_ms=card.learned_at_ms) == card
