"""How a user's own process enters a realm: which trust, which certificates."""

import pytest

from kuberml.core.errors import ConfigError
from kuberml.knowledge.signing import Keys
from kuberml.worlds.live.entry import realm_named, tls_in, trust_for
from kuberml.worlds.live.trust.certificates import certify, make_authority
from kuberml.worlds.live.trust.keyring import Keyring

OWNER, ME = Keys(b"o" * 32), Keys(b"m" * 32)


def test_certificates_are_found_as_keys_certify_leaves_them(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBERML_TLS", raising=False)
    assert tls_in() is None
    assert tls_in("") is None
    make_authority(tmp_path / "ca", "ward")
    with pytest.raises(ConfigError, match=r"has no files \*\.tls\.key"):
        tls_in(tmp_path / "ca")
    files = certify(tmp_path / "ca", tmp_path / "mine", "me", key=ME.public, hosts=("127.0.0.1",))
    found = tls_in(tmp_path / "mine")
    assert (found.ca, found.cert, found.key) == (files.ca, files.cert, files.key)
    found.client_context()
    found.server_context()
    monkeypatch.setenv("KUBERML_TLS", str(tmp_path / "mine"))
    assert tls_in() == found
    certify(tmp_path / "ca", tmp_path / "mine", "other", key=ME.public, hosts=("127.0.0.1",))
    with pytest.raises(ConfigError, match="has 2 files"):
        tls_in()
    (tmp_path / "mine" / "other.tls.key").unlink()
    (tmp_path / "mine" / "me.pem").unlink()
    with pytest.raises(ConfigError, match=r"me\.pem is missing"):
        tls_in()


def test_a_named_realm_is_believed_as_the_keyring_has_pinned_it_and_the_default_one_as_it_comes(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBERML_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KUBERML_REALM", "ward")
    assert (realm_named(), realm_named("lab")) == ("ward", "lab")
    monkeypatch.delenv("KUBERML_REALM")
    assert trust_for(realm_named()) is None  # every hub that was told no realm has an owner of its own
    Keyring().pin("ward", hub=OWNER.public)
    trust = trust_for("ward")
    assert trust.believes("hub", OWNER.public)
    assert not trust.believes("hub", ME.public)
