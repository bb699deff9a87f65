"""The verdict board: what counts, what is kept over a restart and a kill, and what gives way where it is full."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, digest_of
from kuberml.knowledge.signing import Keys
from kuberml.knowledge.verdict import SignedVerdict, Verdict, check_verdict, sign_verdict
from kuberml.vault import board as module
from kuberml.vault.board import Board

KEYS = [Keys(bytes([i]) * 32) for i in range(8)]
AUTHORS = ["a" * 64, "b" * 64, "c" * 64]


def card(name: object) -> Digest:
    return digest_of(str(name).encode())


def verdict(about: object, witness: int = 0, author: int = 0, right: int = 9, at_ms: int = 0) -> SignedVerdict:
    said = Verdict(card(about), AUTHORS[author], KEYS[witness].public, {"1": 10}, {"1": right}, at_ms)
    return sign_verdict(said, KEYS[witness])


def test_a_closed_board_opens_with_what_was_on_it(tmp_path: Path) -> None:
    board = Board(tmp_path / "board.sqlite")
    board.put(verdict("x", 0), 5)
    board.put(verdict("x", 1), 6)
    board.put(verdict("x", 1, right=2, at_ms=1), 7)
    board.put(verdict("y", 1), 8)
    found = board.about([card("y"), card("x")])
    board.close()
    again = Board(tmp_path / "board.sqlite")
    assert again.about([card("y"), card("x")]) == found
    assert found[0][0] == 8
    assert sorted((came_ms, one.verdict.correct["1"]) for came_ms, one in found) == [(5, 9), (7, 2), (8, 9)]
    assert again.about([card("x")], since_ms=6) == [entry for entry in found if entry[0] == 7]
    assert sorted(again.verdicts(), key=repr) == sorted((check_verdict(one) for _, one in found), key=repr)
    assert again.size() == (2, 3)
    again.close()


def test_a_killed_process_leaves_whole_verdicts(tmp_path: Path) -> None:
    code = (
        "import sys; from tests.vault.test_board import verdict; from kuberml.vault.board import Board\n"
        "board = Board(sys.argv[1]); i = 0\n"
        "while True:\n    board.put(verdict(i, i % 8), i); i += 1; print(i, flush=True)\n"
    )
    path = tmp_path / "board.sqlite"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(40)][-1]
        os.kill(process.pid, signal.SIGKILL)
    board = Board(path)
    kept = [check_verdict(one) for one in board.verdicts()]
    assert len(kept) >= said
    assert {one.verdict.card for one in kept} >= {card(i) for i in range(said)}
    assert board.size() == (len(kept), len(kept))
    board.close()


def test_of_two_words_at_one_time_the_same_counts_in_any_order() -> None:
    one, two = verdict("x", right=1), verdict("x", right=2)
    boards = [Board(), Board()]
    for board, order in zip(boards, [(one, two), (two, one)], strict=True):
        assert board.put(order[0], 1).counts
        assert board.put(order[1], 2).counts == (order[1].verdict.digest > order[0].verdict.digest)
    assert [said for _, said in boards[0].about([card("x")])] == [said for _, said in boards[1].about([card("x")])]


def test_an_older_word_is_refused_and_a_full_card_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WITNESSES", 2)
    board = Board()
    board.put(verdict("x", 0, at_ms=5), 1)
    with pytest.raises(RemoteError, match="older than its witness's last"):
        board.put(verdict("x", 0, at_ms=4), 2)
    board.put(verdict("x", 1), 3)
    with pytest.raises(RemoteError, match="keeps 2 verdicts"):
        board.put(verdict("x", 2), 4)
    assert board.put(verdict("x", 1, at_ms=9), 5).counts


def test_a_flood_by_one_author_costs_its_own_cards() -> None:
    board = Board(max_cards=6)
    for i in range(3):
        board.put(verdict(f"honest {i}", 1, author=0), i)
    gone = [evicted for i in range(50) for evicted in board.put(verdict(f"flood {i}", 2, author=1), 10 + i).evicted]
    assert gone == [card(f"flood {i}") for i in range(47)]
    assert board.size() == (6, 6)
    assert len(board.about([card(f"honest {i}") for i in range(3)])) == 3


def test_verdicts_in_all_are_bounded() -> None:
    board = Board(max_verdicts=5)
    for witness in range(3):
        board.put(verdict("x", witness, author=0), witness)
    assert board.put(verdict("y", 0, author=1), 3).evicted == ()
    assert board.put(verdict("y", 1, author=1), 4).evicted == ()
    assert board.put(verdict("y", 2, author=1), 5).evicted == (card("x"),)
    assert board.size() == (1, 3)
    for witness in range(8):  # one card alone never evicts itself
        assert Board(max_verdicts=1).put(verdict("x", witness), witness).evicted == ()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 2), st.integers(0, 3)), max_size=60))
def test_counts_are_what_is_there(steps: list[tuple[int, int, int, int]]) -> None:
    board = Board(max_cards=4, max_verdicts=9)
    for came_ms, (about, witness, author, at_ms) in enumerate(steps):
        try:
            board.put(verdict((about, author), witness, author, at_ms=at_ms), came_ms)
        except RemoteError:
            continue
        kept = list(board.verdicts())
        assert board.size() == (len({one.verdict.card for one in kept}), len(kept))
        assert board.size()[0] <= 4
        assert board.size()[1] <= 9
    board.close()


def test_what_is_not_a_board_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"noise" * 100)
    with pytest.raises(ConfigError, match="verdict board"):
        Board(tmp_path / "noise")
    with pytest.raises(ConfigError, match="1 or more"):
        Board(max_cards=0)
