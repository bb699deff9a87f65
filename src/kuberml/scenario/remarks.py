"""What a scenario asks for and does not get: said when it begins, and in its result."""

from __future__ import annotations

from kuberml.learning.datasets import DATASETS
from kuberml.scenario.config import Config


def remarks(config: Config) -> tuple[str, ...]:
    """A sentence for each."""
    dataset, asked = DATASETS.get(config.data.dataset), config.data.public
    there = dataset.size("public") if "public" in dataset.splits else 0
    if not there or asked <= there:
        return ()
    return (
        f"data.public = {asked}, but the data set {config.data.dataset!r} has {there} public samples: the probe has these.",
    )
