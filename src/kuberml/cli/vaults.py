"""A vault folder as commands see it: opened only if it is there, cards by the first characters of their digest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest
from kuberml.knowledge.card import Knowledge, SignedCard, decode_card
from kuberml.vault.folder import FolderStore

SHORT = 12
"""Characters of a digest that people are shown."""


@contextmanager
def opened(path: Path) -> Iterator[FolderStore]:
    """The vault in a folder. Raises ConfigError: there is none (one is never made by looking)."""
    if not is_vault(path):
        raise ConfigError(f"{path} is not a vault: a vault is a folder with index.sqlite and blobs/")
    with FolderStore(path) as store:
        yield store


def is_vault(path: Path) -> bool:
    """Whether a folder looks like a vault."""
    return (path / "index.sqlite").is_file() and (path / "blobs").is_dir()


def signed_cards(store: FolderStore) -> Iterator[SignedCard]:
    """All cards, by digest. Their signatures are not checked here."""
    return (decode_card(store.card(digest)) for digest in store.cards())


def pick(store: FolderStore, start: str) -> Digest:
    """The one card whose digest begins with `start`. Raises ConfigError: none, or several."""
    found = [digest for digest in store.cards() if digest.startswith(start)]
    if len(found) != 1:
        raise ConfigError(f"{len(found) or 'no'} cards begin with {start!r}: `kuberml show {store.path}` lists them")
    return found[0]


def knowledge(store: FolderStore, digest: Digest) -> Knowledge:
    """A card and its blobs. Raises KeyError: a blob is not here. InternalError: the disk gave other bytes."""
    signed = decode_card(store.card(digest))
    return Knowledge(signed, tuple(store.get(ref.digest) for ref in signed.card.blobs))
