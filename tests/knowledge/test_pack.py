"""The one way in and the one way out: cuts, limits, and every way in which a package can be wrong."""

import gc
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import digest_of
from kuberml.knowledge.card import BlobRef, Card, Knowledge, SignedCard, decode_card, encode_card
from kuberml.knowledge.kind import Packed
from kuberml.knowledge.kinds.statistics import StatisticsKind, cut_dims, describe
from kuberml.knowledge.pack import Limits, check_blob, check_piece, make, open_value
from kuberml.knowledge.pieces import PIECE_MIN_BYTES, PIECES_MAX, cut_by_size, refer
from kuberml.knowledge.signing import sign_card

from .packets import BASIS, keys, packet, publish

SMALL = publish(packet(1, count=15, dims=3))
GOLDEN_DIGEST = "477a236376def2ae578e6212c584a3f987a6568be63adab75ae44b62a5f0f59f"


def resigned(knowledge: Knowledge, *blobs: bytes, **changes: object) -> Knowledge:
    """The same package with other fields, signed by an author who is not honest."""
    card = msgspec.structs.replace(knowledge.card, **changes)
    return Knowledge(sign_card(card, keys(1)), blobs or knowledge.blobs)


def with_blob(knowledge: Knowledge, blob: bytes, **changes: object) -> Knowledge:
    """The same card over another blob."""
    return resigned(knowledge, blob, blobs=(refer(blob, (len(blob),)),), **changes)


def test_the_digest_of_a_package_never_changes() -> None:
    assert SMALL.signed.digest == GOLDEN_DIGEST


@given(st.integers(1, 1 << 31))
def test_cuts_by_size_are_few_and_not_small(size_bytes: int) -> None:
    cuts = cut_by_size(size_bytes)
    assert cuts[-1] == size_bytes
    assert len(cuts) <= PIECES_MAX
    assert all(after - before >= PIECE_MIN_BYTES for before, after in pairwise((0, *cuts[:-1])))


def test_a_piece_is_checked_alone() -> None:
    blob = bytes(range(256)) * 256
    ref = refer(blob)
    check_piece(ref, 1, blob[ref.cuts[0] : ref.cuts[1]])
    for index, piece in ((0, blob[ref.cuts[0] : ref.cuts[1]][:-1]), (1, bytes(PIECE_MIN_BYTES)), (4, b""), (-1, b"")):
        with pytest.raises(RemoteError, match="piece"):
            check_piece(ref, index, piece)


def test_a_blob_is_checked_whole_or_up_to_a_cut() -> None:
    blob = bytes(100_000)
    ref = refer(blob)
    check_blob(ref, blob)
    check_blob(ref, blob[: ref.cuts[1]], prefix=True)
    for bad, prefix in ((blob[: ref.cuts[1]], False), (blob[:-1], True), (blob + b"\0", True), (b"\1" + blob[1:], True)):
        with pytest.raises(RemoteError, match="blob"):
            check_blob(ref, bad, prefix=prefix)
    with pytest.raises(RemoteError, match="another digest"):
        check_blob(msgspec.structs.replace(ref, digest=digest_of(b"")), blob)


@pytest.mark.parametrize(("blob", "cuts"), [(b"", ()), (b"abc", (2,)), (b"abc", (2, 2, 3)), (b"abc", (0, 3)), (b"abc", (4, 3))])
def test_cuts_that_are_none_are_the_callers_fault(blob: bytes, cuts: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"cuts|byte"):
        refer(blob, cuts)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.data())
def test_any_flipped_bit_is_refused(data: st.DataObject) -> None:
    card, blob = encode_card(SMALL.signed), SMALL.blobs[0]
    whole = bytearray(card + blob)
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(RemoteError):
        open_value(Knowledge(decode_card(bytes(whole[: len(card)])), (bytes(whole[len(card) :]),)))


def test_every_flipped_byte_is_refused() -> None:
    card, blob = encode_card(SMALL.signed), SMALL.blobs[0]
    for at in range(len(card) + len(blob)):
        whole = bytearray(card + blob)
        whole[at] ^= 0xFF
        with pytest.raises(RemoteError):
            open_value(Knowledge(decode_card(bytes(whole[: len(card)])), (bytes(whole[len(card) :]),)))


@settings(derandomize=True, max_examples=300, deadline=None)
@given(at=st.integers(0, len(SMALL.blobs[0]) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_that_its_author_signed_is_opened_or_refused_but_never_crashes(at: int, bit: int) -> None:
    blob = bytearray(SMALL.blobs[0])
    blob[at] ^= 1 << bit
    try:
        opened = open_value(with_blob(SMALL, bytes(blob)))
    except RemoteError:
        return
    assert opened.digest != open_value(SMALL).digest


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=80))
def test_noise_that_its_author_signed_is_refused(blob: bytes) -> None:
    with pytest.raises(RemoteError):
        open_value(with_blob(SMALL, blob))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "statistic"}, "not installed"),
        ({"kind": "weights"}, "weights"),
        ({"basis": None}, "basis"),
        ({"basis": "e" * 63}, "digest"),
        ({"author": "f" * 63}, "digest"),
        ({"parents": ("x",)}, "digest"),
        ({"slot": ""}, "1 to 256 characters"),
        ({"task": "t" * 257}, "1 to 256 characters"),
        ({"version": -1}, "negative"),
        ({"schema": "kuberml.card/9"}, "schema"),
        ({"labels": {"a": 4, "b": 5, "c": 5}}, "at least 5"),
        ({"labels": {"a": 5, "b": 5}}, "columns|cuts|bits|bytes"),
        ({"labels": {str(i): 9 for i in range(9000)}}, "labels is over the limit"),
        ({"labels": {"a": 2**40, "b": 2**52, "c": 5}}, "overflow"),
        ({"parents": (BASIS,) * 4097}, "parents is over the limit"),
        ({"facts": {}}, "facts"),
        ({"blobs": ()}, "0|blobs"),
    ],
)
def test_a_wrong_card_says_what_is_wrong(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RemoteError, match=message):
        open_value(resigned(SMALL, **changes))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"dims": 4}, "cuts"),
        ({"dims": 0}, "dimensions"),
        ({"dims": 10**9}, "dimensions"),
        ({"dims": True}, "facts"),
        ({"clip": 1}, "clip"),
        ({"step_log2": 17}, "step_log2"),
        ({"profile": "bf16"}, "facts"),
        ({"coding": "fp16"}, "fp16"),
        ({"constituents": 2}, "blobs"),
        ({"constituents": -2}, "dimensions|blobs"),
        ({"more": 1}, "facts"),
    ],
)
def test_wrong_facts_say_what_is_wrong(facts: dict[str, object], message: str) -> None:
    with pytest.raises(RemoteError, match=message):
        open_value(resigned(SMALL, facts={**SMALL.card.facts, **facts}))


