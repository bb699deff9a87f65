"""The PyTorch adapter of `Learner`: any `torch.nn.Module` that answers logits, trained by the engine.

Importing this module does not import torch: a learner is a description, and hubs and vaults handle it as such.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import LabelId
from kuberml.core.rng import seed_of
from kuberml.core.values import dumps, value
from kuberml.learning.learner import SoftTargets, inputs_of
from kuberml.learning.models import need_torch
from kuberml.learning.steering import Steering
from kuberml.learning.types import Array, FitPlan, IntArray, Samples

if TYPE_CHECKING:
    from kuberml.learning.feature_prototypes import Prototypes
    from kuberml.learning.torch_engine import Soft
    from kuberml.learning.torch_scratch import Scratch

MEASURED: dict[bytes, Callable[[], tuple[int, int]]] = {}
"""By a learner's bytes, what somebody else measured of it: a process that never trains then need not import torch."""


@value
class TorchLearner(msgspec.Struct, frozen=True, dict=True):
    """A network with cross-entropy and SGD. Its state is one float32 vector [P] (layout: `torch_scratch`).

    Attributes:
        architecture: a name of `models.MODELS` ("lenet") or "package.module:Class" of your own.
        shape: of one sample: (H, W, channels) or (features,).
        labels: names of the C classes, in the order of the answers.
        options: keyword arguments of the architecture, for instance {"hidden": [64]}.
        device: "cpu", or "cuda" where there is one; results are repeatable on one sort of device, not across them.
    """

    architecture: str
    shape: tuple[int, ...]
    labels: tuple[LabelId, ...]
    options: dict[str, Any] = {}
    device: str = "cpu"

    @property
    def averageable(self) -> bool:
        """True: the mean of two states is a state."""
        return True

    @property
    def flops_per_sample(self) -> int:
        """Of a forward pass: 2 for each multiply-add of convolutions and matrix products; the rest is not counted."""
        return self._measured[0]

    @property
    def size(self) -> int:
        """P, the length of a state; 4 P bytes."""
        return self._measured[1]

    def init(self, seed: int) -> Array:
        """The architecture's own initialisation, float32 [P], with torch's generator seeded from `seed`."""
        need_torch(f"the model {self.architecture!r}")
        from kuberml.learning import torch_scratch

        with torch_scratch.one_job(seed_of(seed, "init")):
            return torch_scratch.fresh(self).store()

    def fit(
        self,
        state: Array,
        samples: Samples,
        plan: FitPlan,
        seed: int,
        *,
        soft: SoftTargets | None = None,
        steering: Steering | None = None,
        towards: Prototypes | None = None,
    ) -> Array:
        """Train with minibatch SGD; see `Learner.fit`. With soft targets an epoch passes over the larger of the two sets.

        Raises:
            ConfigError: the steering, or the prototypes that features are drawn to, are not of this architecture.
        """
        return self._train(state, samples, plan, seed, soft, steering=steering, towards=towards)

    def refine_head(
        self, state: Array, samples: Samples, plan: FitPlan, seed: int, *, soft: SoftTargets | None = None
    ) -> Array:
        """Train the last layer and nothing else, the features frozen: the second phase of query-based knowledge transfer.

        It removes what teachers' answers did to the decision between labels (Alballa et al., QKT, ICLR 2025, arXiv 2504.09205).
        Arguments and errors as in `fit`.
        """
        return self._train(state, samples, plan, seed, soft, head_only=True)

    @property
    def feature_count(self) -> int:
        """d, of the numbers that go into the last layer."""
        one = np.zeros((1, *self.shape), np.float32)
        return int(self.features(np.zeros(self.size, np.float32), one).shape[1])

    def features(self, state: Array, x_N: Array) -> Array:
        """What goes into the last layer with weights: float32 [N, d]."""
        scratch = self._scratch()
        from kuberml.learning import torch_features

        return torch_features.features(scratch, state, self._inputs(x_N))

    def predict(self, state: Array, x_N: Array) -> Array:
        """Log-probabilities, float32 [N, C]; see `Learner.predict`. A diverged state (NaN inside) answers uniformly."""
        scratch = self._scratch()
        from kuberml.learning import torch_engine

        return (
            torch_engine.predict(scratch, state, self._inputs(x_N)) if len(x_N) else np.empty((0, len(self.labels)), np.float32)
        )

    def tensors(self, state: Array) -> dict[str, Array]:
        """The state by the module's parameter names: what the kind "weights" packs."""
        layout = self._scratch().layout
        cuts = np.cumsum([math.prod(shape) for _, shape in layout])
        parts = np.split(np.asarray(state), cuts[:-1])
        return {name: part.reshape(shape) for (name, shape), part in zip(layout, parts, strict=True)}

    def state_of(self, tensors: Mapping[str, Array]) -> Array:
        """The inverse of `tensors`, for weights that a peer sent.

        Raises:
            RemoteError: names, shapes or dtype are not this architecture's, or a number is not finite.
        """
        layout = self._scratch().layout
        if set(tensors) != {name for name, _ in layout}:
            wrong = sorted(set(tensors) ^ {name for name, _ in layout})
            raise RemoteError(f"weights are not of {self.architecture!r}: tensors {wrong[:4]} are missing or too many")
        for name, shape in layout:
            found = tensors[name]
            if found.shape != shape or found.dtype != np.float32:
                raise RemoteError(f"weights: {name!r} must be float32 {list(shape)}, not {found.dtype} {list(found.shape)}")
            if not np.isfinite(found).all():
                raise RemoteError(f"weights: {name!r} holds numbers that are not finite")
        return np.concatenate([tensors[name].reshape(-1) for name, _ in layout])

    def _train(
        self,
        state: Array,
        samples: Samples,
        plan: FitPlan,
        seed: int,
        soft: SoftTargets | None,
        *,
        head_only: bool = False,
        steering: Steering | None = None,
        towards: Prototypes | None = None,
    ) -> Array:
        check_plan(plan)
        scratch = self._scratch()
        from kuberml.learning import torch_engine

        x_N, y_N, taught = self._inputs(samples.x_N), targets(self.labels, samples), self._soft(soft)
        if towards is not None:
            towards.check(len(self.labels), self.feature_count)
        return torch_engine.train(
            scratch, state, x_N, y_N, plan=plan, seed=seed, soft=taught, head_only=head_only, steering=steering, towards=towards
        )

    @functools.cached_property
    def _measured(self) -> tuple[int, int]:
        """Flops of a sample, and the length of a state. Asked for with every job; they follow from the description alone."""
        if MEASURED:
            key = dumps(self)
            if key in MEASURED:
                return MEASURED[key]()
        scratch = self._scratch()
        return scratch.flops_per_sample, scratch.size

    def _soft(self, soft: SoftTargets | None) -> Soft | None:
        if soft is None:
            return None
        from kuberml.learning import torch_engine

        known_M = np.asarray(soft.mask_NC.any(axis=1))
        x_M, classes = self._inputs(inputs_of(soft)), (len(known_M), len(self.labels))
        if soft.probs_NC.shape != classes or soft.mask_NC.shape != classes or len(x_M) != len(known_M):
            raise ConfigError(
                f"soft targets: probs_NC {list(soft.probs_NC.shape)} and mask_NC {list(soft.mask_NC.shape)} must be "
                f"[{len(x_M)}, {len(self.labels)}], a row for each input and a column for each label"
            )
        if not (soft.temperature > 0 and 0 <= soft.alpha <= 1):
            raise ConfigError(f"soft targets: temperature > 0 and alpha in 0..1, not {soft.temperature} and {soft.alpha}")
        probs_MC = soft.probs_NC[known_M].astype(np.float32, copy=False)
        return torch_engine.Soft(x_M[known_M], probs_MC, soft.mask_NC[known_M], soft.temperature, soft.alpha)

    def _inputs(self, x_N: Array) -> Array:
        if tuple(x_N.shape[1:]) != tuple(self.shape):
            raise ConfigError(f"samples have the shape {x_N.shape[1:]}; this learner takes {tuple(self.shape)}")
        return np.ascontiguousarray(x_N, np.float32)

    def _scratch(self) -> Scratch:
        need_torch(f"the model {self.architecture!r}")
        from kuberml.learning import torch_scratch

        return torch_scratch.scratch_of(self)


