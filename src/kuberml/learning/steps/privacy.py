"""Differential privacy of clients: Gaussian noise on clipped updates, and how much it promises after so many rounds.

H. B. McMahan, D. Ramage, K. Talwar, L. Zhang: Learning Differentially Private Recurrent Language Models. ICLR 2018. The
accountant is Google's dp-accounting (extra `privacy`): Renyi differential privacy, I. Mironov, CSF 2017.

Two data sets are neighbours when one client's update is zero instead ("zeroed-out", arXiv 2103.00039, definition 1.1), which
a sum of updates of norm C notices by C. Where the cohort has a fixed size and is drawn uniformly, no accountant knows the gain
for that relation; there one client is *replaced*, which is noticed by 2 C.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from kuberml.core.errors import MissingExtra
from kuberml.core.jobs import job
from kuberml.core.values import value
from kuberml.learning.steps.secrets import normal
from kuberml.learning.types import Array

Sampling = Literal["all", "poisson", "uniform"]
"""Who is in a round: everybody (or who is chosen otherwise: no gain), each by a coin, or a fixed number drawn."""


@value
class Promise(msgspec.Struct, frozen=True):
    """What the noise promises.

    Attributes:
        epsilon: of (epsilon, delta) after all `releases`.
        noise: standard deviation of the noise on a sum over the clip norm.
        releases: how often a noised sum (or update) was given away.
        neighbours: what counts as one client less; see the top of the file.
    """

    epsilon: float
    delta: float
    noise: float
    releases: int
    neighbours: Literal["zeroed-out", "replaced"]


@job(flops=lambda values, deviation, secret: 20 * values.size)
def noised(values: Array, deviation: float, secret: bytes) -> Array:
    """Values + Normal(0, deviation²) of each, float32 [P]. One secret, one use."""
    return (values.astype(np.float64) + deviation * normal(secret, values.size)).astype(np.float32)


def promise(
    noise: float, delta: float, releases: int, *, sampling: Sampling = "all", of: int = 1, drawn: int = 1, share: float = 1.0
) -> Promise:
    """What `releases` sums with this noise promise to each client.

    Args:
        noise, delta, releases: see `Promise`.
        sampling: who is in a round.
        of, drawn: "uniform": how many clients there are, and how many of them are drawn.
        share: "poisson": the chance of each.

    Raises:
        MissingExtra: the extra `privacy` is not installed.
    """
    try:
        from dp_accounting import dp_event
        from dp_accounting.privacy_accountant import NeighboringRelation
        from dp_accounting.rdp import RdpAccountant
    except ImportError as error:
        raise MissingExtra("the step 'dp'", "privacy") from error
    if sampling == "uniform" and drawn < of:
        event = dp_event.SampledWithoutReplacementDpEvent(of, drawn, dp_event.GaussianDpEvent(noise / 2))
        accountant = RdpAccountant(neighboring_relation=NeighboringRelation.REPLACE_ONE)
    else:
        event = dp_event.GaussianDpEvent(noise)
        if sampling == "poisson" and share < 1:
            event = dp_event.PoissonSampledDpEvent(share, event)
        accountant = RdpAccountant(neighboring_relation=NeighboringRelation.REPLACE_SPECIAL)
    if releases:
        accountant.compose(event, releases)
    replaced = accountant.neighboring_relation is NeighboringRelation.REPLACE_ONE
    epsilon = float(accountant.get_epsilon(delta)) if releases else 0.0
    return Promise(epsilon, delta, noise, releases, "replaced" if replaced else "zeroed-out")
