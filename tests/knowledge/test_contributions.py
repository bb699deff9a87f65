"""Nobody's data counts twice, whatever comes in whatever order: the integers are always those of the set."""

from collections.abc import Callable, Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core import canonical, values
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest
from kuberml.knowledge.card import Knowledge
from kuberml.knowledge.contributions import (
    Contributions,
    Plan,
    Refused,
    apply,
    as_merge,
    contributions_of,
    plan,
    plan_removal,
)
from kuberml.knowledge.kinds.statistics import Statistics, merge_all, prefix, sums_of
from kuberml.knowledge.manifest import Contribution, decode_manifest, encode_manifest
from kuberml.knowledge.pack import open_value

from .packets import keys, packet, publish


class Hub:
    """A model that takes packages in. Keeps the packets that it is told to keep."""

    def __init__(self) -> None:
        self.have = Contributions()
        self.total: Statistics | None = None
        self.held: dict[Digest, frozenset[Digest]] = {}
        self.sums: dict[Digest, Statistics] = {}

    def keep(self, knowledge: Knowledge) -> None:
        content = knowledge.card.content
        self.held[content] = frozenset(each.content for each in contributions_of(knowledge))
        self.sums[content] = sums_of(open_value(knowledge))

    def take(self, knowledge: Knowledge, *, keep: bool = False) -> Plan | Refused:
        step = plan(self.have, contributions_of(knowledge), self.held)
        self._follow(step, sums_of(open_value(knowledge)))
        if keep:
            self.keep(knowledge)
        return step

    def forget(self, author: int, *, copies: bool = False) -> Plan | Refused:
        step = plan_removal(self.have, keys(author).public, "shard", self.held, copies=copies)
        self._follow(step, None)
        return step

    def merged(self, author: int = 99) -> Knowledge:
        assert self.total is not None
        return publish(as_merge(self.have, self.total), author=author, slot="merged")

    def _follow(self, step: Plan | Refused, incoming: Statistics | None) -> None:
        if isinstance(step, Plan):
            self.total = apply(step, self.total, incoming, self.sums.__getitem__)
            self.have = step.after


def packet_of(author: int, version: int = 1) -> Statistics:
    """Version v contains version v - 1 and 15 samples more."""
    return merge_all(packet(100 * author + part, count=15, dims=4) for part in range(version))


def package(author: int, version: int = 1) -> Knowledge:
    return publish(packet_of(author, version), author=author, version=version)


def merge_of(packages: Iterable[Knowledge], author: int = 99) -> Knowledge:
    hub = Hub()
    for each in packages:
        assert isinstance(hub.take(each, keep=True), Plan)
    return hub.merged(author)


def hub_with(*packages: Knowledge, keep: bool = False) -> Hub:
    hub = Hub()
    for each in packages:
        assert isinstance(hub.take(each, keep=keep), Plan)
    return hub


def digest(hub: Hub) -> Digest | None:
    return None if hub.total is None else hub.total.digest


def expected(versions: dict[int, int]) -> Digest:
    return merge_all(packet_of(author, version) for author, version in versions.items()).digest


# One author at a time


def test_each_package_counts_once_and_known_ones_change_nothing() -> None:
    hub = hub_with(package(1), package(2))
    before = hub.have
    again = hub.take(package(1))
    assert isinstance(again, Plan)
    assert not again.changes
    assert (digest(hub), hub.have) == (expected({1: 1, 2: 1}), before)


@pytest.mark.parametrize("first", [1, 5])
def test_a_copy_that_somebody_else_signed_counts_once(first: int) -> None:
    original, copy = package(1), publish(packet_of(1), author=5)
    hub = hub_with(*((original, copy) if first == 1 else (copy, original)), package(2))
    assert original.card.blobs == copy.card.blobs
    assert original.signed.digest != copy.signed.digest
    assert digest(hub) == expected({1: 1, 2: 1})
    assert hub.have.counts == hub.total.counts


