"""A member's place among the others: its Node, and the Desk that is opened when it is first needed."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import msgspec
import numpy as np

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, InternalError, RemoteError
from kuberml.core.ids import Digest, LabelId
from kuberml.core.values import digest, value
from kuberml.exchange import wire
from kuberml.exchange.claims import claims_on
from kuberml.exchange.continual.examination import Examiner
from kuberml.exchange.desk import Desk
from kuberml.exchange.exact_head import ExactHead
from kuberml.exchange.integrator import Integrator
from kuberml.exchange.node import Node
from kuberml.exchange.parcel import Trial, distinct
from kuberml.exchange.place import LocalData, Place
from kuberml.exchange.public import public_package
from kuberml.exchange.soft_head import SoftHead
from kuberml.exchange.trial import TrialPlan
from kuberml.knowledge.card import Claim, Knowledge, Terms, decode_card
from kuberml.knowledge.kind import KINDS, kind_of
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.knowledge.kinds.probe import Probe
from kuberml.knowledge.kinds.statistics import Statistics
from kuberml.knowledge.pack import open_value
from kuberml.knowledge.screening import version_problem
from kuberml.knowledge.signing import Keys
from kuberml.knowledge.want import Offer, Want
from kuberml.learning.private import hold_back, private_data
from kuberml.learning.types import Array, IntArray
from kuberml.worlds.member.meeting import Meeting

ANSWERING = ("statistics", "prototypes", "soft-labels")
"""Kinds that answer by themselves, so that something can be claimed of them on a probe."""

_OF = " of "
"""Between a slot's name and the task, where another task of the same author had the name first."""


@value
class OwnLoop(msgspec.Struct, frozen=True):
    """The learner of a node whose user trains elsewhere: all that the desk asks of it is which labels there are."""

    labels: tuple[LabelId, ...]


