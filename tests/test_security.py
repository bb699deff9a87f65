"""Nothing from a package is ever executed, whatever stands where a blob, a card or a message should be.

An audit hook of the interpreter watches: unpickling, compiling, executing, importing, starting processes, opening files.
"""

import io
import json
import marshal
import os
import pickle
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard

from kuberml.core import canonical, values
from kuberml.core.errors import ConfigError, InternalError, KuberError, RemoteError
from kuberml.core.ids import NodeId
from kuberml.exchange import wire
from kuberml.exchange.node import Node
from kuberml.knowledge.card import Knowledge, decode_card, encode_card
from kuberml.knowledge.kinds import KINDS
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.pack import make, open_value
from kuberml.knowledge.pieces import refer
from kuberml.knowledge.signing import sign_card
from kuberml.knowledge.want import Offer
from kuberml.learning.extractors import built, identity
from tests.exchange.town import Town, keys
from tests.knowledge.test_kinds import EXAMPLES

MARK = Path("/tmp") / f"kuberml-was-executed-{os.getpid()}"
FORBIDDEN = (
    "pickle.",
    "marshal.loads",
    "exec",
    "compile",
    "os.system",
    "subprocess.",
    "import",
    "open",
    "ctypes.",
    "code.__new__",
)


class Guard:
    """What the interpreter was asked to do while `is_watching`."""

    def __init__(self) -> None:
        self.is_watching, self.seen = False, list[str]()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_watching and event.startswith(FORBIDDEN):
            self.seen.append(f"{event} {str(arguments)[:100]}")


GUARD = Guard()
sys.addaudithook(GUARD)  # it cannot be taken away again, so it asks whether it is wanted


@pytest.fixture(scope="module")
def warm() -> None:
    """What is done once, lazily, at the first package or the first unknown name: types resolved, plug-ins looked for."""
    for kind in sorted(EXAMPLES):
        open_value(make(kind, EXAMPLES[kind], keys=keys("a"), task="digits", slot="s", version=1, learned_at_ms=5))
    for sort in (wire.Announcement, wire.Reply, wire.Request, wire.Offers, wire.Board):
        with pytest.raises(RemoteError):
            wire.read(wire.PLAIN + canonical.encode({"x": 1}), sort)
    assert "warm" not in KINDS
    with pytest.raises(ConfigError):
        built(Extractor("warm"))


@pytest.fixture
def nothing_runs(warm: None) -> Iterator[None]:
    """Fails the test if something was executed, imported or opened while it ran."""
    MARK.unlink(missing_ok=True)
    GUARD.seen.clear()
    GUARD.is_watching = True
    try:
        yield
    finally:
        GUARD.is_watching = False
        executed = MARK.exists()
        MARK.unlink(missing_ok=True)
    assert not executed
    assert GUARD.seen == []


