"""What is accelerated of a predictor: the part that costs, under a name by which it is found again.

A head on an extractor changes with every packet, its extractor never: the extractor is what is compiled, once, and the head is
applied to its features as `HeadOn` does, in microseconds. A network is compiled whole.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest
from kuberml.core.values import digest
from kuberml.knowledge.kinds.extractor import basis_of
from kuberml.learning.extractors import built, features
from kuberml.learning.predictor import SHARPNESS, HeadOn, Network, Predictor, log_softmax
from kuberml.learning.types import Array

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True)
class Part:
    """A pure function of samples, and what makes log-probabilities of its outputs.

    Attributes:
        key: parts of one key are one function.
        form: it as a torch module. Raises ConfigError: it has no such form.
        reference: it as the predictor computes it.
        finish: outputs -> log-probabilities.
        width: numbers in an output.
    """

    key: Digest
    form: Callable[[], Module]
    reference: Callable[[Array], Array]
    finish: Callable[[Array], Array]
    width: int


def part_of(predictor: Predictor, shape: tuple[int, ...]) -> Part:
    """The part of a predictor that costs. Raises ConfigError: this sort of predictor has none that engines know."""
    if isinstance(predictor, HeadOn):
        extractor, head = predictor.extractor, predictor.head
        if not built(extractor).flops(shape):
            raise ConfigError(f"the extractor {extractor.architecture!r} costs nothing: there is nothing to accelerate")
        return Part(
            basis_of(extractor), functools.partial(_features_form, extractor, shape), functools.partial(features, extractor),
            lambda z_Nd: log_softmax(SHARPNESS * head.scores(z_Nd)), built(extractor).dimensions,
        )  # fmt: skip
    if isinstance(predictor, Network):
        return Part(
            digest(predictor), functools.partial(_form, predictor), predictor.predict, _uniform_if_broken, len(predictor.labels)
        )
    raise ConfigError(f"a {type(predictor).__name__} is not one network: it is answered by its parts")


def _features_form(*what: Any) -> Module:
    from kuberml.learning.torch_forms import features_form

    return features_form(*what)


def _form(predictor: Predictor) -> Module:
    from kuberml.learning.torch_forms import form_of

    return form_of(predictor)


def _uniform_if_broken(answers_NC: Array) -> Array:
    """A state that is not finite (a diverged fit) answers uniformly, as `torch_engine.predict` does."""
    good_N1 = np.isfinite(answers_NC).all(axis=1, keepdims=True)
    return np.where(good_N1, answers_NC, -np.log(np.float32(answers_NC.shape[1])))
