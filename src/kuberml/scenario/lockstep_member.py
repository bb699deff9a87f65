"""A node process of a run in lockstep: `python -m kuberml.scenario.lockstep_member`, started by `scenario.lockstep`.

It deals its own part from the scenario and the seed, as the simulated world does for everybody, and plays that one.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from kuberml.core.ids import NodeId
from kuberml.ledger.ledger import Ledger
from kuberml.scenario.config import Config
from kuberml.scenario.lockstep_end import node_end
from kuberml.scenario.measure import Spent, Watch
from kuberml.scenario.parts import Parts
from kuberml.scenario.public_things import PublicThings
from kuberml.worlds.live.lockstep.member import serve
from kuberml.worlds.live.lockstep.orders import Begin
from kuberml.worlds.live.lockstep.wire import Wire
from kuberml.worlds.live.lockstep.world import LockstepWorld
from kuberml.worlds.simulated.audit import audit
from kuberml.worlds.simulated.bodies import Place


class Part(msgspec.Struct, frozen=True):
    """What a node process is told to play. `folder`: for its vault and its ledger."""

    config: Config
    label: str
    seed: int
    node: NodeId
    folder: str


def perform(wire: Wire, begin: Begin) -> bytes:
    """Play one part to the end of the run."""
    part = msgspec.json.decode(begin.body, type=Part)
    config, node, folder = part.config, part.node, Path(part.folder)
    parts = Parts(config, part.label, part.seed, PublicThings(config))
    role, actor = parts.cast[node]
    cast = {each: each_role for each, (each_role, _) in parts.cast.items()}
    world = LockstepWorld(wire, begin, Place(node, role, actor.device, actor.link), cast, folder / "vault")
    now_ns = world.clock(node).now_ns
    watch = Watch(now_ns, lambda: Spent(world.traffic(node).total, 0))
    ledger = Ledger(folder / "ledger.sqlite")
    recorder = ledger.recorder(node, now_ns)
    try:
        with audit() if config.world.audit else contextlib.nullcontext():
            world.run(lambda: parts.main(node, world, recorder, watch))
        return msgspec.json.encode(node_end(node, world, watch, parts.gave_up.get(node, "")))
    finally:
        ledger.close()
        world.close()


if __name__ == "__main__":
    serve(perform)
