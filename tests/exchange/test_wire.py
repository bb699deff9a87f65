import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core import canonical
from kuberml.core.errors import KuberError, RemoteError
from kuberml.core.ids import Digest, NodeId
from kuberml.exchange import wire
from kuberml.knowledge.card import PPM
from kuberml.knowledge.pack import make
from kuberml.knowledge.verdict import SignedVerdict, Verdict, sign_verdict
from kuberml.knowledge.want import Offer, Want
from tests.exchange.town import data, keys, statistics

KNOWLEDGE = make("statistics", statistics(data("123")), keys=keys("a"), task="digits", slot="shard", version=0, learned_at_ms=5)
CARD = KNOWLEDGE.signed
WANT = Want("digits", {"7": PPM}, kinds=("statistics",), bases=(Digest("0" * 64),), budget_bytes=64_000)
VERDICT = sign_verdict(
    Verdict(CARD.digest, CARD.card.author, keys("w").public, {"1": 10}, {"1": 9}, at_ms=7),
    keys("w"),
)
MESSAGES = [
    wire.Announcement(CARD, NodeId("a"), keep=2),
    wire.Query(WANT),
    wire.Offers((Offer(CARD, (NodeId("a"), NodeId("b")), 1, 2, 3),) * 2),
    wire.Request(CARD, "global", 7),
    wire.Request(),
    wire.Reply(CARD),
    wire.Reply(),
    wire.About((CARD.digest,), 12),
    wire.Board((VERDICT,), 99),
    VERDICT,
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_is_written_is_read(message: msgspec.Struct) -> None:
    assert wire.read(wire.write(message), type(message)) == message


def test_the_same_bytes_are_read_once_and_refused_each_time() -> None:
    data = wire.write(wire.Request(CARD, "global", 8))
    assert wire.read(data, wire.Request) is wire.read(bytes(bytearray(data)), wire.Request)
    for _ in range(2):
        with pytest.raises(RemoteError, match="not a Offers"):
            wire.read(data, wire.Offers)


def test_what_repeats_is_compressed_and_what_is_small_is_not() -> None:
    many = wire.Offers((Offer(CARD, (NodeId("a"),), 1, 2, 3),) * 8)
    assert len(wire.write(many)) < len(canonical.encode(many)) / 4
    assert wire.write(wire.Reply())[:1] == wire.PLAIN


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_truncated_message_is_refused_wherever_it_ends(message: msgspec.Struct) -> None:
    whole = wire.write(message)
    for stop in {*range(min(40, len(whole))), len(whole) // 2, len(whole) - 1}:
        with pytest.raises(RemoteError):
            wire.read(whole[:stop], type(message))


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.sampled_from(MESSAGES), st.integers(0, 10**6), st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_another_message(message: msgspec.Struct, place: int, bit: int) -> None:
    """Nothing but RemoteError escapes. (Who wrote it is the signature's business.)"""
    whole = bytearray(wire.write(message))
    whole[place % len(whole)] ^= 1 << bit
    try:
        found = wire.read(bytes(whole), type(message))
    except RemoteError:
        return
    assert isinstance(found, type(message))


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", wire.PLAIN, wire.PACKED]))
def test_noise_is_refused(noise: bytes, first: bytes) -> None:
    for sort in (wire.Announcement, wire.Query, wire.Offers, wire.Board, SignedVerdict):
        with pytest.raises(RemoteError):
            wire.read(first + noise, sort)


@pytest.mark.parametrize("size_bytes", [wire.LIMIT_BYTES + 1, 1 << 30])
def test_a_compression_bomb_is_refused_before_it_is_opened(size_bytes: int) -> None:
    bomb = zstandard.ZstdCompressor(19).compressobj(size_bytes)
    packed = b"".join(bomb.compress(b"\0" * min(1 << 20, size_bytes - start)) for start in range(0, size_bytes, 1 << 20))
    with pytest.raises(RemoteError, match=f"{size_bytes} bytes"):
        wire.read(wire.PACKED + packed + bomb.flush(), wire.Reply)


def test_a_bomb_that_hides_its_size_is_refused() -> None:
    stream = zstandard.ZstdCompressor(19).compressobj()  # a frame without a content size
    packed = stream.compress(b"\0" * (64 << 20)) + stream.flush()
    with pytest.raises(RemoteError):
        wire.read(wire.PACKED + packed, wire.Reply)


def test_a_bomb_that_lies_about_its_size_is_refused() -> None:
    honest = zstandard.compress(b"\0" * 70_000, 10)
    header = zstandard.get_frame_parameters(honest)
    assert header.content_size == 70_000
    lying = honest.replace((70_000).to_bytes(4, "little"), (1000).to_bytes(4, "little"), 1)
    assert lying != honest
    with pytest.raises(RemoteError):
        wire.read(wire.PACKED + lying, wire.Reply)


def test_a_plain_message_over_the_limit_is_refused() -> None:
    with pytest.raises(RemoteError):
        wire.read(wire.PLAIN + canonical.encode({"signed": None, "x": b"\0" * wire.LIMIT_BYTES}), wire.Reply)


@pytest.mark.parametrize("tail", [b"\0", b"more", wire.write(wire.Reply())])
def test_nothing_may_follow_a_message(tail: bytes) -> None:
    small, large = wire.write(wire.Reply()), wire.write(wire.Offers((Offer(CARD, (NodeId("a"),), 1, 2, 3),) * 4))
    assert (small[:1], large[:1]) == (wire.PLAIN, wire.PACKED)
    for whole, sort in ((small, wire.Reply), (large, wire.Offers)):
        with pytest.raises(RemoteError):
            wire.read(whole + tail, sort)


def test_another_order_of_keys_is_not_canonical() -> None:
    body = canonical.encode(wire.Request(slot="s"))
    assert canonical.decode(body) == {"at_least": 0, "signed": None, "slot": "s"}
    shuffled = msgspec.msgpack.encode({"slot": "s", "signed": None, "at_least": 0})
    with pytest.raises(RemoteError, match="canonical"):
        wire.read(wire.PLAIN + shuffled, wire.Request)


@pytest.mark.parametrize(
    ("body", "sort"),
    [
        ({"signed": None, "more": 1}, wire.Reply),
        ({"want": {"task": "digits", "urgency": 3}}, wire.Query),
        ({"cards": "abc"}, wire.About),
        ({"signed": None, "slot": 7}, wire.Request),
        ({"signed": None, "slot": "s", "at_least": "7"}, wire.Request),
        ({}, wire.Query),
        ([], wire.Reply),
        (None, wire.Reply),
    ],
)
def test_unknown_missing_and_mistyped_fields_are_refused(body: object, sort: type[msgspec.Struct]) -> None:
    with pytest.raises(RemoteError, match=sort.__name__):
        wire.read(wire.PLAIN + canonical.encode(body), sort)


def test_floats_never_travel() -> None:
    with pytest.raises(KuberError):
        wire.write(wire.Query(Want("digits", {"7": 0.5})))  # type: ignore[dict-item]
    with pytest.raises(RemoteError):
        wire.read(wire.PLAIN + msgspec.msgpack.encode({"want": {"task": "digits", "limit": 1.0}}), wire.Query)