def targets(labels: tuple[LabelId, ...], samples: Samples) -> IntArray:
    """The samples' labels as positions in `labels`, int64 [N]. Names that no sample has do not matter.

    Raises:
        ConfigError: a sample has a label that is not among them.
    """
    place = {name: position for position, name in enumerate(labels)}
    place_C = np.array([place.get(name, -1) for name in samples.labels], np.int64)
    y_N = place_C[samples.y_N] if len(samples) else np.empty(0, np.int64)
    if (y_N < 0).any():
        unknown = sorted({samples.labels[position] for position in np.unique(samples.y_N[y_N < 0])})
        raise ConfigError(f"samples have the labels {unknown}, which the learner lacks: it has {list(labels)}")
    return y_N


def check_plan(plan: FitPlan) -> None:
    """Check a plan's numbers.

    Raises:
        ConfigError: one is outside its range; the message names it.
    """
    limits = {
        "lr": plan.lr > 0,
        "steps": plan.steps >= 0,
        "epochs": plan.epochs >= 0,
        "batch": plan.batch >= 1,
        "momentum": 0 <= plan.momentum < 1,
        "weight_decay": plan.weight_decay >= 0,
    }
    for name, fits in limits.items():
        if not fits or not math.isfinite(getattr(plan, name)):
            right = "positive" if name in {"lr", "batch"} else "0 or more" + (" and under 1" if name == "momentum" else "")
            raise ConfigError(f"plan: {name} must be {right} and finite, not {getattr(plan, name)!r}")
