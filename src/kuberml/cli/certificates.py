"""`kuberml keys ca|certify|request`: certificates for mutual TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kuberml.cli.output import json_out, say

AsJson = Annotated[bool, typer.Option("--json", help="As JSON on stdout.")]
Days = Annotated[float, typer.Option("--days", help="How long it holds.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command, example in (
        (ca, "ca ward-7 --out my-ca"),
        (certify, "certify anna --key 3f9c... --ca my-ca --out anna-tls --host ward.example"),
        (request, "request anna --out anna-tls"),
    ):
        app.command(epilog=f"Example: [bold]kuberml keys {example}[/bold]")(command)


def ca(
    name: Annotated[str, typer.Argument(help="What the authority is called.")],
    out: Annotated[Path, typer.Option("--out", help="Its folder: ca.key (secret) and ca.pem (for everybody).")],
    days: Days = 3650,
    json: AsJson = False,
) -> None:
    """Make an authority of your own: who has a certificate from it can connect to your hub under TLS."""
    from kuberml.worlds.live.trust.certificates import make_authority

    path = make_authority(out, name, valid_days=days)
    if json:
        json_out({"ca": str(path)})
    else:
        say(f"wrote {path}; its secret {path.with_suffix('.key')} stays here. Next: `kuberml keys certify NAME --ca {out} ...`")


def certify(
    name: Annotated[str, typer.Argument(help="The node's name.")],
    key: Annotated[str, typer.Option("--key", help="Its public key, as `kuberml keys show` prints it.")],
    authority: Annotated[Path, typer.Option("--ca", help="Folder of `kuberml keys ca`.")],
    out: Annotated[Path, typer.Option("--out", help="Where the files go: ca.pem, NAME.pem, NAME.tls.key.")],
    *,
    host: Annotated[
        list[str] | None, typer.Option("--host", help="How others dial it; repeatable. Default: this machine only.")
    ] = None,
    days: Days = 30,
    asked: Annotated[
        Path | None, typer.Option("--request", help="A .csr of a machine that keeps its secret for itself.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Make a certificate for a hub or a node, for `--tls`. Short-lived: revoking a key does not take its certificate back."""
    from kuberml.core.errors import ConfigError
    from kuberml.worlds.live.trust.certificates import LOCAL
    from kuberml.worlds.live.trust.certificates import certify as make

    try:
        content = None if asked is None else asked.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the request {asked}: {error}") from error
    files = make(authority, out, name, key=key, hosts=tuple(host or LOCAL), valid_days=days, request=content)
    if json:
        json_out({"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)})
    else:
        say(f"wrote {files.cert} (secret: {files.key}), valid for {days:g} days")


def request(
    name: Annotated[str, typer.Argument(help="The node's name.")],
    out: Annotated[Path, typer.Option("--out", help="Where NAME.tls.key (secret) and NAME.csr go.")],
    json: AsJson = False,
) -> None:
    """Make a secret that never leaves this machine, and a request for its certificate to give to the authority's owner."""
    from kuberml.worlds.live.trust.certificates import make_request

    path = make_request(out, name)
    if json:
        json_out({"request": str(path)})
    else:
        say(f"wrote {path}: give it to the authority's owner, who runs `kuberml keys certify {name} --request {path.name} ...`")
