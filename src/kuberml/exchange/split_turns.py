"""One client's turn of split learning, both ends: batch by batch, activations one way and their gradient the other.

    server                                client
    begin: the client's parts       -->   forward the first batch
                                    <--   activations, and targets where labels are shared
    (labels stay: tail: features    -->   tail forward, loss, back;   <-- gradient of the features)
    back: gradient of activations   -->   front forward again, back, a step; forward the next batch
                                    <--   activations ... and after the last batch: the client's parts, and on how many samples

Nothing of a turn is remembered until it has ended: who crashes in it loses it, and it is begun again. Its messages are
deleted at both ends as soon as they have served: they are many, and of no use to others.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.core.rng import seed_of
from kuberml.exchange.node import Node
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.tensors import AnyArray
from kuberml.knowledge.want import Offer
from kuberml.learning import split_jobs
from kuberml.learning.batching import batches, step_count
from kuberml.learning.split import Split
from kuberml.learning.types import Array, FitPlan, IntArray

STEPS = 2**20
"""Messages of one turn at most."""

SLOT = "split"
NO_VELOCITY = np.zeros(0, np.float32)


class Body:
    """The server's part while it learns; several turns may share one, a batch at a time in the order in which they come."""

    def __init__(self, node: Node, parts: Split, plan: FitPlan, weights_F: Array) -> None:
        self.weights_F, self._velocity_F = weights_F, NO_VELOCITY
        self._node, self._parts, self._plan, self._lock = node, parts, plan, asyncio.Lock()

    async def learn(self, turn: Turn, came: Weights) -> Array:
        """Take a step on a client's activations; the gradient for them.

        Raises:
            RemoteError, Unreachable: they are none, a step on them diverges, or the client does not give the gradient of the
                features. The body is then as it was.
        """
        parts, plan = self._parts, self._plan
        x_B = _shaped(came, "activations", parts.part("front").shape, plan.batch + 1)
        down_B: Array | IntArray
        async with self._lock:
            if "tail" in parts.names:
                z_B: Array = await self._node.compute(split_jobs.pass_body, parts, self.weights_F, x_B, turn.seed)
                down_B = _shaped(await turn.ask("tail", {"features": z_B}), "gradient", z_B.shape[1:], len(z_B))
                if len(down_B) != len(z_B):
                    raise RemoteError(f"gradients of {len(down_B)} samples, not of {len(z_B)}")
            else:
                down_B = _checked_targets(came, len(x_B), len(parts.learner.labels))
            inputs = (self.weights_F, self._velocity_F, x_B, down_B, plan, turn.seed)
            weights_F, velocity_F, back_B = await self._node.compute(split_jobs.learn_body, parts, *inputs)
            if not (np.isfinite(weights_F).all() and np.isfinite(back_B).all()):
                raise RemoteError("a step on these activations leaves the range of numbers")
            self.weights_F, self._velocity_F = weights_F, velocity_F
        return back_B  # type: ignore[no-any-return]


