"""Verdicts: what one holder's test of somebody's knowledge showed, signed, in whole right answers.

A receiver that lacks a label cannot test knowledge about it. Others who hold that label can: each publishes a verdict, and
the receiver pools them, every witness weighted by its *rank*: how far its word counts (`exchange.standing`). Nothing here
depends on the order in which verdicts are heard, nor on hearing one twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, LabelId, check_digest, digest_of
from kuberml.core.values import value
from kuberml.knowledge.card import PPM
from kuberml.knowledge.checks import check_labels
from kuberml.knowledge.signing import Keys, check_signature

SCHEMA = "kuberml.verdict/1"
DOMAIN = b"kuberml.verdict/1\0"
NEUTRAL_PPM = PPM // 2
"""Rank of somebody of whom nothing is known yet."""
TESTED_CAP = 1000
"""Samples per label that one witness counts for at most: a claimed count is influence."""


@value
class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Right answers on the witness's own held-out samples, per label.

    `before` is what the witness's model scored without the knowledge on the same samples; {} if it tested it alone.
    """

    card: Digest  # what was tested
    author: str  # of that card: public key
    witness: str  # who tested: public key
    tested: dict[LabelId, int]  # samples of each label, 1 or more
    correct: dict[LabelId, int]  # of these, answered rightly with the knowledge
    at_ms: int  # the witness's clock
    before: dict[LabelId, int] = {}
    schema: str = SCHEMA

    @property
    def digest(self) -> Digest:
        """The identity of this statement: BLAKE3 of the domain prefix and the canonical body."""
        return digest_of(DOMAIN + canonical.encode(self))


class SignedVerdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A verdict and its witness's Ed25519 signature over DOMAIN + digest."""

    verdict: Verdict
    signature: bytes


class Pooled(msgspec.Struct, frozen=True):
    """What several witnesses say of one label: samples and right answers, each weighted by rank, in millionths."""

    tested_ppm: int = 0
    correct_ppm: int = 0
    before_ppm: int = 0  # of the witnesses that measured it ...
    compared_ppm: int = 0  # ... on this many samples

    @property
    def recall_ppm(self) -> int:
        """Share of right answers with the knowledge; 0 if nobody tested."""
        return PPM * self.correct_ppm // self.tested_ppm if self.tested_ppm else 0


def sign_verdict(verdict: Verdict, keys: Keys) -> SignedVerdict:
    """The verdict with its witness's signature.

    Raises:
        ConfigError: it cannot be (more right answers than samples ...), or `keys` are not the witness's.
    """
    if verdict.witness != keys.public:
        raise ConfigError(f"the witness is {verdict.witness:.12}..., the keys are of {keys.public[:12]}...")
    if wrong := _wrong(verdict):
        raise ConfigError(f"this verdict cannot be: {wrong}")
    return SignedVerdict(verdict, keys.sign(DOMAIN, verdict.digest.encode()))


def check_verdict(signed: SignedVerdict) -> SignedVerdict:
    """`signed`, if it can be and its signature is its witness's.

    Raises:
        RemoteError: counts that cannot be, an author that vouches for itself, or a wrong signature.
    """
    if wrong := _wrong(signed.verdict):
        raise RemoteError(f"this verdict cannot be: {wrong}")
    check_signature(signed.verdict.witness, DOMAIN, signed.verdict.digest.encode(), signed.signature)
    return signed


def aggregate(verdicts: Iterable[Verdict], ranks_ppm: Mapping[str, int]) -> dict[LabelId, Pooled]:
    """Checked verdicts *on one card*, pooled per label, in any order.

    Of one witness the newest counts. Each counts with its rank, and for TESTED_CAP samples of a label at most, so nobody
    gets a louder voice by claiming larger tests. Integers only: the same on every machine.

    Args:
        verdicts: on one card.
        ranks_ppm: by witness, 0..PPM; who is missing has NEUTRAL_PPM.

    Raises:
        ConfigError: they are about several cards.
    """
    newest: dict[str, Verdict] = {}
    for verdict in verdicts:
        old = newest.get(verdict.witness)
        if old is None or (verdict.at_ms, verdict.digest) > (old.at_ms, old.digest):
            newest[verdict.witness] = verdict
    if len({verdict.card for verdict in newest.values()}) > 1:
        raise ConfigError("verdicts on several cards cannot be pooled")
    pooled: dict[LabelId, Pooled] = {}
    for witness, verdict in newest.items():
        rank_ppm = ranks_ppm.get(witness, NEUTRAL_PPM)
        for label in verdict.tested:
            pooled[label] = _added(pooled.get(label, Pooled()), verdict, label, rank_ppm)
    return dict(sorted(pooled.items()))


def _added(pooled: Pooled, verdict: Verdict, label: LabelId, rank_ppm: int) -> Pooled:
    tested = verdict.tested[label]
    weight_ppm = rank_ppm * min(tested, TESTED_CAP)  # per sample: weight_ppm / tested
    compared = label in verdict.before
    return Pooled(
        pooled.tested_ppm + weight_ppm,
        pooled.correct_ppm + weight_ppm * verdict.correct[label] // tested,
        pooled.before_ppm + (weight_ppm * verdict.before[label] // tested if compared else 0),
        pooled.compared_ppm + (weight_ppm if compared else 0),
    )


def _wrong(verdict: Verdict) -> str | None:
    """The first thing that is wrong with a verdict, or None."""
    try:
        check_digest(verdict.card)
        check_digest(verdict.author)  # a public key has the form of a digest
        check_labels(verdict.tested, RemoteError)
    except RemoteError as error:
        return str(error)
    return next(_faults(verdict), None)


def _faults(verdict: Verdict) -> Iterator[str]:
    if verdict.schema != SCHEMA:
        yield f"schema {verdict.schema!r:.40}; known here: {SCHEMA}"
    if verdict.witness == verdict.author:
        yield "an author cannot vouch for itself"
    if not verdict.tested:
        yield "it tests no label"
    if not -(2**63) <= verdict.at_ms < 2**63:
        yield "its time is outside 64 bits"
    if verdict.correct.keys() != verdict.tested.keys() or (verdict.before and verdict.before.keys() != verdict.tested.keys()):
        yield "right answers of other labels than were tested"
    for right in (verdict.correct, verdict.before):
        for label, count in right.items():
            if not 0 <= count <= verdict.tested[label]:
                yield f"{count} right answers of {verdict.tested[label]} samples of {label!r}"
