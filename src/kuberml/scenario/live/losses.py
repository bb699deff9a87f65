"""Processes of a live run that died: what is said of it, and whether the others can go on without them."""

from __future__ import annotations

from kuberml.core.errors import Unreachable
from kuberml.core.ids import NodeId
from kuberml.scenario.live.crew import Crew, Death
from kuberml.scenario.live.prompter import Prompter
from kuberml.scenario.live.slurm import SlurmCrew
from kuberml.scenario.parts import Parts
from kuberml.worlds.live.names import HUB


class Losses:
    """One run's.

    Attributes:
        deaths: how often each node's process died.
        news: a line for each death, as it came.
    """

    def __init__(self, parts: Parts, crew: Crew | SlurmCrew) -> None:
        self._parts, self._crew = parts, crew
        self.deaths: dict[NodeId, int] = {}
        self.news: list[str] = []
        self._last: dict[NodeId, Death] = {}

    def look(self, prompter: Prompter | None) -> None:
        """Take down who died since the last look; who is not started again is lost, and not waited for.

        Args:
            prompter: None where the hub is not there yet: then everybody is needed.

        Raises:
            Unreachable: nobody can go on without it.
        """
        for death in self._crew.check():
            self._take_down(death, prompter)

    def check(self, prompter: Prompter) -> None:
        """Raise Unreachable, with what the first gave up for, if all that the run waits for have."""
        waited = [node for node, (role, _) in self._parts.cast.items() if role == self._parts.waited]
        gone = {node: status.why for node, status in prompter.heard.items() if status.phase == "gave up"}
        gone |= {node: f"{self._last[node].how}, {self._last[node].times} times" for node in prompter.lost}
        if set(waited) <= gone.keys():
            raise Unreachable(f"{waited[0]}: {gone[waited[0]]}; see {self._crew.log(waited[0])}")

    def _take_down(self, death: Death, prompter: Prompter | None) -> None:
        self._last[death.node], self.deaths[death.node] = death, death.times
        what = "is started again" if death.again else "is not started again"
        self.news.append(f"{death.node} {death.how} and {what} ({self._crew.log(death.node)})")
        if death.again:
            return
        if prompter is None or death.node == HUB or self._parts.cast[death.node][0] in ("server", "library"):
            words = self._crew.last_words(death.node)
            raise Unreachable(f"{death.node} {death.how}, {death.times} times; nobody can go on without it. It said:\n{words}")
        prompter.lose(death.node)
