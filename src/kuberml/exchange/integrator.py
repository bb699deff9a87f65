"""What a desk asks of a way to take knowledge in: `exact_head` adds statistics, `soft_head` learns from soft labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from kuberml.core.ids import Digest
from kuberml.exchange.parcel import Parcel
from kuberml.knowledge.kinds.extractor import Extractor


class Integrator(Protocol):
    """One way of taking knowledge in. Models are predictors (see `learning.predictor`)."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds that it can use."""
        ...

    @property
    def basis(self) -> Digest:
        """What they must be relative to: the extractor or the probe."""
        ...

    @property
    def extractor(self) -> Extractor | None:
        """The extractor, where `basis` is one."""
        ...

    async def read(self, content: Any) -> Any:
        """The predictor that this package alone makes. Raises RemoteError: it makes none."""
        ...

    async def model(self, parcels: Sequence[Parcel]) -> Any:
        """The predictor with one's own knowledge and these packages absorbed; nobody's data counts twice (`distinct`).

        Raises:
            RemoteError: they do not add up.
        """
        ...
