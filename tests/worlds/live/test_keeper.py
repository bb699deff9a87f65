"""The hub's copies: bounded, complete, gone when nobody offers them any more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kuberml.core.errors import RemoteError
from kuberml.exchange import wire
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.withdrawal import Withdrawal, sign_withdrawal
from kuberml.worlds.live.hub.keeper import PARALLEL
from kuberml.worlds.live.names import HUB
from tests.worlds.live.test_world import PATIENCE_S, node, until, weights
from tests.worlds.live.town import hub, keys_of, member

SIZE_BYTES = 40_000


async def keep(world: object, digest: str) -> bytes:
    return await world.transport.ask(HUB, "keep", digest.encode(), timeout_s=PATIENCE_S)  # type: ignore[attr-defined]


def test_over_the_limit_the_oldest_copy_goes_and_its_author_still_holds_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub", keep_bytes=3 * SIZE_BYTES) as at, member(at, "a", tmp_path) as world:
            await world.enter(PATIENCE_S)
            a = node(world)
            offers = []
            for age in range(4):
                large = weights(SIZE_BYTES // 4)
                offers.append(await a.publish(large, slot=f"slot-{age}", version=0, learned_at_ms=age))
                await keep(world, offers[-1].signed.digest)
            at.keeper.trim()
            assert [at.catalog.holders(offer.signed.digest) for offer in offers] == [("a",), ("a",), ("a", HUB), ("a", HUB)]
            assert sum(at.store.size_bytes(blob) or 0 for blob in at.store.blobs()) <= 3 * SIZE_BYTES

    asyncio.run(main())


def test_what_is_larger_than_all_that_is_kept_is_refused_by_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub", keep_bytes=1000) as at, member(at, "a", tmp_path) as world:
            await world.enter(PATIENCE_S)
            offer = await node(world).publish(weights(SIZE_BYTES // 4), slot="large", version=0)
            with pytest.raises(RemoteError, match="more than the 1000"):
                await keep(world, offer.signed.digest)
            assert at.catalog.holders(offer.signed.digest) == ("a",)

    asyncio.run(main())


def test_keep_of_a_card_that_nobody_announced_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub") as at, member(at, "a", tmp_path) as world:
            await world.enter(PATIENCE_S)
            with pytest.raises(RemoteError, match="not announced"):
                await keep(world, "0" * 64)

    asyncio.run(main())


def test_a_mistake_of_ours_with_some_cards_does_not_end_the_keeping_of_others(tmp_path: Path) -> None:
    """As many cards fail, each for a reason that nobody foresaw, as are brought at a time."""
    met: dict[str, int] = {}

    def fails(signed: SignedCard) -> None:
        met[signed.card.slot] = met.get(signed.card.slot, 0) + 1
        if signed.card.slot.startswith("odd") and met[signed.card.slot] == 1:
            raise ValueError(signed.card.slot)

    async def main() -> None:
        async with hub(tmp_path / "hub") as at, member(at, "a", tmp_path) as world:
            at.keeper.on_kept = fails
            await world.enter(PATIENCE_S)
            for number in range(PARALLEL):
                await node(world).publish(weights(), slot=f"odd-{number}", version=0)
            await until(lambda: len(met) == PARALLEL)
            offer = await node(world).publish(weights(), slot="even", version=0)
            assert await keep(world, offer.signed.digest) == b"kept"
            await until(lambda: all(met[f"odd-{number}"] == 2 for number in range(PARALLEL)))  # and they are tried again

    asyncio.run(main())


def test_a_mistake_of_ours_while_copies_are_looked_through_does_not_end_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def fails() -> None:
        looks.append(1)
        raise ValueError("odd")

    async def main() -> None:
        monkeypatch.setattr("kuberml.worlds.live.hub.keeper.TRIM_S", 0.01)
        monkeypatch.setattr("kuberml.worlds.live.hub.keeper.TRIM_AGAIN_S", 0.01)
        async with hub(tmp_path / "hub") as at:
            monkeypatch.setattr(at.keeper, "trim", fails)
            await until(lambda: len(looks) > 2)

    asyncio.run(main())


def test_the_copy_of_what_is_withdrawn_goes(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub") as at, member(at, "a", tmp_path) as world:
            await world.enter(PATIENCE_S)
            offer = await node(world).publish(weights(), slot="model", version=0)
            await keep(world, offer.signed.digest)
            (blob,) = offer.signed.card.blobs
            assert at.store.size_bytes(blob.digest) is not None
            word = sign_withdrawal(Withdrawal(keys_of("a").public, "digits", "model", 0), keys_of("a"))
            await world.transport.ask(HUB, "withdraw", wire.write(word), timeout_s=PATIENCE_S)
            await until(lambda: at.store.size_bytes(blob.digest) is None)
            assert at.catalog.card(offer.signed.digest) is None

    asyncio.run(main())
