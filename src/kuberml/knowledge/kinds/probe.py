"""Kind `probe`: a small *public* sample set, on which claims are tested and which soft labels are about.

Its name is the digest of its blob, which holds samples, scale and labels: whoever has the digest can fetch exactly this
set from anybody. Never put private samples into one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, LabelId, digest_of
from kuberml.core.values import value
from kuberml.knowledge import small_ints
from kuberml.knowledge.card import Card
from kuberml.knowledge.checks import Fault, check_labels, check_names, only_blob, read_facts
from kuberml.knowledge.kind import Packed

SCHEMA = "kuberml.probe/1"
MAX_BYTES = 64 * 2**20
MAX_SAMPLES = 2**20
MAX_VALUES = 2**26

Bytes = npt.NDArray[np.uint8]


@value
class Probe(msgspec.Struct, frozen=True, eq=False):
    """N public samples of shape [...].

    Attributes:
        x_N: uint8 [N, ...], 0..levels: the share x / levels of the full scale.
        y_N: uint16 [N], positions in `labels`; None if the samples have no labels (good for soft labels, not for claims).
        labels: sorted names of the labels that occur; () if there are none.
        levels: full scale, 1..255; fewer levels are fewer bits on the wire (16 for the 8 x 8 digits, 1 for line drawings).
    """

    x_N: Bytes
    y_N: npt.NDArray[np.uint16] | None = None
    labels: tuple[LabelId, ...] = ()
    levels: int = 255

    def __len__(self) -> int:
        return len(self.x_N)

    def inputs(self) -> npt.NDArray[np.float32]:
        """The samples as models take them: float32 [N, ...], 0..1."""
        return self.x_N.astype(np.float32) / np.float32(self.levels)

    def counts(self) -> dict[LabelId, int]:
        """Samples of each label."""
        if self.y_N is None:
            return {}
        found = np.bincount(self.y_N, minlength=len(self.labels))
        return {name: int(count) for name, count in zip(self.labels, found, strict=True)}


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    shape: tuple[int, ...]  # N first
    levels: int
    labels: tuple[str, ...]
    x: bytes  # x_N in as few bits as `levels` needs
    y: bytes | None
    schema: str


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    samples: int


class ProbeKind:
    """See `Kind`. One blob: canonical bytes of the sample set. A card's labels are the samples of each label."""

    name = "probe"

    def pack(self, value: Probe) -> Packed:
        """Raises ConfigError: values over `levels`, positions outside the labels, labels not sorted or without a sample."""
        return Packed((blob_of(value),), value.counts(), facts={"samples": len(value)})

    def unpack(self, card: Card, blobs: tuple[bytes, ...]) -> Probe:
        """Raises RemoteError: damaged, or not the samples that the card counts."""
        probe = from_blob(only_blob(card, blobs, MAX_BYTES))
        if dict(card.labels) != probe.counts() or read_facts(card, _Facts).samples != len(probe):
            raise RemoteError("the card counts other samples than the probe holds")
        return probe


def probe_from(x_N: npt.NDArray[np.floating[Any]], names_N: Iterable[LabelId] | None = None, *, levels: int = 255) -> Probe:
    """A probe of inputs 0..1 [N, ...], rounded to `levels`, and the name of each sample's label.

    Raises:
        ConfigError: inputs outside 0..1 (scale them first), or not one name for each sample.
    """
    if not np.isfinite(x_N).all() or (x_N.size and not 0 <= float(x_N.min()) <= float(x_N.max()) <= 1):
        raise ConfigError("a probe's inputs are 0..1; scale them first")
    x_levels_N = np.rint(x_N.astype(np.float64) * levels).astype(np.uint8)
    if names_N is None:
        return Probe(x_levels_N, levels=levels)
    names = list(names_N)
    labels = tuple(sorted(set(names)))
    place = {name: position for position, name in enumerate(labels)}
    probe = Probe(x_levels_N, np.array([place[name] for name in names], np.uint16), labels, levels)
    _check(probe, ConfigError)
    return probe


