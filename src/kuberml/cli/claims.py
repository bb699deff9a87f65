"""Running claims again with what a vault holds, and accusing those who claimed too much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from kuberml.cli.vaults import SHORT, knowledge, signed_cards
from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest
from kuberml.knowledge.card import Card, Claim, Knowledge
from kuberml.knowledge.fraud import SignedFraudProof, accuse, check_fraud, false_labels
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.knowledge.kinds.probe import Probe
from kuberml.knowledge.pack import open_value
from kuberml.knowledge.signing import Keys
from kuberml.learning.claims import recall_ppm
from kuberml.vault.folder import FolderStore

T = TypeVar("T")


class Accuser(msgspec.Struct, frozen=True):
    """Signs a proof of each false claim with `keys`, dated `at_ms`, and hands it to `take`."""

    keys: Keys
    at_ms: int
    take: Callable[[SignedFraudProof], None]


def check_claims(store: FolderStore, found: Knowledge, content: Any, accuser: Accuser | None) -> tuple[bool, list[str]]:
    """Run each claim of a package again.

    Args:
        store: holds the probes and extractors.
        found: the package.
        content: its opened value.
        accuser: what to do about a false claim; None: only tell.

    Returns:
        Whether no claim turned out false, and what came out in words.
    """
    good = True
    said = []
    for claim in found.card.claims:
        name = f"claim on probe {claim.probe[:SHORT]}"
        try:
            probe = _named(store, claim.probe, Probe)
            recall = recall_ppm(content, probe, _extractor(store, found.card))
        except ConfigError as error:
            said.append(f"{name} not run: {error}")
            continue
        false = false_labels(claim, recall, probe)
        said.append(f"{name} {_words(claim, recall, false)}")
        good = good and not false
        if false and accuser is not None:
            accuser.take(accuse(found.signed, probe, recall, keys=accuser.keys, at_ms=accuser.at_ms))
    return good, said or ["it claims nothing"]


def check_proof(store: FolderStore, proof: SignedFraudProof) -> tuple[str, ...]:
    """The labels of which the accused claimed too much: the claim is run a third time, here.

    Raises:
        RemoteError: it is not a proof. ConfigError: the probe, extractor or package is not in the vault.
    """
    probe = _named(store, proof.proof.probe, Probe)
    found = knowledge(store, proof.proof.accused.digest)
    content = open_value(found)
    return check_fraud(proof, probe, lambda card, _: recall_ppm(content, probe, _extractor(store, card)))


def _words(claim: Claim, recall: dict[str, int], false: tuple[str, ...]) -> str:
    if not false:
        return "holds"
    pairs = ((label, claim.recall_ppm[label] / 1e4, recall.get(label, 0) / 1e4) for label in false)
    return "is false: " + ", ".join(f"label {label} claimed {said:.1f} %, got {got:.1f} %" for label, said, got in pairs)


def _extractor(store: FolderStore, card: Card) -> Extractor | None:
    if card.kind not in ("statistics", "prototypes") or card.basis is None:
        return None
    return _named(store, card.basis, Extractor)


def _named(store: FolderStore, blob: Digest, sort: type[T]) -> T:
    """The opened probe or extractor whose blob has this digest."""
    for signed in signed_cards(store):
        if any(ref.digest == blob for ref in signed.card.blobs) and signed.card.kind == sort.__name__.lower():
            content = open_value(knowledge(store, signed.digest))
            assert isinstance(content, sort)
            return content
    raise ConfigError(f"the {sort.__name__.lower()} {blob[:SHORT]} is not in the vault")
