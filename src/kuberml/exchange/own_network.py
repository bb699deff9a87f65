"""Teaching one's own network what was learned: distilled from the desk's model on the public probe, and tried."""

from __future__ import annotations

from typing import Any

from kuberml.exchange.evidence import change
from kuberml.exchange.node import Node
from kuberml.exchange.trial import TrialPlan, harm
from kuberml.knowledge.kinds.probe import Probe
from kuberml.learning.distillation import GRID
from kuberml.learning.jobs import distil, fit, init_state
from kuberml.learning.predictor import Network
from kuberml.learning.types import FitPlan


class OwnNetwork:
    """A learner's network and its state in memory. It serves; a teacher only changes it where its own labels do not suffer."""

    def __init__(self, node: Node, probe: Probe, plan: FitPlan, trial: TrialPlan) -> None:
        self._node, self.probe, self._plan, self._trial = node, probe, plan, trial
        self._taught = 0

    async def train(self) -> Network:
        """Learn from one's own data first, as `local` does."""
        node = self._node
        start = await node.compute(init_state, node.learner, node.seed("init"))
        state = await node.compute(fit, node.learner, start, node.data.train, self._plan, node.seed("fit"))
        node.memory.setdefault(network=state)
        network = Network(node.learner, node.memory.network)
        node.deploy(network)
        return network

    async def learn(self, teacher: Any, learned: list[Any]) -> bool:
        """Distil a teacher; keep the result unless one's own labels get worse. Whether it was kept."""
        node = self._node
        self._taught += 1
        before = Network(node.learner, node.memory.network)
        state = await node.compute(
            distil, node.learner, before.state, node.data.train, node.data.heldout, teacher, self.probe, self._plan,
            node.seed("distil", self._taught), GRID, self._trial.tolerance,
        )  # fmt: skip
        after = Network(node.learner, state)
        why = harm(await node.compute(change, before, after, node.data.heldout), self._trial)
        if why:
            node.record("not taught", why=why)
            return False
        node.memory.update(network=state)
        node.deploy(after, learned=learned)
        return True
