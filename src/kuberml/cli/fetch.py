"""`kuberml fetch`: bring packages from a hub, and whoever else holds them, into a vault folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kuberml.cli.at_hub import (
    HubOption,
    KeyOption,
    LimitOption,
    NameOption,
    RealmOption,
    TlsOption,
    ask,
    at_hub,
    limit_in,
    one_card,
    telling_if_away,
    wait_for,
)
from kuberml.cli.output import json_out, say
from kuberml.core.errors import ConfigError, RemoteError, Unreachable

if TYPE_CHECKING:
    from kuberml.knowledge.want import Offer, Want
    from kuberml.worlds.live.world import LiveWorld

GOES_ON = "what came so far stays; the same command goes on from there"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: [bold]kuberml fetch 3f9c01 --hub 127.0.0.1:7447 --out mine[/bold] ·"
        " [bold]kuberml fetch --task digits --labels 8 --hub 127.0.0.1:7447 --out mine[/bold]"
    )(fetch)


def fetch(
    card: Annotated[str, typer.Argument(help="The first characters of its digest, as `kuberml find` shows it.")] = "",
    *,
    hub: HubOption = "127.0.0.1:7447",
    out: Annotated[Path, typer.Option("--out", help="A vault folder, made if missing.")] = Path("fetched"),
    task: Annotated[str, typer.Option("--task", help="In place of a card: the best for a task ...")] = "",
    labels: Annotated[str, typer.Option("--labels", help="... that knows these labels, with commas; weights as 3=0.5.")] = "",
    kinds: Annotated[str, typer.Option("--kinds", help="... of these kinds, with commas.")] = "",
    best: Annotated[int, typer.Option("--best", min=1, help="So many of them.")] = 1,
    purpose: Annotated[str, typer.Option("--purpose", help="What it is for; terms may ask for it.")] = "",
    region: Annotated[str, typer.Option("--region", help="Where you are; terms may ask for it.")] = "",
    mirror: Annotated[list[str] | None, typer.Option("--mirror", help="URL of a folder with blobs/; repeatable.")] = None,
    limit: LimitOption = "",
    name: NameOption = "",
    realm: RealmOption = "default",
    tls: TlsOption = "",
    key: KeyOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    json: Annotated[bool, typer.Option("--json", help="What came, as JSON on stdout.")] = False,
) -> None:
    """Fetch packages: from all who hold them at once, every piece verified as it arrives.

    What was interrupted, even by kill -9, goes on where it was when the same command is given again. What lies in the folder
    afterwards, `kuberml show` lists, `kuberml verify` checks and `kuberml export` writes as a file of tensors.
    """
    from kuberml.cli.find import weights_ppm
    from kuberml.knowledge.want import Want

    if bool(card) == bool(task):
        raise ConfigError("say what to fetch: a CARD, or --task with --labels")
    want = Want(
        task, weights_ppm(labels), kinds=tuple(filter(None, kinds.split(","))), purpose=purpose, region=region, limit=best
    )
    visit: dict[str, Any] = {
        "name": name,
        "key": key,
        "realm": realm,
        "tls": tls,
        "mirrors": tuple(mirror or ()),
        "limit_bytes_s": limit_in(limit),
    }
    came = wait_for(_fetch(hub, out, card, want, visit, quiet=quiet or json), if_stopped=GOES_ON)
    if json:
        json_out(came)
    elif not quiet:
        say(f"in {out}/: {', '.join(row['digest'][:12] for row in came)}; `kuberml show {out}` lists it")
        for row in came:
            if row["kind"] == "weights":
                say(f"`kuberml export {out} {row['digest'][:12]} model.safetensors` writes the tensors as a file")


async def _fetch(hub: str, out: Path, card: str, want: Want, visit: dict[str, Any], *, quiet: bool) -> list[dict[str, Any]]:
    from kuberml.exchange import wire

    async with at_hub(hub, vault=out, **visit) as world:
        if card:
            offers = [await one_card(world, card)]
        else:
            offers = list((await ask(world, "find", wire.write(wire.Query(want)), wire.Offers)).offers[: want.limit])
        if not offers:
            raise RemoteError(f"the hub at {hub} knows nothing that answers this want; `kuberml find` says what there is")
        async with telling_if_away(world, hub, quiet=quiet):
            return [await _one(world, offer, want, len(visit["mirrors"]), quiet=quiet) for offer in offers]


async def _one(world: LiveWorld, offer: Offer, want: Want, mirrors: int, *, quiet: bool) -> dict[str, Any]:
    """Deliver one package: what a list says of it, and where its bytes came from.

    Raises:
        RemoteError: it is not what it says, or its terms forbid it.
        Unreachable: nobody gives it.
    """
    from kuberml.cli.moving import moving
    from kuberml.cli.show import row_of
    from kuberml.core.ids import NodeId
    from kuberml.exchange.delivery import Delivery, Progress
    from kuberml.knowledge.card import encode_card
    from kuberml.knowledge.pack import check_limits
    from kuberml.knowledge.signing import check_card
    from kuberml.knowledge.terms import allowed

    signed = check_card(offer.signed)
    check_limits(signed)  # before a byte is moved
    now_ms = world.clock.now_ns() // 1_000_000
    if why := allowed(signed.card.terms, purpose=want.purpose, region=want.region, now_ms=now_ms):
        raise RemoteError(f"{signed.digest[:12]}: {why}")
    holders = [*offer.holders, *(NodeId(f"mirror-{place}") for place in range(mirrors))]
    delivery, told = Delivery(world.transport, world.store), world.recorder().watching(signed.card)
    with moving(signed.digest[:12], signed.card.size_bytes, quiet=quiet) as shown:

        def watch(progress: Progress) -> None:
            shown(progress)  # here,
            told(progress)  # and on the hub's page

        for ref in signed.card.blobs:
            if world.store.size_bytes(ref.digest) == ref.size_bytes:
                watch(Progress(ref.digest, ref.size_bytes, ref.size_bytes, {}))
        try:
            came = await delivery.deliver(signed.card, holders, watch=watch)
        except Unreachable as error:
            raise Unreachable(f"{error}; {GOES_ON}") from error
    for liar, why in delivery.liars.items():
        say(f"{liar} gave wrong bytes and was avoided: {why}")
    world.store.put_card(signed.digest, encode_card(signed))
    gave = list(came.sources or offer.holders[:1])
    world.recorder().record("fetched", card=signed.digest, holder=gave, size_bytes=signed.card.size_bytes)
    return {**row_of(signed), "local_bytes": came.local_bytes, "by_source": came.by_source}
