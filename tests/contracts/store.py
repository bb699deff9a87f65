"""What every `core.seam.Store` does. An implementation's test subclasses `StoreContract` and says how to make a store.

class TestFolderStore(StoreContract):
    def make(self, tmp_path):
        return FolderStore(tmp_path / "vault")
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest, digest_of
from kuberml.core.rng import rng
from kuberml.core.seam import Store
from kuberml.knowledge.card import BlobRef, Card, SignedCard, encode_card
from kuberml.knowledge.pieces import hash_of, refer, span
from kuberml.knowledge.signing import Keys, sign_card

KEYS = Keys(bytes(range(32)))
NOWHERE = digest_of(b"never put")
BLOB = rng(0, "store contract", "blob").bytes(330_001)


def ref_to(blob: bytes) -> BlobRef:
    """A reference to a blob of one piece."""
    digest = digest_of(blob)
    return BlobRef(digest, len(blob), (len(blob),), bytes.fromhex(digest))


def signed_card(*blobs: bytes, keys: Keys = KEYS, **fields: Any) -> SignedCard:
    """A signed card over some blobs; fields replace the defaults."""
    known = {
        "kind": "weights",
        "task": "digits",
        "labels": {"0": 10},
        "basis": None,
        "author": keys.public,
        "slot": "global",
        "version": 1,
        "blobs": tuple(map(ref_to, blobs)),
        "learned_at_ms": 1,
    }
    return sign_card(Card(**{**known, **fields}), keys)


class StoreContract:
    """Subclass, and override `make`."""

    def make(self, tmp_path: Path) -> Store:
        """A new, empty store."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return self.make(tmp_path)

    def test_a_new_store_is_empty(self, store: Store) -> None:
        assert (list(store.cards()), store.memory(), store.size_bytes(NOWHERE)) == ([], {}, None)

    @pytest.mark.parametrize("blob", [b"", b"x", bytes(range(256)) * 5000], ids=["empty", "one byte", "1.3 MB"])
    def test_a_blob_comes_back_as_it_was_under_its_digest(self, store: Store, blob: bytes) -> None:
        digest = store.put(blob)
        assert digest == digest_of(blob)
        assert store.get(digest) == blob
        assert store.size_bytes(digest) == len(blob)

    def test_keeping_a_blob_twice_is_keeping_it_once(self, store: Store) -> None:
        assert store.put(b"twice") == store.put(b"twice")
        store.delete(digest_of(b"twice"))
        assert store.size_bytes(digest_of(b"twice")) is None

    def test_a_blob_that_is_not_here_is_a_key_error(self, store: Store) -> None:
        with pytest.raises(KeyError):
            store.get(NOWHERE)
        with pytest.raises(KeyError):
            store.read(NOWHERE, 0, 0)
        store.delete(NOWHERE)

    @pytest.mark.parametrize(("start", "stop"), [(0, 10), (0, 0), (3, 7), (10, 10), (9, 10)])
    def test_a_range_is_those_bytes(self, store: Store, start: int, stop: int) -> None:
        assert store.read(store.put(b"0123456789"), start, stop) == b"0123456789"[start:stop]

    @pytest.mark.parametrize(("start", "stop"), [(-1, 3), (4, 3), (0, 11), (11, 11)])
    def test_a_range_outside_the_blob_is_a_value_error(self, store: Store, start: int, stop: int) -> None:
        digest = store.put(b"0123456789")
        with pytest.raises(ValueError, match="outside"):
            store.read(digest, start, stop)

    def test_a_part_that_is_whole_becomes_a_blob(self, store: Store) -> None:
        part = store.part(digest_of(BLOB), len(BLOB))
        assert part.is_new
        for start in (200_000, 0, 100_000):  # in any order
            part.write(start, memoryview(BLOB)[start : start + 100_000])
        assert part.read(99_000, 101_000) == BLOB[99_000:101_000]
        part.write(300_000, BLOB[300_000:])
        assert store.size_bytes(digest_of(BLOB)) is None
        part.finish()
        assert store.get(digest_of(BLOB)) == BLOB
        part.close()
        part.discard()  # it is a blob now
        assert store.get(digest_of(BLOB)) == BLOB

    def test_a_part_waits_for_who_opens_it_next(self, store: Store) -> None:
        part = store.part(digest_of(BLOB), len(BLOB))
        part.write(100_000, BLOB[100_000:200_000])
        part.close()
        part.close()
        with pytest.raises(ValueError, match="not open"):
            part.write(0, BLOB[:1])
        part = store.part(digest_of(BLOB), len(BLOB))
        assert not part.is_new
        assert part.has(100_000, 200_000, blake3(BLOB[100_000:200_000]).digest())
        assert not part.has(100_000, 200_000, blake3(b"other").digest())
        assert not part.has(0, 100_000, blake3(BLOB[:100_000]).digest())
        part.write(0, BLOB[:100_000])
        part.write(200_000, BLOB[200_000:])
        part.finish()
        assert store.get(digest_of(BLOB)) == BLOB
        assert store.part(digest_of(BLOB), len(BLOB)).is_new

    def test_what_is_discarded_is_gone(self, store: Store) -> None:
        part = store.part(digest_of(BLOB), len(BLOB))
        part.write(0, BLOB[:100])
        part.discard()
        assert store.part(digest_of(BLOB), len(BLOB)).is_new

    def test_two_open_parts_share_nothing(self, store: Store) -> None:
        one, other = (store.part(digest_of(BLOB), len(BLOB)) for _ in range(2))
        one.write(0, BLOB[:100])
        assert not other.has(0, 100, blake3(BLOB[:100]).digest())
        other.write(0, BLOB)
        one.write(100, BLOB[100:])
        other.finish()
        one.finish()
        assert store.get(digest_of(BLOB)) == BLOB

    def test_a_part_of_other_bytes_never_becomes_a_blob(self, store: Store) -> None:
        part = store.part(digest_of(BLOB), len(BLOB))
        part.write(0, BLOB[:-1] + bytes([BLOB[-1] ^ 1]))
        with pytest.raises(RemoteError, match="another digest"):
            part.finish()
        assert store.size_bytes(digest_of(BLOB)) is None
        assert store.part(digest_of(BLOB), len(BLOB)).is_new

    def test_the_whole_of_a_part_is_verified(self, store: Store) -> None:
        part = store.part(digest_of(BLOB), len(BLOB))
        part.write(0, BLOB)
        assert part.whole() == part.whole() == BLOB
        part.write(0, bytes([BLOB[0] ^ 1]))  # what was right before counts no more
        with pytest.raises(RemoteError, match="another digest"):
            part.whole()
        with pytest.raises(ValueError, match="not open"):
            part.whole()
        assert store.part(digest_of(BLOB), len(BLOB)).is_new

    def test_a_part_with_a_hole_never_becomes_a_blob(self, store: Store) -> None:
        part = store.part(digest_of(BLOB), len(BLOB))
        part.write(100, BLOB[100:])
        with pytest.raises(RemoteError, match="another digest"):
            part.finish()
        assert store.size_bytes(digest_of(BLOB)) is None

    def test_what_is_written_again_is_what_counts(self, store: Store) -> None:
        part = store.part(digest_of(BLOB), len(BLOB))
        part.write(0, bytes(1000))
        part.write(0, BLOB)
        part.finish()
        assert store.get(digest_of(BLOB)) == BLOB

    @pytest.mark.parametrize(("start", "stop"), [(-1, 3), (4, 3), (0, len(BLOB) + 1)])
    def test_a_range_outside_a_part_is_a_value_error(self, store: Store, start: int, stop: int) -> None:
        part = store.part(digest_of(BLOB), len(BLOB))
        with pytest.raises(ValueError, match="outside"):
            part.read(start, stop)
        with pytest.raises(ValueError, match="outside"):
            part.has(start, stop, bytes(32))
        part.close()

    def test_work_beside_the_loop_gives_its_result(self, store: Store) -> None:
        part = store.part(digest_of(BLOB), len(BLOB))
        assert asyncio.run(part.beside(lambda: 6 * 7)) == 42
        with pytest.raises(ZeroDivisionError):
            asyncio.run(part.beside(lambda: 1 // 0))
        part.close()

    def test_pieces_of_held_cards_are_found(self, store: Store) -> None:
        ref = refer(BLOB)
        signed, other = signed_card(BLOB, blobs=(ref,)), signed_card(b"small")
        hashes = [hash_of(ref, index) for index in range(len(ref.cuts))]
        assert store.find_pieces(hashes) == {}
        for held in (signed, other):
            store.put_card(held.digest, encode_card(held))
        assert store.find_pieces(hashes) == {}, "the card is here, its blob is not"
        store.put(BLOB)
        found = store.find_pieces([*hashes, bytes(32)])
        assert found == {hash_of(ref, index): (ref.digest, span(ref, index)[0]) for index in range(len(ref.cuts))}
        store.delete(ref.digest)
        assert store.find_pieces(hashes) == {}

    def test_a_card_comes_back_as_it_was(self, store: Store) -> None:
        signed = signed_card(b"blob")
        store.put_card(signed.digest, encode_card(signed))
        assert store.card(signed.digest) == encode_card(signed)
        store.delete_card(signed.digest)
        store.delete_card(signed.digest)
        with pytest.raises(KeyError):
            store.card(signed.digest)

    def test_cards_are_listed_sorted(self, store: Store) -> None:
        cards = [signed_card(version=version) for version in range(1, 8)]
        for signed in cards:
            store.put_card(signed.digest, encode_card(signed))
        assert list(store.cards()) == sorted(signed.digest for signed in cards)

    def test_a_card_may_go_while_cards_are_listed(self, store: Store) -> None:
        for version in range(1, 4):
            signed = signed_card(version=version)
            store.put_card(signed.digest, encode_card(signed))
        for digest in store.cards():
            store.delete_card(digest)
        assert list(store.cards()) == []

    def test_deleting_a_card_leaves_its_blobs_and_the_other_way_round(self, store: Store) -> None:
        digest, signed = store.put(b"blob"), signed_card(b"blob")
        store.put_card(signed.digest, encode_card(signed))
        store.delete_card(signed.digest)
        assert store.get(digest) == b"blob"
        store.put_card(signed.digest, encode_card(signed))
        store.delete(digest)
        assert list(store.cards()) == [signed.digest]

    def test_memory_is_what_was_remembered_last(self, store: Store) -> None:
        store.remember({"weights": b"1", "round": b"\0", "gone": b"x"})
        store.remember({"weights": b"2", "gone": None, "never was": None})
        assert store.memory() == {"weights": b"2", "round": b"\0"}
        store.remember({})
        assert store.memory() == {"weights": b"2", "round": b"\0"}

    def test_what_memory_gave_is_a_copy(self, store: Store) -> None:
        store.remember({"a": b"1"})
        store.memory()["a"] = b"changed"
        assert store.memory() == {"a": b"1"}

    def test_any_sequence_of_operations_does_what_dicts_would(self, store: Store) -> None:
        draw = rng(0, "store contract")
        blobs: dict[Digest, bytes] = {}
        memory: dict[str, bytes] = {}
        for step in range(150):
            content, key = bytes([int(draw.integers(6))]) * 3, f"k{draw.integers(4)}"
            match int(draw.integers(5)):
                case 0 | 1:
                    blobs[store.put(content)] = content
                case 2:
                    store.delete(digest_of(content))
                    blobs.pop(digest_of(content), None)
                case 3:
                    store.remember({key: content, "step": b"%d" % step})
                    memory |= {key: content, "step": b"%d" % step}
                case _:
                    store.remember({key: None})
                    memory.pop(key, None)
            assert store.size_bytes(digest_of(content)) == (3 if digest_of(content) in blobs else None)
        assert {digest: store.get(digest) for digest in blobs} == blobs
        assert store.memory() == memory
