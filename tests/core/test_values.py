from __future__ import annotations

import math
from collections import OrderedDict, namedtuple
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from kuberml.core import values
from kuberml.core.errors import ConfigError, InternalError
from kuberml.core.ids import digest_of
from kuberml.core.values import digest, dumps, frozen, loads, value

DTYPES = "?bhilqBHILQefd"
ARRAYS = npst.arrays(
    st.sampled_from([np.dtype(char) for char in DTYPES]) | st.sampled_from([np.dtype(">i4"), np.dtype(">f8")]),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=6)
    | st.binary(max_size=6)
    | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
Pair = namedtuple("Pair", "left right")


@value
class Head(msgspec.Struct, frozen=True):
    """A struct with an array in it."""

    weights_dC: np.ndarray
    labels: tuple[str, ...]
    inner: Any = None


class Unregistered(msgspec.Struct, frozen=True):
    """Not a value."""

    a: int = 1


def same(one: Any, other: Any) -> bool:
    """Equal in type and content; NaN equals NaN; arrays also in shape and (little-endian) dtype."""
    if isinstance(one, np.ndarray):
        right_type = isinstance(other, np.ndarray) and one.dtype.newbyteorder("=") == other.dtype and one.shape == other.shape
        return right_type and bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def test_golden_bytes() -> None:
    """Results are remembered under digests of these bytes: if they change, `--resume` recomputes everything."""
    item = {
        "b": True, "a": [1, -1, 2.5, None, "é", b"\0"], "t": (1, (2,)),
        "x": np.arange(3, dtype="i2").reshape(1, 3), "h": Head(np.float32([[1.5]]), ("3",)),
    }  # fmt: skip
    assert dumps(item).hex() == (
        "85a1619601ffcb4004000000000000c0a2c3a9c40100a162c3a168c74e0292bb74657374732e636f72652e746573745f76616c7565733a48"
        "65616483a5696e6e6572c0a66c6162656c73c7030391a133aa776569676874735f6443c70e01080092a33c66349201010000c03fa174c706"
        "039201d5039102a178d801080092a33c6932920103000001000200"
    )
    assert digest(item) == "b836092e60252d3b8810558980e95261f1497757123ff54546344d3b0f6b309f"


@given(VALUES)
@settings(max_examples=150, derandomize=True)
def test_loads_inverts_dumps(item: Any) -> None:
    data = dumps(item)
    assert same(item, loads(data))
    assert dumps(loads(data)) == data


@given(ARRAYS)
@settings(max_examples=50, derandomize=True)
def test_memory_layout_does_not_show(array: np.ndarray) -> None:
    assert dumps(np.asfortranarray(array).reshape(array.shape)) == dumps(array)
    assert dumps(array[..., ::-1][..., ::-1] if array.ndim else array) == dumps(array)
    assert dumps(array.astype(array.dtype.newbyteorder(">"))) == dumps(array)


def test_maps_and_structs_do_not_depend_on_the_order_of_filling() -> None:
    assert dumps({"a": 1, "b": 2}) == dumps({"b": 2, "a": 1}) == dumps(OrderedDict(b=2, a=1))
    assert digest(Head(labels=("a",), weights_dC=np.zeros(1))) == digest(Head(weights_dC=np.zeros(1), labels=("a",)))


def test_forms_that_python_takes_for_equal_are_told_apart() -> None:
    forms = [
        1,
        True,
        1.0,
        "1",
        b"1",
        [1],
        (1,),
        {"1": 1},
        np.array(1),
        np.array(1.0),
        np.array([1]),
        np.array([1], "i4"),
        None,
        0.0,
        -0.0,
    ]
    assert len({dumps(form) for form in forms}) == len(forms)


def test_a_struct_comes_back_whole() -> None:
    head = loads(dumps(Head(np.eye(2), ("a", "b"), inner=[Head(np.zeros(0), ())])))
    assert isinstance(head, Head)
    assert head.labels == ("a", "b")
    assert isinstance(head.inner[0], Head)


