from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import NodeId, digest_of
from kuberml.knowledge.card import Card, SignedCard, Terms
from kuberml.knowledge.signing import Keys
from kuberml.knowledge.want import Want
from kuberml.vault import catalog as module
from kuberml.vault.catalog import Catalog
from kuberml.vault.matching import why_not
from tests.contracts.store import KEYS, signed_card

A, B = NodeId("a"), NodeId("b")
OTHER = Keys(bytes(32))
BASIS, PROBE = digest_of(b"basis"), digest_of(b"probe")


def offered(catalog: Catalog, want: Want, now_ms: int = 0, **options: int) -> list[SignedCard]:
    return [signed for signed, _ in catalog.candidates(want, now_ms, **options)]


def test_what_was_added_is_found_with_its_holders() -> None:
    catalog, signed = Catalog(), signed_card()
    assert catalog.add(signed, B)
    assert not catalog.add(signed, A)
    assert catalog.candidates(Want("digits"), 0) == [(signed, (A, B))]
    assert catalog.card(signed.digest) == signed
    assert catalog.latest(KEYS.public, "global") == signed
    assert list(catalog.cards()) == [signed]


def test_what_is_unknown_is_none() -> None:
    catalog = Catalog()
    assert catalog.card(BASIS) is None
    assert catalog.latest(KEYS.public, "global") is None
    assert catalog.holders(BASIS) == ()
    assert catalog.withdraw(KEYS.public, "global") == 0


def test_a_newer_version_replaces_the_older() -> None:
    catalog, old, new = Catalog(), signed_card(version=1), signed_card(version=2)
    catalog.add(old, A)
    catalog.add(new, A)
    assert offered(catalog, Want("digits")) == [new]
    assert catalog.card(old.digest) is None


def test_a_downgrade_is_refused_and_leaves_no_trace() -> None:
    catalog, new = Catalog(), signed_card(version=2)
    catalog.add(new, A)
    with pytest.raises(RemoteError, match="older than version 2"):
        catalog.add(signed_card(version=1), A)
    assert list(catalog.cards()) == [new]


def test_keep_says_how_many_versions_stay_and_only_the_newest_is_offered() -> None:
    catalog, cards = Catalog(), {version: signed_card(version=version) for version in range(1, 5)}
    for version in (1, 4, 3):  # 3 comes late, but is among the newest two
        catalog.add(cards[version], A, keep=2)
    assert {signed.card.version for signed in catalog.cards()} == {3, 4}
    assert offered(catalog, Want("digits")) == [cards[4]]
    with pytest.raises(RemoteError, match="older"):
        catalog.add(cards[2], A, keep=2)


@given(st.permutations([1, 2, 3, 4, 5]), st.integers(1, 5))
@settings(max_examples=25, derandomize=True)
def test_the_order_of_arrival_does_not_matter(order: list[int], keep: int) -> None:
    catalog = Catalog()
    for version in order:
        try:
            catalog.add(signed_card(version=version), A, keep=keep)
        except RemoteError:
            assert version <= 5 - keep
    assert {signed.card.version for signed in catalog.cards()} == set(range(6 - keep, 6))


def test_two_cards_of_one_version_are_refused() -> None:
    catalog = Catalog()
    catalog.add(signed_card(b"one"), A)
    with pytest.raises(RemoteError, match="two different cards"):
        catalog.add(signed_card(b"two"), A)


def test_what_was_withdrawn_does_not_come_back() -> None:
    catalog = Catalog()
    catalog.add(signed_card(version=2), A)
    assert catalog.withdraw(KEYS.public, "global") == 1
    assert offered(catalog, Want("digits")) == []
    for version in (1, 2):
        with pytest.raises(RemoteError, match="withdrawn"):
            catalog.add(signed_card(version=version), A)
    assert catalog.add(signed_card(version=3), A)


def test_a_withdrawal_may_name_a_version_not_seen_yet() -> None:
    catalog = Catalog()
    catalog.withdraw(KEYS.public, "global", version=5)
    catalog.withdraw(KEYS.public, "global", version=1)
    with pytest.raises(RemoteError, match="withdrawn"):
        catalog.add(signed_card(version=5), A)


