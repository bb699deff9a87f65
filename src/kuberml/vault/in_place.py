"""The checks of `knowledge.pack.open_value` on weights where they lie, with one piece in memory: they may be larger than it.

Values that are opened have at most `tensors.MAX_BYTES`; what is published, delivered and kept need not be opened.
"""

from __future__ import annotations

import os

from blake3 import blake3

from kuberml.core.errors import ConfigError, InternalError, RemoteError
from kuberml.knowledge.card import BlobRef, Card, SignedCard
from kuberml.knowledge.from_file import Form
from kuberml.knowledge.kinds.weights import check_facts, facts_in
from kuberml.knowledge.pack import check_limits
from kuberml.knowledge.pieces import check_piece, span
from kuberml.knowledge.signing import check_card
from kuberml.vault.folder import FolderStore

LARGE_BYTES = 64 << 20
"""Above it this is worth a second look at the file."""


def is_large(card: Card) -> bool:
    """Whether a package is looked at where it lies."""
    return card.kind == "weights" and card.size_bytes > LARGE_BYTES


def check_in_place(store: FolderStore, signed: SignedCard) -> None:
    """Check a package of kind weights.

    Raises:
        KeyError: its blob is not here.
        RemoteError: something is wrong, and what.
        InternalError: the disk gave other bytes; the blob is dropped.
    """
    card = signed.card
    check_limits(signed)
    check_card(signed)
    if len(card.blobs) != 1:
        raise RemoteError(f"{card.kind} has one blob, not {len(card.blobs)}")
    wire, outputs = facts_in(card)
    check_facts(card.labels, outputs, RemoteError)
    ref = card.blobs[0]
    descriptor = store.descriptor(ref.digest)
    try:
        _check_bytes(store, ref, descriptor)
        form = Form(descriptor, f"blob {ref.digest[:12]}")
        if form.refer().digest != ref.digest:
            raise RemoteError("tensors are not in canonical form")
    except ConfigError as error:  # the same rules, but here they were its author's
        raise RemoteError(str(error)) from error
    finally:
        os.close(descriptor)
    if form.has_floats and form.wire != wire:
        raise RemoteError(f"the tensors are {form.wire}, and the card says {wire}")


def _check_bytes(store: FolderStore, ref: BlobRef, descriptor: int) -> None:
    """All pieces, and the whole."""
    whole, wrong = blake3(), None
    for index in range(len(ref.cuts)):
        start, stop = span(ref, index)
        piece = os.pread(descriptor, stop - start, start)
        whole.update(piece)
        try:
            check_piece(ref, index, piece)
        except RemoteError as error:
            wrong = wrong or error
    if whole.hexdigest() != ref.digest or os.fstat(descriptor).st_size != ref.size_bytes:
        store.delete(ref.digest)
        raise InternalError(f"the disk gave other bytes for blob {ref.digest[:12]}...: dropped, fetch it again")
    if wrong is not None:
        raise wrong
