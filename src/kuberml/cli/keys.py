"""`kuberml keys`: who one is, whom one trusts, and who may do what in one's realm."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kuberml.cli import agreements, certificates
from kuberml.cli.output import json_out, say, table_out

if TYPE_CHECKING:
    from kuberml.knowledge.signing import Keys
    from kuberml.worlds.live.trust.keyring import Keyring
    from kuberml.worlds.live.trust.roll import Roll, SignedRoll


class Policy(StrEnum):
    """Who may come in."""

    open = "open"
    known = "known"
    listed = "listed"


AsJson = Annotated[bool, typer.Option("--json", help="As JSON on stdout.")]
Key = Annotated[str, typer.Argument(help="A public key (64 hex characters), or a name in your keyring.")]
Hub = Annotated[Path, typer.Option("--hub", help="The hub's folder.")]
Owner = Annotated[str, typer.Option("--owner", help="Own key that owns the realm. Default: the one in the hub's folder.")]

app = typer.Typer(
    name="keys",
    no_args_is_help=True,
    help=(
        "Keys: who you are, whom you trust, and who may do what in your realm.\n\nSecret keys lie in $KUBERML_HOME (else"
        " ~/.config/kuberml), readable by you only; no command prints one."
    ),
    epilog="Example: [bold]kuberml keys create me[/bold], then [bold]kuberml keys show me[/bold]",
)


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    for command, example in (
        (create, "create me"),
        (show, "show --hub kuberml-hub"),
        (trust, "trust 3f9c... anna"),
        (revoke, "revoke anna --hub kuberml-hub"),
        (admit, "admit 3f9c... anna --hub kuberml-hub --may find --may fetch"),
        (realm, "realm listed --hub kuberml-hub --max-stale-s 30"),
    ):
        app.command(epilog=f"Example: [bold]kuberml keys {example}[/bold]")(command)
    certificates.register(app)
    agreements.register(app)
    parent.add_typer(app)


def create(name: Annotated[str, typer.Argument(help="What you call it.")] = "me", json: AsJson = False) -> None:
    """Make a key pair of your own. Prints the public key: give it away; the secret one stays in its file."""
    keys = _keyring().create(name)
    if json:
        json_out({"name": name, "key": keys.public})
    else:
        typer.echo(keys.public)
        say(f"the secret key is in {_keyring().folder / 'keys' / f'{name}.key'}, for your eyes only")


def show(
    name: Annotated[str, typer.Argument(help="One of your keys: prints its public half only.")] = "",
    hub: Annotated[Path | None, typer.Option("--hub", help="A hub's folder: its realm's roll.")] = None,
    json: AsJson = False,
) -> None:
    """Show your keys and whom you trust, or the roll of a hub's realm."""
    if hub is not None:
        _show_roll(hub, json=json)
        return
    ring = _keyring()
    if name:
        key = ring.keys(name).public
        if json:
            json_out({"name": name, "key": key})
        else:
            typer.echo(key)
        return
    known, own = ring.known, {own: ring.keys(own).public for own in ring.names()}
    if json:
        json_out({"folder": str(ring.folder), "own": own, "known": known})
        return
    rows = [("own", name, key) for name, key in own.items()]
    rows += [("trusted", name, key) for key, name in known.trusted.items()]
    rows += [("refused", "", key) for key in known.refused]
    rows += [("owner of realm", realm, key) for realm, key in known.owners.items()]
    rows += [("hub of realm", realm, key) for realm, key in known.hubs.items()]
    if rows:
        table_out(("what", "name", "public key"), rows)
    else:
        say(f"no keys in {ring.folder} yet: `kuberml keys create me`")


def trust(
    key: Key,
    name: Annotated[str, typer.Argument(help="What you call it.")] = "",
    owner_of: Annotated[str, typer.Option("--owner-of", help="Take rolls of this realm from this key only.")] = "",
    hub_of: Annotated[str, typer.Option("--hub-of", help="Believe that this key is this realm's hub, and no other.")] = "",
    json: AsJson = False,
) -> None:
    """Trust a key: as somebody you know, or as the owner or the hub of a realm (which pins it).

    Who is known may do everything at your nodes in realms of policy "known".
    """
    from kuberml.core.errors import ConfigError

    ring, public = _keyring(), _public(key)
    if owner_of:
        ring.pin(owner_of, owner=public)
    if hub_of:
        ring.pin(hub_of, hub=public)
    if name:
        ring.trust(public, name)
    elif not owner_of and not hub_of:
        raise ConfigError("trust it as what? Give a name, or --owner-of REALM, or --hub-of REALM")
    _done(json, f"{public[:12]}... is trusted", key=public)