def test_a_wrong_reference_says_what_is_wrong() -> None:
    ref = SMALL.card.blobs[0]
    for changes, message in (
        ({"cuts": ()}, "rise"),
        ({"cuts": (5, 5, ref.size_bytes)}, "rise"),
        ({"pieces": b""}, "hashes"),
        ({"size_bytes": 2**31, "cuts": (2**31,)}, "over the limit"),
        ({"digest": digest_of(b"x")}, "another digest"),
    ):
        with pytest.raises(RemoteError, match=message):
            open_value(resigned(SMALL, blobs=(msgspec.structs.replace(ref, **changes),)))


def test_what_is_not_the_package_that_was_expected_is_refused() -> None:
    with pytest.raises(RemoteError, match="relative to"):
        open_value(SMALL, basis=digest_of(b"another extractor"))
    with pytest.raises(RemoteError, match="2 blobs came"):
        open_value(Knowledge(SMALL.signed, SMALL.blobs * 2))
    with pytest.raises(RemoteError, match="over the limit of 100"):
        open_value(SMALL, limits=Limits(card_bytes=100))
    with pytest.raises(RemoteError, match="the signature is not by"):
        open_value(Knowledge(SignedCard(SMALL.card, bytes(64)), SMALL.blobs))


def test_what_cannot_be_packed_is_the_callers_fault() -> None:
    with pytest.raises(ConfigError, match="did you mean 'statistics'"):
        make("statistic", None, keys=keys(1), task="t", slot="s", version=1, learned_at_ms=0)
    with pytest.raises(ConfigError, match="cannot make this package: kind, task, slot"):
        publish(packet(1), slot="")
    with pytest.raises(ConfigError, match="negative"):
        publish(packet(1), version=-1)


def test_a_small_blob_does_not_unpack_to_gigabytes() -> None:
    zeros = bytes(2 * 16_000)
    ends = tuple(2 * k for k in cut_dims(16_000))
    bomb = resigned(SMALL, zeros, blobs=(refer(zeros, ends),), facts={**SMALL.card.facts, "dims": 16_000})
    with pytest.raises(RemoteError, match="fewer bits than 713 columns"):
        open_value(bomb)
    with pytest.raises(ConfigError, match="nearly all of 2000 features are 0"):
        publish(describe(np.zeros((5, 2000)), ["a"] * 5, basis=BASIS)[0])


class Careless:
    """A kind, of somebody's own, that does not check what it reads."""

    name = "careless"

    def pack(self, value: bytes) -> Packed:
        return Packed((value,), {})

    def unpack(self, card: Card, blobs: tuple[bytes, ...]) -> int:
        return 1 // len(blobs[0].decode().strip())


def test_an_error_in_a_careless_kind_is_still_one_remote_error() -> None:
    careless = Careless()
    for blob in (b"\xff", b"   "):
        package = make("careless", blob, keys=keys(1), task="t", slot="s", version=1, learned_at_ms=0, using=careless)
        with pytest.raises(RemoteError, match="not a package of kind 'careless'"):
            open_value(package, using=careless)
    with pytest.raises(RemoteError, match="of kind 'careless', not 'statistics'"):
        open_value(package, using=StatisticsKind())


def test_a_blob_of_a_kind_that_is_not_nested_must_be_whole() -> None:
    careless = Careless()
    package = make("careless", b"x" * 20_000, keys=keys(1), task="t", slot="s", version=1, learned_at_ms=0, using=careless)
    assert isinstance(package.card.blobs[0], BlobRef)
    with pytest.raises(RemoteError, match="16384 bytes, not 20000"):
        open_value(Knowledge(package.signed, (package.blobs[0][:16384],)), using=careless)


def test_who_opens_a_package_that_is_open_already_shares_its_value_after_every_check() -> None:
    knowledge = publish(packet(7, count=15, dims=3))
    first = open_value(knowledge)
    assert open_value(Knowledge(decode_card(encode_card(knowledge.signed)), knowledge.blobs)) is first
    with pytest.raises(ValueError, match="read-only"):
        first.gram_dd[0, 0] = 1
    damaged = bytes([knowledge.blobs[0][0] ^ 1]) + knowledge.blobs[0][1:]
    with pytest.raises(RemoteError):
        open_value(Knowledge(knowledge.signed, (damaged,)))
    forged = msgspec.structs.replace(knowledge.signed, signature=bytes(64))
    with pytest.raises(RemoteError):
        open_value(Knowledge(forged, knowledge.blobs))
    name = first.digest
    del first
    gc.collect()
    assert open_value(knowledge).digest == name