def test_a_copy_does_not_keep_a_version_alive_but_its_own_entry_does() -> None:
    hub = hub_with(package(1), publish(packet_of(1), author=5), keep=True)
    hub.take(package(1, version=2))
    assert digest(hub) == merge_all([packet_of(1), packet_of(1, 2)]).digest  # both authors stand by what they signed
    hub.forget(5)
    assert digest(hub) == expected({1: 2})


def test_a_new_version_replaces_the_old_one() -> None:
    hub = hub_with(package(1), package(2), keep=True)
    step = hub.take(package(1, version=3))
    assert isinstance(step, Plan)
    assert step.subtract == (package(1).card.content,)
    assert digest(hub) == expected({1: 3, 2: 1})


def test_a_new_version_of_the_only_packet_needs_no_old_one_at_hand() -> None:
    hub = hub_with(package(1), package(1, version=2))
    assert digest(hub) == expected({1: 2})


def test_a_new_version_is_refused_while_the_old_one_cannot_be_subtracted() -> None:
    hub = hub_with(package(1), package(2))
    step = hub.take(package(1, version=2))
    assert isinstance(step, Refused)
    assert step.missing == (package(1).card.content,)
    hub.keep(package(1))
    assert isinstance(hub.take(package(1, version=2)), Plan)
    assert digest(hub) == expected({1: 2, 2: 1})


def test_an_older_version_is_refused() -> None:
    hub = hub_with(package(1, version=2), keep=True)
    step = hub.take(package(1))
    assert isinstance(step, Refused)
    assert "older" in step.reason
    assert digest(hub) == expected({1: 2})


def test_two_contents_under_one_version_are_the_authors_fault() -> None:
    hub = hub_with(package(1))
    with pytest.raises(RemoteError, match="signed two contents as version 1"):
        hub.take(publish(packet_of(1, 2), author=1))
    assert digest(hub) == expected({1: 1})


# Merges


def test_a_merge_counts_its_authors_and_disjoint_ones_add_up() -> None:
    left, right = merge_of([package(1), package(2)]), merge_of([package(3)], author=98)
    hub = hub_with(left, right)
    assert {entry.author for entry in hub.have.entries} == {keys(author).public for author in (1, 2, 3)}
    assert digest(hub) == expected({1: 1, 2: 1, 3: 1})


def test_an_overlap_is_subtracted_if_it_is_at_hand() -> None:
    hub = hub_with(package(1), package(2), keep=True)
    step = hub.take(merge_of([package(2), package(3)]))
    assert isinstance(step, Plan)
    assert step.subtract == (package(2).card.content,)
    assert digest(hub) == expected({1: 1, 2: 1, 3: 1})


def test_an_overlap_that_is_not_at_hand_is_refused_and_named() -> None:
    hub = hub_with(merge_of([package(1), package(2)]))
    step = hub.take(merge_of([package(2), package(3)]))
    assert isinstance(step, Refused)
    assert step.missing == (package(2).card.content,)
    assert digest(hub) == expected({1: 1, 2: 1})


def test_a_larger_merge_replaces_what_it_contains() -> None:
    hub = hub_with(merge_of([package(1), package(2)]), merge_of([package(author) for author in (1, 2, 3)]))
    assert digest(hub) == expected({1: 1, 2: 1, 3: 1})


def test_a_merge_at_hand_is_subtracted_as_a_whole() -> None:
    hub = hub_with(merge_of([package(1), package(2)]), keep=True)
    hub.take(package(4))
    step = hub.take(merge_of([package(author) for author in (1, 2, 3)]))
    assert isinstance(step, Plan)
    assert digest(hub) == expected({1: 1, 2: 1, 3: 1, 4: 1})


def test_a_merge_with_an_older_version_brings_only_what_is_new() -> None:
    hub = hub_with(package(1), package(1, version=2), keep=True)
    hub.take(merge_of([package(1), package(2)]))
    assert digest(hub) == expected({1: 2, 2: 1})