def test_arrays_come_back_read_only_aligned_and_apart_from_their_bytes() -> None:
    data = bytearray(dumps(["x", np.arange(5.0)]))
    array = loads(memoryview(data))[1]
    data[-8:] = b"\xff" * 8
    assert array.tolist() == [0, 1, 2, 3, 4]
    assert array.flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_frozen_is_a_read_only_copy() -> None:
    mine = np.zeros(2)
    held = frozen({"w": mine})
    mine[0] = 1
    assert held["w"].tolist() == [0, 0]
    assert not held["w"].flags.writeable


@given(VALUES)
@settings(max_examples=150, derandomize=True)
def test_frozen_is_what_travels(item: Any) -> None:
    held = frozen([item, Head(np.zeros(1), (), inner=item)])
    assert same(held[0], loads(dumps(item)))
    assert dumps(held) == dumps([item, Head(np.zeros(1), (), inner=item)])
    assert dumps(frozen(held)) == dumps(held)


@given(VALUES)
@settings(max_examples=150, derandomize=True)
def test_a_digest_is_that_of_the_bytes_wherever_arrays_lie(item: Any) -> None:
    for held in (item, Head(np.arange(3.0), (), inner=item), Head(item, ("a",) * 300)):
        assert digest(held) == digest_of(dumps(held))


@pytest.mark.parametrize("size", [0, 1, 7, 100, 230, 256, 65_500, 65_536, 70_000])
def test_a_digest_is_that_of_the_bytes_whatever_their_number(size: int) -> None:
    for start in range(size, size + 20):
        head = Head(np.zeros(start, "u1"), ())
        assert digest(head) == digest_of(dumps(head))


def test_what_is_frozen_is_not_copied_again_and_what_can_be_changed_is() -> None:
    held = frozen(np.arange(6.0).reshape(2, 3))
    again = frozen((held, Head(held, ()), held.T))
    assert again[0] is held
    assert again[1].weights_dC is held
    assert (again[2].tolist(), again[2].flags.c_contiguous) == (held.T.tolist(), True)
    mine = np.zeros(2)
    mine.setflags(write=False)  # its owner can turn that off
    kept = frozen(mine)
    mine.setflags(write=True)
    mine[0] = 1
    assert kept.tolist() == [0, 0]
    with pytest.raises(ValueError, match="WRITEABLE"):
        kept.setflags(write=True)
    lent = np.frombuffer(memoryview(bytearray(16)).toreadonly(), "f8")  # whoever has the bytearray can change it
    assert frozen(lent) is not lent
    blob = bytes(5000)
    assert frozen([blob])[0] is blob


