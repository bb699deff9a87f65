"""A file as a package: the same package that the tensors in memory give, or a refusal that names what is wrong."""

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from kuberml.core.errors import ConfigError
from kuberml.knowledge.card import Knowledge, SignedCard, Terms
from kuberml.knowledge.from_file import make_from_file
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.pack import make, open_value
from kuberml.vault.folder import FolderStore

from .packets import keys

RNG = np.random.default_rng(0)
TENSORS = {
    "trunk": RNG.standard_normal((700, 1000)).astype(np.float32),
    "head": RNG.standard_normal((10, 700)).astype(np.float32),
    "steps": np.arange(3),
    "mask": np.array([True, False]),
    "scalar": np.array(2.5),
}
ABOUT = {"task": "t", "slot": "s", "version": 3, "learned_at_ms": 7}


def published(path: Path, vault: Path, **more: object) -> tuple[SignedCard, bytes]:
    with FolderStore(vault) as store:
        signed = make_from_file(path, store, keys=keys(1), **{**ABOUT, **more})
        return signed, store.get(signed.card.blobs[0].digest)


@pytest.mark.parametrize("wire", ["fp32", "fp16"])
@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_file_gives_the_package_that_its_tensors_give(tmp_path: Path, wire: str, metadata: dict[str, str] | None) -> None:
    tensors = {name: array.astype(np.float16) if wire == "fp16" and array.dtype == np.float32 else array
               for name, array in TENSORS.items()}  # fmt: skip
    save_file(tensors, tmp_path / "f.safetensors", metadata)
    more = {"labels": {"a": 3}, "outputs": ("a", "b"), "terms": Terms(licence="MIT")}
    signed, blob = published(tmp_path / "f.safetensors", tmp_path / "v", **more)
    wide = {name: array.astype(np.float32) if array.dtype == np.float16 else array for name, array in tensors.items()}
    weights = Weights(wide, {"a": 3}, ("a", "b"), wire)  # type: ignore[arg-type]
    same = make("weights", weights, keys=keys(1), terms=Terms(licence="MIT"), **ABOUT)
    assert signed == same.signed
    found = open_value(Knowledge(signed, (blob,)))
    assert all(np.array_equal(found.tensors[name], array) for name, array in wide.items())


def test_any_order_in_the_file_gives_one_digest(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "one")
    raw = (tmp_path / "one").read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    import msgspec

    header = msgspec.json.decode(raw[8:end])
    data, moved = b"", {}
    for name in reversed(header):
        start, stop = header[name]["data_offsets"]
        moved[name] = {**header[name], "data_offsets": [len(data), len(data) + stop - start]}
        data += raw[end + start : end + stop]
    text = msgspec.json.encode(moved)
    (tmp_path / "two").write_bytes(len(text).to_bytes(8, "little") + text + data)
    assert published(tmp_path / "one", tmp_path / "v") == published(tmp_path / "two", tmp_path / "w")


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"x": np.array([1.0, np.nan], np.float32)}, "'x' .* holds NaN"),
        ({"a": np.zeros(400_000, np.float32), "x": np.full(300_000, np.inf)}, "'x' .* holds NaN or infinity"),
        ({"x": np.zeros(3, np.uint8)}, "'x' .* is uint8; weights are float32"),
        ({"x": np.zeros(3, np.float16), "y": np.zeros(3, np.float32)}, "'x' .* is float16"),
        ({"x" * 300: np.zeros(3)}, "256 characters"),
        ({"x": np.zeros((1,) * 9)}, "at most 8 axes"),
        ({}, "0 tensors"),
    ],
)  # fmt: skip
def test_what_may_not_travel_is_named_and_nothing_is_kept(tmp_path: Path, tensors: dict[str, np.ndarray], why: str) -> None:
    save_file(tensors, tmp_path / "f")
    with pytest.raises(ConfigError, match=why):
        published(tmp_path / "f", tmp_path / "v")
    with FolderStore(tmp_path / "v") as store:
        assert list(store.blobs()) == []
    assert os.listdir(tmp_path / "v" / "parts") == []


def test_a_file_of_bfloat16_says_what_would_be_right(tmp_path: Path) -> None:
    save_file({"x": np.zeros(3, np.uint16)}, tmp_path / "f")
    (tmp_path / "f").write_bytes((tmp_path / "f").read_bytes().replace(b'"U16"', b'"BF16"').replace(b"  ", b" ", 1))
    with pytest.raises(ConfigError, match=r"'x' is 'BF16', which does not travel; weights are float32 \(or"):
        published(tmp_path / "f", tmp_path / "v")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"12345678",
        b"\x02" + bytes(7) + b"[]",
        bytes(100),
        b"\x06" + bytes(7) + b'{"\xff":',
        b"\x09" + bytes(7) + b'{"x":"\xff"}',
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ConfigError, match="not a safetensors file"):
        published(tmp_path / "f", tmp_path / "v")
    with pytest.raises(ConfigError, match="cannot read"):
        published(tmp_path / "none", tmp_path / "v")


def test_labels_that_are_no_outputs_are_refused(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "f")
    with pytest.raises(ConfigError, match="not among the outputs"):
        published(tmp_path / "f", tmp_path / "v", labels={"c": 1}, outputs=("a",))


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(TENSORS, tmp_path / "f")
    with FolderStore(tmp_path / "v") as store:
        really = store.size_bytes

        def change(digest: str) -> int | None:
            with (tmp_path / "f").open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"\1")
            return really(digest)  # type: ignore[arg-type]

        monkeypatch.setattr(store, "size_bytes", change)
        with pytest.raises(ConfigError, match="was changed"):
            make_from_file(tmp_path / "f", store, keys=keys(1), **ABOUT)
        assert list(store.blobs()) == []
