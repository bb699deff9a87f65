"""Pieces of tensors: cut at the tensors, few enough, small enough, and the same in the next version."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import RemoteError
from kuberml.knowledge import layout
from kuberml.knowledge.card import Card
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.pack import make
from kuberml.knowledge.pieces import PIECE_MAX_BYTES, PIECE_MIN_BYTES, cut_by_size, hash_of
from kuberml.knowledge.tensor_cuts import PIECES_MAX, cut_at_tensors
from kuberml.knowledge.tensors import DTYPES, decode, encode

from .packets import keys

RNG = np.random.default_rng(0)


def card_of(tensors: dict[str, np.ndarray]) -> Card:
    return make("weights", Weights(tensors), keys=keys(1), task="t", slot="s", version=0, learned_at_ms=0).card


def hashes(card: Card) -> dict[bytes, int]:
    ref = card.blobs[0]
    return {hash_of(ref, i): stop - start for i, (start, stop) in enumerate(pairwise((0, *ref.cuts)))}


def moved_bytes(old: Card, new: Card) -> int:
    """What a receiver of the old one must still get of the new one."""
    return sum(size for hash_, size in hashes(new).items() if hash_ not in hashes(old))


def network() -> dict[str, np.ndarray]:
    layers = {f"layer{i}.weight": RNG.standard_normal((256, 256)).astype(np.float32) for i in range(12)}
    return layers | {f"layer{i}.bias": RNG.standard_normal(256).astype(np.float32) for i in range(12)}


def test_a_retrained_head_costs_itself_and_the_header() -> None:
    base = network() | {"head.weight": np.zeros((10, 256), np.float32)}
    new = base | {"head.weight": np.ones((10, 256), np.float32)}
    header = layout.header_bytes(encode(base)[:8])
    assert moved_bytes(card_of(base), card_of(new)) <= 10 * 256 * 4 + header
    assert moved_bytes(card_of(base), card_of(base)) == 0


def test_an_added_adapter_costs_itself_the_header_and_its_small_neighbours() -> None:
    base = network()
    added = {f"layer{i}.adapter.{part}": RNG.standard_normal((4, 256)).astype(np.float32) for i in range(12) for part in "ab"}
    own_bytes = sum(array.nbytes for array in added.values())
    header = layout.header_bytes(encode(base | added)[:8])
    small = sum(array.nbytes for name, array in base.items() if name.endswith("bias"))
    assert moved_bytes(card_of(base), card_of(base | added)) <= own_bytes + header + small
    assert own_bytes < 0.1 * card_of(base).size_bytes


def test_one_tensor_and_small_blobs_are_cut_by_size() -> None:
    state = {"state": RNG.standard_normal(1_000_000).astype(np.float32)}
    ref = card_of(state).blobs[0]
    assert ref.cuts == cut_by_size(ref.size_bytes)
    ref = card_of({"W": np.zeros((64, 10), np.float32), "b": np.zeros(10, np.float32)}).blobs[0]
    assert ref.cuts == cut_by_size(ref.size_bytes)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([1, 100, 5000, 70_000, 3_000_000, 900_000_000]), min_size=1, max_size=300), st.integers(10, 9999)
)
def test_pieces_are_few_and_less_than_one_percent(sizes: list[int], header: int) -> None:
    ends = [header, *(header + int(end) for end in np.cumsum(sizes))]
    cuts = cut_at_tensors(ends)
    if not cuts or ends[-1] > 8 << 30:
        return
    assert (cuts[0], cuts[-1]) == (header, ends[-1])
    assert all(before < after for before, after in pairwise((0, *cuts)))
    assert len(cuts) <= PIECES_MAX
    largest = max(after - before for before, after in pairwise((header, *cuts[1:])))
    assert largest <= min(PIECE_MAX_BYTES, max(PIECE_MIN_BYTES, 0.01 * ends[-1]))


def test_many_tensors_share_pieces() -> None:
    ends = [100_000, *range(100_000 + 5000, 100_000 + 5001 * 16_000, 5000)]
    assert PIECES_MAX / 4 <= len(cut_at_tensors(ends)) <= PIECES_MAX


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(lambda name: name != "__metadata__")
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.dictionaries(NAMES, st.tuples(st.sampled_from(DTYPES), SHAPES), min_size=1, max_size=6))
def test_our_header_is_the_one_that_the_library_writes(tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    blob = encode({name: np.zeros(shape, dtype) for name, (dtype, shape) in tensors.items()})
    end = layout.header_bytes(blob)
    entries = layout.read_header(blob[:end], len(blob) - end)
    assert layout.write_header(layout.canonical(entries)) == blob[:end]
    assert decode(blob).keys() == entries.keys()


@pytest.mark.parametrize(
    "header",
    [
        b"", b"{", b"[]", b'{"a":1}', b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}', b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}', b'{"a":' * 100_000,
    ],
)  # fmt: skip
def test_headers_that_cannot_be_are_refused(header: bytes) -> None:
    with pytest.raises(RemoteError):
        layout.read_header(len(header).to_bytes(8, "little") + header, 8)


@pytest.mark.parametrize("first", [b"", bytes(8), (1 << 30).to_bytes(8, "little"), b"1234567"])
def test_a_header_of_a_length_that_cannot_be_is_refused(first: bytes) -> None:
    with pytest.raises(RemoteError, match="header"):
        layout.header_bytes(first)
