"""Which policies go with which steps and paradigms, and why not."""

from __future__ import annotations

from kuberml.core.errors import ConfigError
from kuberml.exchange.policies.options import Late, Offload, Policy
from kuberml.exchange.steps.options import Steps
from kuberml.exchange.steps.table import Collects


def check(policy: Policy, late: Late, offload: Offload, steps: Steps, collects: Collects, *, offloads: bool) -> None:
    """Refuse what cannot be together.

    Args:
        policy, late, offload, steps: what a run is to have.
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
    if late.rounds:
        check_late(late, steps, collects)
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


def check_late(late: Late, steps: Steps, collects: Collects) -> None:
    """The same of updates that count late. Raises ConfigError as `check` does."""
    if collects != "sum":
        why = (
            "it has no rounds that an update could be late for"
            if collects == "stream"
            else "it needs more than a mean of changes"
        )
        raise ConfigError(f"late.rounds = {late.rounds} cannot go with this paradigm: {why}")
    if steps:
        raise ConfigError(
            f"late.rounds = {late.rounds} cannot go with the step {steps.names[0]!r}: one round's cohort agrees on steps,"
            " and a late update is of another round"
        )
