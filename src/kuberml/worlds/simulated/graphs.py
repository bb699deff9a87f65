"""Who is whose neighbour, and the weights with which neighbours average.

A graph of N nodes is a tuple of N sorted tuples: the neighbours of node i, without i. Undirected, no double edges,
connected. The same generator state gives the same graph on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from kuberml.core.errors import ConfigError, nearest

Graph = tuple[tuple[int, ...], ...]
Edge = tuple[int, int]
TRIES = 100
"""How often a random graph is drawn again until it is connected."""


def graph(kind: str, count: int, rng: np.random.Generator, *, degree: int = 6, p: float = 0.1) -> Graph:
    """A connected graph of `count` nodes.

    Args:
        kind: "ring", "complete", "star" (node 0 in the middle), "exponential" (i and i +- 2^k), "random-regular" (`degree`),
            "erdos-renyi" (each pair with chance `p`), "watts-strogatz" (`degree` nearest, each edge rewired with chance `p`).
        count: nodes, >= 1.
        rng: consumed by the random kinds only.
        degree: neighbours of a node.
        p: a chance, 0..1.

    Raises:
        ConfigError: unknown kind, impossible degree or p, or no connected graph in 100 draws (p too small).
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown graph {kind!r}; {nearest(kind, KINDS)}")
    if count < 1:
        raise ConfigError(f"a graph has 1 node or more, not {count}")
    if count == 1:
        return ((),)
    if not 0 <= p <= 1:
        raise ConfigError(f"p is a chance from 0 to 1, not {p}")
    for _ in range(TRIES):
        drawn = _neighbours(count, KINDS[kind](count, rng, degree, p))
        if is_connected(drawn):
            return drawn
    raise ConfigError(f"no connected {kind} graph of {count} nodes in {TRIES} draws: raise p or degree")


def is_connected(graph: Graph) -> bool:
    """Whether every node can be reached from node 0."""
    seen, front = {0}, [0]
    while front:
        front = [j for i in front for j in graph[i] if j not in seen and not seen.add(j)]  # type: ignore[func-returns-value]
    return len(seen) == len(graph)


def metropolis(graph: Graph) -> tuple[dict[int, float], ...]:
    """Averaging weights of each node: symmetric and doubly stochastic, so that averaging keeps the mean.

    Returns:
        For each node i: {j: 1 / (1 + max(degree_i, degree_j))} over its neighbours j in order, then {i: what is left to 1}.
    """
    rows = []
    for i, around in enumerate(graph):
        row = {j: 1 / (1 + max(len(around), len(graph[j]))) for j in around}
        rows.append(row | {i: 1 - sum(row.values())})
    return tuple(rows)


def _neighbours(count: int, edges: Iterable[Edge]) -> Graph:
    around: list[set[int]] = [set() for _ in range(count)]
    for i, j in edges:
        if i != j:
            around[i].add(j)
            around[j].add(i)
    return tuple(tuple(sorted(near)) for near in around)


def _ring(count: int, rng: np.random.Generator, degree: int, p: float) -> Iterable[Edge]:
    return ((i, (i + 1) % count) for i in range(count))


def _complete(count: int, rng: np.random.Generator, degree: int, p: float) -> Iterable[Edge]:
    return ((i, j) for i in range(count) for j in range(i))


def _star(count: int, rng: np.random.Generator, degree: int, p: float) -> Iterable[Edge]:
    return ((0, i) for i in range(1, count))


def _exponential(count: int, rng: np.random.Generator, degree: int, p: float) -> Iterable[Edge]:
    return ((i, (i + 2**k) % count) for i in range(count) for k in range((count - 1).bit_length()))


def _erdos_renyi(count: int, rng: np.random.Generator, degree: int, p: float) -> Iterable[Edge]:
    i, j = np.triu_indices(count, 1)
    chosen = rng.random(len(i)) < p
    return zip(i[chosen].tolist(), j[chosen].tolist(), strict=True)


def _circulant(count: int, degree: int) -> list[Edge]:
    """Each node with its `degree` nearest on a ring; for an odd degree also with the opposite one."""
    if not 1 <= degree < count or count * degree % 2:
        raise ConfigError(f"degree {degree} is impossible for {count} nodes: 1 <= degree < nodes, and nodes x degree even")
    edges = [(i, (i + step) % count) for step in range(1, degree // 2 + 1) for i in range(count)]
    return edges + [(i, i + count // 2) for i in range(count // 2)] * (degree % 2)


def _random_regular(count: int, rng: np.random.Generator, degree: int, p: float) -> Iterable[Edge]:
    """Swap the ends of random pairs of edges, which keeps every degree, ten times for each edge."""
    edges = _circulant(count, degree)
    known = {frozenset(edge) for edge in edges}
    for a, b in rng.integers(len(edges), size=(10 * len(edges), 2)).tolist():
        (i, j), (k, m) = edges[a], edges[b]
        new = frozenset((i, m)), frozenset((k, j))
        if len({i, j, k, m}) == 4 and not known.intersection(new):
            known.difference_update((frozenset(edges[a]), frozenset(edges[b])))
            known.update(new)
            edges[a], edges[b] = (i, m), (k, j)
    return edges


def _watts_strogatz(count: int, rng: np.random.Generator, degree: int, p: float) -> Iterable[Edge]:
    if degree % 2:
        raise ConfigError(f"a watts-strogatz graph needs an even degree, not {degree}")
    edges = _circulant(count, degree)
    known = {frozenset(edge) for edge in edges}
    for at, (i, j) in enumerate(edges):
        far = int(rng.integers(count))
        if rng.random() < p and far != i and frozenset((i, far)) not in known:
            known.remove(frozenset((i, j)))
            known.add(frozenset((i, far)))
            edges[at] = (i, far)
    return edges


KINDS: dict[str, Callable[[int, np.random.Generator, int, float], Iterable[Edge]]] = {
    "ring": _ring,
    "complete": _complete,
    "star": _star,
    "exponential": _exponential,
    "random-regular": _random_regular,
    "erdos-renyi": _erdos_renyi,
    "watts-strogatz": _watts_strogatz,
}
