"""Certificates for mutual TLS: an owner's own authority, and a certificate for each hub and node.

Zenoh and aiohttp want X.509; identities here are Ed25519 keys. A certificate therefore names its node's public key (URI
`kuberml:KEY`), and says on the wire no more than "the owner of the realm let this machine connect": what a key may do is the
roll's business, for every request. ECDSA P-256, because every TLS library takes it.

A certificate is not taken back by a revocation (Zenoh reads no lists of those): a revoked key can still connect until its
certificate ends, and every request of it is refused. So certificates are short-lived.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kuberml.core.errors import ConfigError
from kuberml.worlds.live.trust.keyring import public_key
from kuberml.worlds.live.trust.secret_files import read_secret, write_secret

AUTHORITY_DAYS, NODE_DAYS = 3650, 30
LOCAL = ("localhost", "127.0.0.1", "::1")
_EARLIER = datetime.timedelta(minutes=10)
"""Certificates hold from a little before they are made: clocks differ."""


class CertificateFiles(NamedTuple):
    """What a process needs for mutual TLS: whom it believes, its own certificate, its own secret (mode 600)."""

    ca: Path
    cert: Path
    key: Path


def make_authority(folder: Path, name: str, *, valid_days: float = AUTHORITY_DAYS) -> Path:
    """A new authority: `ca.key` (secret) and `ca.pem` (for everybody) in a folder; the path of `ca.pem`.

    Raises:
        ConfigError: there is one already, or it cannot be written.
    """
    _folder(folder)
    secret = ec.generate_private_key(ec.SECP256R1())
    write_secret(folder / "ca.key", _secret_bytes(secret))
    subject = _subject(name)
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _begun(subject, subject, secret.public_key(), valid_days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(secret, hashes.SHA256())
    )
    return _write(folder / "ca.pem", certificate)


def certify(
    authority: Path,
    folder: Path,
    name: str,
    *,
    key: str,
    hosts: Sequence[str] = LOCAL,
    valid_days: float = NODE_DAYS,
    request: bytes | None = None,
) -> CertificateFiles:
    """A certificate for a node or a hub, in `folder`: `ca.pem`, NAME.pem and, unless it was requested, NAME.tls.key.

    Args:
        authority: folder of `make_authority`.
        folder: where the files go.
        name: of the node.
        key: its Ed25519 public key.
        hosts: names and addresses under which others dial it.
        valid_days: how long it holds, in days.
        request: a PEM signing request of a machine that keeps its secret for itself; only its public key is taken over.

    Raises:
        ConfigError: no authority there, a host or request that cannot be, or files that are there already.
    """
    signer, ca = _authority(authority)
    _folder(folder)
    files = CertificateFiles(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.tls.key")
    if request is None:
        secret = ec.generate_private_key(ec.SECP256R1())
        write_secret(files.key, _secret_bytes(secret))
        public = secret.public_key()
    else:
        public = _requested(request)
    names = [*map(_host, hosts), x509.UniformResourceIdentifier(f"kuberml:{public_key(key)}")]
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    certificate = (
        _begun(_subject(name), ca.subject, public, valid_days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    _write(files.cert, certificate)
    if files.ca.resolve() != (authority / "ca.pem").resolve():
        _write(files.ca, ca)
    return files


def make_request(folder: Path, name: str) -> Path:
    """NAME.tls.key (secret) and NAME.csr, to be certified elsewhere; the path of the request. Raises ConfigError: is there."""
    _folder(folder)
    secret = ec.generate_private_key(ec.SECP256R1())
    write_secret(folder / f"{name}.tls.key", _secret_bytes(secret))
    request = x509.CertificateSigningRequestBuilder().subject_name(_subject(name)).sign(secret, hashes.SHA256())
    path = folder / f"{name}.csr"
    path.write_bytes(request.public_bytes(serialization.Encoding.PEM))
    return path


def _begun(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, valid_days: float
) -> x509.CertificateBuilder:
    if valid_days <= 0:
        raise ConfigError(f"a certificate is valid for more than 0 days, not {valid_days:g}")
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + datetime.timedelta(days=valid_days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _authority(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    try:
        signer = serialization.load_pem_private_key(read_secret(folder / "ca.key"), password=None)
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{folder} does not hold an authority (`kuberml keys ca` makes one): {type(error).__name__}"
        ) from error
    if not isinstance(signer, ec.EllipticCurvePrivateKey) or signer.public_key() != certificate.public_key():
        raise ConfigError(f"ca.key and ca.pem in {folder} do not belong together")
    return signer, certificate


def _requested(request: bytes) -> ec.EllipticCurvePublicKey:
    try:
        asked = x509.load_pem_x509_csr(request)
    except ValueError as error:
        raise ConfigError(f"not a PEM signing request: {error}") from error
    public = asked.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or not asked.is_signature_valid:
        raise ConfigError("a signing request is for an elliptic-curve key, and signed by it")
    return public


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        try:
            return x509.DNSName(host)
        except ValueError as error:
            raise ConfigError(f"not a host name or address: {host!r:.80}") from error


def _subject(name: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    except ValueError as error:
        raise ConfigError(f"a certificate's name has 1 to 64 characters, not {name!r:.80}") from error


def _secret_bytes(secret: ec.EllipticCurvePrivateKey) -> bytes:
    return secret.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder}: {error}") from error


def _write(path: Path, certificate: x509.Certificate) -> Path:
    try:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error}") from error
    return path