def test_a_merge_with_a_newer_version_replaces_the_old_one() -> None:
    hub = hub_with(package(1), package(3), keep=True)
    hub.take(merge_of([package(1, version=2), package(2)]))
    assert digest(hub) == expected({1: 2, 2: 1, 3: 1})


def test_prefixes_of_packages_merge_at_the_shorter_one() -> None:
    hub = hub_with(package(1), keep=True)
    wide = package(2)
    step = plan(hub.have, contributions_of(wide), hub.held)
    assert isinstance(step, Plan)
    total = apply(step, hub.total, prefix(packet_of(2), 2), hub.sums.__getitem__)
    assert total is not None
    assert total.digest == prefix(merge_all([packet_of(1), packet_of(2)]), 2).digest


def test_a_merge_whose_manifest_lies_about_its_counts_is_refused() -> None:
    honest = merge_of([package(1), package(2)])
    merged = open_value(honest)
    with pytest.raises(ConfigError, match="not the sum"):
        publish(msgspec.structs.replace(merged, contributions=merged.contributions[:1]))
    hub = hub_with(package(1), keep=True)
    step = plan(hub.have, contributions_of(honest)[:1], hub.held)
    assert isinstance(step, Plan)
    lying = msgspec.structs.replace(step, keep=True, take=True, subtract=())
    with pytest.raises(RemoteError, match="not of the contributions"):
        apply(lying, hub.total, merged.statistics, hub.sums.__getitem__)


def test_a_package_at_hand_that_holds_nothing_helps_nobody() -> None:
    hub = hub_with(package(1), package(2))
    hub.held[Digest("0" * 64)] = frozenset()
    assert isinstance(hub.take(package(1, version=2)), Refused)


# Forgetting


def test_forgetting_equals_never_having_had_and_does_not_come_back() -> None:
    hub = hub_with(package(1), package(2), keep=True)
    hub.forget(1)
    assert digest(hub) == expected({2: 1})
    assert isinstance(hub.take(package(1)), Refused)
    hub.take(merge_of([package(1), package(3)]))
    assert digest(hub) == expected({2: 1, 3: 1})
    hub.take(package(1, version=2))
    assert digest(hub) == expected({1: 2, 2: 1, 3: 1})


def test_forgetting_the_last_one_leaves_nothing() -> None:
    hub = hub_with(package(1))
    hub.forget(1)
    assert hub.total is None
    assert hub.have.contents == frozenset()
    assert isinstance(hub.forget(7), Plan)


def test_forgetting_with_copies_leaves_no_copy_in() -> None:
    copy = publish(packet_of(1), author=5)
    hub = hub_with(package(1), copy, package(2), keep=True)
    hub.forget(1)
    assert digest(hub) == expected({1: 1, 2: 1})  # author 5 still stands by it
    hub = hub_with(package(1), copy, package(2), keep=True)
    hub.forget(1, copies=True)
    assert digest(hub) == expected({2: 1})
    assert isinstance(hub.take(publish(packet_of(1), author=6)), Refused)
    assert digest(hub) == expected({2: 1})


def test_what_cannot_be_subtracted_cannot_be_forgotten() -> None:
    hub = hub_with(merge_of([package(1), package(2)]))
    step = hub.forget(1)
    assert isinstance(step, Refused)
    assert set(step.missing) == {package(1).card.content}
    assert digest(hub) == expected({1: 1, 2: 1})


# Any order, any tree

AUTHORS, VERSIONS = range(1, 5), range(1, 4)
ALL = {(author, version): package(author, version) for author in AUTHORS for version in VERSIONS}
SUMS = {each.card.content: packet_of(*which) for which, each in ALL.items()}


