"""Kind `weights`: the parameters of a model, as named tensors."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, LabelId, digest_of
from kuberml.core.values import value
from kuberml.knowledge import tensors as wire_tensors
from kuberml.knowledge.card import Card, Fact
from kuberml.knowledge.checks import Fault, check_labels, check_names, only_blob, read_facts
from kuberml.knowledge.kind import Packed
from kuberml.knowledge.layout import ends_in
from kuberml.knowledge.tensor_cuts import cut_at_tensors
from kuberml.knowledge.tensors import AnyArray

Wire = Literal["fp32", "fp16"]
HELD = ("float32", "float64", "int64", "bool")
SENT: dict[Wire, tuple[str, ...]] = {"fp32": HELD, "fp16": ("float16", *HELD[1:])}
"""Dtypes of the tensors as they travel."""


@value
class Weights(msgspec.Struct, frozen=True, eq=False):
    """A model's parameters, apart from the code that uses them.

    Attributes:
        tensors: by name; float32, float64, int64 or bool. One flat vector [P] is as good as a state dictionary.
        labels: how many samples of each label it has learned from, 1 or more (what a weighted mean weighs by).
        outputs: names of the network's outputs in their order; () where that is agreed elsewhere.
        wire: "fp16" sends float32 tensors as float16: half the bytes, rounded once, declared on the card.
        basis: what they are relative to, for instance the extractor under a head; None: nothing.
    """

    tensors: dict[str, AnyArray]
    labels: dict[LabelId, int] = {}
    outputs: tuple[LabelId, ...] = ()
    wire: Wire = "fp32"
    basis: Digest | None = None


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    wire: Wire
    outputs: str  # JSON list of names: facts are plain text and numbers


class WeightsKind:
    """See `Kind`. One blob: the tensors. A card's labels are `Weights.labels`."""

    name = "weights"

    def pack(self, value: Weights) -> Packed:
        """Raises ConfigError: a dtype that does not travel, NaN, infinity (also after rounding to fp16), or wrong labels."""
        _check(value, ConfigError)
        blob = blob_of(value)
        return Packed((blob,), value.labels, value.basis, facts_of(value.wire, value.outputs), (cut_at_tensors(ends_in(blob)),))

    def unpack(self, card: Card, blobs: tuple[bytes, ...]) -> Weights:
        """Raises RemoteError: damaged tensors, wrong labels, or another precision than the card declares."""
        wire, outputs = facts_in(card)
        found = wire_tensors.decode(only_blob(card, blobs, wire_tensors.MAX_BYTES), dtypes=SENT[wire])
        if wire == "fp16":
            found = {name: _widened(array) for name, array in found.items()}
        basis = None if card.basis is None else Digest(card.basis)
        weights = Weights(found, dict(card.labels), outputs, wire, basis)
        _check(weights, RemoteError)
        return weights


def facts_of(wire: Wire, outputs: tuple[LabelId, ...]) -> dict[str, Fact]:
    """What a card of weights says about them."""
    facts: dict[str, Fact] = msgspec.to_builtins(_Facts(wire, msgspec.json.encode(outputs).decode()))
    return facts


def facts_in(card: Card) -> tuple[Wire, tuple[LabelId, ...]]:
    """Precision and outputs, as a card says them. Raises RemoteError: it does not, or not in canonical form."""
    facts = read_facts(card, _Facts)
    return facts.wire, _names(facts.outputs)


def check_facts(labels: dict[LabelId, int], outputs: tuple[LabelId, ...], fault: Fault) -> None:
    """Check what is said of weights. Raises fault: labels or outputs break a rule."""
    check_labels(labels, fault)
    check_names(outputs, fault)
    if outputs and not set(labels) <= set(outputs):
        raise fault(f"labels {sorted(set(labels) - set(outputs))} are not among the outputs")


def blob_of(weights: Weights) -> bytes:
    """The tensors as they travel. Raises ConfigError: see `WeightsKind.pack`."""
    sent = weights.tensors
    if weights.wire == "fp16":
        with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused by name
            sent = {name: array.astype(np.float16) if array.dtype == np.float32 else array for name, array in sent.items()}
    return wire_tensors.encode(sent)


def base_of(weights: Weights) -> Digest:
    """What a delta against these weights names as its base: the digest of their blob."""
    return digest_of(blob_of(weights))


def _widened(array: AnyArray) -> AnyArray:
    if array.dtype != np.float16:
        return array
    wide = array.astype(np.float32)
    wide.flags.writeable = False
    return wide


def _names(text: str) -> tuple[LabelId, ...]:
    try:
        names = msgspec.json.decode(text, type=tuple[str, ...])
    except (msgspec.DecodeError, RecursionError) as error:
        raise RemoteError(f"outputs are not a list of names: {error}") from error
    if msgspec.json.encode(names).decode() != text:
        raise RemoteError("outputs are not in canonical form")
    return names


def _check(weights: Weights, fault: Fault) -> None:
    if not weights.tensors:
        raise fault("weights without a tensor")
    if weights.wire not in ("fp32", "fp16"):
        raise fault(f"wire is {weights.wire!r}; use 'fp32' or 'fp16'")
    wire_tensors.check(weights.tensors, fault, dtypes=HELD)
    check_facts(weights.labels, weights.outputs, fault)
