"""The nouns of learning that travel between jobs: data by reference, plans, scores, predictors' answers."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.ids import LabelId
from kuberml.core.values import value

Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@value
class DataRef(msgspec.Struct, frozen=True):
    """Some samples of a data set, by reference: a few bytes per sample travel, never the samples.

    Attributes:
        dataset: registered name ("digits").
        split: "train" or "test".
        indices_N: which samples of that split, int32 [N].
        view: how they look here, a domain: "plain", "inverted" (1 - x), ...; see `learning.views`.
        relabel: what a liar calls each label; {} for everybody honest.
    """

    dataset: str
    split: str
    indices_N: npt.NDArray[np.int32]
    view: str = "plain"
    relabel: dict[LabelId, LabelId] = {}

    def __len__(self) -> int:
        return len(self.indices_N)


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples in memory. N samples, each of shape (H, W, channels) or (features,).

    Attributes:
        x_N: float32 [N, ...], images scaled to 0..1.
        y_N: int64 [N], positions in `labels`.
        labels: names of the classes of the task, in the data set's order.
    """

    x_N: Array
    y_N: IntArray
    labels: tuple[LabelId, ...]

    def __len__(self) -> int:
        return len(self.y_N)


@value
class FitPlan(msgspec.Struct, frozen=True):
    """How to train: plain SGD, `steps` minibatches (or `epochs` when steps is 0)."""

    lr: float
    steps: int = 0
    epochs: int = 1
    batch: int = 32
    momentum: float = 0.0
    weight_decay: float = 0.0
    bf16: bool = False


@value
class Scores(msgspec.Struct, frozen=True, dict=True):
    """Right answers per label, as integers, so that they can be added, signed and compared exactly.

    Attributes:
        labels: names; correct_C, count_C: int64 [C], right answers and samples of each label.
    """

    labels: tuple[LabelId, ...]
    correct_C: IntArray
    count_C: IntArray

    @functools.cached_property
    def accuracy(self) -> float:
        """Mean of the recalls of the labels that have samples (equals plain accuracy on a label-balanced set). NaN if none.

        Reckoned once: a thousand learners that serve one model share its scores.
        """
        seen = self.count_C > 0
        return float(np.mean(self.correct_C[seen] / self.count_C[seen])) if seen.any() else float("nan")

    @property
    def accuracy_own(self) -> float:
        """Share of right answers on the label mix as it is. NaN if there are no samples."""
        total = int(self.count_C.sum())
        return float(self.correct_C.sum() / total) if total else float("nan")

    def recall(self) -> dict[LabelId, float]:
        """Recall of each label that has samples."""
        return {
            name: float(right / count)
            for name, right, count in zip(self.labels, self.correct_C, self.count_C, strict=True)
            if count
        }