class Evil:
    """Unpickling it leaves a mark."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, (f"open({str(MARK)!r}, 'w').close()",))


def _npy(content: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, content, allow_pickle=True)
    return file.getvalue()


def _zip(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3")
    return file.getvalue()


def _safetensors(header: object, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


EVIL = pickle.dumps(Evil())
SOURCE = f"import os; open({str(MARK)!r}, 'w')".encode()
F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
PAYLOADS: dict[str, bytes] = {
    "pickle": EVIL,
    "old pickle": pickle.dumps(Evil(), protocol=0),
    "pickle in zstd": zstandard.compress(EVIL),
    "marshalled code": marshal.dumps(compile("1", "x", "eval")),
    "source": SOURCE,
    "shell": b"#!/bin/sh\ntouch " + str(MARK).encode(),
    "npy of objects": _npy(np.array([Evil()], object)),
    "torch file": _zip(EVIL),
    "safetensors of pickle": _safetensors({"state": {**F32, "data_offsets": [0, len(EVIL)]}}, EVIL),
    "safetensors with a pickle behind": _safetensors({"state": F32}, bytes(4) + EVIL),
    "safetensors with code in its header": _safetensors(
        {"__metadata__": {"__reduce__": SOURCE.decode()}, "state": F32}, bytes(4)
    ),
    "safetensors with a name that climbs": _safetensors({"../../../etc/passwd": F32}, bytes(4)),
    "zstd of safetensors and pickle": zstandard.compress(_safetensors({"state": F32}, bytes(4)) + EVIL),
    "messagepack extension": msgspec.msgpack.encode(msgspec.msgpack.Ext(3, EVIL)),
    "a value of our own processes": values.dumps(Weights({"state": np.zeros(1, np.float32)})),
    "yaml object": b"!!python/object/apply:os.system ['touch " + str(MARK).encode() + b"']",
    "elf": b"\x7fELF" + bytes(60),
}


def opened(kind: str, blobs: tuple[bytes, ...], **card: Any) -> Any:
    """A card of this kind, correctly signed, over other blobs."""
    good = make(kind, EXAMPLES[kind], keys=keys("a"), task="digits", slot="s", version=1, learned_at_ms=5)
    changed = msgspec.structs.replace(good.card, blobs=tuple(refer(blob) for blob in blobs), **card)
    return open_value(Knowledge(sign_card(changed, keys("a")), blobs))


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
@pytest.mark.parametrize("payload", sorted(PAYLOADS))
def test_no_kind_executes_what_stands_in_its_blobs(kind: str, payload: str, nothing_runs: None) -> None:
    """It is refused; or, where any bytes are a value of the kind (float weights), it is that value and no more."""
    good = make(kind, EXAMPLES[kind], keys=keys("a"), task="digits", slot="s", version=1, learned_at_ms=5)
    for blobs in ((PAYLOADS[payload],), (*good.blobs, PAYLOADS[payload])):
        try:
            found = opened(kind, blobs)
        except RemoteError:
            continue
        assert type(found) is type(EXAMPLES[kind])


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_a_good_package_with_something_behind_it_is_refused(kind: str, nothing_runs: None) -> None:
    good = make(kind, EXAMPLES[kind], keys=keys("a"), task="digits", slot="s", version=1, learned_at_ms=5)
    with pytest.raises(RemoteError):
        opened(kind, (good.blobs[0] + EVIL,))


@pytest.mark.parametrize("payload", sorted(PAYLOADS))
def test_no_message_or_card_is_executed(payload: str, nothing_runs: None) -> None:
    body = PAYLOADS[payload]
    for first in (b"", wire.PLAIN, wire.PACKED, wire.PACKED + zstandard.compress(body)[:0]):
        for sort in (wire.Announcement, wire.Reply, wire.Request, wire.Offers, wire.Board):
            with pytest.raises(RemoteError):
                wire.read(first + body, sort)
    with pytest.raises(RemoteError):
        wire.read(wire.PACKED + zstandard.compress(body), wire.Request)
    with pytest.raises(RemoteError):
        decode_card(body)
    with pytest.raises((RemoteError, KuberError)):
        canonical.decode(body + b"\xc1")


@pytest.mark.parametrize("kind", ["pickle", "os:system", "builtins.eval", "__import__", "../../weights", "weights.py"])
def test_a_kind_that_is_not_installed_is_not_looked_for(kind: str, nothing_runs: None) -> None:
    good = make("weights", EXAMPLES["weights"], keys=keys("a"), task="digits", slot="s", version=1, learned_at_ms=5)
    bad = sign_card(msgspec.structs.replace(good.card, kind=kind), keys("a"))
    with pytest.raises(RemoteError, match="not installed here"):
        open_value(Knowledge(bad, good.blobs))


@pytest.mark.parametrize("name", ["os:system", "kuberml.core.errors:nearest", "subprocess.run", "nothing", "builtins:eval"])
def test_an_extractor_of_an_unknown_architecture_raises_and_imports_nothing(name: str, nothing_runs: None) -> None:
    with pytest.raises((ConfigError, RemoteError)):
        built(Extractor(name, {"command": "touch " + str(MARK)}))


@pytest.mark.parametrize("name", ["../etc/passwd", "os system", "", "__import__('os')", "a" * 200, "x\0y"])
def test_an_extractor_whose_name_cannot_be_one_does_not_even_travel(name: str, nothing_runs: None) -> None:
    body = canonical.encode({"architecture": name, "facts": {}, "tensors": b"", "schema": "kuberml.extractor/1"})
    with pytest.raises(RemoteError, match="not the name of an architecture"):
        opened("extractor", (body,), facts={"architecture": name})


@pytest.mark.parametrize("model", ["os:system", "torch.hub:load", "builtins:eval", "subprocess:run", "nothing"])
def test_a_network_extractor_builds_registered_models_only(model: str) -> None:
    settings = {"model": model, "shape": "[8, 8, 1]", "outputs": 10, "options": "{}", "layer": ""}
    with pytest.raises(RemoteError, match="not registered here"):
        built(Extractor("torch-module", settings, {"state": np.zeros(4, np.float32)}))


def test_settings_do_not_reach_beyond_what_an_architecture_takes() -> None:
    for facts in ({"dimensions": -1}, {"dimensions": "64"}, {"dimensions": 64, "__class__": "x"}, {}, {"dimensions": True}):
        with pytest.raises(RemoteError):
            built(Extractor("identity", facts))
    with pytest.raises(RemoteError):
        built(Extractor("identity", identity(4).facts, {"code": np.zeros(3, np.uint8)}))


def test_names_in_a_card_are_names_and_never_paths() -> None:
    """A digest names a file: one that is none is refused before it does."""
    good = make("weights", EXAMPLES["weights"], keys=keys("a"), task="digits", slot="s", version=1, learned_at_ms=5)
    for digest in ("../../etc/passwd", "/etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"):
        ref = msgspec.structs.replace(good.card.blobs[0], digest=digest)
        with pytest.raises(RemoteError, match="not a digest"):
            open_value(Knowledge(sign_card(msgspec.structs.replace(good.card, blobs=(ref,)), keys("a")), good.blobs))


def test_what_a_job_or_memory_reads_is_never_a_pickle(nothing_runs: None) -> None:
    for payload in PAYLOADS.values():
        try:
            found = values.loads(payload)
        except InternalError:
            continue
        assert not callable(found)


def test_nothing_in_the_package_can_unpickle() -> None:
    """No module of ours imports what executes data."""
    root = Path(values.__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        text = path.read_text()
        for word in ("import pickle", "import dill", "import cloudpickle", "import marshal", "import shelve", "torch.load(",
                     "allow_pickle=True", "yaml.load(", " eval(", " exec(", "os.system("):  # fmt: skip
            assert word not in text, f"{path.name}: {word}"


@pytest.mark.parametrize("payload", ["pickle", "torch file", "safetensors with a pickle behind", "pickle in zstd"])
def test_a_peer_that_sends_executables_is_refused_on_the_way(payload: str) -> None:
    """From the transport to the value: nothing is executed, kept, or left in the store."""
    blob = PAYLOADS[payload]
    good = make("weights", EXAMPLES["weights"], keys=keys("a"), task="digits", slot="s", version=0, learned_at_ms=0)
    signed = sign_card(msgspec.structs.replace(good.card, blobs=(refer(blob),)), keys("a"))

    async def evil(node: Node) -> None:
        node.place.store.put(blob)
        node.place.store.put_card(signed.digest, encode_card(signed))

    async def me(node: Node) -> None:
        await node.sleep(1)
        with pytest.raises(RemoteError):
            await node.fetch(Offer(signed, (NodeId("a"),), 0, 0, 0))
        assert node.place.store.size_bytes(signed.card.blobs[0].digest) is None
        assert list(node.place.store.cards()) == []

    Town("me", "a").run(me=me, a=evil)
    assert not MARK.exists()
