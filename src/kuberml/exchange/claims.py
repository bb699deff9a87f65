"""Claims on public probes: made by authors, run again by receivers. What does not hold becomes a signed proof for everybody."""

from __future__ import annotations

from typing import Any

import numpy as np

from kuberml.core.ids import LabelId
from kuberml.core.jobs import job
from kuberml.exchange.node import Node
from kuberml.exchange.trial import Tally
from kuberml.knowledge.card import PPM, Claim, SignedCard
from kuberml.knowledge.fraud import accuse, false_labels, recall_of
from kuberml.knowledge.kinds.probe import Probe, probe_of


@job(flops=lambda predictor, probe: int(predictor.flops_per_sample) * len(probe))
def on_probe(predictor: Any, probe: Probe) -> dict[LabelId, list[int]]:
    """How a predictor answers a labelled probe's samples of its own labels: label -> [right answers, samples]."""
    assert probe.y_N is not None, "only a labelled probe can test a claim"
    answers_N = np.argmax(predictor.predict(probe.inputs()), axis=1)
    found: dict[LabelId, list[int]] = {}
    for place, label in enumerate(probe.labels):
        mine_N = probe.y_N == place
        if label in predictor.labels:
            right = int(np.sum(answers_N[mine_N] == list(predictor.labels).index(label)))
            found[label] = [right, int(mine_N.sum())]
    return found


async def claim(node: Node, predictor: Any, probe: Probe) -> tuple[Claim, ...]:
    """What one's own package scores on a probe, for its card; () where the probe has no labels."""
    if probe.y_N is None:
        return ()
    counts = await node.compute(on_probe, predictor, probe)
    return (Claim(probe_of(probe), recall_of(*_split(counts))),)


async def recheck(node: Node, signed: SignedCard, predictor: Any, probe: Probe) -> tuple[dict[LabelId, Tally], str]:
    """Run the claim of a delivered package again.

    Returns:
        Evidence per label that was claimed, and "" if the claim holds; else why not, and everybody is told with a signed proof.
        Nothing at all where nothing is claimed on this probe.
    """
    claims = [one for one in signed.card.claims if one.probe == probe_of(probe)]
    if not claims or probe.y_N is None:
        return {}, ""
    counts = await node.compute(on_probe, predictor, probe)
    recall_ppm = recall_of(*_split(counts))
    false = false_labels(claims[0], recall_ppm, probe)
    if not false:
        return {label: Tally(*counts[label]) for label in claims[0].recall_ppm if label in counts}, ""
    proof = accuse(signed, probe, recall_ppm, keys=node.place.keys, at_ms=node.now_ms)
    await node.accuse(proof)
    claimed = ", ".join(
        f"{label}: {claims[0].recall_ppm[label] / PPM:.0%} claimed, {recall_ppm.get(label, 0) / PPM:.0%} found"
        for label in false
    )
    return {}, f"its claim is false ({claimed})"


def _split(counts: dict[LabelId, list[int]]) -> tuple[dict[LabelId, int], dict[LabelId, int]]:
    return {label: right for label, (right, _) in counts.items()}, {label: count for label, (_, count) in counts.items()}
