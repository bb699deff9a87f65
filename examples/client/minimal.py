"""A whole client of protocol 1 that imports nothing of kuberml: publishes, finds and fetches. See docs/protocol.md.

python minimal.py HOST:PORT publish TASK LABEL=COUNT[,...] FILE.safetensors
python minimal.py HOST:PORT find TASK LABEL[,...]
python minimal.py HOST:PORT fetch TASK LABEL OUT     # its keys are new each time; a real client keeps them
"""

from __future__ import annotations

import secrets
import sys
import time
import urllib.request
from pathlib import Path

import msgspec
import zenoh
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ROOT, HUB = "kuberml/1/default", "hub"
REQUEST, ANSWER, CARD = b"kuberml.request/1\0", b"kuberml.answer/1\0", b"kuberml.card/1\0"
canonical = msgspec.msgpack.Encoder(order="sorted").encode


def digest(data: bytes) -> str:
    return blake3(data).hexdigest()


def need(is_so: bool, why: str) -> None:
    if not is_so:
        raise ValueError(why)


def verify(key: str, signature: bytes, message: bytes) -> None:
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, message)


class Client:
    """One member: present, answering, able to ask."""

    def __init__(self, address: str, name: str) -> None:
        self.name, self.blobs, self.number = name, {}, 0
        self.secret = Ed25519PrivateKey.generate()
        self.key = self.secret.public_key().public_bytes_raw().hex()
        self.epoch, self.session = secrets.token_hex(16), secrets.token_bytes(8)
        config = zenoh.Config()
        for setting, value in (("mode", '"client"'), ("connect/endpoints", f'["tcp/{address}"]')):
            config.insert_json5(setting, value)
        self.zenoh = zenoh.open(config)
        self.asks = self.zenoh.declare_queryable(f"{ROOT}/ask/{name}/*", self._on_ask)
        self.reads = self.zenoh.declare_queryable(f"{ROOT}/blob/{name}/*", self._on_blob)
        self.here = self.zenoh.liveliness().declare_token(f"{ROOT}/here/{name}/peer/{self.key}/{self.epoch}")
        (hub,) = self.zenoh.liveliness().get(f"{ROOT}/here/{HUB}/**", timeout=5.0)
        self.hub_key, self.hub_epoch = str(hub.ok.key_expr).split("/")[-2:]
        self.welcome = msgspec.msgpack.decode(self.ask("hello", canonical({"role": "peer", "urls": []})))

    def ask(self, request: str, body: bytes, timeout_s: float = 30.0) -> bytes:
        """Ask the hub; its answer, whose signature and question are checked."""
        for _ in range(3):
            self.number += 1
            said = {"sender": self.name, "key": self.key, "to": HUB, "name": request, "realm": "default",
                    "epoch": self.hub_epoch, "session": self.session, "number": self.number, "body": body}  # fmt: skip
            asked, sealed = self._seal(REQUEST, said)
            for reply in self.zenoh.get(f"{ROOT}/ask/{HUB}/{request}", payload=sealed, timeout=timeout_s):
                answer = msgspec.msgpack.decode(reply.ok.payload.to_bytes())
                self._check(ANSWER, answer, self.hub_key)
                need(answer["request"] == asked, "an answer to another question")
                if answer["status"] == "ok":
                    return answer["body"]
                need(answer["status"] == "epoch", f"the hub {answer['status']}: {answer['body'].decode()}")
                self.hub_epoch = answer["body"].decode()
        raise TimeoutError(f"no answer to {request}")

    def publish(self, task: str, labels: dict[str, int], blob: bytes, version: int = 0) -> str:
        """Sign a card of kind weights, announce it, and wait until the hub keeps a copy."""
        size = max(16 * 1024, -(-len(blob) // 256))
        cuts = [*range(size, len(blob), size), len(blob)]
        pieces = b"".join(blake3(blob[a:b]).digest() for a, b in zip([0, *cuts], cuts, strict=False))
        reference = {"digest": digest(blob), "size_bytes": len(blob), "cuts": cuts, "pieces": pieces}
        card = {"kind": "weights", "task": task, "labels": labels, "basis": None, "author": self.key, "slot": "model",
                "version": version, "blobs": [reference], "learned_at_ms": time.time_ns() // 1_000_000, "claims": [],
                "parents": [], "flops": 0, "terms": {"licence": "", "purposes": [], "regions": [], "expires_at_ms": None},
                "facts": {"wire": "fp32", "outputs": "[]"}, "schema": "kuberml.card/1"}  # fmt: skip
        named = digest(CARD + canonical(card))
        self.blobs[reference["digest"]] = blob
        signed = {"card": card, "signature": self.secret.sign(CARD + named.encode())}
        self.ask("announce", b"\0" + canonical({"signed": signed, "holder": self.name}))
        self.ask("keep", named.encode())
        return named

    def find(self, task: str, labels: list[str]) -> list[dict[str, object]]:
        """Signed cards, best first."""
        want = {"task": task, "labels_ppm": dict.fromkeys(labels, 1_000_000)}
        found = self.ask("find", b"\0" + canonical({"want": want}))
        plain = found[1:] if found[:1] == b"\0" else zstandard.decompress(found[1:], max_output_size=4 << 20)
        signed = [offer["signed"] for offer in msgspec.msgpack.decode(plain)["offers"]]
        for one in signed:
            verify(one["card"]["author"], one["signature"], CARD + digest(CARD + canonical(one["card"])).encode())
        return signed

    def fetch(self, reference: dict[str, object]) -> bytes:
        """A blob from the hub's HTTP door, each piece verified as it comes."""
        url, blob, start = f"{self.welcome['urls'][0]}/v1/blobs/{reference['digest']}", b"", 0
        for place, stop in enumerate(reference["cuts"]):
            request = urllib.request.Request(url, headers={"Range": f"bytes={start}-{stop - 1}"})
            piece = urllib.request.urlopen(request, timeout=30).read(stop - start)
            need(blake3(piece).digest() == reference["pieces"][32 * place :][:32], "not what its author signed")
            blob, start = blob + piece, stop
        need(digest(blob) == reference["digest"], "the pieces are not the blob")
        return blob

    def _seal(self, domain: bytes, said: dict[str, object]) -> tuple[str, bytes]:
        named = digest(canonical(said | {"signature": b""}))
        return named, canonical(said | {"signature": self.secret.sign(domain + named.encode())})

    def _check(self, domain: bytes, said: dict[str, object], key: str) -> str:
        named = digest(canonical(said | {"signature": b""}))
        verify(key, said["signature"], domain + named.encode())
        return named

    def _on_ask(self, query: zenoh.Query) -> None:
        asked = msgspec.msgpack.decode(query.payload.to_bytes())
        named = self._check(REQUEST, asked, asked["key"])
        status, body = ("ok", canonical({"urls": []})) if asked["name"] == "door" else ("refused", b"serves only door")
        answer = {"request": named, "status": status, "body": body, "key": self.key}
        query.reply(query.key_expr, self._seal(ANSWER, answer)[1])

    def _on_blob(self, query: zenoh.Query) -> None:
        start, stop = (int(part.split("=")[1]) for part in str(query.parameters).split(";"))
        query.reply(query.key_expr, self.blobs[str(query.key_expr).rpartition("/")[2]][start:stop])


def main(address: str, command: str, task: str, labels: str, file: str = "") -> None:
    client = Client(address, f"minimal-{secrets.token_hex(4)}")
    with client.zenoh:  # else its threads would keep the process alive after an error
        if command == "publish":
            counts = dict(part.split("=") for part in labels.split(","))
            print(client.publish(task, {name: int(counts[name]) for name in counts}, Path(file).read_bytes()))
        else:
            found = client.find(task, labels.split(",")) or sys.exit(f"nobody knows {labels} of {task}")
            for card in (signed["card"] for signed in found):
                print(digest(CARD + canonical(card)), card["kind"], card["labels"])
            if command == "fetch":
                Path(file).write_bytes(client.fetch(found[0]["card"]["blobs"][0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
