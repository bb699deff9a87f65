"""A shelf is a dict of bytes, whatever fits into memory."""

import os
import resource

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.rng import rng
from kuberml.core.shelf import Shelf


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.none() | st.binary(max_size=40)), max_size=60), st.integers(0, 120))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_a_shelf_is_a_dict_of_bytes(steps: list[tuple[str, bytes | None]], memory_bytes: int) -> None:
    shelf, plain = Shelf(memory_bytes=memory_bytes), dict[str, bytes]()
    for name, content in steps:
        if content is not None:
            shelf[name] = plain[name] = content
        elif name in plain:
            del shelf[name], plain[name]
        assert sorted(shelf) == sorted(plain)
        assert {name: shelf[name] for name in shelf} == plain
    assert len(shelf) == len(plain)
    assert all(shelf.size_bytes(name) == len(content) for name, content in plain.items())


def test_memory_is_bounded_and_places_in_the_file_are_used_again() -> None:
    shelf = Shelf(memory_bytes=3000)
    for number in range(200):
        shelf[str(number % 20)] = bytes([number]) * 1000
    assert sum(len(content) for content in shelf._here.values()) == 3000
    assert shelf._end_bytes == 17_000
    assert shelf["7"] == bytes([187]) * 1000
    assert shelf.read("7", 10, 12) == bytes([187]) * 2


def test_what_the_system_gives_in_several_calls_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux gives 2 GiB less a page in one call; here it gives 1,000 bytes."""
    whole, plenty = os.pread, rng(1, "shelf").bytes(4500)
    monkeypatch.setattr(os, "pread", lambda descriptor, count, start: whole(descriptor, min(count, 1000), start))
    shelf = Shelf(memory_bytes=0)
    shelf["a"], shelf["b"] = plenty, b"behind"
    assert shelf["a"] == plenty
    assert shelf.read("a", 700, 3900) == plenty[700:3900]


def test_what_is_not_there_is_a_key_error() -> None:
    shelf = Shelf(memory_bytes=1)
    shelf["a"] = b"12"
    for name in ("b", ""):
        with pytest.raises(KeyError):
            shelf[name]
        with pytest.raises(KeyError):
            del shelf[name]
    del shelf["a"]
    assert "a" not in shelf


def test_a_full_disk_is_no_simulated_one() -> None:
    shelf, before = Shelf(memory_bytes=0), resource.getrlimit(resource.RLIMIT_FSIZE)
    shelf["a"] = b"a" * 1000
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))
    try:
        with pytest.raises(MemoryError, match=r"no room for 1000 bytes .* let TMPDIR name a larger disk"):
            shelf["b"] = b"b" * 1000
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "b" not in shelf
    shelf["b"] = b"b" * 1000
    assert shelf["a"] + shelf["b"] == b"a" * 1000 + b"b" * 1000
