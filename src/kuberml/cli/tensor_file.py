"""A package of kind weights as the file that others load, .safetensors: what `kuberml publish FILE` is undone by."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kuberml.core.errors import ConfigError

if TYPE_CHECKING:
    from kuberml.knowledge.card import SignedCard
    from kuberml.vault.folder import FolderStore


def write_tensors(store: FolderStore, start: str, out: Path) -> SignedCard:
    """Check a package where it lies and copy its tensors into a file; whatever its size, with one piece in memory.

    Raises:
        ConfigError: no such card, another kind, its blob is not here, or the file cannot be written.
        RemoteError: something is wrong with the package.
    """
    from kuberml.cli.vaults import pick
    from kuberml.knowledge.card import decode_card
    from kuberml.vault.in_place import check_in_place

    signed = decode_card(store.card(pick(store, start)))
    if signed.card.kind != "weights":
        raise ConfigError(f"a package of kind {signed.card.kind!r} has no tensors to write: right are weights")
    blob = signed.card.blobs[0].digest
    if store.size_bytes(blob) is None:
        raise ConfigError(f"the tensors of {signed.digest[:12]} are not in {store.path}: fetch them first")
    check_in_place(store, signed)
    descriptor = store.descriptor(blob)  # a blob lies there in the very form of such a file
    try:
        _copy(descriptor, out)
    finally:
        os.close(descriptor)
    return signed


def _copy(descriptor: int, out: Path) -> None:
    part = out.with_name(f"{out.name}.part")
    try:
        with part.open("wb") as file:
            size_bytes, at = os.fstat(descriptor).st_size, 0
            while at < size_bytes:
                at += os.sendfile(file.fileno(), descriptor, at, size_bytes - at)
        part.replace(out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {out}: {error}") from error
