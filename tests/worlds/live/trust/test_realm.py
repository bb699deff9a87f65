"""A hub's folder with its roll: founded, changed by its owner while the hub runs, told to the nodes within a second or two."""

import asyncio
import threading
from functools import partial
from pathlib import Path

import msgspec
import pytest

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import NodeId
from kuberml.core.seam import Transport
from kuberml.exchange import wire
from kuberml.knowledge.signing import Keys
from kuberml.worlds.live.trust.beat import Beat, RollAnswer, RollAsk, RollFollower, RollService, Vouch
from kuberml.worlds.live.trust.by_roll import RollTrust
from kuberml.worlds.live.trust.realm import VOUCHES_MAX, Realm, change, found, owner_in, roll_in
from kuberml.worlds.live.trust.roll import Member, Roll, sign_roll
from kuberml.worlds.live.trust.secret_files import new_keys
from tests.worlds.simulated.little import A, C, world

HUB, ANNA, BORIS = (Keys(bytes([number]) * 32).public for number in (10, 11, 12))


def revoke(key: str):
    return lambda roll: msgspec.structs.replace(roll, revoked=(*roll.revoked, key))


def admit(key: str, name: str, *rights: str):
    return lambda roll: msgspec.structs.replace(roll, members={**roll.members, key: Member(NodeId(name), rights)})


def policy(value: str):
    return lambda roll: msgspec.structs.replace(roll, policy=value)


def test_a_hub_founds_its_realm_and_finds_it_again(tmp_path: Path) -> None:
    first = Realm(tmp_path / "hub", "ward-7", HUB)
    assert (first.signed.roll.serial, first.signed.roll.members) == (1, {HUB: Member(NodeId("hub"))})
    assert (tmp_path / "hub" / "owner.key").stat().st_mode & 0o777 == 0o600
    assert first.trust.believes(NodeId("hub"), HUB)
    assert not first.trust.believes(NodeId("hub"), ANNA)
    assert Realm(tmp_path / "hub", "ward-7", HUB).signed == first.signed


def test_a_folder_of_another_realm_or_another_hub_is_refused(tmp_path: Path) -> None:
    Realm(tmp_path, "ward-7", HUB)
    with pytest.raises(ConfigError, match="hub of realm 'ward-7', not 'ward-8'"):
        Realm(tmp_path, "ward-8", HUB)
    with pytest.raises(ConfigError, match="does not name this hub's key"):
        Realm(tmp_path, "ward-7", ANNA)
    with pytest.raises(ConfigError, match="has a roll already"):
        found(tmp_path, "ward-7", HUB, owner_in(tmp_path))


def test_an_owner_can_keep_its_key_elsewhere(tmp_path: Path) -> None:
    owner = new_keys(tmp_path / "mine.key")
    found(tmp_path / "hub", "ward-7", HUB, owner, policy="listed", max_stale_s=20)
    realm = Realm(tmp_path / "hub", "ward-7", HUB)
    assert not (tmp_path / "hub" / "owner.key").exists()
    assert (realm.signed.roll.policy, realm.trust.max_stale_s) == ("listed", 20)
    with pytest.raises(ConfigError, match="cannot read the secret key"):
        change(tmp_path / "hub", None, revoke(ANNA))
    change(tmp_path / "hub", owner, revoke(ANNA))
    assert realm.refresh()
    assert realm.trust.revoked(ANNA)


def test_a_running_hub_takes_up_what_the_owner_writes(tmp_path: Path) -> None:
    realm = Realm(tmp_path, "ward-7", HUB)
    assert not realm.refresh()
    change(tmp_path, None, revoke(ANNA))
    assert realm.refresh()
    assert realm.trust.revoked(ANNA)
    assert not realm.refresh()
    assert change(tmp_path, None, lambda roll: roll).roll.serial == 2, "no change, no new serial"


@pytest.mark.parametrize("evil", ["damage", "older", "other owner", "gone"])
def test_what_a_running_hub_does_not_take(tmp_path: Path, evil: str, caplog: pytest.LogCaptureFixture) -> None:
    realm = Realm(tmp_path, "ward-7", HUB)
    old = (tmp_path / "roll").read_bytes()
    change(tmp_path, None, revoke(ANNA))
    realm.refresh()
    stands = realm.signed
    stranger = Keys(bytes(32))
    bad = {
        "damage": b"\x00" * 50,
        "older": old,
        "other owner": canonical.encode(sign_roll(Roll("ward-7", stranger.public, 99, 0), stranger)),
    }
    if evil == "gone":
        (tmp_path / "roll").unlink()
    else:
        (tmp_path / "roll").write_bytes(bad[evil])
    assert not realm.refresh()
    assert not realm.refresh()
    assert realm.signed == stands
    assert realm.trust.revoked(ANNA)
    assert len([line for line in caplog.records if "the one before stands" in line.message]) == 1


def test_many_owners_at_once_lose_no_change(tmp_path: Path) -> None:
    Realm(tmp_path, "ward-7", HUB)
    keys = [f"{number:064x}" for number in range(20)]
    workers = [threading.Thread(target=change, args=(tmp_path, None, revoke(key))) for key in keys]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    roll = roll_in(tmp_path).roll
    assert (roll.serial, sorted(roll.revoked)) == (21, keys)


def test_an_offered_roll_is_taken_for_its_signature_only(tmp_path: Path) -> None:
    owner = new_keys(tmp_path / "mine.key")
    found(tmp_path / "hub", "ward-7", HUB, owner)
    realm = Realm(tmp_path / "hub", "ward-7", HUB)
    newer = msgspec.structs.replace(realm.signed.roll, serial=5, revoked=(ANNA,))
    assert realm.offer(sign_roll(newer, owner))
    assert not realm.offer(sign_roll(newer, owner))
    assert roll_in(tmp_path / "hub").roll == newer
    stranger = new_keys(tmp_path / "stranger.key")
    with pytest.raises(RemoteError, match="belongs to"):
        realm.offer(sign_roll(msgspec.structs.replace(newer, owner=stranger.public, serial=9), stranger))
    assert roll_in(tmp_path / "hub").roll == newer


