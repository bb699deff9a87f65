"""Who owns which samples. Every partition gives each index to exactly one learner and depends on nothing but its arguments.

kind        options                 what it models
iid         -                       no difference between learners
dirichlet   alpha, min_samples      label skew: each label is spread by Dirichlet(alpha) (Hsu, Qi, Brown 2019, arXiv:1909.06335)
shards      per_learner             sorted by label and cut; a learner gets some pieces (McMahan et al. 2017, arXiv:1602.05629)
labels      per_learner             a learner has samples of exactly so many labels; every label has an owner
natural     groups                  real owners (hospitals, writers), whole, spread over the learners
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError, nearest

Indices = npt.NDArray[np.int32]
Targets = npt.NDArray[Any]

_ATTEMPTS = 200


def partition(kind: str, y_N: Targets, count: int, rng: np.random.Generator, **options: Any) -> list[Indices]:
    """Indices 0..N-1 divided among `count` learners.

    Args:
        kind: see the module's table.
        y_N: labels as integers [N]; for "natural" the owner of each sample.
        count: number of learners, 1..N.
        rng: its stream decides; draw it from the root seed by name ("partition").
        **options: of the kind.

    Returns:
        `count` sorted int32 arrays, disjoint; together they are all of 0..N-1.

    Raises:
        ConfigError: unknown kind or option, or a division that cannot be (more learners than samples, groups, labels).
    """
    if kind not in _KINDS:
        raise ConfigError(f"partition: unknown kind {kind!r}; {nearest(kind, _KINDS)}")
    divide, known = _KINDS[kind]
    for option, value in options.items():
        if option not in known:
            raise ConfigError(f"partition {kind!r}: unknown option {option!r}; {nearest(option, known)}")
        if isinstance(value, bool) or not isinstance(value, known[option]):
            what = "a whole number" if known[option] is int else "a number"
            raise ConfigError(f"partition {kind!r}: {option} must be {what}, not {value!r}")
    y_N = np.asarray(y_N)
    if not 1 <= count <= len(y_N):
        raise ConfigError(f"partition: {count} learners cannot share {len(y_N)} samples")
    owner_N = divide(y_N, count, rng, **options)
    return [np.flatnonzero(owner_N == learner).astype(np.int32) for learner in range(count)]


def _iid(y_N: Targets, count: int, rng: np.random.Generator) -> Targets:
    return rng.permutation(len(y_N)) % count


def _dirichlet(y_N: Targets, count: int, rng: np.random.Generator, alpha: float = 0.5, min_samples: int = 1) -> Targets:
    """Drawn again until every learner has `min_samples`; after 200 draws the richest give to the poorest."""
    if not 0 < alpha < np.inf:
        raise ConfigError(f"partition 'dirichlet': alpha must be positive and finite, not {alpha}")
    if not 0 <= min_samples * count <= len(y_N):
        raise ConfigError(f"partition 'dirichlet': {count} learners cannot have {min_samples} samples each of {len(y_N)}")
    for _ in range(_ATTEMPTS):
        owner_N = np.empty(len(y_N), np.int64)
        for label in np.unique(y_N):
            mine = rng.permutation(np.flatnonzero(y_N == label))
            edges = np.round(np.cumsum(rng.dirichlet(np.full(count, alpha))) * len(mine)).astype(int)
            owner_N[mine] = np.searchsorted(edges[:-1], np.arange(len(mine)), side="right")
        if np.bincount(owner_N, minlength=count).min() >= min_samples:
            return owner_N
    return _topped_up(owner_N, count, rng, min_samples)


def _topped_up(owner_N: Targets, count: int, rng: np.random.Generator, min_samples: int) -> Targets:
    size_K = np.bincount(owner_N, minlength=count)
    while size_K.min() < min_samples:
        rich, poor = int(size_K.argmax()), int(size_K.argmin())
        owner_N[rng.choice(np.flatnonzero(owner_N == rich))] = poor
        size_K[rich], size_K[poor] = size_K[rich] - 1, size_K[poor] + 1
    return owner_N


def _shards(y_N: Targets, count: int, rng: np.random.Generator, per_learner: int = 2) -> Targets:
    pieces = count * per_learner
    if per_learner < 1 or pieces > len(y_N):
        raise ConfigError(f"partition 'shards': {len(y_N)} samples cannot be cut into {count} x {per_learner} pieces")
    order = rng.permutation(len(y_N))
    order = order[np.argsort(y_N[order], kind="stable")]
    holder = rng.permutation(pieces) % count
    owner_N = np.empty(len(y_N), np.int64)
    owner_N[order] = holder[np.arange(len(y_N)) * pieces // len(y_N)]
    return owner_N


def _labels(y_N: Targets, count: int, rng: np.random.Generator, per_learner: int = 2) -> Targets:
    labels = np.unique(y_N)
    if not 1 <= per_learner <= len(labels):
        raise ConfigError(f"partition 'labels': per_learner must be 1..{len(labels)}, not {per_learner}")
    if count * per_learner < len(labels):
        raise ConfigError(
            f"partition 'labels': {count} learners with {per_learner} labels each cannot own {len(labels)} labels"
        )
    # Dealt like cards, deck after deck: each label gets an owner before any gets a second, none twice to one learner.
    hands = _dealt(len(labels), count, per_learner, rng)
    owner_N = np.empty(len(y_N), np.int64)
    for position, label in enumerate(labels):
        owners = np.flatnonzero([position in hand for hand in hands])
        mine = rng.permutation(np.flatnonzero(y_N == label))
        if len(mine) < len(owners):
            raise ConfigError(
                f"partition 'labels': {len(owners)} learners cannot share the {len(mine)} samples of label {label}"
            )
        owner_N[mine] = owners[np.arange(len(mine)) % len(owners)]
    return owner_N


def _dealt(labels: int, count: int, per_learner: int, rng: np.random.Generator) -> list[set[int]]:
    used, hands = np.zeros(labels, int), []
    for _ in range(count):
        order = np.lexsort((rng.permutation(labels), used))[:per_learner]  # rarest first, ties by lot
        used[order] += 1
        hands.append({int(label) for label in order})
    return hands


def _natural(y_N: Targets, count: int, rng: np.random.Generator) -> Targets:
    groups, group_N, size_G = np.unique(y_N, return_inverse=True, return_counts=True)
    if count > len(groups):
        raise ConfigError(f"partition 'natural': {count} learners cannot share {len(groups)} groups")
    if count == len(groups):
        return np.asarray(group_N)
    holder_G, load_K = np.empty(len(groups), np.int64), np.zeros(count, np.int64)
    for group in np.lexsort((rng.permutation(len(groups)), -size_G)):  # largest first, to the least loaded
        holder_G[group] = load_K.argmin()
        load_K[holder_G[group]] += size_G[group]
    return np.asarray(holder_G[group_N])


_KINDS: dict[str, tuple[Callable[..., Targets], dict[str, Any]]] = {
    "iid": (_iid, {}),
    "dirichlet": (cast(Any, _dirichlet), {"alpha": int | float, "min_samples": int}),
    "shards": (_shards, {"per_learner": int}),
    "labels": (_labels, {"per_learner": int}),
    "natural": (_natural, {}),
}


def partition_options() -> dict[str, tuple[str, ...]]:
    """The kinds of partition, and the options that each takes."""
    return {kind: tuple(options) for kind, (_, options) in _KINDS.items()}
