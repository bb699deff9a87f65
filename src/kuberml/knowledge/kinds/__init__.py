"""The kinds of knowledge, one file each. Importing this package registers them; a kind's module is imported at first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from kuberml.knowledge.kind import KINDS, Kind

_BUILT_IN = {
    "statistics": "statistics:StatisticsKind",
    "weights": "weights:WeightsKind",
    "delta": "delta:DeltaKind",
    "soft-labels": "soft_labels:SoftLabelsKind",
    "prototypes": "prototypes:PrototypesKind",
    "probe": "probe:ProbeKind",
    "extractor": "extractor:ExtractorKind",
    "sealed": "sealed:SealedKind",
}


def _loader(place: str) -> Callable[[], Kind]:
    def load() -> Kind:
        module, _, name = place.partition(":")
        made: Any = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        kind: Kind = made()
        return kind

    return load


for _name, _place in _BUILT_IN.items():
    KINDS.add(_name, _loader(_place))
