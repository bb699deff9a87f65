"""Which policies go with which steps and paradigms, and why not."""

from __future__ import annotations

from kuberml.core.errors import ConfigError
from kuberml.exchange.policies.options import Offload, Policy
from kuberml.exchange.steps.options import Steps
from kuberml.exchange.steps.table import Collects


def check(policy: Policy, offload: Offload, steps: Steps, collects: Collects, *, offloads: bool) -> None:
    """Refuse what cannot be together.

    Args:
        policy, offload, steps: what a run is to have.
        collects: see `steps.table`.
        offloads: whether the paradigm's clients train in a way that can run elsewhere.

    Raises:
        ConfigError: it names both and says why.
    """
    if policy != "uniform" and collects == "own":
        raise ConfigError(f"policy = {policy!r} cannot go with this paradigm: its server chooses in a way of its own")
    if policy == "poisson" and collects == "stream":
        raise ConfigError(
            "policy = 'poisson' cannot go with an asynchronous paradigm: it tosses a coin for each client a round"
        )
    if not offload.to:
        return
    if not offloads:
        raise ConfigError(
            f"offload.to = {offload.to!r} cannot go with this paradigm: its clients train in a way of their own; it goes with"
            " fedavg, fedavg-head, fedadam, fedyogi and feddf"
        )
    for name in ("dp", "masks"):
        if name in steps.names:
            raise ConfigError(
                f"offload.to = {offload.to!r} cannot go with the step {name!r}: that hides updates from those who would see the"
                " samples themselves"
            )
