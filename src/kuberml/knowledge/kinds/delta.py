"""Kind `delta`: what changed between two sets of weights, against a base that the receiver has.

Forms, for P parameters: `fp32` 4 P bytes; `fp16` 2 P; `int8` about P, each tensor with its own scale and *stochastic* rounding;
`sparse` about 6 bytes for each change that is sent. `difference` (module `differences`) makes them, `apply` adds one to its
base. Tensors that are not float32 (counters, float64) travel whole, as exact differences.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, LabelId, check_digest
from kuberml.core.values import value
from kuberml.knowledge import tensors as wire_tensors
from kuberml.knowledge.card import Card
from kuberml.knowledge.checks import Fault, check_labels, only_blob, read_facts
from kuberml.knowledge.kind import Packed
from kuberml.knowledge.kinds.weights import Weights, base_of
from kuberml.knowledge.layout import ends_in
from kuberml.knowledge.tensor_cuts import cut_at_tensors
from kuberml.knowledge.tensors import AnyArray

Form = Literal["fp32", "fp16", "int8", "sparse"]
_CODE = {"fp32": "float32", "fp16": "float16", "int8": "int8", "sparse": "float32"}
_WHOLE = ("float64", "int64")


@value
class Delta(msgspec.Struct, frozen=True, eq=False):
    """new = base + delta, up to the rounding of the form.

    Attributes:
        base: what it is against, see `weights.base_of`.
        form: see the top of the file.
        values: by tensor: changes in the base's shape (float32, float16, or int8 in units of the scale); sparse: float32 [k].
            A tensor that did not change is left out.
        places: sparse only, by tensor: uint32 [k], rising positions in the flat tensor.
        scales: int8 only, by tensor: float32, a scalar.
        labels: samples of each label behind the change.
    """

    base: Digest
    form: Form
    values: dict[str, AnyArray]
    places: dict[str, AnyArray] = {}
    scales: dict[str, AnyArray] = {}
    labels: dict[LabelId, int] = {}


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    form: Form


class DeltaKind:
    """See `Kind`. One blob: tensors `v/name`, `p/name` (gaps between places), `s/name`; zstd but for fp32 and fp16."""

    name = "delta"

    def pack(self, value: Delta) -> Packed:
        """Raises ConfigError: NaN, infinity, or parts that do not fit each other."""
        _check(value, ConfigError)
        parts = {f"v/{name}": array for name, array in value.values.items()}
        parts |= {f"p/{name}": _gaps(array) for name, array in value.places.items()}
        parts |= {f"s/{name}": array for name, array in value.scales.items()}
        blob = wire_tensors.encode(parts)
        packed = value.form in ("int8", "sparse")
        cuts = () if packed else cut_at_tensors(ends_in(blob))
        blob = wire_tensors.compress(blob) if packed else blob
        flops = sum(array.size for array in value.values.values())
        return Packed((blob,), value.labels, value.base, {"form": value.form}, (cuts,), flops)

    def unpack(self, card: Card, blobs: tuple[bytes, ...]) -> Delta:
        """Raises RemoteError: damaged, or parts that do not fit each other. Whether it fits its base, `apply` finds out."""
        form = read_facts(card, _Facts).form
        blob = only_blob(card, blobs, wire_tensors.MAX_BYTES)
        parts = wire_tensors.decode(wire_tensors.decompress(blob) if form in ("int8", "sparse") else blob)
        groups: dict[str, dict[str, AnyArray]] = {"v": {}, "p": {}, "s": {}}
        for path, array in parts.items():
            group, slash, name = path.partition("/")
            if group not in groups or not slash or not name:
                raise RemoteError(f"a delta has no part {path!r:.80}")
            groups[group][name] = array
        places = {name: _places(array) for name, array in groups["p"].items()}
        made = Delta(check_digest(card.basis), form, groups["v"], places, groups["s"], dict(card.labels))
        _check(made, RemoteError)
        return made


def apply(base: Weights, delta: Delta) -> Weights:
    """Base + delta, with the delta's labels and the base's outputs.

    Raises:
        RemoteError: it is against another base, does not fit its tensors, or leaves the range of numbers.
    """
    if base_of(base) != delta.base:
        raise RemoteError(f"the delta is against the base {delta.base[:12]}, not {base_of(base)[:12]}")
    result = dict(base.tensors)
    for name in delta.values:
        if name not in result:
            raise RemoteError(f"the base has no tensor {name!r:.80}")
        result[name] = _added(result[name], delta, name)
    made = Weights(result, delta.labels, base.outputs)
    wire_tensors.check(made.tensors, RemoteError)
    return made


def _added(base: AnyArray, delta: Delta, name: str) -> AnyArray:
    change = delta.values[name]
    whole = change.dtype.name in _WHOLE
    if (change.dtype if whole else np.dtype(np.float32)) != base.dtype:
        raise RemoteError(f"tensor {name!r} of the base is {base.dtype}, which its delta does not fit")
    if name in delta.places:
        places = delta.places[name]
        if places.size and int(places[-1]) >= base.size:
            raise RemoteError(f"the delta of tensor {name!r} changes place {places[-1]} of {base.size}")
        dense = np.zeros(base.size, np.float32)
        dense[places] = change
        change = dense.reshape(base.shape)
    if change.shape != base.shape:
        raise RemoteError(f"the delta of tensor {name!r} has shape {change.shape}, the base {base.shape}")
    factor = delta.scales.get(name, np.float32(1))
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused by name
        summed: AnyArray = np.asarray(base + (change if whole else change.astype(np.float32) * factor), base.dtype)
    summed.flags.writeable = False
    return summed


def _gaps(places: AnyArray) -> AnyArray:
    # Small numbers compress better than large ones.
    wide = places.astype(np.int64)
    return np.concatenate([wide[:1], np.diff(wide) - 1]).astype(np.uint32)


def _places(gaps: AnyArray) -> AnyArray:
    if gaps.dtype != np.uint32 or gaps.ndim != 1:
        raise RemoteError(f"gaps between places are uint32 [k], not {gaps.dtype} {gaps.shape}")
    wide = np.cumsum(gaps.astype(np.int64) + 1) - 1
    if wide.size and int(wide[-1]) >= 2**32:
        raise RemoteError("places of a delta go beyond 2^32")
    places: AnyArray = wide.astype(np.uint32)
    places.flags.writeable = False
    return places


def _check(delta: Delta, fault: Fault) -> None:
    if delta.form not in _CODE:
        raise fault(f"form {delta.form!r:.40} is not one of {', '.join(_CODE)}")
    code = _CODE[delta.form]
    wire_tensors.check(delta.values, fault, dtypes=(code, *_WHOLE))
    wire_tensors.check(delta.scales, fault, dtypes=("float32",))
    check_labels(delta.labels, fault)
    coded = {name for name, array in delta.values.items() if array.dtype.name == code}
    if set(delta.places) != (coded if delta.form == "sparse" else set()):
        raise fault("a sparse delta has places for each of its float32 tensors, another none")
    if set(delta.scales) != (coded if delta.form == "int8" else set()):
        raise fault("an int8 delta has a scale for each of its int8 tensors, another none")
    for name, places in delta.places.items():
        if places.dtype != np.uint32 or places.shape != delta.values[name].shape or places.ndim != 1 or not places.size:
            raise fault(f"places of {name!r} are uint32 [k] with a value each, k >= 1")
        if (np.diff(places.astype(np.int64)) < 1).any():
            raise fault(f"places of {name!r} do not rise")
    for name, scale in delta.scales.items():
        if scale.shape != () or not scale > 0 or (delta.values[name] == -128).any():
            raise fault(f"the scale of {name!r} is a positive scalar, its codes are -127..127")