class Seat:
    """The asynchronous side of `member.Member`."""

    def __init__(
        self,
        meeting: Meeting,
        keys: Keys,
        *,
        task: str,
        labels: tuple[LabelId, ...],
        kind: Literal["statistics", "soft-labels"],
        heldout: float,
        min_class_count: int,
        purpose: str,
        region: str,
        seed: int,
        trial: TrialPlan | None = None,
    ) -> None:
        """See `member.join`. Raises ConfigError: there is no such way of taking knowledge in."""
        if kind not in ("statistics", "soft-labels"):
            raise ConfigError(f"kind = {kind!r}: right are 'statistics' and 'soft-labels'")
        self.labels, self._kind, self._heldout, self._min_class_count = labels, kind, heldout, min_class_count
        self._meeting, self._store, self._trial = meeting, meeting.store, trial or TrialPlan()
        self._place = Place(
            clock=meeting.clock, transport=meeting.transport, compute=meeting.compute, store=meeting.store,
            recorder=meeting.recorder, watch=meeting.watch, role="peer", task=task, keys=keys, seed=seed, hub=meeting.hub,
            purpose=purpose, region=region, beside=asyncio.to_thread, learner=OwnLoop(labels),  # type: ignore[arg-type]
        )  # fmt: skip
        self.node = Node(self._place)
        self._head: ExactHead | None = None
        self._desk: Desk | None = None
        self._wanted: tuple[LabelId, ...] = ()
        self._publics: dict[str, Any] = {}

    async def hold(self, x_N: Array, y_N: IntArray) -> None:
        """See `member.Member.hold`; arrays as `learning.private` takes them."""
        every = private_data(x_N, y_N, self.labels, note=f"private samples of {self.node.id}")
        train, heldout = hold_back(every, y_N, self._heldout, self._place.seed)
        found = np.bincount(y_N[train.indices_N], minlength=len(self.labels))
        counts = {name: int(count) for name, count in zip(self.labels, found, strict=True) if count}
        self._place = dataclasses.replace(self._place, data=LocalData(train, heldout, counts), shape=tuple(x_N.shape[1:]))
        self.node = Node(self._place)
        self._head = self._desk = None

    async def extractor(self) -> Extractor:
        """Everybody's here. Raises ConfigError: nobody has published one."""
        found: Extractor = await self._public("extractor")
        return found

    async def probe(self) -> Probe:
        """Everybody's here. Raises ConfigError: nobody has published one."""
        found: Probe = await self._public("probe")
        return found

    async def head(self) -> ExactHead:
        """My data on the shared extractor. Raises ConfigError: there are no data, or no extractor."""
        self._need_data()
        if self._head is None:
            self._head = await ExactHead.describe(self.node, await self.extractor(), self._min_class_count)
        return self._head

    async def desk(self) -> Desk:
        """My desk, open. Raises ConfigError: as `head`."""
        self._need_data()
        if self._desk is None:
            probe = await self.probe()
            integrator: Integrator = SoftHead(self.node, probe) if self._kind == "soft-labels" else await self.head()
            desk = Desk(self.node, integrator, self._trial, probe if probe.y_N is not None else None)
            await desk.restore()
            self._desk = desk
        return self._desk

    def known(self) -> dict[LabelId, int]:
        """Samples of each label behind what is known here: my own, and those of the packages that were absorbed."""
        self._need_data()
        total = dict(self.node.data.counts)
        for parcel in distinct(self._desk.kept.values() if self._desk else ()):
            for label, count in parcel.signed.card.labels.items():
                total[label] = total.get(label, 0) + count
        return total

    async def examine(self) -> None:
        """See `member.Member.examine`."""
        self._need_data()
        self.node.serve(examine=Examiner(self.node, await self.extractor()).examine)

    async def publish(self, content: Any, slot: str, terms: Terms | None) -> Offer:
        """See `member.Member.publish`."""
        kind = kind_of(content)
        KINDS.get(kind)  # what is none is refused before it is looked into
        if isinstance(content, Statistics) and not content.samples:
            raise ConfigError(
                f"there is nothing to publish: no class has {self._min_class_count} samples to learn from or more, after the"
                f" share of {self._heldout:g} that is held back (see min_class_count and heldout of join)"
            )
        published = self.node.memory.get("published", {})
        place, content_digest = self._slot(slot or kind, published), digest([content, canonical.encode(terms or Terms())])
        version, before, cards = published.get(place, (-1, "", ()))
        if content_digest == before:
            offer = Offer(decode_card(self._store.card(cards[-1])), (self.node.id,), 0, 0, 0)
            await self._meeting.handed_over(offer, keep=1)  # a crash may have come between
            return offer
        if isinstance(content, Statistics):  # of other tasks too: who has two of mine may subtract them
            alike = [said[2] for slot, said in published.items() if slot.partition(_OF)[0] == place.partition(_OF)[0]]
            self._check_versions((card for said in alike for card in said), content)
        claims: tuple[Claim, ...] = ()
        if kind in ANSWERING:
            claims = await claims_on(self.node, content, await self.probe(), await self.extractor())
        parents = tuple(sorted(self._desk.kept)) if self._desk and kind != "statistics" else ()
        offer = await self.node.publish(content, slot=place, version=version + 1, claims=claims, parents=parents, terms=terms)
        entry = (version + 1, content_digest, (*cards, offer.signed.digest))
        self.node.memory.update(published={**published, place: entry})
        await self._meeting.handed_over(offer, keep=1)
        return offer

    def _slot(self, name: str, published: Mapping[str, tuple[int, Digest, tuple[Digest, ...]]]) -> str:
        """Where this task's `name` is published: a slot is an author's, so one that another task of mine has is not taken."""
        _, _, cards = published.get(name, (-1, "", ()))
        try:
            task = decode_card(self._store.card(cards[-1])).card.task if cards else self.node.task
        except KeyError:  # its blobs and card are gone: nothing is replaced
            task = self.node.task
        return name if task == self.node.task else f"{name}{_OF}{self.node.task}"

    def _check_versions(self, cards: Iterable[Digest], content: Statistics) -> None:
        """Refuse to publish what, beside any version before, would show single samples of mine."""
        for card in cards:
            before = self._held(card)  # if it is gone: who fetched it meanwhile checks for himself
            if isinstance(before, Statistics) and (problem := version_problem(before, content)):
                version = decode_card(self._store.card(card)).card.version
                raise ConfigError(f"this version is not published beside version {version}: {problem}")

    async def want(self, labels: Collection[LabelId]) -> list[Offer]:
        """See `member.Member.want`."""
        desk, self._wanted = await self.desk(), tuple(labels)
        settled = desk.kept.keys() | desk.refused.keys()
        offers = await self.node.find(desk.want(labels))
        if why := self.node.refused("find"):
            raise RemoteError(f"the hub does not tell who knows that: {why}")
        left, known = [offer for offer in offers if offer.signed.digest not in settled], settled | desk.waiting.keys()
        if not offers or any(offer.signed.digest not in known for offer in left):
            return left
        return [*left, *await self._behind(desk.want(labels), known)]

    async def _behind(self, want: Want, known: Collection[Digest]) -> list[Offer]:
        """Where the best have all been tried: the next that have not, in the order in which they came to the hub."""
        everything, since, pages = msgspec.structs.replace(want, limit=wire.OFFERED), 0, self.node.pages(0)
        while True:
            page = await self.node.find_page(everything, since)
            found = [offer for offer in page.offers if offer.signed.digest not in known]
            if found or not page.named or not pages.lead_on(page.upto):
                return found[: want.limit]
            since = page.upto

    async def try_out(self, offer: Offer) -> Trial:
        """See `member.Member.try_out`."""
        return await (await self.desk()).try_out(offer, self._wanted)

    async def absorb(self, trial: Trial) -> None:
        """See `member.Member.absorb`."""
        desk = await self.desk()
        desk.absorb(trial)
        self.node.deploy(desk.model, learned=[trial.signed])

    async def forget(self, known: Digest) -> None:
        """See `member.Member.forget`."""
        desk = await self.desk()
        await desk.forget(known)
        self.node.deploy(desk.model)

    async def is_agreed(self) -> bool:
        """See `member.Member.is_agreed`."""
        return await self._is_offered("extractor") and await self._is_offered("probe")

    async def _is_offered(self, kind: str) -> bool:
        return bool(await self.node.find(Want(task=self.node.task, kinds=(kind,), limit=1)))

    async def _public(self, kind: str) -> Any:
        """The public thing that is offered, looked for once: everything here is about the same one."""
        if kind not in self._publics:
            self._publics[kind] = await self._find_public(kind)
        return self._publics[kind]

    async def _find_public(self, kind: str) -> Any:
        """What is offered; where nobody offers one now (the hub is away), the one that was used before."""
        before: dict[str, Digest] = self.node.memory.get("public", {})
        if await self._is_offered(kind):
            signed, content = await public_package(self.node, kind)
            if before.get(kind) != signed.digest:
                self.node.memory.update(public={**before, kind: signed.digest})
            return content
        for known in (before.get(kind), self._said(kind)):  # what I published myself is not offered to me
            if known is not None and (content := self._held(known)) is not None:
                return content
        raise ConfigError(
            f"nobody has published {_an(kind)} for {self.node.task!r} here; once, somebody calls kuberml.agree(...)"
        )

    def _said(self, name: str) -> Digest | None:
        """The card that I published last in this task's slot of that name."""
        published = self.node.memory.get("published", {})
        cards = published.get(self._slot(name, published), (-1, "", ()))[2]
        return cards[-1] if cards else None

    def _held(self, known: Digest) -> Any:
        """The content of a package in the own store; None: it is gone or spoiled."""
        try:
            signed = decode_card(self._store.card(known))
            return open_value(Knowledge(signed, tuple(self._store.get(ref.digest) for ref in signed.card.blobs)))
        except (KeyError, InternalError, RemoteError):
            return None

    def _need_data(self) -> None:
        if self.node.place.data is None:
            raise ConfigError("no data are held here: join(..., data=(x, y)) or hold(x, y) first")


def _an(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
