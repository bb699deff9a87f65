"""How samples look: a view is a pure function of one sample, so that the same data come in several domains.

view        what it does to an image in 0..1
plain       nothing
inverted    1 - x
dim         0.4 x: the light is low
faded       0.5 + 0.3 (x - 0.5): low contrast
grey        the mean of its channels in each of them
blurred     the mean of 3 x 3 pixels, twice
turned      turned left by 90 degrees
coarse      every second pixel stands for four

Low light, low contrast and blur are among the shifts of D. Hendrycks, T. Dietterich: Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations, ICLR 2019; ours have no noise, so that a sample is the same whenever it is read.

A reference to samples in several views has a view that runs along them: "plain*120,dim*80" is 120 samples and then 80.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from kuberml.core.errors import ConfigError, nearest
from kuberml.learning.types import Array, DataRef


def _blurred(x_N: Array) -> Array:
    for axis in (1, 2):
        size = x_N.shape[axis]
        wide = np.pad(x_N, [(1, 1) if each == axis else (0, 0) for each in range(x_N.ndim)], mode="edge")
        before, here, after = (np.take(wide, range(shift, shift + size), axis) for shift in range(3))
        x_N = (before + here + after) / np.float32(3)
    return x_N


def _coarse(x_N: Array) -> Array:
    every = np.repeat(np.repeat(x_N[:, ::2, ::2], 2, axis=1), 2, axis=2)
    return every[:, : x_N.shape[1], : x_N.shape[2]]


_VIEWS: dict[str, Callable[[Array], Array]] = {
    "plain": lambda x_N: x_N,
    "inverted": lambda x_N: np.float32(1) - x_N,
    "dim": lambda x_N: np.float32(0.4) * x_N,
    "faded": lambda x_N: np.float32(0.5) + np.float32(0.3) * (x_N - np.float32(0.5)),
    "grey": lambda x_N: np.broadcast_to(x_N.mean(axis=-1, keepdims=True, dtype=np.float32), x_N.shape),
    "blurred": lambda x_N: _blurred(_blurred(x_N)),
    "turned": lambda x_N: np.rot90(x_N, axes=(1, 2)),
    "coarse": _coarse,
}
VIEWS = tuple(_VIEWS)
"""Names, as a scenario's `data.domains` has them."""


def viewed(x_N: Array, view: str, name: str) -> Array:
    """Samples [N, ...] of the data set `name` in a view, float32.

    Raises:
        ConfigError: there is no such view, it is not of so many samples, or it is for images and these are none.
    """
    if "*" in view:
        return _along(x_N, view, name)
    if view not in _VIEWS:
        raise ConfigError(f"unknown view {view!r}; {nearest(view, VIEWS)}")
    if view == "plain":
        return x_N
    if x_N.ndim != 4:
        raise ConfigError(f"view {view!r} is for images; {name!r} has vectors")
    if view == "turned" and x_N.shape[1] != x_N.shape[2]:
        raise ConfigError(f"view 'turned' is for square images; {name!r} has {x_N.shape[1]} x {x_N.shape[2]}")
    return np.ascontiguousarray(_VIEWS[view](x_N), np.float32)


def _along(x_N: Array, view: str, name: str) -> Array:
    runs = _runs(view)
    if sum(count for _, count in runs) != len(x_N):
        raise ConfigError(f"view {view!r} is of {sum(count for _, count in runs)} samples, and there are {len(x_N)}")
    ends = list(itertools.accumulate((count for _, count in runs), initial=0))
    parts = [viewed(x_N[start:stop], one, name) for (one, _), start, stop in zip(runs, ends, ends[1:], strict=False)]
    return np.concatenate(parts)


@functools.lru_cache(maxsize=256)
def _runs(view: str) -> tuple[tuple[str, int], ...]:
    try:
        pairs = [part.split("*") for part in view.split(",")]
        return tuple((name, int(count)) for name, count in pairs)
    except ValueError as error:
        raise ConfigError(f"view {view!r}: write for instance 'plain*120,dim*80'") from error


def joined(refs: Sequence[DataRef]) -> DataRef:
    """Several references to one split as one: view by view, and the indices of a view in order.

    Raises:
        ConfigError: there are none, or they are of different splits, or called by different labels.
    """
    if not refs:
        raise ConfigError("no references to samples: there is nothing to join")
    first = refs[0]
    for ref in refs:
        if (ref.dataset, ref.split, ref.relabel) != (first.dataset, first.split, first.relabel):
            both = f"{first.dataset}/{first.split} and {ref.dataset}/{ref.split}"
            raise ConfigError(f"{both} cannot be joined: samples of one split, under one naming of labels, can")
    by_view: dict[str, list[DataRef]] = {}
    parts = list(itertools.chain.from_iterable(map(by_views, refs)))
    for part in [part for part in parts if len(part)] or parts[:1]:
        by_view.setdefault(part.view, []).append(part)
    whole = {view: np.sort(np.concatenate([part.indices_N for part in mine])) for view, mine in by_view.items()}
    view = next(iter(whole)) if len(whole) == 1 else ",".join(f"{view}*{len(indices)}" for view, indices in whole.items())
    return DataRef(first.dataset, first.split, np.concatenate(list(whole.values())).astype(np.int32), view, first.relabel)


def by_views(ref: DataRef) -> list[DataRef]:
    """A reference as one for each view that runs along it; itself where there is one view."""
    if "*" not in ref.view:
        return [ref]
    parts, start = [], 0
    for view, count in _runs(ref.view):
        parts.append(DataRef(ref.dataset, ref.split, ref.indices_N[start : start + count], view, ref.relabel))
        start += count
    return parts


def chosen(ref: DataRef, positions: Iterable[int]) -> DataRef:
    """Some of a reference's samples, each as often as its position is named; by view, in order."""
    place_K = np.sort(np.asarray(list(positions), np.int64))
    parts, start = [], 0
    for part in by_views(ref):
        mine = place_K[(place_K >= start) & (place_K < start + len(part))] - start
        parts.append(DataRef(ref.dataset, ref.split, part.indices_N[mine], part.view, ref.relabel))
        start += len(part)
    filled = [part for part in parts if len(part)]
    return joined(filled) if filled else parts[0]
