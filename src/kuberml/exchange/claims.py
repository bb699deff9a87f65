"""Claims on public probes: made by authors, run again by receivers. What does not hold becomes a signed proof for everybody."""

from __future__ import annotations

from typing import Any

from kuberml.core.ids import LabelId
from kuberml.core.jobs import job
from kuberml.exchange.node import Node
from kuberml.exchange.trial import Tally
from kuberml.knowledge.card import PPM, Claim, SignedCard
from kuberml.knowledge.fraud import accuse, claim_on, false_labels
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.knowledge.kinds.probe import Probe, probe_of
from kuberml.learning import claims as scoring
from kuberml.learning.extractors import built


def _flops(content: Any, probe: Probe, extractor: Extractor | None) -> int:
    return len(probe) * (built(extractor).flops(probe.x_N.shape[1:]) if extractor else 1)


@job(flops=_flops)
def recall_ppm(content: Any, probe: Probe, extractor: Extractor | None) -> dict[LabelId, int]:
    """What knowledge scores alone on a labelled probe. See `learning.claims.recall_ppm`."""
    return scoring.recall_ppm(content, probe, extractor)


async def claims_on(node: Node, content: Any, probe: Probe | None, extractor: Extractor | None) -> tuple[Claim, ...]:
    """What one's own package scores on a probe, for its card; () without a labelled probe."""
    if probe is None or probe.y_N is None:
        return ()
    return (Claim(probe_of(probe), await node.compute(recall_ppm, content, probe, extractor)),)


async def recheck(
    node: Node, signed: SignedCard, content: Any, probe: Probe, extractor: Extractor | None
) -> tuple[dict[LabelId, Tally], str]:
    """Run the claim of a delivered package again.

    Returns:
        Evidence per label that was claimed, and "" if the claim holds; else none, and why not: everybody is told, with a
        signed proof. ({}, "") where nothing is claimed on this probe.
    """
    claim = claim_on(signed.card, probe_of(probe))
    if claim is None or probe.y_N is None:
        return {}, ""
    found_ppm = await node.compute(recall_ppm, content, probe, extractor)
    false = false_labels(claim, found_ppm, probe)
    if false:
        await node.accuse(accuse(signed, probe, found_ppm, keys=node.place.keys, at_ms=node.now_ms))
        return {}, "its claim is false: " + ", ".join(_told(label, claim, found_ppm) for label in false)
    counts = probe.counts()
    shared = [label for label in claim.recall_ppm if label in found_ppm]
    return {label: Tally(round(found_ppm[label] * counts[label] / PPM), counts[label]) for label in shared}, ""


def _told(label: LabelId, claim: Claim, found_ppm: dict[LabelId, int]) -> str:
    return f"{label} at {claim.recall_ppm[label] / PPM:.0%}, found {found_ppm.get(label, 0) / PPM:.0%}"
