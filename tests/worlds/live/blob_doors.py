"""Real doors, routers and certificates for the tests of blobs."""

from __future__ import annotations

import contextlib
import datetime
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import zenoh
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kuberml.core.seam import Store
from kuberml.worlds.live.blobs.bucket import Bucket
from kuberml.worlds.live.blobs.door import Door
from kuberml.worlds.live.blobs.guard import Limits
from kuberml.worlds.live.blobs.server import BlobServer, Gate
from kuberml.worlds.live.blobs.tls import Tls

BLOB = bytes(range(256)) * 4096 * 3  # 3 MiB


def anybody(ticket: str | bytes | None, subject: str | None = None) -> None:
    pass


@contextlib.asynccontextmanager
async def serving(
    store: Store,
    gate: Gate = anybody,
    *,
    tls: Tls | None = None,
    limits: Limits | None = None,
    limit_bytes_s: int | None = None,
    **bounds: float,
) -> AsyncIterator[tuple[str, Door, BlobServer]]:
    server = BlobServer(store, gate, Bucket(limit_bytes_s), **bounds)
    app = web.Application()
    app.add_routes(server.routes())
    door = Door(app, tls=tls.server_context() if tls else None, limits=limits or Limits())
    port = await door.open("127.0.0.1")
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}", door, server
    finally:
        await door.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@contextlib.contextmanager
def opened(**settings: object) -> Iterator[zenoh.Session]:
    config = zenoh.Config()
    quiet = {"scouting/multicast/enabled": False, "scouting/gossip/enabled": False}
    for name, setting in {**quiet, **settings}.items():
        config.insert_json5(name, json.dumps(setting))
    session = zenoh.open(config)
    try:
        yield session
    finally:
        session.close()


@contextlib.contextmanager
def routed(tls: tuple[Tls, Tls, Tls] | None = None) -> Iterator[tuple[zenoh.Session, zenoh.Session]]:
    """Two clients of one router."""
    where = f"{'tls' if tls else 'tcp'}/127.0.0.1:{free_port()}"
    settings = [one.zenoh() for one in tls] if tls else [{}, {}, {}]
    with (
        opened(mode="router", **{"listen/endpoints": [where]}, **settings[0]),
        opened(mode="client", **{"connect/endpoints": [where]}, **settings[1]) as one,
        opened(mode="client", **{"connect/endpoints": [where]}, **settings[2]) as other,
    ):
        yield one, other


class Authority:
    """Signs certificates, as an owner of a realm does."""

    def __init__(self, folder: Path, name: str = "owner") -> None:
        self.folder, self.name = folder, name
        folder.mkdir(exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._cert = self._sign(name, self._key, x509.BasicConstraints(ca=True, path_length=None), [])
        (folder / f"{name}.ca.pem").write_bytes(self._cert.public_bytes(serialization.Encoding.PEM))

    def member(self, name: str, *, key: str | None = None, address: bool = True) -> Tls:
        import ipaddress

        secret = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(name)]
        names += [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))] if address else []
        names += [x509.UniformResourceIdentifier(f"kuberml:{key}")] if key else []
        cert = self._sign(name, secret, x509.BasicConstraints(ca=False, path_length=None), names)
        pem = serialization.Encoding.PEM
        (self.folder / f"{name}.pem").write_bytes(cert.public_bytes(pem))
        (self.folder / f"{name}.key").write_bytes(
            secret.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return Tls(self.folder / f"{self.name}.ca.pem", self.folder / f"{name}.pem", self.folder / f"{name}.key")

    def _sign(
        self, name: str, key: ec.EllipticCurvePrivateKey, sort: x509.BasicConstraints, names: list[x509.GeneralName]
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        called = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer = called if sort.ca else self._cert.subject
        builder = (
            x509.CertificateBuilder()
            .subject_name(called)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(sort, critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(key if sort.ca else self._key, hashes.SHA256())