def check(hub: Hub) -> None:
    """The invariant: the sums are those of the set of contents, each once."""
    if hub.have.contents:
        assert digest(hub) == merge_all(SUMS[content] for content in sorted(hub.have.contents)).digest
    else:
        assert hub.total is None


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.data())
def test_random_trees_of_merges_never_count_anything_twice(data: st.DataObject) -> None:
    draw: Callable[..., int] = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    hubs, pool = [Hub() for _ in range(3)], list(ALL.values())
    for _ in range(draw(1, 14)):
        hub = hubs[draw(0, 2)]
        before = digest(hub)
        if draw(0, 9) == 0:
            step = hub.forget(draw(1, 4), copies=draw(0, 1) == 1)
        else:
            step = hub.take(pool[draw(0, len(pool) - 1)], keep=draw(0, 1) == 1)
        check(hub)
        if isinstance(step, Refused):
            assert digest(hub) == before
        elif hub.total is not None and draw(0, 2) == 0:
            pool.append(hub.merged(author=90 + draw(0, 2)))


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.data())
def test_with_single_packets_at_hand_every_order_ends_in_the_same_set(data: st.DataObject) -> None:
    names = st.sampled_from(sorted(ALL))
    chosen = data.draw(
        st.lists(st.dictionaries(st.sampled_from(AUTHORS), st.sampled_from(VERSIONS), min_size=1), min_size=1, max_size=5)
    )
    packages = [merge_of(ALL[item] for item in sorted(each.items())) for each in chosen]
    packages += [ALL[name] for name in data.draw(st.lists(names, max_size=4))]
    newest: dict[int, int] = {}
    for each in packages:
        for entry in contributions_of(each):
            author = next(author for author in AUTHORS if keys(author).public == entry.author)
            newest[author] = max(entry.version, newest.get(author, 0))
    hub = Hub()
    for each in ALL.values():
        hub.keep(each)
    for each in data.draw(st.permutations(packages)):
        step = hub.take(each)
        assert isinstance(step, Plan) or "older" in step.reason
    assert digest(hub) == expected(newest)
    assert hub.have.manifest == hub_with(*(ALL[item] for item in sorted(newest.items()))).have.manifest


# The names


def test_contributions_travel_as_values_and_the_manifest_has_one_form() -> None:
    hub = hub_with(package(2), package(1))
    assert values.loads(values.dumps(hub.have)) == hub.have
    data = encode_manifest(reversed(hub.have.entries))
    assert decode_manifest(data) == hub.have.entries
    assert hub.have.manifest == hub_with(package(1), package(2)).have.manifest
    assert hub.have.manifest != hub_with(package(1)).have.manifest


def test_a_manifest_that_cannot_be_is_refused() -> None:
    one, two = hub_with(package(1), package(2)).have.entries
    for bad, message in (
        ([two, one], "sorted"),
        ([one, one], "twice"),
        ([one, msgspec.structs.replace(two, content=one.content, counts={"a": 9})], "two different counts"),
        ([msgspec.structs.replace(one, counts={"a": 0})], "counts"),
        ([msgspec.structs.replace(one, counts={})], "counts"),
        ([msgspec.structs.replace(one, version=-1)], "version -1"),
        ([msgspec.structs.replace(one, author="me")], "digest"),
        ([{"author": "me"}], "not a manifest"),
        ("text", "not a manifest"),
    ):
        with pytest.raises(RemoteError, match=message):
            decode_manifest(canonical.encode(bad))
    with pytest.raises(ConfigError, match="twice"):
        encode_manifest([one, one])


def test_the_content_is_what_it_is_and_not_who_signed_it() -> None:
    card = package(1).card
    assert card.content == msgspec.structs.replace(card, author=keys(2).public, slot="x", version=9).content
    for changes in ({"labels": {"a": 6, "b": 5, "c": 5}}, {"basis": None}, {"blobs": ()}, {"facts": {}}):
        assert card.content != msgspec.structs.replace(card, **changes).content
    assert contributions_of(package(1)) == (Contribution(keys(1).public, "shard", 1, card.content, {"a": 5, "b": 5, "c": 5}),)
