"""What the parts of a cloud work on together."""

from __future__ import annotations

from dataclasses import dataclass

from kuberml.exchange.continual.admission import Admission
from kuberml.exchange.continual.history import History
from kuberml.exchange.continual.model import Model
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.continual.versions import Versions
from kuberml.exchange.node import Node


@dataclass(frozen=True)
class Works:
    """One cloud's: whoever changes any of it has the cloud's turn."""

    node: Node
    rules: Rules
    history: History
    admission: Admission
    model: Model
    versions: Versions
