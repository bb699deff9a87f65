"""`kuberml keys party|agree|sign`: agreements between hubs of different owners."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kuberml.cli.output import json_out, say

if TYPE_CHECKING:
    from kuberml.worlds.live.trust.agreement import Party

AsJson = Annotated[bool, typer.Option("--json", help="As JSON on stdout.")]
MAX_DAYS = 36_525
"""A century."""
Names = Annotated[list[str] | None, typer.Option(help="Repeatable. Default: any.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command, example in (
        (party, "party --hub kuberml-hub --address ward.example:7447 --out ours.party"),
        (agree, "agree ours.party theirs.party --out both.agreement --task digits --gives both"),
        (sign, "sign both.agreement --hub kuberml-hub"),
    ):
        app.command(epilog=f"Example: [bold]kuberml keys {example}[/bold]")(command)


def party(
    hub: Annotated[Path, typer.Option("--hub", help="Your hub's folder.")],
    out: Annotated[Path, typer.Option("--out", help="The file to give to the other owner.")],
    address: Annotated[str, typer.Option("--address", help="Where the other hub dials yours. Empty: it cannot.")] = "",
    json: AsJson = False,
) -> None:
    """Describe your side of an agreement: realm, owner, hub and address. Nothing in it is secret."""
    import msgspec

    from kuberml.worlds.live.names import endpoints
    from kuberml.worlds.live.trust.agreement import Party
    from kuberml.worlds.live.trust.realm import roll_in
    from kuberml.worlds.member.keyfile import keys_in

    if address:
        endpoints(address)  # the other hub would find out, weeks later
    roll = roll_in(hub).roll
    side = Party(roll.realm, roll.owner, keys_in(hub / "hub.key").public, address)
    _written(out, msgspec.json.format(msgspec.json.encode(side), indent=1) + b"\n")
    if json:
        json_out(side)
    else:
        say(f"wrote {out}")


def agree(
    first: Annotated[Path, typer.Argument(help="One side, as `kuberml keys party` wrote it.")],
    second: Annotated[Path, typer.Argument(help="The other.")],
    out: Annotated[Path, typer.Option("--out", help="The agreement, to be signed by both.")],
    *,
    task: Names = None,
    kind: Names = None,
    licence: Names = None,
    purpose: Names = None,
    gives: Annotated[str, typer.Option("--gives", help="Whose knowledge passes: first, second or both.")] = "both",
    days: Annotated[float, typer.Option("--days", help="How long it holds.")] = 365,
    json: AsJson = False,
) -> None:
    """Draft an agreement: which knowledge may pass between two hubs, and which way. It holds once both owners have signed."""
    import time

    from kuberml.core import canonical
    from kuberml.core.errors import ConfigError
    from kuberml.worlds.live.trust.agreement import Agreement, Rule, SignedAgreement

    sides: dict[str, tuple[Any, ...]] = {"first": ("first",), "second": ("second",), "both": ("first", "second")}
    if gives not in sides:
        raise ConfigError(f"--gives is first, second or both, not {gives!r}")
    if not 0 < days <= MAX_DAYS:
        raise ConfigError(f"--days {days:g}: more than 0 and at most {MAX_DAYS}")
    tasks, kinds, licences, purposes = (tuple(chosen or ()) for chosen in (task, kind, licence, purpose))
    rules = tuple(Rule(source, tasks, kinds, licences, purposes) for source in sides[gives])
    now_ms = time.time_ns() // 1_000_000
    agreement = Agreement(_party(first), _party(second), rules, now_ms, now_ms + int(days * 86_400_000))
    _written(out, canonical.encode(SignedAgreement(agreement)))
    if json:
        json_out(agreement)
    else:
        say(f"wrote {out}; each owner now runs `kuberml keys sign {out} --hub FOLDER`")


def sign(
    path: Annotated[Path, typer.Argument(help="The agreement; your signature is added to it.")],
    hub: Annotated[Path, typer.Option("--hub", help="Your hub's folder; it follows the agreement once both have signed.")],
    owner: Annotated[str, typer.Option("--owner", help="Own key that owns the realm. Default: the one in the folder.")] = "",
    json: AsJson = False,
) -> None:
    """Sign an agreement as the owner of a realm, and let your hub follow it. Shows what you sign.

    The other's hub is put on your roll without any right: it can ask for what the agreement lets pass, and for nothing else.
    Run it again when the other has signed too. Revoking the other hub's key, or removing the file, ends it.
    """
    from kuberml.core import canonical
    from kuberml.core.errors import ConfigError, RemoteError
    from kuberml.worlds.live.hub.agreed import FOLDER, SUFFIX
    from kuberml.worlds.live.trust.agreement import read_agreement, signed_by
    from kuberml.worlds.live.trust.edits import admitting
    from kuberml.worlds.live.trust.keyring import Keyring
    from kuberml.worlds.live.trust.realm import OWNER_FILE, change
    from kuberml.worlds.live.trust.secret_files import keys_from

    try:
        before = read_agreement(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the agreement {path}: {error}") from error
    except RemoteError as error:
        raise ConfigError(f"{path}: {error}") from error
    keys = Keyring().keys(owner) if owner else keys_from(hub / OWNER_FILE)
    signed = signed_by(before, keys)
    partner = signed.agreement.partner_of(keys.public)
    _written(path, canonical.encode(signed))
    if signed.is_complete:
        change(hub, keys, admitting(partner.hub, partner.node, ()))
        (hub / FOLDER).mkdir(exist_ok=True)
        _written(hub / FOLDER / f"{partner.node}{SUFFIX}", canonical.encode(signed))
    if json:
        json_out({"complete": signed.is_complete, "agreement": signed.agreement})
        return
    for rule in signed.agreement.rules:
        whose = "yours" if rule.source == signed.agreement.side_of(keys.public) else "theirs"
        what = [f"{name} {', '.join(chosen)}" for name, chosen in _limits(rule) if chosen]
        say(f"passes, {whose}: {'; '.join(what) or 'everything'}")
    say("both have signed: your hub follows it" if signed.is_complete else f"signed; the owner {partner.owner} signs next")


def _limits(rule: Any) -> list[tuple[str, tuple[str, ...]]]:
    return [("tasks", rule.tasks), ("kinds", rule.kinds), ("licences", rule.licences), ("purposes", rule.purposes)]


def _party(path: Path) -> Party:
    import msgspec

    from kuberml.core.damage import NOT_JSON
    from kuberml.core.errors import ConfigError
    from kuberml.worlds.live.trust.agreement import Party

    try:
        return msgspec.json.decode(path.read_bytes(), type=Party)
    except (OSError, *NOT_JSON) as error:
        raise ConfigError(f"{path} is not one side of an agreement (`kuberml keys party` writes it): {error}") from error


def _written(path: Path, content: bytes) -> None:
    from kuberml.core.errors import ConfigError

    beside = path.with_name(f"{path.name}.new")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error}") from error