def revoke(
    key: Key,
    hub: Annotated[Path | None, typer.Option("--hub", help="The hub's folder: revoke it for the whole realm.")] = None,
    owner: Owner = "",
    with_vouched: Annotated[bool, typer.Option("--with-vouched", help="Also whom it vouched for, and those in turn.")] = False,
    json: AsJson = False,
) -> None:
    """Take a key back: in a realm that you own (--hub), else for yourself only.

    A running hub refuses it within a second; nodes that are connected, within seconds; nodes that are cut off go on believing
    the roll that they have for at most its max_stale_s.
    """
    public = _public(key, hub)
    if hub is None:
        _keyring().refuse(public)
        _done(json, f"{public[:12]}... is refused by you from now on", key=public)
        return
    from kuberml.worlds.live.trust.edits import revoking

    signed = _changed(hub, owner, revoking(public, with_vouched=with_vouched))
    _done(json, f"{public[:12]}... is revoked in realm {signed.roll.realm!r}", key=public, serial=signed.roll.serial)


def admit(
    key: Key,
    name: Annotated[str, typer.Argument(help="Its node's name, which is then nobody else's.")],
    hub: Hub,
    owner: Owner = "",
    may: Annotated[
        list[str] | None, typer.Option("--may", help="publish, find, fetch or ask; repeatable. Default: all.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Put a key on the roll of a realm that you own, or change its name and rights; a revoked one comes back."""
    from kuberml.core.errors import ConfigError, nearest
    from kuberml.worlds.live.trust.edits import admitting
    from kuberml.worlds.live.trust.roll import RIGHTS

    public, wrong = _public(key), [right for right in may or () if right not in RIGHTS]
    if wrong:
        raise ConfigError(f"no such right: {wrong[0]!r}; {nearest(wrong[0], RIGHTS)}")
    rights = tuple(right for right in RIGHTS if not may or right in may)
    signed = _changed(hub, owner, admitting(public, name, rights))
    _done(json, f"{name} may {', '.join(rights)} in realm {signed.roll.realm!r}", key=public, serial=signed.roll.serial)


def realm(
    policy: Annotated[Policy, typer.Argument(help="open: all but the revoked; known: friends too; listed: members only.")],
    hub: Hub,
    owner: Owner = "",
    name: Annotated[str, typer.Option("--name", help="Of a realm that is founded now.")] = "default",
    max_stale_s: Annotated[int | None, typer.Option("--max-stale-s", help="How long nodes without a hub trust a roll.")] = None,
    json: AsJson = False,
) -> None:
    """State who may come in to a realm that you own; founds the realm if the hub's folder has none yet.

    With --owner at the founding, the owner's key never lies on the hub's machine.
    """
    from kuberml.worlds.live.trust import realm as realms
    from kuberml.worlds.live.trust.edits import stating
    from kuberml.worlds.member.keyfile import keys_in

    if (hub / realms.ROLL_FILE).exists():
        signed = _changed(hub, owner, stating(policy.value, max_stale_s))
    else:
        hub.mkdir(parents=True, exist_ok=True)
        by = _keyring().keys(owner) if owner else realms.owner_in(hub)
        hub_key = keys_in(hub / "hub.key").public
        signed = realms.found(hub, name, hub_key, by, policy=policy.value, max_stale_s=max_stale_s)
    roll = signed.roll
    told = f"realm {roll.realm!r} is {roll.policy!r}; nodes trust its roll for {roll.max_stale_s} s without the hub"
    _done(json, told, policy=roll.policy, serial=roll.serial)


def _keyring() -> Keyring:
    from kuberml.worlds.live.trust.keyring import Keyring

    return Keyring()


def _public(key: str, hub: Path | None = None) -> str:
    """A public key, typed or by name: of the own keyring, or of a member of the hub's roll."""
    from kuberml.worlds.live.trust.keyring import public_key
    from kuberml.worlds.live.trust.realm import roll_in

    ring = _keyring()
    if key in ring.names():
        return ring.keys(key).public
    named = {name: public for public, name in ring.known.trusted.items()}
    if hub is not None:
        named |= {member.name: public for public, member in roll_in(hub).roll.members.items()}
    return named.get(key) or public_key(key)


def _changed(hub: Path, owner: str, edit: Any) -> SignedRoll:
    from kuberml.worlds.live.trust.realm import change

    by: Keys | None = _keyring().keys(owner) if owner else None
    return change(hub, by, edit)


def _done(json: bool, told: str, **facts: object) -> None:
    if json:
        json_out(facts)
    else:
        say(told)


def _show_roll(hub: Path, *, json: bool) -> None:
    from kuberml.worlds.live.trust.realm import roll_in

    roll: Roll = roll_in(hub).roll
    if json:
        json_out(roll)
        return
    say(f"realm {roll.realm!r}, {roll.policy}, roll {roll.serial}, stale after {roll.max_stale_s} s, owner {roll.owner}")
    rows = [(member.name, ", ".join(member.rights), key) for key, member in roll.members.items() if key not in roll.revoked]
    table_out(("name", "may", "public key"), [*rows, *(("(revoked)", "", key) for key in roll.revoked)])
