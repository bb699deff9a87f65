"""The golden vectors of protocol 1: docs/protocol_vectors.json is what `python -m tests.protocol.vectors` writes."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from kuberml.core import canonical
from kuberml.core.ids import Digest, NodeId, digest_of
from kuberml.exchange import wire
from kuberml.knowledge.card import Card, encode_card
from kuberml.knowledge.pieces import refer
from kuberml.knowledge.signing import Keys, sign_card
from kuberml.knowledge.want import Want
from kuberml.knowledge.withdrawal import Withdrawal
from kuberml.worlds.live import names
from kuberml.worlds.live.envelope import Answer, News, Request, digest, seal
from kuberml.worlds.live.names import Presence
from kuberml.worlds.live.welcome import Hello, Welcome

ALICE, HUB = Keys(b"a" * 32), Keys(b"h" * 32)
EPOCH, SESSION = "0123456789abcdef" * 2, b"session!"
BLOB = bytes(range(256)) * 100


def vectors() -> dict[str, Any]:
    """Everything that another implementation needs to check itself against, as plain JSON."""
    card = Card(
        kind="weights", task="digits", labels={"3": 10, "Ankle boot": 20}, basis=None, author=ALICE.public, slot="model",
        version=0, blobs=(refer(BLOB),), learned_at_ms=1_790_000_000_000, facts={"wire": "fp32", "outputs": "[]"},
    )  # fmt: skip
    signed = sign_card(card, ALICE)
    request = Request(NodeId("alice"), ALICE.public, names.HUB, "find", "default", EPOCH, SESSION, 7, b"body")
    ticket = Request(NodeId("alice"), ALICE.public, names.HUB, "read", "default", EPOCH, SESSION, 0, b"")
    answer = Answer(digest(request), "ok", b"body", HUB.public)
    news = News(names.HUB, HUB.public, "default", "cards/digits", SESSION, 1, b"body")
    withdrawal = Withdrawal(ALICE.public, "digits", "model", 0)
    presence = Presence(NodeId("alice"), "peer", ALICE.public, EPOCH)
    return {
        "protocol": names.PROTOCOL,
        "keys": {
            "alice": {"secret": (b"a" * 32).hex(), "public": ALICE.public},
            "hub": {"secret": (b"h" * 32).hex(), "public": HUB.public},
        },
        "canonical": {
            "value": {"b": [1, -1, 256], "a": "é", "none": None},
            "bytes": canonical.encode({"b": [1, -1, 256], "a": "é", "none": None}).hex(),
        },
        "blob": {"bytes": "00 01 .. ff, 100 times", "size_bytes": len(BLOB), "digest": digest_of(BLOB)},
        "card": {
            "unsigned": canonical.encode(card).hex(),
            "digest": card.digest,
            "signature": signed.signature.hex(),
            "signed": encode_card(signed).hex(),
        },
        "withdrawal": {"unsigned": canonical.encode(withdrawal).hex(), "digest": withdrawal.digest},
        "keys_on_the_wire": {
            "ask": names.ask_key("default", names.HUB, "find"),
            "news": names.news_key("default", "cards/hand written digits"),
            "here": names.here_key("default", presence),
            "blob": names.blob_key("default", names.HUB, Digest(digest_of(BLOB))),
        },
        "envelopes": {
            name: {"digest": digest(envelope), "sealed": seal(envelope, keys).hex()}
            for name, envelope, keys in (
                ("request", request, ALICE),
                ("ticket", ticket, ALICE),
                ("answer", answer, HUB),
                ("news", news, HUB),
            )
        },
        "bodies": {
            "hello": canonical.encode(Hello(role="peer")).hex(),
            "welcome": canonical.encode(Welcome(HUB.public, ("http://127.0.0.1:7448",), software="kuberml 0.1.0")).hex(),
            "announce": (wire.PLAIN + canonical.encode(wire.Announcement(signed, NodeId("alice")))).hex(),
            "find": (wire.PLAIN + canonical.encode(wire.Query(Want(task="digits", labels_ppm={"3": 1_000_000})))).hex(),
            "keep": card.digest.encode().hex(),
        },
    }


def text() -> str:
    """The file, as it is in docs/."""
    return msgspec.json.format(msgspec.json.encode(vectors()), indent=2).decode() + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
