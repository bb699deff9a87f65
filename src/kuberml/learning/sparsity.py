"""Sparse models: which weights to keep, what that saves, how several models with different masks are averaged, how one travels.

A mask is bool [P], True where a weight is kept. Pure functions of arrays; what needs data or a network is in `sparse_jobs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.errors import RemoteError
from kuberml.core.ranges import Count, NonNegative, Share
from kuberml.core.values import value
from kuberml.learning.types import Array

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_WORD = 64


@value
class Masks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When to make a mask, and how strict it is.

    Attributes:
        every: iterations between looks at the loss.
        warm_up: the first mask comes when the loss has flattened: when its mean over so many looks is less than the share
            `slope` under that of as many before.
        rise: by which share of itself the loss may be predicted to rise; `least`: density at least.
        refresh: iterations between masks; a share `regrow` of what is pruned comes back.
        until: share of the training after which the mask stays as it is.
        batches: from which the diagonal Fisher information is taken.
    """

    every: Count = 2
    warm_up: Count = 2
    slope: NonNegative = 0.05
    rise: NonNegative = 0.02
    least: Share = 0.4
    refresh: Count = 5
    regrow: Share = 0.1
    until: Share = 0.75
    batches: Count = 4

    def are_due(self, losses: Sequence[float], *, since: int | None, spent: float) -> bool:
        """Whether another mask is made.

        Args:
            losses: of the last looks, all that there were or 2 `warm_up`.
            since: iterations since the last mask; None: there was none.
            spent: share of the training that is over.
        """
        if spent > self.until:
            return False
        if since is None:
            return len(losses) >= max(2, 2 * self.warm_up) and has_flattened(losses, self.slope)
        return since >= self.refresh


def mean_of_holders(parts: Sequence[tuple[Array, Mask | None, float]], default_P: Array) -> tuple[Array, Floats]:
    """Each weight averaged over those who keep it, float32 [P], and the sum of their weights there, float64 [P].

    Args:
        parts: (state float32 [P], its mask or None for all, weight >= 0).
        default_P: the value where nobody keeps it.

    Raises:
        RemoteError: a state or a mask has another length than `default_P`.
    """
    sum_P, total_P = np.zeros(default_P.shape), np.zeros(default_P.shape)
    for state_P, mask_P, weight in parts:
        if state_P.shape != default_P.shape or (mask_P is not None and mask_P.shape != default_P.shape):
            raise RemoteError(f"a state of shape {state_P.shape} cannot be averaged with {default_P.shape}")
        share_P = weight if mask_P is None else weight * mask_P
        sum_P += share_P * state_P
        total_P += share_P
    held_P = total_P > 0
    mean_P = np.where(held_P, sum_P / np.where(held_P, total_P, 1), default_P).astype(np.float32)
    return mean_P, total_P


def loss_rise(fisher_P: Array, state_P: Array) -> Floats:
    """By how much the loss is predicted to rise, float64 [P], if a weight is set to 0: F w^2 / 2, F the diagonal Fisher."""
    rise_P: Floats = 0.5 * fisher_P.astype(np.float64) * state_P.astype(np.float64) ** 2
    return rise_P


def within_budget(rise_P: Floats, keep_P: Mask, allowed: float, least: float) -> Mask:
    """The mask of the smallest density whose pruned weights raise the loss by `allowed` at most, together.

    Args:
        rise_P: `loss_rise`.
        keep_P: weights that are kept in any case.
        allowed: predicted rise of the loss that is allowed, >= 0.
        least: share of all weights that is kept at least, 0..1.
    """
    free = np.flatnonzero(~keep_P)
    order = free[np.argsort(rise_P[free], kind="stable")]
    affordable = int(np.searchsorted(np.cumsum(rise_P[order]), allowed, side="right"))
    room = max(0, len(rise_P) - max(int(np.ceil(least * len(rise_P))), int(keep_P.sum())))
    mask_P = np.ones(len(rise_P), np.bool_)
    mask_P[order[: min(affordable, room)]] = False
    return mask_P


def regrown(mask_P: Mask, gradient_P: Array, share: float) -> Mask:
    """With a share of the pruned weights back: those whose gradients are the largest."""
    gone = np.flatnonzero(~mask_P)
    count = int(share * len(gone))
    order = gone[np.argsort(-np.abs(gradient_P[gone]), kind="stable")]
    grown_P = mask_P.copy()
    grown_P[order[:count]] = True
    return grown_P


def has_flattened(losses: Sequence[float], slope: float) -> bool:
    """Whether the second half of the losses is on average less than the share `slope` under the first."""
    half = len(losses) // 2
    if half < 1:
        return False
    before, after = float(np.mean(losses[:half])), float(np.mean(losses[-half:]))
    return before - after < slope * abs(before)


# --- on the way -------------------------------------------------------------------------------------------------------------


def folded(state_P: Array, mask_P: Mask | None) -> dict[str, npt.NDArray[Any]]:
    """A state as it travels: its kept weights and, if there is a mask, one bit a weight (in words of 64)."""
    if mask_P is None:
        return {"state": state_P}
    bits = np.zeros(-(-len(mask_P) // _WORD) * _WORD, np.bool_)
    bits[: len(mask_P)] = mask_P
    return {"bits": np.packbits(bits, bitorder="little").view("<i8"), "state": state_P[mask_P]}


def unfolded(tensors: Mapping[str, npt.NDArray[Any]], length: int) -> tuple[Array, Mask | None]:
    """The state float32 [P = length], 0 where it is pruned, and its mask (None: all are kept).

    Raises:
        RemoteError: not a state of that length: as many weights as bits are set, none beyond the end.
    """
    kept, words = tensors.get("state"), tensors.get("bits")
    if kept is None or kept.ndim != 1 or kept.dtype != np.float32:
        raise RemoteError("no state of a model, float32 [P], is in the package")
    if words is None:
        if len(kept) != length:
            raise RemoteError(f"a state of {len(kept)} weights, not {length}")
        return kept, None
    if words.dtype != np.int64 or words.shape != (-(-length // _WORD),):
        raise RemoteError(f"a mask of {length} weights is int64 [{-(-length // _WORD)}], not {words.dtype} {list(words.shape)}")
    bits = np.unpackbits(np.ascontiguousarray(words, "<i8").view(np.uint8), bitorder="little").astype(np.bool_)
    if bits[length:].any() or int(bits.sum()) != len(kept):
        raise RemoteError(f"a mask that keeps {int(bits.sum())} of {length} weights came with {len(kept)}")
    state_P = np.zeros(length, np.float32)
    state_P[bits[:length]] = kept
    return state_P, bits[:length]
