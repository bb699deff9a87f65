"""One client's update between its steps, and how it travels: as weights, as a delta, or sealed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest, LabelId
from kuberml.exchange.states import Vectors
from kuberml.knowledge.kinds.delta import Delta
from kuberml.knowledge.kinds.sealed import Sealed
from kuberml.knowledge.kinds.weights import Weights
from kuberml.learning.steps.compression import Codes, Positions
from kuberml.learning.steps.secrets import Words
from kuberml.learning.types import Array

Content = Weights | Delta | Sealed
NAME = "change"
"""Of the one tensor that travels."""


ONE = np.float32(1)


@dataclass(frozen=True)
class Update:
    """By how much one client would change what it was sent, as one flat vector.

    Attributes:
        values_P: the change; what a mask hides is not here.
        weight: how much it counts.
        places_k: where it may differ from 0; None: anywhere.
        codes_P, scale: values_P as whole numbers of one size; None: it is not quantised.
        words_V: the masked numbers.
    """

    values_P: Array
    weight: float = 1.0
    places_k: Positions | None = None
    codes_P: Codes | None = None
    scale: np.float32 = ONE
    words_V: Words | None = None

    def with_values(self, values_P: Array) -> Update:
        """The same with other values."""
        return replace(self, values_P=values_P, codes_P=None)


def changed(update: Vectors, start: Vectors) -> Array:
    """An update's vectors end to end, by the order of their names. A "state" counts from `start`; the rest are changes."""
    parts = [update[name] - start[name] if name == "state" else update[name] for name in sorted(update)]
    return np.concatenate(parts).astype(np.float32)


def split(values_P: Array, start: Vectors) -> Vectors:
    """The vectors that `changed` put end to end, each as long as that of its name in `start`.

    Raises:
        RemoteError: their lengths do not fit.
    """
    sizes = [start[name].size for name in sorted(start)]
    if values_P.shape != (sum(sizes),):
        raise RemoteError(f"an update of shape {values_P.shape}, not {(sum(sizes),)}")
    found: Vectors = dict(zip(sorted(start), np.split(values_P, np.cumsum(sizes)[:-1]), strict=True))
    return {name: start[name] + part if name == "state" else part for name, part in found.items()}


def packed(update: Update, base: Digest, labels: dict[LabelId, int]) -> Content:
    """The smallest form of what an update is. `base`: what it is against; `labels`: samples behind it, {} for not said."""
    if update.words_V is not None:
        return Sealed({NAME: update.words_V})
    if update.places_k is not None:
        sent_k = update.values_P[update.places_k]
        return Delta(base, "sparse", {NAME: sent_k}, {NAME: update.places_k}, labels=labels)
    if update.codes_P is not None:
        return Delta(base, "int8", {NAME: update.codes_P}, scales={NAME: np.array(update.scale, np.float32)}, labels=labels)
    return Weights({NAME: update.values_P}, labels)


def unpacked(content: object, base: Digest, count: int, *, sealed: bool) -> Update:
    """The update in a package of a client, with weight 1.

    Args:
        content: what it sent.
        base: what it must be against.
        count: how many values it must have; masked, how many numbers.
        sealed: whether it must be masked; else it must not be.

    Raises:
        RemoteError: it is something else, against another base, or of another length.
    """
    if sealed:
        if not isinstance(content, Sealed) or set(content.arrays) != {NAME}:
            raise RemoteError(f"a masked update is needed, and a {type(content).__name__} was sent")
        words_V = content.arrays[NAME]
        if words_V.dtype != np.uint32 or words_V.shape != (count,):
            raise RemoteError(f"masked numbers {words_V.dtype} {words_V.shape}, not uint32 {(count,)}")
        return Update(np.zeros(0, np.float32), words_V=words_V)
    if isinstance(content, Weights) and set(content.tensors) == {NAME}:
        values_P = content.tensors[NAME]
    elif isinstance(content, Delta) and set(content.values) == {NAME}:
        if content.base != base:
            raise RemoteError(f"an update against {content.base[:12]}, not {base[:12]}")
        values_P = _dense(content, count)
    else:
        raise RemoteError(f"an update is needed, and a {type(content).__name__} was sent")
    if values_P.dtype != np.float32 or values_P.shape != (count,):
        raise RemoteError(f"an update {values_P.dtype} {values_P.shape}, not float32 {(count,)}")
    return Update(values_P)


def _dense(delta: Delta, count: int) -> Array:
    values = delta.values[NAME]
    if delta.form == "int8":
        return np.asarray(values.astype(np.float32) * delta.scales[NAME], np.float32)
    if delta.form != "sparse":
        return np.asarray(values, np.float32)
    places_k = delta.places[NAME]
    if places_k[-1] >= count:
        raise RemoteError(f"an update changes place {places_k[-1]} of {count}")
    dense_P = np.zeros(count, np.float32)
    dense_P[places_k] = values
    return dense_P
