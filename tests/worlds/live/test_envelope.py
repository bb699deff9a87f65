"""Envelopes: what is signed is what was said, to whom, and once."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberml.core import canonical
from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId
from kuberml.knowledge.signing import Keys
from kuberml.worlds.live.envelope import (
    LIMIT_BYTES,
    SESSIONS,
    WINDOW,
    Answer,
    News,
    Once,
    Request,
    Voice,
    digest,
    opened,
    seal,
)

ALICE, BOB = Keys(b"a" * 32), Keys(b"b" * 32)
REQUEST = Request(NodeId("alice"), ALICE.public, NodeId("bob"), "find", "default", "0" * 32, b"session!", 7, b"body")
NEWS = News(NodeId("alice"), ALICE.public, "default", "cards/digits", b"session!", 7, b"body")
ANSWER = Answer(digest(REQUEST), "ok", b"body", BOB.public)


@pytest.mark.parametrize(
    ("envelope", "keys"), [(REQUEST, ALICE), (NEWS, ALICE), (ANSWER, BOB)], ids=["request", "news", "answer"]
)
def test_what_was_sealed_is_opened(envelope: Request | News | Answer, keys: Keys) -> None:
    found = opened(seal(envelope, keys), type(envelope))
    assert digest(found) == digest(envelope)
    assert found.body == b"body"


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed(place: int, bit: int) -> None:
    data = bytearray(seal(REQUEST, ALICE))
    data[place % len(data)] ^= 1 << bit
    with pytest.raises(RemoteError):
        opened(bytes(data), Request)


def test_nobody_signs_for_another() -> None:
    with pytest.raises(RemoteError, match="signature"):
        opened(seal(REQUEST, BOB), Request)


def test_a_signature_on_news_is_none_on_a_request() -> None:
    signature = ALICE.sign(b"kuberml.news/1\0", digest(REQUEST).encode())
    with pytest.raises(RemoteError, match="signature"):
        opened(canonical.encode(msgspec.structs.replace(REQUEST, signature=signature)), Request)


@pytest.mark.parametrize(
    "change", [{"session": b"short"}, {"number": -1}, {"sender": NodeId("../up")}], ids=["session", "number", "name"]
)
def test_fields_that_cannot_be_are_refused_whoever_signs(change: dict[str, object]) -> None:
    with pytest.raises(RemoteError):
        opened(seal(msgspec.structs.replace(REQUEST, **change), ALICE), Request)


def test_an_envelope_over_the_limit_is_not_even_read() -> None:
    with pytest.raises(RemoteError, match="over the limit"):
        opened(b"\0" * (LIMIT_BYTES + 1), Request)


def test_an_unknown_field_is_not_passed_over() -> None:
    plain = canonical.decode(seal(REQUEST, ALICE)) | {"extra": 1}
    with pytest.raises(RemoteError, match="extra"):
        opened(canonical.encode(plain), Request)


def test_each_number_counts_once_in_any_order() -> None:
    once = Once()
    for number in (1, 3, 2, 5, 4):
        once.admit("key", b"session!", number)
    for number in (1, 2, 3, 4, 5):
        with pytest.raises(RemoteError, match="replay"):
            once.admit("key", b"session!", number)


@given(st.lists(st.integers(1, 3 * WINDOW), max_size=60))
def test_no_number_is_let_through_twice(numbers: list[int]) -> None:
    once, through = Once(), []
    for number in numbers:
        try:
            once.admit("key", b"session!", number)
        except RemoteError:
            continue
        through.append(number)
    assert len(through) == len(set(through))
    assert set(through) >= {number for number in numbers if number > max(numbers) - WINDOW}


def test_what_is_too_old_is_refused_even_if_it_is_new_here() -> None:
    once = Once()
    once.admit("key", b"session!", WINDOW + 2)
    with pytest.raises(RemoteError, match="replay"):
        once.admit("key", b"session!", 1)


def test_sessions_and_keys_count_for_themselves() -> None:
    once = Once()
    for key, session in (("a", b"1"), ("a", b"2"), ("b", b"1")):
        once.admit(key, session, 1)
    with pytest.raises(RemoteError):
        once.admit("a", b"2", 1)


def test_memory_of_sessions_is_bounded_and_says_when_it_is_full() -> None:
    once = Once()
    for number in range(SESSIONS):
        assert not once.is_full
        once.admit("key", number.to_bytes(8, "big"), 1)
    assert once.is_full
    once.clear()
    assert not once.is_full


def test_a_new_epoch_is_another() -> None:
    voice = Voice(NodeId("alice"), ALICE, "default")
    before = voice.epoch
    voice.new_epoch()
    assert voice.epoch != before
    assert len(voice.epoch) == 32