def test_members_vouch_for_newcomers_where_the_policy_is_known(tmp_path: Path) -> None:
    realm = Realm(tmp_path, "ward-7", HUB, policy="known")
    with pytest.raises(RemoteError, match="only members vouch"):
        realm.vouch(NodeId("anna"), BORIS, NodeId("boris"))
    change(tmp_path, None, admit(ANNA, "anna", "find"))
    realm.refresh()
    realm.vouch(NodeId("anna"), BORIS, NodeId("boris"))
    realm.trust.check(BORIS, "find")
    with pytest.raises(RemoteError, match="may not publish"):
        realm.trust.check(BORIS, "publish")
    with pytest.raises(RemoteError, match="a member already"):
        realm.vouch(NodeId("anna"), BORIS, NodeId("again"))
    with pytest.raises(RemoteError, match="name 'hub' is taken"):
        realm.vouch(NodeId("anna"), "d" * 64, NodeId("hub"))
    for number in range(VOUCHES_MAX - 1):
        realm.vouch(NodeId("anna"), f"{number:064x}", NodeId(f"friend-{number}"))
    with pytest.raises(RemoteError, match="has vouched for 32 keys"):
        realm.vouch(NodeId("anna"), "e" * 64, NodeId("one-more"))
    change(tmp_path, None, revoke("d" * 64))
    change(tmp_path, None, policy("listed"))
    realm.refresh()
    with pytest.raises(RemoteError, match="only members vouch"):
        realm.vouch(NodeId("boris"), "d" * 64, NodeId("dora"))


def in_a_world(tmp_path: Path, node_main, *, hub_main=None):
    """A hub "c" that beats, and a node "a" that follows it, in virtual time: what node_main(door, trust, folder) returned."""
    here = world(A, C)
    trust = RollTrust("ward-7", now_s=here.loop.time)
    realm = Realm(tmp_path, "ward-7", HUB, policy="known")

    async def hub(door: Transport) -> None:
        service = RollService(door, realm)
        task = asyncio.ensure_future(service.run())
        await asyncio.sleep(200)
        task.cancel()

    async def node(door: Transport) -> object:
        task = asyncio.ensure_future(RollFollower(door, trust, hub=C).run())
        await asyncio.sleep(3)
        done = await node_main(door, trust)
        task.cancel()
        return done

    return here.run({C: partial(hub, here.transport(C)), A: partial(node, here.transport(A))}).results[A]


def test_a_revocation_reaches_a_connected_node_within_two_seconds(tmp_path: Path) -> None:
    async def main(door: Transport, trust: RollTrust) -> tuple[bool, bool, float]:
        before = trust.revoked(ANNA)
        change(tmp_path, None, revoke(ANNA))
        waited_s = 0.0
        while not trust.revoked(ANNA) and waited_s < 10:
            await asyncio.sleep(0.1)
            waited_s += 0.1
        return before, trust.revoked(ANNA), waited_s

    before, after, waited_s = in_a_world(tmp_path, main)
    assert (before, after) == (False, True)
    assert waited_s <= 2.0


def test_a_lost_announcement_costs_a_beat_and_a_spread_and_no_more(tmp_path: Path) -> None:
    async def main(door: Transport, trust: RollTrust) -> int:
        change(tmp_path, None, revoke(ANNA))
        follower = RollFollower(door, trust, hub=C)
        await asyncio.sleep(3.0)
        assert trust.roll is not None
        older = RollTrust("ward-7")
        deaf = RollFollower(door, older, hub=C)  # heard no announcement at all, then one plain beat
        await deaf.hear(Beat(trust.roll.serial, trust.roll.digest))
        assert older.roll == trust.roll
        await follower.hear(Beat(1, "0" * 64))  # an old beat asks for nothing
        return trust.roll.serial

    assert in_a_world(tmp_path, main) == 2


def test_beats_keep_a_roll_fresh_for_longer_than_it_may_be_stale(tmp_path: Path) -> None:
    async def main(door: Transport, trust: RollTrust) -> tuple[float, float]:
        await asyncio.sleep(3 * trust.max_stale_s)
        return trust.stale_s, trust.max_stale_s

    stale_s, max_stale_s = in_a_world(tmp_path, main)
    assert stale_s < 2
    assert max_stale_s == 60


def test_a_roll_is_served_offered_and_vouched_over_the_wire(tmp_path: Path) -> None:
    async def main(door: Transport, trust: RollTrust) -> str:
        change(tmp_path, None, admit(ANNA, "a", "find"))
        await asyncio.sleep(2)
        await door.ask(C, "vouch", wire.write(Vouch(BORIS, NodeId("boris"))), timeout_s=2)
        await asyncio.sleep(2)
        trust.check(BORIS, "find")
        stands = wire.read(await door.ask(C, "roll", wire.write(RollAsk()), timeout_s=2), RollAnswer)
        assert canonical.encode(trust.signed) == stands.roll
        assert trust.roll is not None
        stranger = Keys(bytes(32))
        foreign = sign_roll(Roll("ward-7", stranger.public, 99, 0), stranger)
        with pytest.raises(RemoteError) as refused:
            await door.ask(C, "roll", wire.write(RollAsk(canonical.encode(foreign))), timeout_s=2)
        return str(refused.value)

    assert "belongs to" in in_a_world(tmp_path, main)
