"""One run of a scenario in lockstep: in the simulated world, or live with a process for every node. Both come to the same.

with LiveLockstep(folder) as live:
    assert live.run(config, "fedavg", seed=0) == simulated_lockstep(config, "fedavg", seed=0)
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from kuberml.core.errors import ConfigError, Unreachable
from kuberml.core.units import to_ns
from kuberml.scenario.config import Config
from kuberml.scenario.lockstep_end import LockstepRun, NodeEnd, node_end
from kuberml.scenario.lockstep_member import Part
from kuberml.scenario.parts import Parts
from kuberml.scenario.play import Play
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.validate import check_possible
from kuberml.worlds.live.lockstep.line import STALL_S
from kuberml.worlds.live.lockstep.troupe import Troupe
from kuberml.worlds.simulated.workers import make_workers
from kuberml.worlds.simulated.world import Outcome

MEMBER = "kuberml.scenario.lockstep_member"


def run_lockstep(config: Config, label: str, seed: int, *, out: Path, stall_s: float = STALL_S) -> LockstepRun:
    """One live run in lockstep, with processes of its own. See `LiveLockstep.run`."""
    with LiveLockstep(out, stall_s=stall_s) as live:
        return live.run(config, label, seed)


def simulated_lockstep(config: Config, label: str, seed: int, *, workers: int = 1) -> LockstepRun:
    """The same run in the simulated world.

    Raises:
        ConfigError: something in the scenario cannot be.
    """
    config = in_lockstep(config)
    pool = make_workers(workers)
    try:
        play = Play(
            config, label, seed, things=PublicThings(config), workers=pool, cache=None, records=lambda node, now_ns: _Deaf()
        )
        outcome = play.run()
    finally:
        pool.close()
    return run_of(play, outcome)


def run_of(play: Play, outcome: Outcome) -> LockstepRun:
    """What a simulated play in lockstep came to."""
    gave_up = play.parts.gave_up
    return LockstepRun(
        virtual_time_ns=outcome.virtual_time_ns,
        finished=outcome.finished,
        nodes={node: node_end(node, play.world, play.watch, gave_up.get(node, "")) for node in play.cast},
    )


def in_lockstep(config: Config) -> Config:
    """The scenario with schedule = "lockstep".

    Raises:
        ConfigError: it has faults, which lockstep does not play.
    """
    config = msgspec.structs.replace(config, world=msgspec.structs.replace(config.world, schedule="lockstep"))
    check_possible(config)
    return config


class LiveLockstep:
    """Processes for live runs in lockstep, kept from run to run. A context manager."""

    def __init__(self, out: Path, *, stall_s: float = STALL_S, member: str = MEMBER) -> None:
        """Start a router; processes start with the first run.

        Args:
            out: a folder; each run has its own in it, with every node's vault and ledger, and `logs/` what processes said.
            stall_s: how long a process may take for one step.
            member: the module that a process runs.

        Raises:
            Unreachable: no port on loopback.
        """
        self._out = out
        self.troupe = Troupe(member, out / "logs", stall_s=stall_s)

    def run(self, config: Config, label: str, seed: int) -> LockstepRun:
        """One paradigm under one seed, to its end.

        Raises:
            ConfigError: something in the scenario cannot be, or this run's folder is there already.
            Unreachable: a node process died, never came, or stalls (the message names it); or all that the run waits for
                gave up.
            Whatever a node's part or handler raises.
        """
        config = in_lockstep(config)
        parts = Parts(config, label, seed, PublicThings(config))
        folder = self._out / f"{label}.{seed}"
        if folder.exists():
            raise ConfigError(f"{folder} is there already: a run in lockstep begins with empty vaults; choose another folder")
        bodies = {}
        for node in parts.cast:
            (folder / node).mkdir(parents=True)
            bodies[node] = msgspec.json.encode(Part(config, label, seed, node, str(folder / node)))
        waited = [node for node, (role, _) in parts.cast.items() if role == parts.waited]
        ended = self.troupe.play(bodies, waited=waited, until_ns=to_ns(config.world.until_s))
        nodes = {node: msgspec.json.decode(final, type=NodeEnd) for node, final in ended.finals.items()}
        if all(nodes[node].gave_up for node in waited):
            raise Unreachable(nodes[waited[0]].gave_up)
        return LockstepRun(virtual_time_ns=ended.time_ns, finished=ended.finished, nodes=nodes)

    def close(self) -> None:
        """End all processes."""
        self.troupe.close()

    def __enter__(self) -> LiveLockstep:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _Deaf:
    """Records nothing."""

    def record(self, event: str, **fields: Any) -> None:
        """See core.seam.Recorder."""
