from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError
from kuberml.knowledge.card import encode_card
from kuberml.knowledge.signing import Keys
from kuberml.vault.folder import FolderStore
from kuberml.vault.retention import displaced, retire
from tests.contracts.store import signed_card

OTHER = Keys(bytes(32))


def test_the_newest_stay_in_each_slot_of_each_author() -> None:
    cards = [signed_card(version=version, slot=slot).card for version in (3, 1, 2) for slot in ("s", "t")]
    cards.append(signed_card(version=1, slot="s", keys=OTHER).card)
    gone = {(card.slot, card.version) for card in cards if card.digest in displaced(cards, keep=2)}
    assert gone == {("s", 1), ("t", 1)}
    assert len(displaced(cards, keep=1)) == 4
    assert displaced(cards, keep=3) == ()


versions = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 1)), max_size=8)


@given(versions, st.integers(1, 3), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(several: list[tuple[int, int]], keep: int, random: object) -> None:
    cards = [signed_card(version=version, learned_at_ms=at).card for version, at in several]
    shuffled = cards + cards
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    gone = displaced(shuffled, keep=keep)
    assert gone == displaced(cards, keep=keep)
    stay = {card.digest: card.version for card in cards if card.digest not in gone}
    assert len(stay) == min(keep, len({card.digest for card in cards}))
    assert all(version >= card.version for card in cards if card.digest in gone for version in stay.values())


def test_retiring_forgets_cards_and_a_sweep_their_blobs(tmp_path: Path) -> None:
    with FolderStore(tmp_path) as store:
        for version in (1, 2, 3):
            signed = signed_card(b"shared", b"version %d" % version, version=version)
            for blob in (b"shared", b"version %d" % version):
                store.put(blob)
            store.put_card(signed.digest, encode_card(signed))
        assert len(retire(store, keep=1)) == 2
        assert list(store.cards()) == [signed.digest]
        assert store.sweep() == len(b"version 1version 2")
        assert retire(store, keep=1) == ()


def test_keep_must_be_above_zero() -> None:
    with pytest.raises(ConfigError, match="keep"):
        displaced([], keep=0)