class Turn:
    """The server's end of one client's turn; each has a number of its own, and asked again the same."""

    def __init__(self, node: Node, client: NodeId, number: int, deadline_s: float) -> None:
        self._node, self._client, self._deadline_s = node, client, deadline_s
        self._versions = itertools.count(number * STEPS)
        self.seed = seed_of(node.place.seed, "split", number)

    async def run(self, own: dict[str, Array], body: Body) -> tuple[dict[str, Array], int] | None:
        """The client's parts after it, and on how many samples; None, and recorded, where it came to nothing."""
        try:
            came = await self.ask("begin", own)
            for _ in range(STEPS // 2):
                if "samples" in came.tensors:
                    return _same(came, own), _count(came)
                came = await self.ask("back", {"gradient": await body.learn(self, came)})
        except (RemoteError, Unreachable) as error:
            self._node.record("turn lost", of=self._client, why=str(error))
        return None

    async def ask(self, name: str, tensors: Mapping[str, AnyArray]) -> Weights:
        """Send something, and get what the client says to it. Raises RemoteError, Unreachable: it says nothing of use."""
        node, version = self._node, next(self._versions)
        about = await node.publish(Weights(dict(tensors)), slot=SLOT, version=version, listed=False)
        try:
            async for offer in node.ask([self._client], name, about, timeout_s=self._deadline_s):
                content = await node.fetch(offer)
                forget(node, offer)
                if not isinstance(content, Weights):
                    raise RemoteError(f"{self._client} answers {name!r} with a package of kind {offer.signed.card.kind!r}")
                return content
        finally:
            forget(node, about)
        raise Unreachable(f"{self._client} does not answer {name!r}")


class Learning:
    """The client's end: `begin`, `back` and, where labels stay, `tail`."""

    def __init__(self, node: Node, parts: Split, plan: FitPlan) -> None:
        self._node, self._parts, self._plan = node, parts, plan
        self._said: Offer | None = None

    async def begin(self, _: str, about: Offer | None) -> Offer:
        """A turn begins, whatever was before. Raises RemoteError: the parts are not this network's."""
        came, version = await self._read(about)
        names = [name for name in self._parts.names if name != "body"]
        self._own = {name: _shaped(came, name, (), len(self._parts.part(name).places_F)) for name in names}
        if [len(self._own[name]) for name in names] != [len(self._parts.part(name).places_F) for name in names]:
            raise RemoteError(f"the parts {names} of {self._parts.learner.architecture!r} are not those that came")
        self._velocity = dict.fromkeys(names, NO_VELOCITY)
        self._seed = seed_of(self._node.place.seed, "split", version // STEPS)
        data, plan = self._node.data.train, self._plan
        order = batches(len(data), plan.batch, self._node.seed("fit", version // STEPS), "batches")
        self._rows: Iterator[IntArray] = itertools.islice(order, step_count(plan, len(data)))
        return await self._next(version)

    async def back(self, _: str, about: Offer | None) -> Offer:
        """The gradient of what this client said last. Raises RemoteError: it is not of that."""
        came, version = await self._read(about, after=True)
        down_B = _shaped(came, "gradient", self._parts.part("front").shape, len(self._batch))
        if len(down_B) != len(self._batch):
            raise RemoteError(f"gradients of {len(down_B)} samples, not of {len(self._batch)}")
        await self._step("front", split_jobs.learn_front, self._node.data.train, self._batch, down_B)
        return await self._next(version)

    async def tail(self, _: str, about: Offer | None) -> Offer:
        """What the body made of it: the loss is here, beside the labels. Raises RemoteError: it is not of that."""
        came, version = await self._read(about, after=True)
        z_B = _shaped(came, "features", self._parts.part("body").shape, len(self._batch))
        if len(z_B) != len(self._batch):
            raise RemoteError(f"features of {len(z_B)} samples, not of {len(self._batch)}")
        down_B = await self._step("tail", split_jobs.learn_tail, z_B, self._node.data.train, self._batch)
        return await self._say(version, {"gradient": down_B})

    async def _next(self, version: int) -> Offer:
        node, rows_B = self._node, next(self._rows, None)
        if rows_B is None:
            return await self._say(version, {**self._own, "samples": np.array([len(node.data.train)], np.int64)})
        self._batch = rows_B
        data = node.data.train
        x_B, y_B = await node.compute(split_jobs.look, self._parts, self._own["front"], data, rows_B, self._seed)
        said = {"activations": x_B} if "tail" in self._parts.names else {"activations": x_B, "targets": y_B}
        return await self._say(version, said)

    async def _step(self, name: str, job: Callable[..., Any], *inputs: object) -> Array:
        rest = (*inputs, self._plan, self._seed)
        moved = await self._node.compute(job, self._parts, self._own[name], self._velocity[name], *rest)
        self._own[name], self._velocity[name], back_B = moved
        return back_B  # type: ignore[no-any-return]

    async def _say(self, version: int, tensors: dict[str, AnyArray]) -> Offer:
        """Nothing on the card: labels are not told there either."""
        if self._said is not None:
            forget(self._node, self._said)
        self._said, self._at = await self._node.publish(Weights(tensors), slot=SLOT, version=version, listed=False), version
        return self._said

    async def _read(self, about: Offer | None, *, after: bool = False) -> tuple[Weights, int]:
        if about is None:
            raise RemoteError("a turn is about something, and nothing was sent")
        version = about.signed.card.version
        if after and (self._said is None or version != self._at + 1):
            raise RemoteError(f"message {version} does not follow the last that was answered here: begin the turn again")
        content = await self._node.fetch(about)
        forget(self._node, about)
        if not isinstance(content, Weights):
            raise RemoteError(f"a turn is made of weights, not of a package of kind {about.signed.card.kind!r}")
        return content, version


def forget(node: Node, offer: Offer) -> None:
    """Delete a message of a turn here."""
    for blob in offer.signed.card.blobs:
        node.place.store.delete(blob.digest)
    node.place.store.delete_card(offer.signed.digest)


def _shaped(came: Weights, name: str, shape: tuple[int, ...], most: int) -> Array:
    """A float32 tensor [1 to `most`, *shape]. Raises RemoteError: it is something else."""
    found = came.tensors.get(name)
    if found is None or found.dtype != np.float32 or found.shape[1:] != tuple(shape) or not 1 <= len(found) <= most:
        was = "nothing" if found is None else f"{found.dtype} {list(found.shape)}"
        raise RemoteError(f"{name}: float32 [1..{most}, {', '.join(map(str, shape))}] was needed, and {was} came")
    return found


def _checked_targets(came: Weights, count: int, classes: int) -> IntArray:
    found = came.tensors.get("targets")
    if found is None or found.dtype != np.int64 or found.shape != (count,) or found.min() < 0 or found.max() >= classes:
        raise RemoteError(f"targets: int64 [{count}] from 0 to {classes - 1} were needed")
    return found


def _same(came: Weights, own: dict[str, Array]) -> dict[str, Array]:
    return {name: _exactly(_shaped(came, name, (), len(before)), len(before)) for name, before in own.items()}


def _exactly(part_F: Array, count: int) -> Array:
    if len(part_F) != count:
        raise RemoteError(f"a part of {len(part_F)} weights came back, and {count} were sent")
    return part_F


def _count(came: Weights) -> int:
    found = came.tensors["samples"]
    if found.dtype != np.int64 or found.shape != (1,) or not 0 < int(found[0]) < STEPS:
        raise RemoteError("a turn ends with how many samples it was on")
    return int(found[0])
