"""A realm's roll: its bytes never change, its owner's signature holds it together, hostile ones cost little."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import NodeId
from kuberml.knowledge.signing import Keys
from kuberml.worlds.live.trust.roll import MEMBERS_MAX, SIZE_MAX_BYTES, Member, Roll, SignedRoll, read_roll, sign_roll

OWNER, ANNA, BORIS = (Keys(bytes([number]) * 32) for number in (1, 2, 3))
ROLL = Roll(
    realm="ward-7",
    owner=OWNER.public,
    serial=3,
    issued_at_ms=1_790_000_000_000,
    policy="listed",
    members={ANNA.public: Member(NodeId("anna"), ("find", "fetch"))},
    revoked=(BORIS.public,),
)
GOLDEN_DIGEST = "9d7d85dc6ee5ec7bea5b82e347b51af92752a5bfd1acc28a588f98c45efc3595"
GOLDEN_SIGNATURE = (
    "087eb85a8bb90c31a24a7fbd9e8ba216a381eccfbf1f0ea95ef12419fb72403a"
    "d297ba91da1f7e7619a25744eac4e87a38e6340be849872a3e52ee665a2aee0e"
)


def resigned(roll: Roll, by: Keys = OWNER) -> bytes:
    """Bytes that a careless or hostile owner could send: signed without the checks of `sign_roll`."""
    return canonical.encode(SignedRoll(roll, by.sign(b"kuberml.roll/1\0", roll.digest.encode())))


def changed(**fields: object) -> Roll:
    return msgspec.structs.replace(ROLL, **fields)


def test_digest_and_signature_of_a_roll_never_change() -> None:
    assert ROLL.digest == GOLDEN_DIGEST
    assert sign_roll(ROLL, OWNER).signature.hex() == GOLDEN_SIGNATURE


def test_a_roll_comes_back_as_it_was_signed() -> None:
    signed = sign_roll(ROLL, OWNER)
    assert read_roll(canonical.encode(signed)) == signed


def test_only_its_owner_signs_it() -> None:
    with pytest.raises(ConfigError, match="belongs to"):
        sign_roll(ROLL, ANNA)
    with pytest.raises(RemoteError, match="the signature is not by"):
        read_roll(resigned(ROLL, by=ANNA))


def test_a_signature_for_something_else_does_not_serve() -> None:
    other = SignedRoll(ROLL, OWNER.sign(b"kuberml.card/1\0", ROLL.digest.encode()))
    with pytest.raises(RemoteError, match="the signature is not by"):
        read_roll(canonical.encode(other))


@given(st.data())
def test_any_flipped_bit_is_refused(data: st.DataObject) -> None:
    good = bytearray(canonical.encode(sign_roll(ROLL, OWNER)))
    bit = data.draw(st.integers(0, 8 * len(good) - 1))
    good[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RemoteError):
        read_roll(bytes(good))


@given(st.binary(max_size=200))
def test_noise_is_the_peers_fault(noise: bytes) -> None:
    with pytest.raises(RemoteError):
        read_roll(noise)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"serial": 0}, "serial begins at 1"),
        ({"issued_at_ms": -1}, "its time at 0"),
        ({"max_stale_s": 0}, "max_stale_s lies in"),
        ({"max_stale_s": 10**9}, "max_stale_s lies in"),
        ({"realm": "a/b"}, "not a node id"),
        ({"revoked": ("nobody",)}, "not a digest"),
        ({"members": {"nobody": Member(NodeId("a"))}}, "not a digest"),
        ({"members": {ANNA.public: Member(NodeId("../a"))}}, "not a node id"),
        ({"members": {ANNA.public: Member(NodeId("a")), BORIS.public: Member(NodeId("a"))}}, "one name to two keys"),
        ({"members": {ANNA.public: Member(NodeId("a"), ("find", "find"))}}, "a right twice"),
        ({"members": {ANNA.public: Member(NodeId("a"), ("rule",))}}, "not a roll"),  # type: ignore[arg-type]
        ({"members": {ANNA.public: Member(NodeId("a"), by="f" * 64)}}, "a voucher that is not on it"),
        ({"policy": "closed"}, "not a roll"),
        ({"members": {f"{i:064x}": Member(NodeId(f"n{i}")) for i in range(MEMBERS_MAX + 1)}}, "at most 4096 members"),
    ],
)
def test_a_roll_that_cannot_be_is_refused_even_when_signed(fields: dict[str, object], why: str) -> None:
    with pytest.raises(RemoteError, match=why):
        read_roll(resigned(changed(**fields)))
    with pytest.raises(ConfigError, match=why):
        sign_roll(changed(**fields), OWNER)


def test_a_huge_roll_is_not_even_decoded() -> None:
    with pytest.raises(RemoteError, match="at most 1048576 are read"):
        read_roll(bytes(SIZE_MAX_BYTES + 1))


def test_the_largest_roll_fits() -> None:
    full = changed(
        members={f"{i:064x}": Member(NodeId(f"{i:064d}")) for i in range(MEMBERS_MAX)},
        revoked=tuple(f"{i:064x}" for i in range(4096)),
    )
    assert len(resigned(full)) < 1_048_576
    assert read_roll(resigned(full)).roll == full
