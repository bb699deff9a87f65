"""Fraud proofs: a signed claim, and what came out when somebody else ran it again. Anybody can check one.

A card's claim says what the knowledge scores on a named public probe. Whoever runs it again and gets clearly less signs an
accusation that carries the author's own signed card. A checker believes neither side: it runs the claim a third time.

Only claims of *more* than is true are fraud. A difference up to the tolerance, or of one sample of a label, is not: another
machine rounds differently, and a sample on the border falls on the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, LabelId, check_digest, digest_of
from kuberml.knowledge.card import PPM, Card, Claim, SignedCard
from kuberml.knowledge.kinds.probe import Probe, probe_of
from kuberml.knowledge.signing import Keys, check_card, check_signature

SCHEMA = "kuberml.fraud/1"
DOMAIN = b"kuberml.fraud/1\0"
TOLERANCE_PPM = 20_000
"""Two points of recall."""

Run = Callable[[Card, Probe], Mapping[LabelId, int]]
"""Runs a card's knowledge on a probe: recall in parts per million of each of the probe's labels that the card claims."""


class FraudProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The accusation: the claim as its author signed it, and what the accuser got."""

    accused: SignedCard  # the card, with the claim in it
    probe: Digest  # which of its claims: the one on this probe
    recall_ppm: dict[LabelId, int]  # what the accuser got on that probe
    accuser: str  # public key
    at_ms: int  # the accuser's clock
    schema: str = SCHEMA

    @property
    def digest(self) -> Digest:
        """The identity of this accusation: BLAKE3 of the domain prefix and the canonical body."""
        return digest_of(DOMAIN + canonical.encode(self))


class SignedFraudProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An accusation and the accuser's Ed25519 signature over DOMAIN + digest."""

    proof: FraudProof
    signature: bytes


