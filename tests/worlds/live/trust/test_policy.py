"""Who may do what: each policy, each right, revocation, staleness and downgrades, on a clock that the test moves."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId
from kuberml.worlds.live.trust.by_roll import RollTrust
from kuberml.worlds.live.trust.policy import Names, right_for, right_to_announce
from kuberml.worlds.live.trust.roll import RIGHTS, Member, Right, Roll, sign_roll

from .test_roll import ANNA, BORIS, OWNER, ROLL

CLARA = "c" * 64


class Clock:
    """Monotonic seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def __call__(self) -> float:
        return self.at_s


def trust_with(clock: Clock | None = None, /, **fields: object) -> RollTrust:
    """A trust that has just heard this version of ROLL from its pinned owner."""
    trust = RollTrust("ward-7", owner=OWNER.public, trusted={CLARA: "clara"}, now_s=clock or Clock())
    assert trust.take(sign_roll(msgspec.structs.replace(ROLL, **fields), OWNER))
    return trust


def refused(trust: RollTrust, key: str, right: Right | None = "find") -> str:
    with pytest.raises(RemoteError) as error:
        trust.check(key, right)
    return str(error.value)


def test_each_request_needs_its_right() -> None:
    assert {
        name: right_for(name) for name in ("announce", "withdraw", "find", "verdicts", "cards", "read", "hello", "train", "")
    } == {
        **{"announce": "publish", "withdraw": "publish", "find": "find", "verdicts": "find", "cards": "find", "read": "fetch"},
        **{"hello": None, "train": "ask", "": "ask"},
    }


def test_open_lets_in_all_but_the_revoked() -> None:
    for trust in (trust_with(policy="open"), RollTrust("ward-7", revoked={BORIS.public})):
        for right in (*RIGHTS, None):
            trust.check(ANNA.public, right)
            trust.check(CLARA, right)
            assert "revoked" in refused(trust, BORIS.public, right)
        trust.revoke(CLARA)
        assert "revoked" in refused(trust, CLARA)


def test_known_lets_in_the_roll_and_the_own_keyring() -> None:
    trust = trust_with(policy="known")
    trust.check(CLARA, "publish")
    trust.check(ANNA.public, "find")
    assert "may not publish" in refused(trust, ANNA.public, "publish")
    assert "not on the roll of realm 'ward-7', which is 'known'" in refused(trust, "d" * 64)


@pytest.mark.parametrize("right", RIGHTS)
def test_listed_gives_each_key_its_rights_and_no_more(right: Right) -> None:
    trust = trust_with(members={ANNA.public: Member(NodeId("anna"), (right,))})
    trust.check(ANNA.public, right)
    for other in set(RIGHTS) - {right}:
        assert f"'anna' may not {other}" in refused(trust, ANNA.public, other)
    assert "not on the roll" in refused(trust, CLARA, right)
    trust.check(OWNER.public, right)


def test_anybody_who_is_not_revoked_may_say_hello() -> None:
    trust = trust_with()
    trust.check("d" * 64, None)
    assert "revoked" in refused(trust, BORIS.public, None)


def test_a_member_that_is_revoked_is_out_whatever_its_rights() -> None:
    trust = trust_with()
    trust.check(ANNA.public, "find")
    assert trust.take(sign_roll(msgspec.structs.replace(ROLL, serial=4, revoked=(ANNA.public,)), OWNER))
    assert "revoked" in refused(trust, ANNA.public)
    assert not trust.believes(NodeId("anna"), ANNA.public)


@pytest.mark.parametrize("policy", ["known", "listed"])
def test_a_roll_that_nobody_confirms_goes_stale(policy: str) -> None:
    clock = Clock()
    trust = trust_with(clock, policy=policy, max_stale_s=30)
    clock.at_s += 30
    trust.check(ANNA.public, "find")
    clock.at_s += 0.1
    assert "last confirmed 30 s ago, and at most 30 s are allowed" in refused(trust, ANNA.public)
    trust.check(ANNA.public, None)  # saying hello is how it becomes fresh again
    assert trust.roll is not None
    assert trust.heard(3, trust.roll.digest)
    trust.check(ANNA.public, "find")


def test_less_patience_than_the_roll_states_counts_and_more_does_not() -> None:
    for own_s, counts_s in ((10.0, 10.0), (900.0, 60.0)):
        trust = RollTrust("ward-7", max_stale_s=own_s, now_s=Clock())
        trust.take(sign_roll(ROLL, OWNER))
        assert trust.max_stale_s == counts_s


