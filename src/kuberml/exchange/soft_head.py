"""Integrator: soft labels on a public probe, for a learner that wants much for few bytes.

The model is a kernel head on the plain inputs, solved from one's own samples (hard labels) and the probe's (soft labels): a
bridge cheap enough to be solved again for every trial. One's own network is then distilled from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kuberml.core.ids import Digest
from kuberml.exchange.node import Node
from kuberml.exchange.parcel import Parcel, distinct
from kuberml.knowledge.kinds.probe import Probe, probe_of
from kuberml.knowledge.kinds.soft_labels import SoftLabels
from kuberml.learning.soft_head import solve_soft
from kuberml.learning.types import DataRef


class SoftHead:
    """What is known is one's own samples and the answers of teachers that were accepted."""

    kinds: tuple[str, ...] = ("soft-labels",)
    extractor = None

    def __init__(self, node: Node, probe: Probe) -> None:
        self._node, self._probe = node, probe
        self.basis: Digest = probe_of(probe)

    async def read(self, content: SoftLabels) -> Any:
        """The head of one teacher's answers alone."""
        return await self._solve(None, [content])

    async def model(self, parcels: Sequence[Parcel]) -> Any:
        """The head of one's own samples and of all teachers; a label is answered by those who know it."""
        return await self._solve(self._node.data.train, [parcel.content for parcel in distinct(parcels)])

    async def _solve(self, own: DataRef | None, teachers: list[SoftLabels]) -> Any:
        labels = self._node.learner.labels
        return await self._node.compute(solve_soft, labels, own, self._probe, teachers)