def blob_of(probe: Probe) -> bytes:
    """Canonical bytes of the whole sample set. Raises ConfigError: see `ProbeKind.pack`."""
    _check(probe, ConfigError)
    x = small_ints.pack(probe.x_N, small_ints.width_of(probe.levels))
    y = None if probe.y_N is None else small_ints.pack(probe.y_N, small_ints.width_of(len(probe.labels) - 1))
    blob = canonical.encode(_Body(probe.x_N.shape, probe.levels, probe.labels, x, y, SCHEMA))
    if len(blob) > MAX_BYTES:
        raise ConfigError(f"a probe of {len(blob)} bytes is over the limit of {MAX_BYTES}: take fewer samples")
    return blob


def from_blob(blob: bytes) -> Probe:
    """The probe of `blob_of` bytes. Raises RemoteError: they are not."""
    try:
        body = msgspec.convert(canonical.decode(blob), _Body, builtin_types=(bytes,))
    except (msgspec.ValidationError, OverflowError) as error:
        raise RemoteError(f"not a probe: {error}") from error
    if body.schema != SCHEMA:
        raise RemoteError(f"a probe of schema {body.schema!r:.40}; known here: {SCHEMA}")
    count = _values(body.shape)
    if not 1 <= body.levels <= 255:
        raise RemoteError(f"a probe of {body.levels} levels; right is 1 to 255")
    x = small_ints.unpack(body.x, count, small_ints.width_of(body.levels)).astype(np.uint8).reshape(body.shape)
    y = None
    if body.y is not None:
        check_names(body.labels, RemoteError)
        y = small_ints.unpack(body.y, body.shape[0], small_ints.width_of(len(body.labels) - 1)).astype(np.uint16)
        y.flags.writeable = False
    x.flags.writeable = False
    probe = Probe(x, y, body.labels, body.levels)
    _check(probe, RemoteError)
    return probe


def probe_of(probe: Probe) -> Digest:
    """The name of this sample set: the digest of its blob, the same whoever signs it."""
    return digest_of(blob_of(probe))


def _values(shape: tuple[int, ...]) -> int:
    if not 2 <= len(shape) <= 5 or not 1 <= shape[0] <= MAX_SAMPLES or min(shape) < 1:
        raise RemoteError(f"samples of shape {shape!r:.80} cannot be; right is N and one to four axes")
    count = 1
    for length in shape:
        count *= length
    if count > MAX_VALUES:
        raise RemoteError(f"samples of shape {shape} are over the limit of {MAX_VALUES} values")
    return count


def _check(probe: Probe, fault: Fault) -> None:
    if not 1 <= probe.levels <= 255:
        raise fault(f"levels is {probe.levels}; right is 1 to 255")
    if probe.x_N.dtype != np.uint8 or not 2 <= probe.x_N.ndim <= 5 or not 1 <= probe.x_N.size <= MAX_VALUES:
        raise fault(f"x_N is {probe.x_N.dtype} {probe.x_N.shape}; right is uint8 [N, ...] with one to four axes after N")
    if int(probe.x_N.max()) > probe.levels:
        raise fault(f"x_N goes up to {probe.x_N.max()}, over the full scale of {probe.levels}")
    if probe.y_N is None:
        if probe.labels:
            raise fault("labels without y_N")
        return
    if probe.y_N.dtype != np.uint16 or probe.y_N.shape != (len(probe),):
        raise fault(f"y_N is {probe.y_N.dtype} {probe.y_N.shape}; right is uint16 [{len(probe)}]")
    if list(probe.labels) != sorted(set(probe.labels)):
        raise fault("labels are sorted, each once; see probe_from")
    if int(probe.y_N.max()) >= len(probe.labels):
        raise fault(f"y_N goes up to {probe.y_N.max()} with {len(probe.labels)} labels")
    check_labels(probe.counts(), fault)
