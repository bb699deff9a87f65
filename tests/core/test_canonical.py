from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import resource
import struct
import sys
import uuid
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core import canonical
from kuberml.core.errors import InternalError, RemoteError
from kuberml.core.ids import digest_of

INTEGERS = st.integers(-(2**63), 2**64 - 1)
PLAIN = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


class Inner(msgspec.Struct, frozen=True):
    """Fields out of order, as in real messages."""

    z: int
    a: bytes = b""


class Outer(msgspec.Struct, frozen=True):
    """Holds a struct, a tuple and a dict."""

    name: str
    inner: Inner
    many: tuple[Inner, ...] = ()
    table: dict[str, int] = {}


class Colour(enum.IntEnum):
    """A number that is not only a number."""

    RED = 1


def shuffled(value: Any) -> Any:
    """The same value with the entries of its maps in another order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


def test_golden_bytes() -> None:
    """What every signature ever made stands on. If this fails, cards of others cannot be checked any more."""
    value = {
        "none": None, "yes": True, "no": False, "text": "é\0", "bytes": b"\0\xff", "list": [[], {}, ()],
        "ints": [0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63, 2**64 - 1,
                 -1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63)],
    }  # fmt: skip
    assert canonical.encode(value).hex() == (
        "87a56279746573c40200ffa4696e7473dc001600017fcc80ccffcd0100cdffffce00010000ceffffffffcf0000000100000000"
        "cf8000000000000000cfffffffffffffffffffe0d0dfd080d1ff7fd18000d2ffff7fffd280000000d3ffffffff7fffffffd38000000000000000"
        "a46c697374939080" "90a26e6fc2a46e6f6e65c0a474657874a3c3a900a3796573c3"
    )  # fmt: skip


def test_golden_digest_of_a_large_value() -> None:
    """Long forms: text, bytes, lists and maps over 16, 255 and 65,535."""
    value = {"s": ["x" * n for n in (31, 32, 255, 256, 65536)], "b": [b"x" * n for n in (0, 255, 256, 65536)],
             "l": [list(range(n)) for n in (15, 16, 65536)],
             "m": {f"{i:05}": i for i in range(65536)}, "m15": {f"{i:02}": i for i in range(16)}}  # fmt: skip
    assert digest_of(canonical.encode(value)) == "d90dfa248b241ba1549555a3a6ca2de888537f275dc3bd0d03b9383a4b7b025a"


def test_map_keys_stand_in_the_order_of_their_bytes() -> None:
    keys = ["a", "aa", "b", "z", "é", "\uffff", "\U00010000"]
    assert [key.encode() for key in keys] == sorted(key.encode() for key in keys)
    assert list(canonical.decode(canonical.encode(dict.fromkeys(reversed(keys), 1)))) == keys


def test_a_struct_has_the_bytes_of_its_fields() -> None:
    outer = Outer("n", Inner(1), many=(Inner(2, b"x"),), table={"b": 2, "a": 1})
    plain = {"inner": {"a": b"", "z": 1}, "many": [{"a": b"x", "z": 2}], "name": "n", "table": {"a": 1, "b": 2}}
    assert canonical.encode(outer) == canonical.encode(plain)
    assert msgspec.convert(canonical.decode(canonical.encode(outer)), Outer, builtin_types=(bytes,)) == outer


@given(PLAIN)
@settings(max_examples=150, derandomize=True)
def test_decode_inverts_encode(value: Any) -> None:
    data = canonical.encode(value)
    assert canonical.decode(data) == value
    assert canonical.encode(canonical.decode(data)) == data


@given(PLAIN)
@settings(max_examples=100, derandomize=True)
def test_the_order_in_which_a_map_was_filled_does_not_show(value: Any) -> None:
    assert canonical.encode(shuffled(value)) == canonical.encode(value)


@given(PLAIN, PLAIN)
@settings(max_examples=100, derandomize=True)
def test_equal_bytes_mean_equal_values(one: Any, other: Any) -> None:
    """`repr` tells True from 1, which == does not."""
    same = repr(canonical.decode(canonical.encode(one))) == repr(canonical.decode(canonical.encode(other)))
    assert (canonical.encode(one) == canonical.encode(other)) == same


@pytest.mark.parametrize(
    "item",
    [
        1.0, float("nan"), {1, 2}, frozenset({1}), bytearray(b"a"), memoryview(b"a"), 1j, object(), Colour.RED, ...,
        np.int64(1), np.float64(1), np.zeros(2), np.str_("a"), msgspec.msgpack.Ext(1, b"a"), msgspec.Raw(b"\x01"),
        msgspec.UNSET, decimal.Decimal(1), uuid.UUID(int=1), datetime.date(2026, 1, 1),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        2**64, -(2**63) - 1, "\ud800", range(3), dataclasses.make_dataclass("D", ["a"])(1),
    ],
    ids=lambda item: type(item).__name__,
)  # fmt: skip
def test_what_has_no_canonical_form_is_refused_wherever_it_hides(item: Any) -> None:
    for value in (item, [item], (1, item), {"k": item}, Outer("n", Inner(item))):
        with pytest.raises(InternalError, match="no canonical form"):
            canonical.encode(value)


@pytest.mark.parametrize("key", [1, True, None, b"a", 1.5, (1, 2), Colour.RED, np.str_("a"), frozenset()])
def test_map_keys_are_text(key: Any) -> None:
    with pytest.raises(InternalError, match="text keys"):
        canonical.encode({key: 1})


def test_nesting_is_bounded_both_ways() -> None:
    value: Any = None
    for _ in range(canonical.MAX_DEPTH):
        value = [value]
    assert canonical.decode(canonical.encode(value)) == value
    with pytest.raises(InternalError, match="deeper"):
        canonical.encode([value])
    with pytest.raises(RemoteError, match="deeper"):
        canonical.decode(b"\x91" + canonical.encode(value))
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(InternalError, match="deeper"):
        canonical.encode(circle)


HOSTILE = {
    "empty": b"",
    "two values": b"\xc0\xc0",
    "reserved byte": b"\xc1",
    "float 64": b"\xcb" + struct.pack(">d", 1.0),
    "float 32": b"\xca" + struct.pack(">f", 1.0),
    "NaN": b"\xcb" + struct.pack(">d", float("nan")),
    "infinity": b"\x91\xcb" + struct.pack(">d", float("inf")),
    "1 in two bytes": b"\xcc\x01",
    "1 in three bytes": b"\xcd\x00\x01",
    "5 as signed 64": b"\xd3" + (5).to_bytes(8, "big"),
    "-1 in two bytes": b"\xd0\xff",
    "short text, long form": b"\xd9\x01a",
    "short bytes, long form": b"\xc5\x00\x01a",
    "short list, long form": b"\xdc\x00\x01\x01",
    "short map, long form": b"\xde\x00\x01\xa1a\x01",
    "keys out of order": b"\x82\xa1b\x01\xa1a\x01",
    "the same key twice": b"\x82\xa1a\x01\xa1a\x01",
    "the same key twice, other values": b"\x82\xa1a\x01\xa1a\x02",
    "integer key": b"\x81\x01\x01",
    "bytes key": b"\x81\xc4\x01a\x01",
    "None key": b"\x81\xc0\x01",
    "list key": b"\x81\x91\x01\x01",
    "map key": b"\x81\x80\x01",
    "extension key": b"\x81\xd4\x05a\x01",
    "extension": b"\xd4\x05a",
    "extension of our values codec": b"\xc7\x01\x03\x90",
    "timestamp 32": b"\xd6\xff\x00\x00\x00\x01",
    "timestamp 64": b"\xd7\xff" + b"\x00" * 8,
    "timestamp 96": b"\xc7\x0c\xff" + b"\x00" * 12,
    "timestamp out of range": b"\xc7\x0c\xff" + b"\xff" * 12,
    "timestamp in a map": b"\x81\xa1t\xd6\xff\x00\x00\x00\x01",
    "not UTF-8": b"\xa1\xff",
    "a surrogate": b"\xa3\xed\xa0\x80",
    "overlong UTF-8": b"\xa2\xc0\x80",
    "truncated text": b"\xa5ab",
    "text of 4 GiB": b"\xdb\xff\xff\xff\xff",
    "bytes of 4 GiB": b"\xc6\xff\xff\xff\xff",
    "list of 2^32": b"\xdd\xff\xff\xff\xff",
    "map of 2^32": b"\xdf\xff\xff\xff\xff",
    "extension of 4 GiB": b"\xc9\xff\xff\xff\xff\x01",
    "nested lists of 2^24": b"\xdd\x00\xff\xff\xff" * 900,
    "100,000 levels of lists": b"\x91" * 100_000 + b"\xc0",
    "100,000 levels of maps": b"\x81\xa1a" * 100_000 + b"\xc0",
    "20,000 keys that are tuples": b"\xdf\x00\x00\x4e\x20"
    + b"".join(b"\x91\xcd" + struct.pack(">H", i) + b"\x00" for i in range(20_000)),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_the_peers_fault_and_cost_little(data: bytes) -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RemoteError, match="canonical"):
        canonical.decode(data)
    if sys.platform == "linux":
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 * 1024


@given(st.binary(max_size=40))
@settings(max_examples=300, derandomize=True)
def test_any_bytes_are_either_canonical_or_the_peers_fault(data: bytes) -> None:
    try:
        value = canonical.decode(data)
    except RemoteError:
        return
    assert canonical.encode(value) == data


@given(PLAIN, st.data())
@settings(max_examples=200, derandomize=True)
def test_damaged_bytes_are_another_value_or_the_peers_fault(value: Any, data: st.DataObject) -> None:
    good = canonical.encode(value)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([good[at] ^ (1 << data.draw(st.integers(0, 7)))]) + good[at + 1 :]
    try:
        other = canonical.decode(bad)
    except RemoteError:
        return
    assert repr(other) != repr(canonical.decode(good))


@given(PLAIN)
@settings(max_examples=50, derandomize=True)
def test_truncated_bytes_are_the_peers_fault(value: Any) -> None:
    good = canonical.encode(value)
    for stop in range(len(good)):
        with pytest.raises(RemoteError):
            canonical.decode(good[:stop])
