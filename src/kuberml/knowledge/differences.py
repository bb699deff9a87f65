"""From two sets of weights to the delta between them, as coarse as the receiver's budget asks for.

The lossy forms can be *unbiased*: their mean over seeds is the true difference, so that errors of many senders cancel. int8
always is (stochastic rounding); `sparse` is with `unbiased=True`, which keeps change i with probability min(1, c |d_i|) and
divides it by that (Wangni et al., Gradient Sparsification for Communication-Efficient Distributed Optimization, NeurIPS 2018);
without it, the largest changes are sent as they are.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError
from kuberml.core.rng import rng
from kuberml.knowledge.kinds.delta import Delta, Form
from kuberml.knowledge.kinds.weights import Weights, base_of
from kuberml.knowledge.tensors import AnyArray

Flat = npt.NDArray[np.float64]


def difference(
    base: Weights, new: Weights, *, form: Form = "fp16", fraction: float = 0.01, unbiased: bool = False, seed: int = 0
) -> Delta:
    """New - base.

    Args:
        base: what the receiver has.
        new: what it should have, with the labels of the delta.
        form: see `kinds.delta`.
        fraction: sparse only: share of the float32 parameters that is sent (on average, if unbiased), over 0 up to 1.
        unbiased: sparse only: see the top of the file.
        seed: of int8 and of unbiased sparse.

    Raises:
        ConfigError: other tensors than the base's, a changed bool, nothing changed, a fraction outside its bounds, or a
            change that the form cannot hold.
    """
    shapes = {name: (array.shape, array.dtype) for name, array in base.tensors.items()}
    if {name: (array.shape, array.dtype) for name, array in new.tensors.items()} != shapes:
        raise ConfigError("a delta needs the same tensors on both sides: names, shapes and dtypes")
    if not 0 < fraction <= 1:
        raise ConfigError(f"fraction is {fraction!r}; right is over 0 up to 1")
    whole: dict[str, AnyArray] = {}
    floats: dict[str, Flat] = {}
    for name in sorted(shapes):
        old, now = base.tensors[name], new.tensors[name]
        if np.array_equal(old, now):
            continue
        if old.dtype == np.bool_:
            raise ConfigError(f"tensor {name!r} is bool and changed: send weights instead")
        if old.dtype == np.float32:
            floats[name] = np.asarray(now.astype(np.float64) - old.astype(np.float64))
        else:
            whole[name] = np.asarray(now - old)
    if not floats and not whole:
        raise ConfigError("nothing changed: there is no delta")
    made = Delta(base_of(base), form, {}, labels=new.labels)
    if form == "int8":
        made = _int8(made, floats, seed)
    elif form == "sparse":
        made = _sparse(made, floats, fraction, unbiased, seed)
    else:
        with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused when packed
            made = Delta(
                made.base, form, {n: d.astype(np.float16 if form == "fp16" else np.float32) for n, d in floats.items()}
            )
    return Delta(made.base, form, made.values | whole, made.places, made.scales, new.labels)


def _int8(made: Delta, floats: dict[str, Flat], seed: int) -> Delta:
    values: dict[str, AnyArray] = {}
    scales: dict[str, AnyArray] = {}
    for name, change in floats.items():
        # Up to the next float32, so that no code is over 127.
        scale = np.nextafter(np.float32(np.abs(change).max() / 127), np.float32(np.inf))
        draw = rng(seed, "delta", name).random(change.shape)
        values[name] = np.asarray(np.floor(change / np.float64(scale) + draw), np.int8)
        scales[name] = np.array(scale, np.float32)
    return Delta(made.base, "int8", values, scales=scales)


def _sparse(made: Delta, floats: dict[str, Flat], fraction: float, unbiased: bool, seed: int) -> Delta:
    if not floats:
        return made
    flat_P = np.concatenate([change.reshape(-1) for change in floats.values()])
    k = math.ceil(fraction * flat_P.size)
    kept, sent = _sampled(flat_P, k, seed) if unbiased else _largest(flat_P, k)
    values: dict[str, AnyArray] = {}
    places: dict[str, AnyArray] = {}
    start = 0
    for name, change in floats.items():
        low, high = np.searchsorted(kept, [start, start + change.size])
        if high > low:
            values[name] = sent[low:high].astype(np.float32)
            places[name] = (kept[low:high] - start).astype(np.uint32)
        start += change.size
    return Delta(made.base, "sparse", values, places)


def _largest(flat_P: Flat, k: int) -> tuple[npt.NDArray[np.int64], Flat]:
    """Rising places of the k largest changes (of equal ones the first), without zeros, and their values."""
    kept = np.sort(np.argsort(-np.abs(flat_P), kind="stable")[:k])
    kept = kept[flat_P[kept] != 0]
    return kept, flat_P[kept]


def _sampled(flat_P: Flat, k: int, seed: int) -> tuple[npt.NDArray[np.int64], Flat]:
    """Rising places and values / probability of about k changes."""
    size_P = np.abs(flat_P)
    falling = np.sort(size_P)[::-1]
    rest = np.cumsum(falling[::-1])[::-1]  # rest[m]: sum of all but the m largest
    # The m largest are kept for certain: the smallest m at which c = (k - m) / rest[m] keeps the next with probability <= 1.
    certain = np.arange(falling.size)
    fits = falling * (k - certain) <= rest
    m = int(np.argmax(fits))
    factor = (k - m) / rest[m] if rest[m] > 0 else np.inf
    with np.errstate(invalid="ignore"):
        chance_P = np.where(size_P > 0, np.minimum(1.0, factor * size_P), 0.0)
    kept = np.flatnonzero(rng(seed, "delta").random(flat_P.size) < chance_P)
    return kept, flat_P[kept] / chance_P[kept]
