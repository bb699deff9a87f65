"""Bit packing is lossless, dense, and has one form for one list."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberml.core.errors import RemoteError
from kuberml.core.rng import rng
from kuberml.knowledge import bitpack
from kuberml.knowledge.bitpack import pack_ints, packed_bytes, unpack_ints, unpack_lists, width_of

LONG = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30)
SHORT = st.lists(st.integers(-20, 20), max_size=30)


@given(LONG | SHORT)
def test_what_is_packed_comes_back_in_the_bytes_that_its_width_says(values: list[int]) -> None:
    integers_N = np.array(values, np.int64)
    width = width_of(integers_N)
    data = pack_ints(integers_N, width)
    assert len(data) == packed_bytes(len(values), width)
    assert unpack_ints(data, len(values), width).tolist() == values


@pytest.mark.parametrize(
    ("values", "width"), [([0, 0], 0), ([-1], 1), ([1], 2), ([-2], 2), ([2], 3), ([2**63 - 1], 64), ([-(2**63)], 64)]
)
def test_the_width_is_that_of_the_zigzag_code(values: list[int], width: int) -> None:
    assert width_of(np.array(values, np.int64)) == width


@given(SHORT.filter(any), st.integers(1, 5))
def test_a_wider_form_of_the_same_integers_is_refused(values: list[int], more: int) -> None:
    integers_N = np.array(values, np.int64)
    width = width_of(integers_N) + more
    with pytest.raises(RemoteError, match="need only"):
        unpack_ints(pack_ints(integers_N, width), len(values), width)


@pytest.mark.parametrize(
    ("data", "count", "width", "message"),
    [(b"\0\0", 3, 3, "not zero|need only"), (b"\xff", 1, 3, "not zero"), (b"", 1, 3, "take 1 bytes"), (b"", 0, 65, "65 bits")],
)
def test_what_is_not_a_packed_list_is_refused(data: bytes, count: int, width: int, message: str) -> None:
    with pytest.raises(RemoteError, match=message):
        unpack_ints(data, count, width)


def test_many_lists_at_once_are_each_of_them_at_every_width_and_place(monkeypatch: pytest.MonkeyPatch) -> None:
    draw, data, wanted, where = rng(0, "lists"), b"", [], []
    for width in [*range(65), 0, 3]:
        count = int(draw.integers(0, 12)) if width else 3
        codes_N = np.frombuffer(draw.bytes(8 * count), np.uint64) & np.uint64((1 << width) - 1)
        if count:
            codes_N[0] = (1 << width) - 1  # so that the width is needed
        integers_N = (codes_N >> np.uint64(1)).view(np.int64) ^ -(codes_N & np.uint64(1)).view(np.int64)
        data += b"??"  # what lies between is not looked at
        where.append((len(data), count, width if count else 0))
        data += pack_ints(integers_N, width)
        wanted += integers_N.tolist()
    for group in (1, 7, 1 << 17):
        monkeypatch.setattr(bitpack, "GROUP", group)
        assert unpack_lists(data, *map(list, zip(*where, strict=True))).tolist() == wanted
    assert unpack_lists(memoryview(b""), [], [], []).tolist() == []
