"""Kind `extractor`: a frozen feature extractor, as the name of a registered architecture, its settings and its tensors.

Its *basis*, the digest of its blob, is what statistics and prototypes are relative to: equal basis, equal features. The
blob holds everything that decides the features. Reading one runs and imports nothing: an architecture that is not
installed here is only found out by whoever builds it.
"""

from __future__ import annotations

import re
from weakref import WeakKeyDictionary

import msgspec

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, InternalError, RemoteError
from kuberml.core.ids import Digest, digest_of
from kuberml.core.recent import Recent
from kuberml.core.values import digest, value
from kuberml.knowledge import tensors as wire_tensors
from kuberml.knowledge.card import Card, Fact
from kuberml.knowledge.checks import Fault, only_blob, read_facts
from kuberml.knowledge.kind import Packed
from kuberml.knowledge.tensors import AnyArray

SCHEMA = "kuberml.extractor/1"
MAX_FACTS = 256
REMEMBERED_BYTES = 1 << 20
"""Of tensors: smaller extractors' blobs are made once, since every trial asks for their name."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")


@value
class Extractor(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """x -> z by a registered architecture.

    Attributes:
        architecture: registered name, for instance "random-convolutions".
        facts: its settings; text, whole numbers and booleans (a fraction goes into a tensor or a scaled integer).
        tensors: what is not derived from the settings; {} for one that a seed describes.
    """

    architecture: str
    facts: dict[str, Fact] = {}
    tensors: dict[str, AnyArray] = {}


_blobs: WeakKeyDictionary[Extractor, bytes] = WeakKeyDictionary()
"""Of extractors whose tensors nobody can change."""
_recent: Recent[bytes] = Recent(8 * REMEMBERED_BYTES, len)
"""By content: a job that comes to another process, or to this one as bytes, brings an equal extractor each time."""


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    architecture: str
    facts: dict[str, Fact]
    tensors: bytes
    schema: str


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    architecture: str


class ExtractorKind:
    """See `Kind`. One blob: canonical bytes of architecture, settings and tensors."""

    name = "extractor"

    def pack(self, value: Extractor) -> Packed:
        """Raises ConfigError: a name or setting that does not travel, or tensors that do not."""
        return Packed((blob_of(value),), {}, facts={"architecture": value.architecture})

    def unpack(self, card: Card, blobs: tuple[bytes, ...]) -> Extractor:
        """Raises RemoteError: damaged, or card and blob name different architectures."""
        blob = only_blob(card, blobs, wire_tensors.MAX_BYTES)
        extractor = from_blob(blob)
        if read_facts(card, _Facts).architecture != extractor.architecture:
            raise RemoteError(f"the card of an extractor {extractor.architecture!r} names another architecture")
        if card.labels:
            raise RemoteError("an extractor has no labels")
        return extractor


def blob_of(extractor: Extractor) -> bytes:
    """Canonical bytes of everything that decides the features. Raises ConfigError: see `ExtractorKind.pack`."""
    known = _blobs.get(extractor)
    if known is not None:
        return known
    if sum(array.nbytes for array in extractor.tensors.values()) > REMEMBERED_BYTES:
        return _blob(extractor)
    try:
        content = digest(extractor)
    except InternalError:
        return _blob(extractor)  # which says what is wrong with it
    blob = _recent.get(content, lambda: _blob(extractor))
    if not any(array.flags.writeable for array in extractor.tensors.values()):
        _blobs[extractor] = blob
    return blob


def _blob(extractor: Extractor) -> bytes:
    _check(extractor, ConfigError)
    arrays = wire_tensors.encode(extractor.tensors) if extractor.tensors else b""
    return canonical.encode(_Body(extractor.architecture, extractor.facts, arrays, SCHEMA))


def from_blob(blob: bytes) -> Extractor:
    """The extractor of `blob_of` bytes. Raises RemoteError: they are not."""
    try:
        body = msgspec.convert(canonical.decode(blob), _Body, builtin_types=(bytes,))
    except (msgspec.ValidationError, OverflowError) as error:
        raise RemoteError(f"not an extractor: {error}") from error
    if body.schema != SCHEMA:
        raise RemoteError(f"an extractor of schema {body.schema!r:.40}; known here: {SCHEMA}")
    found = Extractor(body.architecture, body.facts, wire_tensors.decode(body.tensors) if body.tensors else {})
    _check(found, RemoteError)
    if body.tensors and not found.tensors:
        raise RemoteError("an extractor without tensors sends none")
    return found


def basis_of(extractor: Extractor) -> Digest:
    """The name of this feature space: the digest of the extractor's blob, the same whoever signs it."""
    return digest_of(blob_of(extractor))


def _check(extractor: Extractor, fault: Fault) -> None:
    if _NAME.fullmatch(extractor.architecture) is None:
        raise fault(f"not the name of an architecture: {extractor.architecture!r:.80}")
    if len(extractor.facts) > MAX_FACTS:
        raise fault(f"{len(extractor.facts)} settings are over the limit of {MAX_FACTS}")
    for name, fact in extractor.facts.items():
        if not isinstance(name, str) or not isinstance(fact, int | str | bool):
            raise fault(f"setting {name!r} is {fact!r:.40}; settings are text, whole numbers and booleans")
        if isinstance(fact, int) and not -(2**63) <= fact < 2**63:
            raise fault(f"setting {name!r} is outside 64 bits")
    wire_tensors.check(extractor.tensors, fault)
