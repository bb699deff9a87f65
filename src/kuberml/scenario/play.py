"""One run: one paradigm, one seed, in the simulated world; from the stage to its end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from kuberml.core.ids import Digest, NodeId
from kuberml.core.seam import Recorder
from kuberml.core.units import NS
from kuberml.scenario.config import Config
from kuberml.scenario.measure import Spent, Watch
from kuberml.scenario.notes import Notes
from kuberml.scenario.parts import Parts
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.stage import HUB, Stage
from kuberml.worlds.simulated.faults import Fault
from kuberml.worlds.simulated.results import JobCache
from kuberml.worlds.simulated.standstill import looked_on
from kuberml.worlds.simulated.workers import Workers
from kuberml.worlds.simulated.world import Outcome, Place, SimulatedWorld

Records = Callable[[NodeId, Callable[[], int]], Recorder]
"""Makes a node's recorder: (node, its clock) -> Recorder."""


class Play:
    """One run in the making."""

    def __init__(
        self,
        config: Config,
        label: str,
        seed: int,
        *,
        things: PublicThings,
        workers: Workers,
        cache: JobCache | None,
        records: Records,
    ) -> None:
        """Set the stage; nothing runs yet.

        Raises:
            ConfigError: an option of the paradigm is unknown or impossible, or the data cannot be dealt that way.
        """
        self.config, self.label, self.seed, self.things = config, label, seed, things
        self.parts = Parts(config, label, seed, things)
        self.paradigm, self.options = self.parts.paradigm, self.parts.options
        self.stage, self.cast = self.parts.stage, self.parts.cast
        self.world = SimulatedWorld(
            [Place(actor.node, role, actor.device, actor.link) for role, actor in self.cast.values()],
            seed=seed,
            workers=workers,
            faults=_faults(config, self.stage),
            job_cache=cache,
            audit=config.world.audit,
            schedule=config.world.schedule,
        )
        self._now_ns = self.world.clock(HUB).now_ns
        self.watch = Watch(self._now_ns, self._spent)
        self.notes = Notes(self._now_ns)
        self._records = records
        self.tell: Callable[[float, int], None] = lambda time_s, bytes_moved: None
        """Told the virtual time and the bytes moved whenever a node serves something new."""
        self.say: Callable[[str], None] = lambda line: None
        """Told, from another thread, when virtual time stands still."""

    def run(self) -> Outcome:
        """Run it to its end. What it came to is read by `summary.summarise`."""
        mains = {node: self._main(node) for node in self.cast}
        with looked_on(self.world.loop, self.say):
            outcome = self.world.run(mains, until_s=self.config.world.until_s, wait_for=[self.parts.waited])
        self.parts.check_somebody_is_left()
        return outcome

    def _main(self, node: NodeId) -> Callable[[], Coroutine[Any, Any, None]]:
        def main() -> Coroutine[Any, Any, None]:
            recorder = self._records(node, self._now_ns)
            if self.cast[node][0] != "hub":
                recorder = self.notes.beside(node, recorder)
            return self.parts.main(node, self.world, recorder, self)

        return main

    def deployed(self, node: NodeId, model: Digest, predictor: Any, learned_at_ms: tuple[int, ...]) -> None:
        """See `exchange.place.Observer`."""
        self.watch.deployed(node, model, predictor, learned_at_ms)
        self.tell(self._now_ns() / NS, self.moved_bytes())

    def _spent(self) -> Spent:
        return Spent(self.moved_bytes(), self.world.all_energy_mj())

    def moved_bytes(self) -> int:
        """Bytes that were sent so far, each counted once."""
        return self.world.moved_bytes()


def _faults(config: Config, stage: Stage) -> Sequence[Fault]:
    everybody = [actor.node for actor in stage.learners]
    return [
        msgspec.convert({**msgspec.structs.asdict(fault), "nodes": tuple(fault.nodes or everybody)}, Fault)
        for fault in config.faults
    ]
