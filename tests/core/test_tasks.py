"""Tasks that run and end together: never more at once than was said, and none is left when one fails."""

from __future__ import annotations

import asyncio

import pytest

from kuberml.core.tasks import each


def test_every_item_is_done_and_never_too_many_at_once() -> None:
    now, most, begun = 0, 0, list[int]()

    async def work(item: int) -> None:
        nonlocal now, most
        now, begun[len(begun) :] = now + 1, [item]
        most = max(most, now)
        await asyncio.sleep(0.001 * (item % 3))
        now -= 1

    asyncio.run(each(range(20), work, at_once=4))
    assert (sorted(begun), now, most) == (list(range(20)), 0, 4)


def test_the_first_error_ends_the_others_and_is_raised() -> None:
    ended, begun = list[int](), list[int]()

    async def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise ZeroDivisionError
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(item)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(each(range(5), work, at_once=2))
    assert begun[:2] == [0, 1]
    assert sorted(ended) == sorted(set(begun) - {1}), "whoever had begun was ended"


def test_of_nothing_nothing_is_done() -> None:
    done = list[int]()

    async def work(item: int) -> None:
        done.append(item)

    asyncio.run(each(range(0), work, at_once=1))
    assert done == []
