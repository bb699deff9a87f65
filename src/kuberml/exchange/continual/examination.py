"""The edges' word: every new version is published, edges try it on data of their own, and say signed what they found.

An edge compares the balanced heads (`fair`) of the new model and the one before *among the labels that the one before knew*.
The cloud pools what they say by how far each agreed so far with what public samples show (`exchange.standing`), or, without
any, with the majority. Where enough of them found that a label was lost, the version goes, and what it brought is tried again
alone.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import Digest, LabelId, NodeId
from kuberml.core.jobs import job
from kuberml.exchange import heads
from kuberml.exchange.continual import gate
from kuberml.exchange.continual.history import Entry
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.continual.served import Served
from kuberml.exchange.continual.words import Heard
from kuberml.exchange.node import Node
from kuberml.exchange.standing import Standing
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.ridge import Head
from kuberml.knowledge.verdict import Verdict, aggregate, sign_verdict
from kuberml.knowledge.want import Offer
from kuberml.learning.datasets import samples
from kuberml.learning.extractors import built, features
from kuberml.learning.predictor import HeadOn
from kuberml.learning.types import DataRef

SLOT, ASK, FAIR = "served", "examine", "fair"
EXAMINERS, PUBLISHER = ("client", "peer"), "server"
"""Roles: whom a cloud asks (clients of a paradigm; members with a training loop of their own), and whom an edge lets ask it."""


class Examination:
    """The cloud's side."""

    def __init__(self, node: Node, rules: Rules, counts: dict[LabelId, int]) -> None:
        """`counts`: labelled public samples; {}: none, and the majority is the yardstick."""
        self._node, self._rules, self._counts = node, rules, counts
        self._standing = Standing(self_witness=node.author if counts else None)
        self._heard = Heard(node.memory, self._standing)
        self._verdicts: dict[Digest, dict[str, Verdict]] = {}
        self._heard_ms = 0
        self.said: dict[str, tuple[int, int]] = {}
        """Of the version that was tried last: (held-out samples, right answers) by public key."""

    async def hold(self, served: Served, fair: Head, entry: Entry) -> str:
        """Publish a version and let it be tried. Why it must go; "" if it may stay."""
        assert isinstance(served.predictor, HeadOn), "a version is a head on the extractor"
        head, before = served.predictor.head, self._node.own(SLOT)
        counts = {label: sum(part.samples for part in parts) for label, parts in served.taught.items()}
        parents: tuple[Digest, ...] = () if before is None else (before.signed.digest,)
        if before is not None and before.signed.card.version == served.number:  # cut off before all had answered
            parents = before.signed.card.parents
        content = packed(head, fair, counts)
        offer = await self._node.publish(content, slot=SLOT, version=served.number, keep=2, parents=parents)
        card = offer.signed.digest
        async for _ in self._node.ask(self.edges, ASK, offer, timeout_s=self._rules.patience_s):
            pass
        on_card = await self._said(card)
        self._heard.hear(served.number, [*self._shown(card, head, entry), *on_card.values()])
        return self._judge(on_card)

    @property
    def edges(self) -> list[NodeId]:
        """Who is there and may be asked."""
        return [edge for role in EXAMINERS for edge in self._node.peers(role)]

    def trust_ppm(self, witness: str) -> int:
        """How far an edge's word counts; see `exchange.standing`."""
        return self._standing.trust_ppm(witness)

    @property
    def witnesses(self) -> dict[str, int]:
        """Who has tried versions of lately, by public key, and how far each's word counts."""
        return {witness: self.trust_ppm(witness) for witness in sorted(self._heard.witnesses - {self._node.author})}

    def _shown(self, card: Digest, head: Head, entry: Entry) -> list[Verdict]:
        """What labelled public samples show of a version, if there are any: the yardstick."""
        mine = {label: n for label, n in self._counts.items() if label in head.labels}
        right = {label: round(entry.fair.get(label, 0.0) * n) for label, n in mine.items()}
        return [Verdict(card, self._node.author, self._node.author, mine, right, self._node.now_ms)] if mine else []

    async def _said(self, card: Digest) -> dict[str, Verdict]:
        """What edges found of a version so far, by public key."""
        found, self._heard_ms = await self._node.verdicts([card], self._heard_ms)
        on_card = self._verdicts.setdefault(card, {})
        on_card.update((signed.verdict.witness, signed.verdict) for signed in found)
        self._verdicts = {card: on_card}
        self.said = {who: (sum(one.tested.values()), sum(one.correct.values())) for who, one in sorted(on_card.items())}
        return on_card

    def _judge(self, on_card: dict[str, Verdict]) -> str:
        compared = [one for one in on_card.values() if one.before]
        ranks = {one.witness: self._standing.trust_ppm(one.witness) for one in compared}
        heard = sum(rank > 0 for rank in ranks.values())
        return gate.testimony(aggregate(compared, ranks), heard, self._rules)


