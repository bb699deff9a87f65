"""From a teacher's log-probabilities to soft labels that travel: known labels only, in the form that the receiver pays for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest, LabelId
from kuberml.core.rng import rng
from kuberml.knowledge.kinds.soft_labels import MAX_DRAWS, STEPS_PER_NAT, Form, SoftLabels, check
from kuberml.knowledge.withholding import MIN_CLASS_COUNT


def soften(
    log_probs_NC: npt.NDArray[np.floating[Any]],
    labels: tuple[LabelId, ...],
    *,
    known: Mapping[LabelId, int],
    probe: Digest,
    sample_ids_N: npt.NDArray[np.integer[Any]],
    form: Form = "dense-log8",
    k: int = 3,
    seed: int = 0,
    min_class_count: int = MIN_CLASS_COUNT,
) -> SoftLabels:
    """A teacher's log-probabilities [N, C] as soft labels.

    Args:
        log_probs_NC: float [N, C] in the order of `labels`; finite.
        labels: names of the C columns.
        known: samples of each label that the teacher learned from; what has fewer than min_class_count counts as unknown.
        probe: name of the sample set.
        sample_ids_N: ascending positions in it.
        form: see the top of the file.
        k: labels kept ("top") or drawn ("sampled") for each sample.
        seed: of the draws.
        min_class_count: least number of samples that an answer about a label stands on.

    Raises:
        ConfigError: shapes that do not fit, NaN, no known label, or k outside 1..255.
    """
    names = tuple(sorted(name for name in labels if known.get(name, 0) >= min_class_count))
    if log_probs_NC.shape != (len(sample_ids_N), len(labels)) or not names or not np.isfinite(log_probs_NC).all():
        raise ConfigError(
            f"log_probs_NC {log_probs_NC.shape} must be finite, [{len(sample_ids_N)}, {len(labels)}], with a label that "
            f"stands on at least {min_class_count} samples"
        )
    if form in ("top", "sampled") and not 1 <= k <= MAX_DRAWS:
        raise ConfigError(f"k is {k}; right is 1 to {MAX_DRAWS}")
    logp_NK = _over(log_probs_NC[:, [labels.index(name) for name in names]].astype(np.float64))
    chosen_Nk, codes_Nk = _coded(logp_NK, form, k, seed)
    ids_N = sample_ids_N.astype(np.int32)
    made = SoftLabels(probe, names, tuple(known[name] for name in names), ids_N, form, chosen_Nk, codes_Nk)
    check(made, ConfigError, min_class_count)
    return made


def _over(logits_NK: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Log-softmax over the known labels."""
    shifted_NK = logits_NK - logits_NK.max(axis=1, keepdims=True)
    normal: npt.NDArray[np.float64] = shifted_NK - np.log(np.exp(shifted_NK).sum(axis=1, keepdims=True))
    return normal


def _coded(
    logp_NK: npt.NDArray[np.float64], form: Form, k: int, seed: int
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float16] | npt.NDArray[np.uint8]]:
    n, count = logp_NK.shape
    none_N0 = np.zeros((n, 0), np.uint16)
    log8_NK = np.clip(np.rint(-STEPS_PER_NAT * logp_NK), 0, 255).astype(np.uint8)
    if form == "dense-fp16":
        return none_N0, (np.clip(logp_NK, -60_000, 0) + 0.0).astype(np.float16)
    if form == "dense-log8":
        return none_N0, log8_NK
    if form == "top":
        best_Nk = np.argsort(-logp_NK, axis=1, kind="stable")[:, : min(k, count)].astype(np.uint16)
        best_Nk.sort(axis=1)
        return best_Nk, np.take_along_axis(log8_NK, best_Nk.astype(np.int64), axis=1)
    cumulative_NK = np.cumsum(np.exp(logp_NK), axis=1)
    draws_Nm = rng(seed, "soft-labels").random((n, k)) * cumulative_NK[:, -1:]
    drawn_Nm = (draws_Nm[:, :, None] >= cumulative_NK[:, None, :-1]).sum(axis=2).astype(np.uint16)
    drawn_Nm.sort(axis=1)
    return drawn_Nm, np.zeros((n, 0), np.uint8)
