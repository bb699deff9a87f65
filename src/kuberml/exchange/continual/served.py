"""What is served at a moment: a predictor, the set of knowledge that it is made of, and who taught what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kuberml.core.ids import Digest, LabelId
from kuberml.exchange.continual.drift import Drift
from kuberml.learning.predictor import Predictor


@dataclass(frozen=True, slots=True)
class Taught:
    """One contributor's part in what the model knows of a label.

    Attributes:
        author: public key.
        card: of the package that brought it.
        samples: behind it, of this label.
        learned_at_ms: when it was learned, as the card says.
    """

    author: str
    card: Digest
    samples: int
    learned_at_ms: int


@dataclass(frozen=True, slots=True)
class Served:
    """One version of the cloud model. Immutable: a swap replaces the whole of it at once.

    Attributes:
        number: 1, 2, ...: how often what is served has changed here.
        manifest: digest of the set of contents that it is made of; equal sets have equal manifests.
        model: digest of the predictor's bytes: every answer names it.
        predictor: answers, over `predictor.labels`.
        shape: of one sample.
        taught: by label, largest part first.
        since_ms: the clock when it began to be served.
        drift: of the packets that came with it, where their classes lie elsewhere than the model's.
        again_ms: what was learned before this is no news, because an operator went back or let it in again; 0: nobody did.
    """

    number: int
    manifest: Digest
    model: Digest
    predictor: Predictor
    shape: tuple[int, ...]
    taught: Mapping[LabelId, tuple[Taught, ...]]
    since_ms: int
    drift: tuple[Drift, ...] = ()
    again_ms: int = 0
