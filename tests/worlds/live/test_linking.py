"""Two hubs of two owners: what their agreement lets pass is found and fetched on the other side, and nothing else."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from kuberml.core import canonical
from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.exchange import wire
from kuberml.exchange.node import Node
from kuberml.exchange.place import Place
from kuberml.knowledge.want import Want
from kuberml.knowledge.withdrawal import Withdrawal, sign_withdrawal
from kuberml.worlds.live.hub.agreed import LinkAsk, LinkNews, LinkRead
from kuberml.worlds.live.hub.process import HubProcess
from kuberml.worlds.live.names import HUB
from kuberml.worlds.live.trust.agreement import Agreement, Party, Rule, SignedAgreement, signed_by
from kuberml.worlds.live.trust.edits import admitting, revoking
from kuberml.worlds.live.trust.realm import change, owner_in
from kuberml.worlds.live.trust.roll import RIGHTS
from kuberml.worlds.live.world import LiveWorld
from kuberml.worlds.member.keyfile import keys_in
from tests.cli.live import hub as hub_apart
from tests.cli.live import kuberml
from tests.worlds.live.test_world import PATIENCE_S, weights
from tests.worlds.live.town import hub, keys_of, member


def node(world: LiveWorld, task: str) -> Node:
    place = Place(
        clock=world.clock, transport=world.transport, compute=world.compute, store=world.store, recorder=world.recorder(),
        role="peer", task=task, keys=keys_of(world.transport.node), seed=0, hub=world.hub,
    )  # fmt: skip
    return Node(place)


def link(first: HubProcess, second: HubProcess, *rules: Rule) -> Agreement:
    """An agreement between two running hubs, put where each looks for it."""
    now_ms = first.now_ms()
    sides, owners = [], []
    for at in (first, second):
        owners.append(owner_in(at.store.path))
        sides.append(Party("default", owners[-1].public, at.transport.voice.key, at.address))
    signed = SignedAgreement(Agreement(sides[0], sides[1], rules, now_ms, now_ms + 3_600_000))
    for owner in owners:
        signed = signed_by(signed, owner)
    for at, owner in zip((first, second), owners, strict=True):
        partner = signed.agreement.partner_of(owner.public)
        change(at.store.path, owner, admitting(partner.hub, partner.node, ()))
        (at.store.path / "agreements").mkdir(exist_ok=True)
        (at.store.path / "agreements" / f"{partner.node}.agreement").write_bytes(canonical.encode(signed))
    return signed.agreement


async def found(of: Node, task: str, count: int) -> list:
    """Offers once there are so many; else those that there are in the end."""
    until_s = time.monotonic() + PATIENCE_S
    while len(offers := await of.find(Want(task=task))) != count and time.monotonic() < until_s:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    return offers


def test_what_an_agreement_lets_pass_is_found_at_the_other_hub_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "a", policy="listed") as a, hub(tmp_path / "b", policy="listed") as b:
            for at, name in ((a, "anna"), (b, "boris")):
                change(at.store.path, None, admitting(keys_of(name).public, name, RIGHTS))
            await asyncio.sleep(1)
            async with member(a, "anna", tmp_path) as world_a, member(b, "boris", tmp_path) as world_b:
                await world_a.enter(PATIENCE_S)
                await world_b.enter(PATIENCE_S)
                agreement = link(a, b, Rule("first", tasks=("digits",), size_max_bytes=100_000))
                published = {}
                for task, slot, count in (("digits", "one", 1000), ("secret", "two", 1000), ("digits", "large", 50_000)):
                    published[slot] = await node(world_a, task).publish(weights(count), slot=slot, version=0)
                boris = node(world_b, "digits")
                offers = await found(boris, "digits", 1)
                assert [offer.signed.digest for offer in offers] == [published["one"].signed.digest]
                assert np.array_equal((await boris.fetch(offers[0])).tensors["w"], weights(1000).tensors["w"])
                back = await boris.publish(weights(1000, 2.0), slot="mine", version=0)
                await asyncio.sleep(2.5)
                assert [one.digest for one in b.catalog.cards()] == sorted(
                    [published["one"].signed.digest, back.signed.digest]
                ), "neither another task nor one that is too large came over"
                assert back.signed.digest not in [one.digest for one in a.catalog.cards()], "nothing passes that way"
                withdrawn = Withdrawal(keys_of("anna").public, "digits", "one", 0)
                body = wire.write(sign_withdrawal(withdrawn, keys_of("anna")))
                await world_a.transport.ask(HUB, "withdraw", body, timeout_s=5)
                assert await found(boris, "digits", 0) == []
            await the_other_hub_can_do_nothing_else(a, b, agreement, published, tmp_path)

    asyncio.run(main())


async def the_other_hub_can_do_nothing_else(
    a: HubProcess, b: HubProcess, agreement: Agreement, published: dict, folder: Path
) -> None:
    """With its own key, by hand, against the giving hub."""
    keys, secret, large = keys_in(b.store.path / "hub.key"), published["two"].signed, published["large"].signed
    async with member(a, agreement.second.node, folder, keys=keys, role="hub") as spy:
        await spy.enter(PATIENCE_S)
        for name in ("find", "cards"):
            with pytest.raises(RemoteError, match="may not find"):
                await spy.transport.ask(HUB, name, wire.write(wire.Query(Want(task="digits"))), timeout_s=5)
        for signed in (secret, large):
            blob = signed.card.blobs[0].digest
            with pytest.raises(RemoteError, match="does not pass"):
                await spy.transport.ask(HUB, "linked_read", wire.write(LinkRead(signed.digest, blob, 0, 10)), timeout_s=5)
            with pytest.raises(RemoteError, match="may not fetch"):
                await spy.transport.read(HUB, blob, 0, 10, timeout_s=5)
        body = await spy.transport.ask(HUB, "linked", wire.write(LinkAsk()), timeout_s=5)
        assert [one.digest for one in wire.read(body, LinkNews).cards] == []
        change(a.store.path, None, revoking(keys.public))
        await asyncio.sleep(1)
        with pytest.raises(RemoteError, match="is revoked in realm"):
            await spy.transport.ask(HUB, "linked", wire.write(LinkAsk()), timeout_s=5)
    async with member(a, "anna", folder) as other:
        await other.enter(PATIENCE_S)
        with pytest.raises(RemoteError, match="is not the hub of anybody"):
            await other.transport.ask(HUB, "linked", wire.write(LinkAsk()), timeout_s=5)


def test_nothing_passes_on_to_a_third_hub(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "a") as a, hub(tmp_path / "b") as b, hub(tmp_path / "c") as c:
            link(a, b, Rule("first"))
            link(b, c, Rule("first"))
            async with member(a, "anna", tmp_path) as world_a, member(b, "boris", tmp_path) as world_b:
                await world_a.enter(PATIENCE_S)
                await world_b.enter(PATIENCE_S)
                from_a = await node(world_a, "digits").publish(weights(), slot="one", version=0)
                assert len(await found(node(world_b, "digits"), "digits", 1)) == 1
                from_b = await node(world_b, "digits").publish(weights(1000, 3.0), slot="two", version=0)
                await world_b.transport.ask(HUB, "keep", from_b.signed.digest.encode(), timeout_s=PATIENCE_S)
            async with member(c, "clara", tmp_path) as world_c:
                await world_c.enter(PATIENCE_S)
                offers = await found(node(world_c, "digits"), "digits", 1)
                await asyncio.sleep(2.5)
                offers = await node(world_c, "digits").find(Want(task="digits"))
                assert [offer.signed.digest for offer in offers] == [from_b.signed.digest]
                assert from_a.signed.digest not in [one.digest for one in c.catalog.cards()]

    asyncio.run(main())


def test_what_is_offered_over_a_link_can_be_fetched_at_once(tmp_path: Path) -> None:
    """However long the link takes: nobody is sent to a holder that only the hub can read."""

    def slowed(at: HubProcess) -> None:
        read = at.transport.answering.handlers["linked_read"]

        async def slowly(asker: NodeId, body: bytes) -> bytes:
            await asyncio.sleep(1)
            return await read(asker, body)

        at.transport.serve("linked_read", slowly)

    async def main() -> None:
        async with hub(tmp_path / "a") as a, hub(tmp_path / "b") as b:
            link(a, b, Rule("first"))
            slowed(a)
            async with member(a, "anna", tmp_path) as world_a, member(b, "boris", tmp_path) as world_b:
                await world_a.enter(PATIENCE_S)
                await world_b.enter(PATIENCE_S)
                await node(world_a, "digits").publish(weights(), slot="one", version=0)
                boris = node(world_b, "digits")
                assert len(offers := await found(boris, "digits", 1)) == 1
                assert np.array_equal((await boris.fetch(offers[0])).tensors["w"], weights().tensors["w"])

    asyncio.run(main())


def test_what_cannot_come_does_not_keep_withdrawals_and_other_cards_out(tmp_path: Path) -> None:
    """One package cannot be read at the giving hub: the rest comes, goes when it is withdrawn, and that one is tried again."""

    async def main() -> None:
        async with hub(tmp_path / "a") as a, hub(tmp_path / "b") as b, member(a, "anna", tmp_path) as anna:
            await anna.enter(PATIENCE_S)
            good = await node(anna, "digits").publish(weights(), slot="good", version=0)
            bad = await node(anna, "digits").publish(weights(1000, 2.0), slot="bad", version=0)
            read, tries = a.transport.answering.handlers, 0
            for offer in (good, bad):
                await anna.transport.ask(HUB, "keep", offer.signed.digest.encode(), timeout_s=PATIENCE_S)

            serve = read["linked_read"]

            async def broken(asker: NodeId, body: bytes) -> bytes:
                nonlocal tries
                if wire.read(body, LinkRead).card == bad.signed.digest:
                    tries += 1
                    raise Unreachable("it is not here yet")
                return await serve(asker, body)

            a.transport.serve("linked_read", broken)
            link(a, b, Rule("first"))
            async with member(b, "boris", tmp_path) as boris:
                await boris.enter(PATIENCE_S)
                offers = await found(node(boris, "digits"), "digits", 1)
                assert [offer.signed.digest for offer in offers] == [good.signed.digest]
                withdrawn = Withdrawal(keys_of("anna").public, "digits", "good", 0)
                await anna.transport.ask(HUB, "withdraw", wire.write(sign_withdrawal(withdrawn, keys_of("anna"))), timeout_s=5)
                assert await found(node(boris, "digits"), "digits", 0) == []
                assert tries > 1

    asyncio.run(main())


def test_owners_agree_with_commands_while_their_hubs_run(tmp_path: Path) -> None:
    def done(*arguments: object) -> str:
        status, out, err = kuberml(tmp_path, *arguments)
        assert status == 0, err
        return out + err

    async def main(address_a: str, address_b: str) -> None:
        async with member(address_a, "anna", tmp_path) as world_a, member(address_b, "boris", tmp_path) as world_b:
            await world_a.enter(PATIENCE_S)
            await world_b.enter(PATIENCE_S)
            await node(world_a, "digits").publish(weights(), slot="one", version=0)
            offers = await found(node(world_b, "digits"), "digits", 1)
            assert np.array_equal((await node(world_b, "digits").fetch(offers[0])).tensors["w"], weights().tensors["w"])

    with hub_apart(tmp_path / "a", "--quiet") as a, hub_apart(tmp_path / "b", "--quiet") as b:
        for name, running in (("a", a), ("b", b)):
            folder = tmp_path / name / "kuberml-hub"
            done("keys", "party", "--hub", folder, "--address", running["address"], "--out", f"{name}.party")
        done("keys", "agree", "a.party", "b.party", "--out", "ab.agreement", "--task", "digits", "--gives", "first")
        assert "signs next" in done("keys", "sign", "ab.agreement", "--hub", tmp_path / "a" / "kuberml-hub")
        assert "passes, theirs: tasks digits" in done("keys", "sign", "ab.agreement", "--hub", tmp_path / "b" / "kuberml-hub")
        assert "your hub follows it" in done("keys", "sign", "ab.agreement", "--hub", tmp_path / "a" / "kuberml-hub")
        asyncio.run(main(a["address"], b["address"]))
    status, _, err = kuberml(tmp_path, "keys", "agree", "a.party", "ab.agreement", "--out", "x")
    assert status == 2
    assert "is not one side of an agreement" in err
