"""Options of the policies, as a scenario's tables give them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from kuberml.core.ranges import Positive, Share
from kuberml.exchange.steps.options import Table

Policy = Literal["uniform", "poisson", "energy", "available"]


class Energy(Table, frozen=True, kw_only=True):
    """Energy-aware choice.

    Attributes:
        mix: of a reward, how much is what a client's data are worth; the rest is what is left in its battery.
        explore: share of a first cohort that was never asked before; it shrinks by `fades` each round, down to `least`.
        late: how strongly slow clients are put back.
        timeout_s: patience with a client that is asked how it is.
    """

    mix: Share = 0.75
    explore: Share = 0.9
    fades: Share = 0.98
    least: Share = 0.2
    late: Annotated[float, Meta(ge=0)] = 2.0
    timeout_s: Positive = 30.0


class Late(Table, frozen=True, kw_only=True):
    """What becomes of updates that come after their round's deadline; the formula is in `exchange.policies.late`.

    Attributes:
        rounds: how many rounds late an update may be and still count; 0: late ones are lost.
        beta: how much an update that differs from the fresh ones is favoured over one that is merely recent.
        scale: 10 as in the authors' code; 1 as in their paper.
    """

    rounds: Annotated[int, Meta(ge=0)] = 0
    beta: Share = 0.35
    scale: Annotated[float, Meta(ge=1)] = 10.0


class Offload(Table, frozen=True, kw_only=True):
    """Where training may run instead, with the samples.

    Attributes:
        to: "": nowhere; "cloud": at the server; "edge": at a neighbour on mains; "best": there, else at the server.
        reserve: share of the charge at first under which a device trains nothing itself.
        time_weight: 0: the energy of the device decides, 1: time.
    """

    to: Literal["", "cloud", "edge", "best"] = ""
    reserve: Share = 0.2
    time_weight: Share = 0.0


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """How cohorts are chosen and waited for in one run. `secretly`: nobody must be able to foresee whom."""

    policy: Policy = "uniform"
    energy: Energy = Energy()
    late: Late = Late()
    share: float = 1.0
    secretly: bool = False
