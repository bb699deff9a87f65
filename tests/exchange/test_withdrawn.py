"""What a hub remembers of withdrawals: each slot's highest, by numbers that go on, page by page, also when it starts again."""

from __future__ import annotations

from pathlib import Path

import pytest

from kuberml.exchange import wire, withdrawn
from kuberml.exchange.withdrawn import Withdrawals
from kuberml.knowledge.withdrawal import SignedWithdrawal, Withdrawal, sign_withdrawal
from tests.exchange.town import keys


def word(author: str, slot: str, version: int = 0, task: str = "digits") -> SignedWithdrawal:
    return sign_withdrawal(Withdrawal(keys(author).public, task, slot, version), keys(author))


def test_a_slot_has_one_word_and_readers_go_on_where_they_were(tmp_path: Path) -> None:
    words = Withdrawals(tmp_path / "words.sqlite")
    words.put(word("a", "one", 3))
    words.put(word("b", "one"))
    words.put(word("a", "one", 2))  # said late
    words.put(word("a", "other", task="flowers"))
    first = words.since("digits", "", 0)
    assert first.words == (word("a", "one", 3), word("b", "one"))
    assert words.since("digits", first.era, first.number).words == ()
    words.put(word("a", "one", 5))
    words.close()
    again = Withdrawals(tmp_path / "words.sqlite")
    new = again.since("digits", first.era, first.number)
    assert (new.era, new.words) == (first.era, (word("a", "one", 5),))
    assert again.since("digits", first.era, new.number) == type(new)(new.era, new.number)
    assert again.since("digits", "of a hub that lost its folder", 99).words == (word("b", "one"), word("a", "one", 5))
    again.close()


def test_it_is_bounded_and_told_by_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(withdrawn, "PAGE", 2)
    words = Withdrawals(words_max=5)
    for k in range(8):
        words.put(word("a", f"slot-{k}"))
    told, number = [], 0
    while page := words.since("digits", "memory", number).words:
        number = words.since("digits", "memory", number).number
        told.append([one.withdrawal.slot for one in page])
    assert told == [["slot-3", "slot-4"], ["slot-5", "slot-6"], ["slot-7"]]
    assert words.since("digits", "memory", -5).words[0].withdrawal.slot == "slot-3"
    words.close()


def test_a_page_of_the_longest_words_can_be_read() -> None:
    long, words = "\U0001f9ea" * 250, Withdrawals()
    for k in range(withdrawn.PAGE):
        words.put(word("a", f"{k:06d}{long}", version=2**63 - 1, task=long + "123456"))
    page = wire.read(wire.write(words.since(long + "123456", "memory", 0)), wire.Said)
    assert len(page.words) == withdrawn.PAGE
    words.close()