def test_a_roll_from_an_earlier_life_lets_nobody_in_before_it_is_confirmed() -> None:
    trust = RollTrust("ward-7", roll=sign_roll(ROLL, OWNER), now_s=Clock())
    assert "never since this process began" in refused(trust, ANNA.public)
    assert "revoked" in refused(trust, BORIS.public, None)
    assert trust.heard(3, ROLL.digest)
    trust.check(ANNA.public, "find")


def test_another_digest_or_serial_confirms_nothing() -> None:
    clock = Clock()
    trust = trust_with(clock)
    clock.at_s += 100
    assert not trust.heard(3, "0" * 64)
    assert not trust.heard(4, ROLL.digest), "a newer one must be asked for"
    assert trust.heard(2, ROLL.digest), "an older one is nothing to ask for"
    assert trust.stale_s == 100


def test_the_same_roll_again_confirms_it_and_is_not_new() -> None:
    clock, kept = Clock(), []
    trust = RollTrust("ward-7", now_s=clock, on_new=kept.append)
    assert trust.take(sign_roll(ROLL, OWNER))
    clock.at_s += 100
    assert not trust.take(sign_roll(ROLL, OWNER))
    assert (trust.stale_s, len(kept)) == (0, 1)


@pytest.mark.parametrize(
    ("fields", "owner", "why"),
    [
        ({"serial": 2}, OWNER, "rolls do not go back"),
        ({"revoked": ()}, OWNER, "two different rolls with serial 3"),
        ({"realm": "ward-8"}, OWNER, "a roll of realm 'ward-8'"),
        ({"serial": 9, "owner": ANNA.public}, ANNA, "belongs to"),
    ],
)
def test_downgrades_and_other_owners_are_refused_and_leave_no_trace(fields: dict[str, object], owner: object, why: str) -> None:
    clock = Clock()
    trust = trust_with(clock)
    clock.at_s += 7
    with pytest.raises(RemoteError, match=why):
        trust.take(sign_roll(msgspec.structs.replace(ROLL, **fields), owner))  # type: ignore[arg-type]
    assert trust.roll == ROLL
    assert trust.stale_s == 7


@given(st.lists(st.integers(1, 6), max_size=12))
def test_whatever_order_rolls_come_in_the_highest_serial_stands(serials: list[int]) -> None:
    trust, highest = RollTrust("ward-7"), 0
    for serial in serials:
        try:
            trust.take(sign_roll(msgspec.structs.replace(ROLL, serial=serial), OWNER))
        except RemoteError:
            assert serial < highest
        highest = max(highest, serial)
        assert trust.roll is not None
        assert trust.roll.serial == highest


def test_a_pinned_owner_is_the_owner_from_the_start_and_else_the_first_one_stays() -> None:
    stranger = sign_roll(Roll("ward-7", ANNA.public, 9, 0), ANNA)
    with pytest.raises(RemoteError, match="belongs to"):
        RollTrust("ward-7", owner=OWNER.public).take(stranger)
    first = RollTrust("ward-7")
    assert first.take(stranger)
    with pytest.raises(RemoteError, match="belongs to"):
        first.take(sign_roll(msgspec.structs.replace(ROLL, serial=99), OWNER))


def test_before_the_first_roll_of_a_pinned_owner_nobody_else_may_do_anything() -> None:
    trust = RollTrust("ward-7", owner=OWNER.public)
    assert not trust.is_open
    assert "no roll of realm 'ward-7' has come yet" in refused(trust, ANNA.public)
    trust.check(OWNER.public, "publish")
    trust.check(ANNA.public, None)


def test_what_makes_a_stale_roll_fresh_needs_no_right() -> None:
    assert (right_to_announce("roll"), right_to_announce("cards/digits")) == (None, "publish")


def test_names_are_the_rolls_then_first_come() -> None:
    for trust in (RollTrust("ward-7"), trust_with(policy="open")):
        assert trust.believes(NodeId("dora"), "d" * 64)
        assert not trust.believes(NodeId("dora"), CLARA)
        assert trust.believes(NodeId("dora"), "d" * 64)
    named = trust_with(policy="open")
    assert not named.believes(NodeId("anna"), CLARA)
    assert named.believes(NodeId("anna"), ANNA.public)
    listed = trust_with()
    assert not listed.believes(NodeId("dora"), "d" * 64)
    assert not listed.believes(NodeId("anna"), CLARA)


def test_a_flood_of_names_ends_somewhere() -> None:
    names = Names({NodeId("hub"): CLARA}, limit=2)
    assert names.belongs(NodeId("a"), "a" * 64)
    assert not names.belongs(NodeId("b"), "b" * 64)
    assert names.belongs(NodeId("hub"), CLARA)