def recall_of(right: Mapping[LabelId, int], count: Mapping[LabelId, int]) -> dict[LabelId, int]:
    """Recall in parts per million, rounded down, of right answers and samples per label: how claims are scored."""
    return {label: PPM * right.get(label, 0) // count[label] for label in sorted(count) if count[label]}


def false_labels(
    claim: Claim, recall_ppm: Mapping[LabelId, int], probe: Probe, *, tolerance_ppm: int = TOLERANCE_PPM
) -> tuple[LabelId, ...]:
    """The labels of which more was claimed than came out, sorted; () if the claim holds.

    A label that the probe has no samples of cannot be claimed on it: it counts as a recall of 0.

    Args:
        claim: of the card.
        recall_ppm: what came out.
        probe: what it was run on; its samples per label say what one sample is worth.
        tolerance_ppm: difference that is nothing to wonder about.
    """
    allowed_ppm, counts = _allowed(claim, probe, tolerance_ppm), probe.counts()
    return tuple(
        label
        for label, claimed_ppm in sorted(claim.recall_ppm.items())
        if claimed_ppm - (recall_ppm.get(label, 0) if label in counts else 0) > allowed_ppm[label]
    )


def accuse(
    accused: SignedCard, probe: Probe, recall_ppm: Mapping[LabelId, int], *, keys: Keys, at_ms: int,
    tolerance_ppm: int = TOLERANCE_PPM,
) -> SignedFraudProof:  # fmt: skip
    """A signed accusation.

    Args:
        accused: the card whose claim did not hold.
        probe: the sample set of that claim.
        recall_ppm: what a re-run gave.
        keys: the accuser's.
        at_ms: the accuser's clock.
        tolerance_ppm: see `false_labels`.

    Raises:
        ConfigError: there is nothing to accuse: no claim on this probe, or it holds.
        RemoteError: the card's signature is not its author's, so that its claim is nobody's.
    """
    check_card(accused)
    name = probe_of(probe)
    claim = claim_on(accused.card, name)
    if claim is None:
        raise ConfigError(f"the card claims nothing on the probe {name[:12]}")
    if not false_labels(claim, recall_ppm, probe, tolerance_ppm=tolerance_ppm):
        raise ConfigError(f"the claim on the probe {name[:12]} holds within {tolerance_ppm} ppm: nothing to accuse")
    proof = FraudProof(accused, name, dict(recall_ppm), keys.public, at_ms)
    return SignedFraudProof(proof, keys.sign(DOMAIN, proof.digest.encode()))


def check_fraud(signed: SignedFraudProof, probe: Probe, run: Run, *, tolerance_ppm: int = TOLERANCE_PPM) -> tuple[LabelId, ...]:
    """Check an accusation by running the claim again. Cheap checks come first; `run` is called once, at the end.

    Args:
        signed: the accusation as received.
        probe: the sample set that it names (fetched by its digest).
        run: runs the card's knowledge on the probe, here.
        tolerance_ppm: see `false_labels`; also how near the accuser's numbers must be to what comes out here.

    Returns:
        The labels of which the author claimed too much, at least one.

    Raises:
        RemoteError: it is not a proof: a wrong signature, no such claim, another probe, a mismatch within the tolerance
            (in the accusation or here), or the accuser's numbers are not what comes out.
    """
    proof = signed.proof
    if proof.schema != SCHEMA:
        raise RemoteError(f"an accusation of schema {proof.schema!r:.40}; known here: {SCHEMA}")
    check_digest(proof.accuser)  # a public key has the form of a digest
    check_signature(proof.accuser, DOMAIN, proof.digest.encode(), signed.signature)
    check_card(proof.accused)
    claim = claim_on(proof.accused.card, proof.probe)
    if claim is None:
        raise RemoteError(f"the accused card claims nothing on the probe {proof.probe:.12}")
    if probe_of(probe) != proof.probe:
        raise RemoteError(f"the claim is about another probe than {probe_of(probe)[:12]}")
    if any(not 0 <= ppm <= PPM for ppm in proof.recall_ppm.values()):
        raise RemoteError("an accusation with a recall outside 0..1000000 ppm")
    if not false_labels(claim, proof.recall_ppm, probe, tolerance_ppm=tolerance_ppm):
        raise RemoteError(f"the accusation itself is within {tolerance_ppm} ppm of the claim: not a proof")
    found_ppm = run(proof.accused.card, probe)
    false = false_labels(claim, found_ppm, probe, tolerance_ppm=tolerance_ppm)
    if not false:
        raise RemoteError("run again, the claim holds: the accusation is false")
    if far := _far(claim, proof.recall_ppm, found_ppm, _allowed(claim, probe, tolerance_ppm)):
        raise RemoteError(f"run again, {', '.join(far)} came out otherwise than the accuser says")
    return false


def claim_on(card: Card, probe: Digest) -> Claim | None:
    """What a card claims on a probe; of several claims of one label the highest."""
    recall_ppm: dict[LabelId, int] = {}
    for claim in card.claims:
        if claim.probe == probe:
            for label, ppm in claim.recall_ppm.items():
                recall_ppm[label] = max(ppm, recall_ppm.get(label, 0))
    return Claim(probe, recall_ppm) if recall_ppm else None


def _far(
    claim: Claim, said_ppm: Mapping[LabelId, int], found_ppm: Mapping[LabelId, int], allowed_ppm: dict[LabelId, int]
) -> list[LabelId]:
    """The claimed labels on which two runs differ by more than allowed."""
    return [
        label
        for label in sorted(claim.recall_ppm)
        if abs(said_ppm.get(label, 0) - found_ppm.get(label, 0)) > allowed_ppm[label]
    ]


def _allowed(claim: Claim, probe: Probe, tolerance_ppm: int) -> dict[LabelId, int]:
    """How far two runs may differ on each claimed label: the tolerance, or one sample where that is more."""
    counts = probe.counts()
    return {label: max(tolerance_ppm, PPM // counts[label] + 1 if counts.get(label) else 0) for label in claim.recall_ppm}
