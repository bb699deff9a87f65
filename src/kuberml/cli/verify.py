"""`kuberml verify`: is what lies in a vault what its cards say, do their claims hold, is an accusation true?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kuberml.cli.output import json_out, say, table_out

if TYPE_CHECKING:
    from kuberml.cli.claims import Accuser
    from kuberml.core.ids import Digest
    from kuberml.knowledge.fraud import SignedFraudProof
    from kuberml.vault.folder import FolderStore

EXIT_REMOTE = 3
PROOF_LIMIT_BYTES = 1 << 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: [bold]kuberml verify my-vault --claims[/bold] · [bold]kuberml verify my-vault --proof f.proof[/bold]"
    )(verify)


def verify(
    vault: Annotated[Path, typer.Argument(help="A vault folder.")],
    card: Annotated[str | None, typer.Argument(help="Only this card: the first characters of its digest.")] = None,
    *,
    claims: Annotated[bool, typer.Option("--claims", help="Run the claims again on the probes in the vault.")] = False,
    key: Annotated[Path | None, typer.Option("--key", help="Secret key (32 bytes): sign proofs of false claims.")] = None,
    proof: Annotated[Path | None, typer.Option("--proof", help="Check somebody's proof of a false claim instead.")] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON on stdout.")] = False,
) -> None:
    """Check signature, sizes, digests and content of every package in a vault; exit status 3 if one is not what it says."""
    from kuberml.cli.vaults import SHORT, opened, pick

    with opened(vault) as store:
        if proof is not None:
            _proof(store, proof, json)
            return
        accuser = None if key is None else _accuser(key)
        digests = [pick(store, card)] if card is not None else list(store.cards())
        rows = [_check(store, digest, claims, accuser) for digest in digests]
    if json:
        json_out(rows)
    else:
        table_out(("card", "kind", "verdict"), ((str(row["card"])[:SHORT], row["kind"], row["verdict"]) for row in rows))
    if not all(row["good"] for row in rows):
        raise typer.Exit(EXIT_REMOTE)


def _check(store: FolderStore, digest: Digest, claims: bool, accuser: Accuser | None) -> dict[str, object]:
    """One row: the card, its kind, whether it is good, and what was found."""
    from kuberml.cli.claims import check_claims
    from kuberml.cli.vaults import knowledge
    from kuberml.core.errors import InternalError, RemoteError
    from kuberml.knowledge.card import decode_card
    from kuberml.knowledge.pack import open_value
    from kuberml.vault.in_place import check_in_place, is_large

    row: dict[str, object] = {"card": digest, "kind": "?", "good": False}
    try:
        signed = decode_card(store.card(digest))
        if is_large(signed.card) and not (claims and signed.card.claims):
            row["kind"] = signed.card.kind
            check_in_place(store, signed)
            return {
                **row,
                "good": True,
                "verdict": "; ".join(["bytes and signature are right", *["it claims nothing"] * claims]),
            }
        found = knowledge(store, digest)
        row["kind"] = found.card.kind
        content = open_value(found)
        good, said = check_claims(store, found, content, accuser) if claims else (True, [])
    except KeyError as missing:
        return {**row, "verdict": f"the blob {missing.args[0]} is not in the vault"}
    except (RemoteError, InternalError) as error:
        return {**row, "verdict": str(error)}
    return {**row, "good": good, "verdict": "; ".join(["bytes and signature are right", *said])}


def _write_proof(proof: SignedFraudProof) -> None:
    from kuberml.core import canonical

    path = Path(f"{proof.proof.accused.digest[:12]}.proof")
    path.write_bytes(canonical.encode(proof))
    say(f"wrote {path}: anybody who has the package can check it with `kuberml verify VAULT --proof {path}`")


def _proof(store: FolderStore, path: Path, json: bool) -> None:
    from kuberml.cli.claims import check_proof

    proof = _read_proof(path)
    labels = check_proof(store, proof)
    author = proof.proof.accused.card.author
    if json:
        json_out({"proven": True, "author": author, "card": proof.proof.accused.digest, "labels": labels})
    else:
        typer.echo(f"proven: {author[:12]} claimed too much of {', '.join(labels)} on card {proof.proof.accused.digest[:12]}")


def _read_proof(path: Path) -> SignedFraudProof:
    import msgspec

    from kuberml.core import canonical
    from kuberml.core.errors import ConfigError, RemoteError
    from kuberml.knowledge.fraud import SignedFraudProof

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the proof {path}: {error}") from error
    if len(data) > PROOF_LIMIT_BYTES:
        raise RemoteError(f"a proof of {len(data)} bytes is over the limit of {PROOF_LIMIT_BYTES}")
    try:
        return msgspec.convert(canonical.decode(data), SignedFraudProof, builtin_types=(bytes,))
    except (msgspec.ValidationError, OverflowError) as error:
        raise RemoteError(f"{path} is not a proof: {error}") from error


def _accuser(path: Path) -> Accuser:
    import time

    from kuberml.cli.claims import Accuser
    from kuberml.core.errors import ConfigError
    from kuberml.knowledge.signing import Keys

    try:
        seed = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the key {path}: {error}") from error
    if len(seed) != 32:
        raise ConfigError(f"{path} is not a secret key: it has {len(seed)} bytes, not 32")
    return Accuser(Keys(seed), time.time_ns() // 1_000_000, _write_proof)
