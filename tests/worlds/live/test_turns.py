"""Turns: no more at once than there are, first come first served, and who waits for its peer holds nobody up."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from kuberml.worlds.live.blobs.turns import Turns

WAIT_S = 10.0


def test_no_more_at_once_than_there_are_turns() -> None:
    turns, lock, now, most = Turns(3), threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal now, most
        with turns:
            with lock:
                now += 1
                most = max(most, now)
            with lock:
                now -= 1
            with turns.given_up():
                pass

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(400)))
    assert now == 0
    assert 1 <= most <= 3
    assert not turns.are_wanted


def test_who_waits_gets_the_turn_that_is_given_up_and_gives_it_back() -> None:
    turns, order = Turns(1), list[str]()
    began = threading.Event()

    def second() -> None:
        began.set()
        with turns:
            order.append("second")

    turns.take()
    thread = threading.Thread(target=second)
    thread.start()
    assert began.wait(WAIT_S)
    while not turns.are_wanted:
        pass
    assert order == []
    with turns.given_up():
        thread.join(WAIT_S)
        order.append("first, waiting for its peer")
    turns.give()
    assert order == ["second", "first, waiting for its peer"]
