"""A safetensors file of any size as a package of kind `weights`, with one chunk of it in memory.

The file may be in any order and have metadata: the blob is its canonical form, so equal tensors have one digest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, LabelId
from kuberml.core.seam import Store
from kuberml.knowledge import layout
from kuberml.knowledge.card import BlobRef, Card, Claim, SignedCard, Terms
from kuberml.knowledge.kinds.weights import SENT, Wire, check_facts, facts_of
from kuberml.knowledge.layout import Entry
from kuberml.knowledge.pack import sealed
from kuberml.knowledge.pieces import cut_by_size
from kuberml.knowledge.signing import Keys
from kuberml.knowledge.tensor_cuts import cut_at_tensors
from kuberml.knowledge.tensors import MAX_AXES, MAX_TENSORS

CHUNK_BYTES = 1 << 20
RIGHT = "weights are float32 (or all of those float16), float64, int64 and bool: convert it before"


def make_from_file(
    path: Path | str,
    store: Store,
    *,
    keys: Keys,
    task: str,
    slot: str,
    version: int,
    learned_at_ms: int,
    labels: Mapping[LabelId, int] | None = None,
    outputs: tuple[LabelId, ...] = (),
    basis: Digest | None = None,
    claims: tuple[Claim, ...] = (),
    parents: tuple[Digest, ...] = (),
    terms: Terms = Terms(),  # noqa: B008 - frozen
) -> SignedCard:
    """Check a file, put its blob into the store, and sign its card (which is the caller's to put).

    Args:
        path: the file; it is read twice.
        store: where the blob goes, piece by piece.
        keys, task, slot, version, learned_at_ms, claims, parents, terms: see `pack.make`.
        labels, outputs, basis: see `kinds.weights.Weights`.

    Raises:
        ConfigError: no such file, not safetensors, a tensor that may not travel (the message names it), or other rules of
            the kind; also when the file changes meanwhile.
        OSError: the store's disk is full or broken.
    """
    counts = dict(labels or {})
    check_facts(counts, outputs, ConfigError)
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    with file:
        form = Form(file.fileno(), str(path))
        ref = form.refer()
        card = Card(kind="weights", task=task, labels=counts, basis=basis, author=keys.public, slot=slot, version=version,
                    blobs=(ref,), learned_at_ms=learned_at_ms, claims=claims, parents=parents, terms=terms,
                    facts=facts_of(form.wire, outputs))  # fmt: skip
        signed = sealed(card, keys)
        if store.size_bytes(ref.digest) is None:
            form.copy(store, ref)
    return signed


class Form:
    """The canonical form of a file. Raises ConfigError: it breaks a rule; so do its methods, for numbers."""

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor, self._path = descriptor, path
        try:
            self._data_start = layout.header_bytes(os.pread(descriptor, layout.LENGTH_BYTES, 0))
            header = os.pread(descriptor, self._data_start, 0)
            found = layout.read_header(header, os.fstat(descriptor).st_size - self._data_start)
        except RemoteError as error:
            more = f"; {RIGHT}" if "does not travel" in str(error) else ""
            raise ConfigError(f"{path} is not a safetensors file that can be published: {error}{more}") from error
        self.wire = self._check(found)
        self.has_floats = any(entry.dtype in ("F16", "F32") for entry in found.values())
        self._found, self._ordered = found, layout.canonical(found)
        self._header = layout.write_header(self._ordered)

    def _check(self, found: Mapping[str, Entry]) -> Wire:
        """How the tensors travel: as they are."""
        dtypes = {entry.dtype for entry in found.values()}
        if not 0 < len(found) <= MAX_TENSORS:
            raise ConfigError(f"{self._path} has {len(found)} tensors; 1 to {MAX_TENSORS} are allowed")
        wire: Wire = "fp16" if "F16" in dtypes and "F32" not in dtypes else "fp32"
        for name, entry in found.items():
            if layout.NUMPY[entry.dtype] not in SENT[wire]:
                raise ConfigError(f"tensor {name!r:.80} in {self._path} is {layout.NUMPY[entry.dtype]}; {RIGHT}")
            if not 1 <= len(name) <= 256 or len(entry.shape) > MAX_AXES:
                raise ConfigError(f"tensor {name!r:.80} has a name of 1 to 256 characters and at most {MAX_AXES} axes")
        return wire

    def refer(self) -> BlobRef:
        """What its card says of it; every number is looked at."""
        ends = layout.ends(len(self._header), self._ordered.values())
        cuts = cut_at_tensors(ends) or cut_by_size(ends[-1])
        whole, piece, hashes, at = blake3(), blake3(), bytearray(), 0
        for chunk in self._chunks():
            whole.update(chunk)
            rest = memoryview(chunk)
            while rest:
                part = rest[: cuts[len(hashes) // 32] - at]
                piece.update(part)
                rest, at = rest[len(part) :], at + len(part)
                if at == cuts[len(hashes) // 32]:
                    hashes += piece.digest()
                    piece = blake3()
        return BlobRef(Digest(whole.hexdigest()), ends[-1], cuts, bytes(hashes))

    def copy(self, store: Store, ref: BlobRef) -> None:
        """Into the store. Raises ConfigError: it is not what it was."""
        part, at = store.part(ref.digest, ref.size_bytes), 0
        try:
            for chunk in self._chunks():
                part.write(at, chunk)
                at += len(chunk)
            part.finish()
        except RemoteError as error:
            raise ConfigError(f"{self._path} was changed while it was read: publish it again") from error
        finally:
            part.close()

    def _chunks(self) -> Iterator[bytes]:
        yield self._header
        for name in self._ordered:
            entry = self._found[name]
            start, stop = (self._data_start + offset for offset in entry.data_offsets)
            for at in range(start, stop, CHUNK_BYTES):
                chunk = os.pread(self._descriptor, min(CHUNK_BYTES, stop - at), at)
                if len(chunk) != min(CHUNK_BYTES, stop - at):
                    raise ConfigError(f"{self._path} was cut off while it was read: publish it again")
                self._check_numbers(name, entry, chunk)
                yield chunk

    def _check_numbers(self, name: str, entry: Entry, chunk: bytes) -> None:
        numbers: Any = np.frombuffer(chunk, np.dtype(layout.NUMPY[entry.dtype]).newbyteorder("<"))
        if entry.dtype.startswith("F") and not np.isfinite(numbers).all():
            raise ConfigError(f"tensor {name!r} in {self._path} holds NaN or infinity")