class Examiner:
    """An edge's side: what the cloud serves is served here too, and tried on what this edge has kept back."""

    def __init__(self, node: Node, extractor: Extractor) -> None:
        self._node, self._extractor = node, extractor
        self._known: tuple[Digest, Head] | None = None
        self._before: Head | None = None
        """What `_known` was compared with: asked again, it is the same comparison."""

    async def examine(self, asker: NodeId, about: Offer | None) -> None:
        """Answer the ask: fetch, try, testify, serve. The word goes to the hub, not to who asks."""
        if about is None or asker not in self._node.peers(PUBLISHER):
            return
        try:
            head, fair = unpacked(await self._node.fetch(about))
        except (RemoteError, Unreachable) as error:
            self._node.record("undelivered", card=about.signed.digest, why=str(error))
            return
        signed, known = about.signed, self._known
        before = known[1] if known is not None and known[0] in signed.card.parents else None
        if known is not None and known[0] == signed.digest:
            before = self._before
        counts = await self._node.compute(compared, self._extractor, before, fair, self._node.data.heldout)
        self._known, self._before = (signed.digest, fair), before
        if counts:
            await self._node.testify(sign_verdict(self._verdict(signed, counts, compares=before is not None),
                                                  self._node.place.keys))  # fmt: skip
        self._node.deploy(HeadOn(self._extractor, head, self._node.place.shape), learned=[signed])

    def _verdict(self, signed: SignedCard, counts: dict[LabelId, list[int]], *, compares: bool) -> Verdict:
        return Verdict(
            card=signed.digest,
            author=signed.card.author,
            witness=self._node.author,
            tested={label: n for label, (n, _, _) in counts.items()},
            correct={label: right for label, (_, right, _) in counts.items()},
            at_ms=self._node.now_ms,
            before={label: was for label, (_, _, was) in counts.items()} if compares else {},
        )


def packed(head: Head, fair: Head, counts: dict[LabelId, int]) -> Weights:
    """A version as a package: the head that answers, and the balanced one that is judged."""
    answers = heads.packed(head, counts)
    return msgspec.structs.replace(answers, tensors={**answers.tensors, FAIR: fair.weights_dC})


def unpacked(content: Any) -> tuple[Head, Head]:
    """Both heads of `packed`.

    Raises:
        RemoteError: it is not a version.
    """
    if not isinstance(content, Weights) or FAIR not in content.tensors:
        raise RemoteError("not a version of a cloud model: that comes as weights, with a balanced head beside the other")
    rest = {name: tensor for name, tensor in content.tensors.items() if name != FAIR}
    head, fair_dC = heads.unpacked(msgspec.structs.replace(content, tensors=rest)), content.tensors[FAIR]
    if fair_dC.dtype != np.float64 or fair_dC.shape != head.weights_dC.shape:
        raise RemoteError(f"the balanced head is {fair_dC.dtype} {fair_dC.shape}, the other float64 {head.weights_dC.shape}")
    return head, msgspec.structs.replace(head, weights_dC=fair_dC)


def _flops(extractor: Extractor, before: Any, head: Head, data: DataRef) -> int:
    from kuberml.learning.datasets import DATASETS

    return len(data) * (built(extractor).flops(DATASETS.get(data.dataset).shape) + 4 * head.weights_dC.size)


@job(flops=_flops)
def compared(extractor: Extractor, before: Head | None, head: Head, data: DataRef) -> dict[LabelId, list[int]]:
    """How two heads answer held-out samples of the labels that the second knows.

    Samples of labels that the first knows are answered among those by both; of others, by the second among all.

    Returns:
        label -> [samples, right answers of the second, of the first].
    """
    local = samples(data)
    known = np.array([label in head.labels for label in local.labels])[local.y_N] if len(local) else np.zeros(0, bool)
    if not known.any():
        return {}
    y_N, z_Nd = local.y_N[known], features(extractor, local.x_N[known])
    names_N = np.array(local.labels)[y_N]
    old_N = np.isin(names_N, before.labels) if before is not None else np.zeros(len(y_N), bool)
    right_N = _answer(head, z_Nd, head.labels) == names_N
    was_N = np.zeros(len(y_N), bool)
    if before is not None and old_N.any():
        right_N[old_N] = (_answer(head, z_Nd, before.labels) == names_N)[old_N]
        was_N[old_N] = (_answer(before, z_Nd, before.labels) == names_N)[old_N]
    return {
        str(label): [int((names_N == label).sum()), int(right_N[names_N == label].sum()), int(was_N[names_N == label].sum())]
        for label in np.unique(names_N)
    }


def _answer(head: Head, z_Nd: Any, among: tuple[LabelId, ...]) -> Any:
    scores_NC = head.scores(z_Nd)
    scores_NC[:, [label not in among for label in head.labels]] = -np.inf
    return np.array(head.labels)[scores_NC.argmax(axis=1)]
