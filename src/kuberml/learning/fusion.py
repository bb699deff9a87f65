"""Several models made into one on unlabelled samples: an ensemble's answers, and a model that learns them."""

from __future__ import annotations

import numpy as np

from kuberml.core.jobs import job
from kuberml.knowledge.kinds.probe import Probe
from kuberml.learning.jobs import training_flops
from kuberml.learning.learner import Learner, SoftTargets, State
from kuberml.learning.predictor import Predictor
from kuberml.learning.types import Array, FitPlan, Samples


@job(flops=lambda predictor, probe: predictor.flops_per_sample * len(probe))
def ask(predictor: Predictor, probe: Probe) -> Array:
    """Log-probabilities of a probe's samples, float32 [N, C]."""
    return predictor.predict(probe.inputs())


@job(flops=lambda learner, state, probe, logits_NC, plan, seed: training_flops(learner, plan, 0, len(probe)))
def fuse(learner: Learner, state: State, probe: Probe, logits_NC: Array, plan: FitPlan, seed: int) -> State:
    """The state after going down KL(softmax(logits_NC) || the learner's answers) on a probe; its labels are not looked at."""
    e_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    probs_NC = (e_NC / e_NC.sum(axis=1, keepdims=True)).astype(np.float32)
    x_N = probe.inputs()
    soft = SoftTargets(x_N, probs_NC, np.ones(probs_NC.shape, bool), temperature=1.0, alpha=1.0)
    nothing = Samples(x_N[:0], np.zeros(0, np.int64), learner.labels)
    return learner.fit(state, nothing, plan, seed, soft=soft)