@pytest.mark.parametrize(
    ("scalar", "plain"),
    [
        (np.float64(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.int64(-3), -3),
        (np.uint8(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
    ],
)
def test_numpy_scalars_travel_as_pythons(scalar: Any, plain: Any) -> None:
    assert same(loads(dumps([scalar])), [plain])


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    "item",
    [
        {1}, frozenset(), 1j, object(), bytearray(b"a"), memoryview(b"a"), Unregistered(), Pair(1, 2), {1: 2},
        {np.str_("a"): 1}, 2**64, -(2**63) - 1, "\ud800", CIRCLE, len, int, msgspec.msgpack.Ext(1, b""),
        np.datetime64("2026-01-01"), np.complex128(1),
        np.longdouble(1), np.array([object()]), np.array(["a"]), np.zeros(1, complex), np.zeros(1, np.longdouble),
        np.zeros(1, [("a", "i4")]), np.ma.array([1, 2], mask=[1, 0]), np.array(["2026-01-01"], dtype="M8[D]"),
    ],
    ids=lambda item: type(item).__name__,
)  # fmt: skip
def test_what_cannot_travel_is_refused_wherever_it_hides(item: Any) -> None:
    for held in (item, [item], (item,), {"k": item}, Head(np.zeros(1), (), inner=item)):
        for way in (dumps, frozen):
            with pytest.raises(InternalError, match=r"travel"):
                way(held)


def test_only_frozen_top_level_structs_become_values() -> None:
    class Inside(msgspec.Struct, frozen=True):
        a: int = 1

    with pytest.raises(ConfigError, match="top-level"):
        value(Inside)
    with pytest.raises(ConfigError, match="frozen"):
        value(type("Loose", (msgspec.Struct,), {}))


def test_a_class_of_the_same_name_is_not_the_registered_one() -> None:
    twin = msgspec.defstruct("Head", [("weights_dC", Any)], module=__name__, frozen=True)
    with pytest.raises(InternalError, match="travel"):
        dumps(twin(1))


DAMAGED = {
    "empty": b"",
    "two values": b"\xc0\xc0",
    "a form nobody knows": b"\xd4\x07a",
    "an array without header": b"\xd4\x01a",
    "a header longer than the bytes": b"\xc7\x03\x01\xff\xff\x92",
    "a tuple of one integer": b"\xd4\x03\x05",
    "a struct without fields": b"\xc7\x03\x02\x91\xa1a",
    "a struct nobody registered": b"\xc7\x05\x02\x92\xa2os\x80",
    "a struct whose name is a list": b"\xc7\x04\x02\x92\x91\x01\x80",
    "100,000 levels": b"\x91" * 100_000 + b"\xc0",
    "tuples in tuples": msgspec.msgpack.encode(msgspec.msgpack.Ext(3, b"\x91\xd4\x03\xc1")),
}


def array_bytes(dtype: Any, shape: Any, content: bytes = b"\0" * 8) -> bytes:
    """Bytes of an array as `dumps` frames them, with a header of the test's choice."""
    header = msgspec.msgpack.encode([dtype, shape])
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(1, len(header).to_bytes(2, "little") + header + content))


DAMAGED_ARRAYS = {
    "objects": array_bytes("|O", [1]),
    "structured": array_bytes("f4,f4", [1]),
    "a dtype that numpy would parse as Python": array_bytes("[('a', 'f4')]", [1]),
    "complex": array_bytes("<c8", [1]),
    "big-endian": array_bytes(">f8", [1]),
    "a list for a dtype": array_bytes(["<f8"], [1]),
    "too many bytes": array_bytes("<f4", [1]),
    "too few bytes": array_bytes("<f8", [2]),
    "half an element": array_bytes("<f8", [1], b"\0" * 9),
    "a negative size": array_bytes("<f8", [-1]),
    "a size of text": array_bytes("<f8", ["1"]),
    "a huge size": array_bytes("<f8", [2**62, 2**62]),
    "a shape that is a number": array_bytes("<f8", 1),
    "65 dimensions": array_bytes("<f8", [1] * 65),
}


@pytest.mark.parametrize("data", [*DAMAGED.values(), *DAMAGED_ARRAYS.values()], ids=[*DAMAGED, *DAMAGED_ARRAYS])
def test_malformed_bytes_are_one_error(data: bytes) -> None:
    with pytest.raises(InternalError):
        loads(data)


def test_every_single_damaged_byte_is_another_value_or_one_error() -> None:
    good = dumps({"a": np.arange(3, dtype="i2"), "b": (1, [2.5, (3,)]), "c": Head(np.zeros(1, "f4"), ("x",))})
    refused = 0
    for at in range(len(good)):
        for bits in (0x01, 0x10, 0x80, 0xFF):
            try:
                loads(good[:at] + bytes([good[at] ^ bits]) + good[at + 1 :])
            except InternalError:
                refused += 1
    assert refused > len(good)
    for stop in range(len(good)):
        with pytest.raises(InternalError):
            loads(good[:stop])


@given(st.binary(max_size=40))
@settings(max_examples=200, derandomize=True)
def test_any_bytes_load_or_are_one_error(data: bytes) -> None:
    refusals = []
    try:
        loads(data)
    except InternalError as error:
        refusals.append(str(error))
    assert all("damaged" in text or "unknown value type" in text for text in refusals)


def test_a_value_cannot_name_a_module_to_import() -> None:
    data = dumps(Head(np.zeros(1), ())).replace(b"test_values:Head", b"test_nowhere:Hea")
    with pytest.raises(InternalError, match="is its module imported"):
        loads(data)
    assert __name__ in values.modules()
