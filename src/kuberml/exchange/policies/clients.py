"""What a client serves besides its training, for the steps and the policy of a run."""

from __future__ import annotations

from kuberml.exchange.node import Node
from kuberml.exchange.policies import status
from kuberml.exchange.policies.options import Choice
from kuberml.exchange.steps import masks_client
from kuberml.exchange.steps.options import Steps


def serve_besides(node: Node, steps: Steps, choice: Choice) -> None:
    """Answer the server's other questions from now on."""
    if "masks" in steps.names:
        masks_client.serve(node)
    if choice.policy == "energy":
        status.serve(node)
