import json

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError, InternalError, RemoteError
from kuberml.knowledge import small_ints, tensors

ARRAYS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([1, 2], np.int64), "c": np.array(True)}


def body(header: dict, data: bytes) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def test_names_come_back_sorted_and_arrays_read_only():
    found = tensors.decode(tensors.encode(ARRAYS))
    assert list(found) == ["a", "b", "c"]
    assert all(np.array_equal(found[name], ARRAYS[name]) and found[name].dtype == ARRAYS[name].dtype for name in found)
    assert not any(array.flags.writeable for array in found.values())


def test_memory_layout_does_not_change_the_bytes():
    turned = {**ARRAYS, "b": np.asfortranarray(ARRAYS["b"]), "a": ARRAYS["a"].astype(">i8")}
    assert tensors.encode(turned) == tensors.encode(ARRAYS)
    assert tensors.encode({"b": ARRAYS["b"][:, ::2]}) == tensors.encode({"b": ARRAYS["b"][:, ::2].copy()})


def test_no_tensors_and_empty_tensors_travel():
    assert tensors.decode(tensors.encode({})) == {}
    assert tensors.decode(tensors.encode({"e": np.zeros((0, 3))}))["e"].shape == (0, 3)


def test_the_handwritten_form_is_the_canonical_one():
    header = {"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    assert body(header, bytes(4)) == tensors.encode({"x": np.zeros(1, np.float32)})


F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\xff" * 64,
        (2**23).to_bytes(8, "little") + b"{}",
        body({"x": F32}, bytes(3)),
        body({"x": F32}, bytes(5)),
        body({"__metadata__": {"hidden": "text"}, "x": F32}, bytes(4)),
        body({"x": {**F32, "dtype": "BF16", "shape": [2]}}, bytes(4)),
        body({"x": {**F32, "dtype": "F8_E4M3", "shape": [4]}}, bytes(4)),
        body({"x": {**F32, "dtype": "C64", "data_offsets": [0, 8]}}, bytes(8)),
        body({"x": {**F32, "shape": [2**62, 4]}}, bytes(4)),
        body({"x": {**F32, "shape": [-1]}}, bytes(4)),
        body({"x": {**F32, "shape": [1] * 9}}, bytes(4)),
        body({"x": {**F32, "shape": [1] * 99}}, bytes(4)),
        body({"x": F32, "y": F32}, bytes(4)),
        body({"x": {**F32, "data_offsets": [4, 8]}, "y": F32}, bytes(8)),
        body({"x": {**F32, "extra": 1}}, bytes(4)),
        body({"x": F32}, np.array([np.nan], "<f4").tobytes()),
        body({"": F32}, bytes(4)),
        body([], b""),
    ],
)
def test_other_forms_are_refused(blob):
    with pytest.raises(RemoteError):
        tensors.decode(blob)


def test_another_spacing_is_not_canonical():
    blob = tensors.encode({"x": np.zeros(1, np.float32)})
    length = int.from_bytes(blob[:8], "little")
    text = blob[8 : 8 + length].replace(b":", b": ", 1).strip()
    text += b" " * (-len(text) % 8)
    with pytest.raises(RemoteError, match="canonical"):
        tensors.decode(len(text).to_bytes(8, "little") + text + bytes(4))


def test_limits(monkeypatch):
    blob = tensors.encode(ARRAYS)
    with pytest.raises(RemoteError, match="over the limit of 20"):
        tensors.decode(blob, limit_bytes=20)
    with pytest.raises(RemoteError, match="'a' is int64; allowed: float32"):
        tensors.decode(blob, dtypes=("float32",))
    monkeypatch.setattr(tensors, "MAX_TENSORS", 2)
    with pytest.raises(RemoteError, match="3 tensors"):
        tensors.decode(blob)
    monkeypatch.setattr(tensors, "MAX_BYTES", 30)
    with pytest.raises(ConfigError, match="over the limit of 30"):
        tensors.encode({"b": ARRAYS["b"], "a": ARRAYS["a"]})


@given(st.binary(max_size=2000))
@settings(derandomize=True, max_examples=40)
def test_any_bytes_give_a_remote_error_or_canonical_tensors(data):
    for blob in (data, len(data).to_bytes(8, "little") + data):
        try:
            found = tensors.decode(blob)
        except RemoteError:
            continue
        assert tensors.encode(found) == blob


@given(st.binary(max_size=2000))
@settings(derandomize=True, max_examples=40)
def test_compression_comes_back(data):
    packed = tensors.compress(data)
    assert tensors.compress(data) == packed
    assert tensors.decompress(packed) == data


def test_compression_is_bounded():
    packed = tensors.compress(bytes(1000))
    assert tensors.decompress(packed, limit_bytes=1000) == bytes(1000)
    with pytest.raises(RemoteError, match="1000 bytes"):
        tensors.decompress(packed, limit_bytes=999)
    undeclared = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
    for bad in (b"", b"no frame", packed[:-1], packed + b"\0", packed + packed, undeclared):
        with pytest.raises(RemoteError):
            tensors.decompress(bad)


@given(st.integers(0, 40), st.data())
@settings(derandomize=True, max_examples=60)
def test_small_integers_come_back(width, data):
    numbers = np.array(data.draw(st.lists(st.integers(0, 2**width - 1), max_size=50)), np.int64)
    packed = small_ints.pack(numbers, width)
    assert len(packed) == small_ints.size_of(len(numbers), width)
    assert np.array_equal(small_ints.unpack(packed, len(numbers), width), numbers)


def test_small_integers_across_chunks():
    numbers = np.arange(200_001) % 8
    assert np.array_equal(small_ints.unpack(small_ints.pack(numbers, 3), 200_001, 3), numbers)


def test_golden_small_integers():
    assert small_ints.pack(np.array([1, 2, 3]), 3).hex() == "d100"


def test_integers_that_do_not_fit_and_bytes_that_are_not_theirs():
    for bad in ([8], [-1]):
        with pytest.raises(InternalError, match="do not fit"):
            small_ints.pack(np.array(bad), 3)
    with pytest.raises(RemoteError, match="take 2 bytes, not 1"):
        small_ints.unpack(b"\xd1", 3, 3)
    with pytest.raises(RemoteError, match="padding"):
        small_ints.unpack(b"\xd1\x80", 3, 3)
