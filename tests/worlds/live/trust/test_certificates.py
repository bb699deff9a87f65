"""Certificates that real TLS takes, and refuses, between real sockets."""

import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509

from kuberml.core.errors import ConfigError
from kuberml.worlds.live.trust.certificates import CertificateFiles, certify, make_authority, make_request

KEY = "ab" * 32


def contexts(server: CertificateFiles, client: CertificateFiles) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Mutual TLS 1.3."""
    both = []
    for files, purpose in ((server, ssl.Purpose.CLIENT_AUTH), (client, ssl.Purpose.SERVER_AUTH)):
        context = ssl.create_default_context(purpose, cafile=str(files.ca))
        context.load_cert_chain(files.cert, files.key)
        context.verify_mode = ssl.CERT_REQUIRED
        both.append(context)
    return both[0], both[1]


def shake(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "localhost") -> list[str]:
    """A handshake and one byte each way; what the server saw of the client's names, or why it failed on either side."""
    here, there = socket.socketpair()
    seen: list[str] = []

    def serve() -> None:
        try:
            with server.wrap_socket(here, server_side=True) as line:
                line.sendall(line.recv(1))
                seen.extend(value for kind, value in (line.getpeercert() or {})["subjectAltName"] if kind == "URI")
        except (ssl.SSLError, OSError) as error:
            seen.append(f"refused: {error}")
            here.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(there, server_hostname=host) as line:
            line.sendall(b"x")
            if line.recv(1) != b"x":
                seen.append("refused: closed")
    except (ssl.SSLError, OSError) as error:
        seen.append(f"refused: {error}")
        there.close()
    thread.join(5)
    return seen


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    return make_authority(tmp_path / "ca", "ward-7").parent


def test_two_certificates_of_one_authority_meet_and_say_their_keys(authority: Path, tmp_path: Path) -> None:
    hub = certify(authority, tmp_path / "hub", "hub", key="cd" * 32)
    node = certify(authority, tmp_path / "node", "anna", key=KEY)
    for host in ("localhost", "127.0.0.1", "::1"):
        assert shake(*contexts(hub, node), host) == [f"kuberml:{KEY}"]


def test_no_certificate_a_foreign_authority_and_another_host_are_refused(authority: Path, tmp_path: Path) -> None:
    hub = certify(authority, tmp_path / "hub", "hub", key=KEY)
    node = certify(authority, tmp_path / "node", "anna", key=KEY)
    foreign = certify(make_authority(tmp_path / "rogue", "ward-7").parent, tmp_path / "evil", "anna", key=KEY)
    server, client = contexts(hub, node)
    bare = ssl.create_default_context(cafile=str(hub.ca))
    assert any("refused" in line for line in shake(server, bare))
    assert any("refused" in line for line in shake(server, contexts(hub, foreign)[1]))
    assert any("refused" in line for line in shake(contexts(foreign, node)[0], client))
    assert any("Hostname mismatch" in line for line in shake(server, client, "elsewhere.example"))


def test_a_certificate_ends(authority: Path, tmp_path: Path) -> None:
    hub = certify(authority, tmp_path / "hub", "hub", key=KEY)
    brief = certify(authority, tmp_path / "brief", "anna", key=KEY, valid_days=1e-9)
    assert any("expired" in line for line in shake(*contexts(hub, brief)))
    with pytest.raises(ConfigError, match="more than 0 days"):
        certify(authority, tmp_path / "never", "anna", key=KEY, valid_days=0)


def test_a_node_cannot_certify_others(authority: Path, tmp_path: Path) -> None:
    node = certify(authority, tmp_path / "node", "anna", key=KEY)
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "ca.pem").write_bytes(node.cert.read_bytes())
    (tmp_path / "fake" / "ca.key").write_bytes(node.key.read_bytes())
    (tmp_path / "fake" / "ca.key").chmod(0o600)
    evil = certify(tmp_path / "fake", tmp_path / "evil", "evil", key=KEY)
    evil.cert.write_bytes(evil.cert.read_bytes() + node.cert.read_bytes())
    hub = certify(authority, tmp_path / "hub", "hub", key=KEY)
    assert any("refused" in line for line in shake(contexts(hub, node)[0], contexts(hub, evil._replace(ca=hub.ca))[1]))


def test_secrets_are_their_owners_and_not_in_what_is_given_away(authority: Path, tmp_path: Path) -> None:
    node = certify(authority, tmp_path / "node", "anna", key=KEY)
    for secret in (authority / "ca.key", node.key):
        assert secret.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in node.cert.read_bytes() + node.ca.read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        make_authority(authority, "again")
    with pytest.raises(ConfigError, match="is there already"):
        certify(authority, tmp_path / "node", "anna", key=KEY)


def test_a_machine_may_keep_its_secret_and_ask(authority: Path, tmp_path: Path) -> None:
    request = make_request(tmp_path / "node", "anna")
    assert b"PRIVATE" not in request.read_bytes()
    files = certify(authority, tmp_path / "node", "anna", key=KEY, request=request.read_bytes())
    hub = certify(authority, tmp_path / "hub", "hub", key=KEY)
    assert shake(*contexts(hub, files)) == [f"kuberml:{KEY}"]
    with pytest.raises(ConfigError, match="not a PEM signing request"):
        certify(authority, tmp_path / "other", "anna", key=KEY, request=b"?")


@pytest.mark.parametrize(
    ("options", "why"),
    [({"key": "x"}, "64 hex"), ({"hosts": ["ü"]}, "not a host name"), ({"name": "x" * 65}, "1 to 64 characters")],
)
def test_what_cannot_be_certified(authority: Path, tmp_path: Path, options: dict[str, object], why: str) -> None:
    asked = {"name": "anna", "key": KEY, **options}
    with pytest.raises(ConfigError, match=why):
        certify(authority, tmp_path / "node", **asked)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"kuberml keys ca|cannot read"):
        certify(tmp_path, tmp_path / "node", "other", key=KEY)


def test_the_authority_is_one(authority: Path) -> None:
    certificate = x509.load_pem_x509_certificate((authority / "ca.pem").read_bytes())
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
