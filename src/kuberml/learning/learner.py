"""The learner: one contract for every sort of model. It names no framework and holds no state.

A learner is a frozen `@value` struct that says *what* is trained (architecture, labels, options). What has been learned is
its *state*, a value of `core.values`; every method is a pure function of its arguments, so a fit may run on any worker.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError
from kuberml.core.ids import LabelId
from kuberml.core.values import value
from kuberml.learning.types import Array, DataRef, FitPlan, Samples

State: TypeAlias = Any
"""What was learned: a flat float32 vector [P] where states can be averaged, else plain data and arrays."""


@value
class SoftTargets(msgspec.Struct, frozen=True):
    """Teachers' answers on some samples; the student moves towards them while it fits (N samples, C labels of the student).

    The loss on these samples is temperature² · KL(teacher ‖ student) over the labels that the teachers know: the student's
    softmax is taken over `mask_NC`, so a teacher says nothing about a label that it has never seen (masked distillation).

    Attributes:
        x: the samples' inputs, by reference or float32 [N, ...].
        probs_NC: float32 [N, C], teachers' probabilities *at* `temperature`; rows sum to 1 over the mask, 0 elsewhere.
        mask_NC: bool [N, C], labels known to the teachers of each sample. Rows without any are skipped.
        temperature: > 0; the student's logits are divided by it too.
        alpha: weight of this loss, 0..1; the loss on the student's own labels weighs 1 - alpha.
    """

    x: DataRef | Array
    probs_NC: Array
    mask_NC: npt.NDArray[np.bool_]
    temperature: float = 1.0
    alpha: float = 0.5

    def __len__(self) -> int:
        return len(self.probs_NC)


def inputs_of(soft: SoftTargets) -> Array:
    """The inputs of soft targets as float32 [N, ...], read through `datasets.samples` when they are a reference."""
    from kuberml.learning.datasets import samples  # data sets register themselves: not needed to name the contract

    return samples(soft.x).x_N if isinstance(soft.x, DataRef) else soft.x


class Learner(Protocol):
    """What every adapter offers. The same arguments give the same state and answers, with one thread, on one machine."""

    @property
    def labels(self) -> tuple[LabelId, ...]:
        """Names of the C classes, in the order of the columns of `predict`."""
        ...

    @property
    def averageable(self) -> bool:
        """Whether the mean of two states is a state: then a state is one float32 vector [P]."""
        ...

    @property
    def flops_per_sample(self) -> int:
        """Floating point operations of one forward pass of one sample; a training step is reckoned at three of them."""
        ...

    def init(self, seed: int) -> State:
        """The state before anything was learned."""
        ...

    def fit(self, state: State, samples: Samples, plan: FitPlan, seed: int, *, soft: SoftTargets | None = None) -> State:
        """Go on learning from `state`, which is not changed.

        Args:
            state: of this learner.
            samples: N private samples; labels may be a part of the learner's, in any order. N = 0 is allowed.
            plan: how; what an adapter has no use for (a tree has no learning rate) it ignores and says so in its docstring.
            seed: of the order of samples and whatever else is drawn.
            soft: teachers' answers to learn from as well.

        Raises:
            ConfigError: samples of another shape, or with labels that the learner does not have.
        """
        ...

    def predict(self, state: State, x_N: Array) -> Array:
        """Log-probabilities, float32 [N, C], of inputs float32 [N, ...]; finite (a class never seen is very unlikely)."""
        ...


def label_positions(learner: Learner, labels: tuple[LabelId, ...]) -> npt.NDArray[np.int64]:
    """Where each of `labels` stands in the learner's, int64 [len(labels)], so `positions[samples.y_N]` are its targets.

    Raises:
        ConfigError: the learner does not have one of them.
    """
    place = {name: position for position, name in enumerate(learner.labels)}
    missing = [name for name in labels if name not in place]
    if missing:
        raise ConfigError(f"labels {missing} are not the learner's: it has {list(learner.labels)}")
    return np.array([place[name] for name in labels], np.int64)