def test_a_card_that_nobody_holds_is_kept_but_not_offered() -> None:
    catalog, signed = Catalog(), signed_card()
    catalog.add(signed, A)
    catalog.add(signed, B)
    catalog.drop_holder(A)
    assert catalog.holders(signed.digest) == (B,)
    catalog.drop_holder(B, signed.digest)
    assert offered(catalog, Want("digits")) == []
    assert catalog.card(signed.digest) == signed


def test_what_came_since_is_told_by_arrival_whatever_the_cards_say_of_time(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    catalog = Catalog(path)
    late, ancient = signed_card(slot="late", learned_at_ms=10**12), signed_card(slot="ancient", learned_at_ms=1)
    assert catalog.candidates(Want("digits"), 0, since=catalog.newest_number) == []
    catalog.add(late, A)
    seen = catalog.newest_number
    assert offered(catalog, Want("digits"), since=seen) == []
    catalog.add(ancient, A)
    assert offered(catalog, Want("digits"), since=seen) == [ancient]
    assert offered(catalog, Want("digits"), since=0) == [late, ancient]
    catalog.close()


def test_no_number_is_used_twice_neither_after_a_withdrawal_nor_by_a_new_catalog(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    catalog = Catalog(path)
    catalog.add(signed_card(slot="stays"), A)
    catalog.add(signed_card(slot="goes"), A)
    seen = catalog.newest_number
    catalog.withdraw(KEYS.public, "goes")
    assert catalog.newest_number == seen
    catalog.close()
    again = Catalog(path)
    again.add(signed_card(slot="comes"), A)
    assert [signed.card.slot for signed in offered(again, Want("digits"), since=seen)] == ["comes"]
    again.close()
    other = Catalog(tmp_path / "other.sqlite")
    other.add(signed_card(slot="comes"), A)
    assert other.newest_number != seen  # 2^-48 apart from certain
    assert offered(other, Want("digits"), since=seen if seen <= other.newest_number else 0) != []
    other.close()


def test_a_bad_signature_does_not_get_in() -> None:
    catalog, signed = Catalog(), signed_card()
    with pytest.raises(RemoteError, match="signature"):
        catalog.add(SignedCard(signed_card(version=7).card, signed.signature), A)
    assert list(catalog.cards()) == []


@pytest.mark.parametrize("fields", [{"version": 2**63}, {"version": -1}, {"learned_at_ms": 2**63}])
def test_numbers_that_do_not_fit_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(RemoteError, match="2\\^63"):
        Catalog().add(signed_card(**fields), A)


def test_a_card_may_be_so_large_and_no_larger() -> None:
    with pytest.raises(RemoteError, match="limit"):
        Catalog().add(signed_card(slot="x" * module.CARD_LIMIT_BYTES), A)


def test_an_author_may_have_so_many_slots_and_no_more() -> None:
    catalog = Catalog(slots_per_author=2)
    for slot in ("a", "b"):
        catalog.add(signed_card(slot=slot), A)
    with pytest.raises(RemoteError, match="2 slots"):
        catalog.add(signed_card(slot="c"), A)
    assert catalog.add(signed_card(slot="b", version=2), A)
    assert catalog.add(signed_card(slot="c", keys=OTHER), A)


def test_a_bad_holder_or_keep_is_refused_without_a_trace() -> None:
    catalog = Catalog()
    with pytest.raises(RemoteError, match="node id"):
        catalog.add(signed_card(), NodeId("no spaces"))
    with pytest.raises(ConfigError, match="keep"):
        catalog.add(signed_card(), A, keep=0)
    assert list(catalog.cards()) == []


@pytest.mark.parametrize(
    ("want", "fields", "reason"),
    [
        (Want("digits"), {}, None),
        (Want("letters"), {}, "about"),
        (Want("digits", labels_ppm={"0": 1, "9": 1}), {"labels": {"0": 5, "1": 5}}, None),
        (Want("digits", labels_ppm={"9": 1}), {"labels": {"0": 5}}, "labels"),
        (Want("digits", labels_ppm={"0": 1}), {"labels": {"0": 0}}, "labels"),
        (Want("digits", kinds=("statistics", "weights")), {}, None),
        (Want("digits", kinds=("statistics",)), {}, "kind"),
        (Want("digits", bases=(BASIS,)), {"basis": BASIS}, None),
        (Want("digits", bases=(BASIS,)), {"basis": None}, None),
        (Want("digits", bases=(BASIS,)), {"basis": PROBE}, "basis"),
        (Want("digits", probe=PROBE), {"basis": PROBE}, None),
        (Want("digits", probe=PROBE, bases=(BASIS,)), {"basis": PROBE}, None),
        (Want("digits", probe=PROBE), {"basis": BASIS}, "probe"),
        (Want("digits", probe=PROBE), {"basis": None}, "probe"),
        (Want("digits", newer_than_ms=5), {"learned_at_ms": 6}, None),
        (Want("digits", newer_than_ms=5), {"learned_at_ms": 5}, "newer"),
        (Want("digits", newer_than_ms=0), {"learned_at_ms": 0}, None),
    ],
)
def test_the_law_of_matching(want: Want, fields: dict, reason: str | None) -> None:
    catalog, signed = Catalog(), signed_card(**fields)
    catalog.add(signed, A)
    objection = why_not(want, signed.card, now_ms=0)
    assert (objection is None) if reason is None else (objection is not None and reason in objection)
    assert offered(catalog, want) == ([signed] if reason is None else [])


def test_terms_are_enforced_at_find() -> None:
    catalog = Catalog()
    catalog.add(signed_card(terms=Terms(purposes=("research",), regions=("CL",), expires_at_ms=100)), A)
    assert len(offered(catalog, Want("digits", purpose="research", region="CL"), now_ms=99)) == 1
    assert offered(catalog, Want("digits", purpose="research", region="CL"), now_ms=101) == []
    assert offered(catalog, Want("digits", purpose="trade", region="CL"), now_ms=99) == []
    assert offered(catalog, Want("digits", purpose="research", region="DE"), now_ms=99) == []


wants = st.builds(
    Want,
    task=st.sampled_from(["digits", "letters"]),
    labels_ppm=st.dictionaries(st.sampled_from(["0", "1", "2"]), st.just(1)),
    kinds=st.sets(st.sampled_from(["weights", "statistics"])).map(tuple),
    bases=st.sets(st.sampled_from([BASIS, PROBE])).map(tuple),
    newer_than_ms=st.integers(-5, 5),
)
fields = st.fixed_dictionaries(
    {
        "task": st.sampled_from(["digits", "letters"]),
        "labels": st.dictionaries(st.sampled_from(["0", "1", "2"]), st.integers(0, 2)),
        "kind": st.sampled_from(["weights", "statistics"]),
        "basis": st.sampled_from([None, BASIS, PROBE]),
        "learned_at_ms": st.integers(0, 8),
        "slot": st.sampled_from(["s", "t", "u"]),
        "keys": st.sampled_from([KEYS, OTHER]),
    }
)


@given(wants, st.lists(fields, max_size=6, unique_by=lambda f: (f["slot"], f["keys"].public)))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_sql_narrows_but_never_decides(want: Want, several: list[dict]) -> None:
    catalog, cards = Catalog(), [signed_card(**one) for one in several]
    for signed in cards:
        catalog.add(signed, A)
    expected = {signed.digest for signed in cards if why_not(want, signed.card, now_ms=0) is None}
    assert {signed.digest for signed in offered(catalog, want)} == expected


@given(st.permutations(range(8)))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_candidates_take_turns_by_author_newest_first_whatever_came_first(order: list[int]) -> None:
    catalog = Catalog()
    cards = [signed_card(slot=f"s{number}", learned_at_ms=number, keys=KEYS if number else OTHER) for number in range(8)]
    for number in order:
        catalog.add(cards[number], A)
    found: list[Card] = [signed.card for signed in offered(catalog, Want("digits"))]
    assert [card.learned_at_ms for card in found] == [7, 0, 6, 5, 4, 3, 2, 1]
    assert [s.card.learned_at_ms for s in offered(catalog, Want("digits"), limit=3)] == [7, 0, 6]


def test_a_want_of_any_size_is_answered() -> None:
    catalog, signed = Catalog(), signed_card()
    catalog.add(signed, A)
    many = {str(number): 1 for number in range(50_000)}
    assert offered(catalog, Want("digits", labels_ppm=many)) == [signed]
    assert offered(catalog, Want("digits", newer_than_ms=2**70)) == []


def test_a_catalog_on_disk_is_there_again(tmp_path: Path) -> None:
    first = Catalog(tmp_path / "catalog.sqlite")
    first.add(signed_card(), A)
    first.close()
    assert offered(Catalog(tmp_path / "catalog.sqlite"), Want("digits")) == [signed_card()]
