"""The receiver's desk over the real world: liars, witnesses, claims, copies. Digits 0-4 are mine, 5-9 are what I lack."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
import pytest

from kuberml.core.ids import NodeId
from kuberml.core.values import digest
from kuberml.exchange.claims import claims_on
from kuberml.exchange.desk import Desk
from kuberml.exchange.exact_head import ExactHead
from kuberml.exchange.node import Node
from kuberml.exchange.place import LocalData
from kuberml.exchange.trial import TrialPlan
from kuberml.exchange.wire import read
from kuberml.knowledge.algebra import merge_all
from kuberml.knowledge.card import PPM, Card, Claim, Knowledge, Terms
from kuberml.knowledge.fraud import SignedFraudProof, check_fraud
from kuberml.knowledge.kinds.probe import Probe, probe_from, probe_of
from kuberml.knowledge.kinds.statistics import Statistics, solve
from kuberml.knowledge.pack import open_value
from kuberml.knowledge.verdict import Verdict, sign_verdict
from kuberml.knowledge.want import Want
from kuberml.learning.claims import recall_ppm
from kuberml.learning.datasets import samples
from kuberml.worlds.simulated.devices import LinkSpec
from tests.exchange.town import EXTRACTOR, MS, Main, Town, data, keys, statistics

PLAN = TrialPlan()
MINE = data("01234")
TURNED = {str(d): str((d + 1) % 10) for d in range(10)}
LIE = data("2345678", part=3, relabel=TURNED)


def learner(looks: int = 4, **options: Any) -> Main:
    """Publishes what its data say, and takes in what others do; returns its desk."""

    async def main(node: Node) -> Desk:
        head = await ExactHead.describe(node, EXTRACTOR, 5)
        probe = options.get("probe")
        claims = options["claims"] if "claims" in options else await claims_on(node, head.shared, probe, EXTRACTOR)
        if options.get("publishes", True):
            await node.publish(head.shared, slot="shard", version=0, claims=claims)
        desk = Desk(node, head, PLAN, probe, tries=options.get("tries", 0))
        await desk.open()
        await node.sleep(5)
        for _ in range(looks):
            await desk.look()
            await node.sleep(30)
        return desk

    return main


def town(**local: LocalData) -> Town:
    return Town(*local, **{name: {"data": one} for name, one in local.items()})


def desks(here: Town, main: Main | None = None, **mains: Main) -> dict[str, Desk]:
    return here.run(**{name: mains.get(name, main or learner()) for name in here.roles if name != "hub"})


def authors(found: Iterable[Any]) -> set[str]:
    known = {keys(name).public: name for name in ("me", "a", "b", "c", "w", "liar", "liar2", "copy", "alone")}
    return {known[parcel.signed.card.author] for parcel in found}


def model_of(*parts: Statistics) -> Any:
    return solve(merge_all(parts))


def same(desk: Desk, *parts: Statistics) -> bool:
    """Whether the desk's model is exactly that of these sums."""
    return digest(desk.model.head) == digest(model_of(*parts))


HONEST = {"me": MINE, "a": data("34567", part=1), "b": data("6789012", part=2), "c": data("23456789", part=4)}


def test_honest_knowledge_is_kept_and_the_model_is_exactly_its_sum() -> None:
    found = desks(town(**HONEST))
    assert authors(found["me"].kept.values()) == {"a", "b", "c"}
    assert same(found["me"], *(statistics(local) for local in HONEST.values()))
    for name, desk in found.items():
        assert desk.kept
        assert same(desk, statistics(HONEST[name]), *(parcel.content for parcel in desk.kept.values()))


def test_a_look_can_be_kept_short_and_the_next_ones_go_on() -> None:
    """With a try a look, two looks bring two packages and three all of them."""
    found = desks(town(**HONEST), me=learner(2, tries=1), a=learner(3, tries=1))
    assert len(found["me"].kept) + len(found["me"].waiting) == 2
    assert authors([*found["a"].kept.values(), *found["a"].waiting.values()]) == {"me", "b", "c"}


def test_liars_are_refused_and_leave_no_trace_in_the_model() -> None:
    """The model is, to the last bit, that of a world without them."""
    without = desks(town(**HONEST))["me"]
    found = desks(town(**HONEST, liar=LIE, liar2=data("0123456", part=3, relabel=TURNED)))
    assert authors(found["me"].kept.values()) == {"a", "b", "c"}
    assert len(found["me"].refused) == 2
    assert digest(found["me"].model) == digest(without.model)
    for name in ("a", "b", "c"):
        assert not authors(found[name].kept.values()) & {"liar", "liar2"}


def test_what_nobody_can_judge_is_kept_apart_and_not_used() -> None:
    """Labels that nobody else holds: no evidence either way."""
    found = desks(town(me=MINE, alone=data("89", part=1)))["me"]
    assert authors(found.waiting.values()) == {"alone"}
    assert found.kept == {}
    assert found.refused == {}
    assert same(found, statistics(MINE))


def test_what_waits_is_judged_again_when_there_is_news_and_not_at_every_look() -> None:
    """Nobody can judge a's labels until w comes, who holds them and agrees with me about b: its word is news."""

    async def late(node: Node) -> Desk:
        await node.sleep(100)
        return await learner(looks=2)(node)

    here = town(me=MINE, a=data("56789", part=1), b=data("01234", part=2), w=data("0123456789", part=3))
    found = desks(here, me=learner(looks=8), a=learner(looks=1), b=learner(looks=1), w=late)["me"]
    about_a = [note["verdict"] for note in here.notes["me"].of("tried") if note["author"] == keys("a").public]
    assert about_a[0] == "untested"
    assert about_a[-1] == "credit"
    assert len(about_a) <= 4  # alone, beside b, and with w's word; not at each of eight looks
    assert "a" in authors(found.kept.values())


def witness(*, at_s: float) -> Main:
    """Says once that whatever is on offer then is right, and nothing more."""

    async def main(node: Node) -> None:
        await node.sleep(at_s)
        for signed in [offer.signed for offer in await node.find(Want("digits", kinds=("statistics",)))]:
            tested = dict.fromkeys(signed.card.labels, 50)
            said = Verdict(signed.digest, signed.card.author, node.author, tested, tested, node.now_ms)
            await node.testify(sign_verdict(said, node.place.keys))

    return main


def later(main: Main, seconds: float) -> Main:
    async def waits(node: Node) -> Any:
        await node.sleep(seconds)
        return await main(node)

    return waits


def test_what_is_announced_and_judged_while_i_look_is_heard_of_at_the_next_look() -> None:
    """My first look asks at 5 s who offers what, and then waits for b's slow line; meanwhile a comes and w judges it."""
    b = statistics(data("01234", part=2))
    slow = LinkSpec(up_bps=4_000, down_bps=8_000_000, latency_ns=10 * MS)
    here = Town("me", "a", "b", "w", links={"b": slow}, me={"data": MINE})
    found = taken(here, a=later(publishes(A), 8), b=publishes(b), w=witness(at_s=10))
    assert [len(note["offers"]) for note in here.notes["me"].of("found")][:2] == [1, 1], "a came between my first looks"
    assert authors(found.kept.values()) == {"a", "b"}


def test_what_was_judged_long_before_it_was_fetched_is_heard_of_then() -> None:
    """One package a look: when a's comes, w has long said what there is to say."""
    here = Town("me", "a", "b", "w", me={"data": MINE})
    b = statistics(data("0123456789", part=2))  # knows more, so it is offered first
    mains = {"a": publishes(A), "b": publishes(b), "w": witness(at_s=3)}
    found = here.run(me=learner(publishes=False, tries=1), **mains)["me"]
    assert authors(found.kept.values()) == {"a", "b"}


def test_a_liar_about_labels_that_i_lack_is_found_out_by_who_holds_them() -> None:
    """It says nothing about my labels, so only witnesses can tell."""
    lie = data("678", part=3, relabel={"6": "7", "7": "8", "8": "6"})
    found = desks(town(**HONEST, liar=lie))["me"]
    assert "liar" not in authors(found.kept.values())
    assert same(found, *(statistics(local) for local in HONEST.values()))
    (why,) = found.refused.values()
    assert "other holders" in why


def test_a_liar_s_knowledge_is_offered_last() -> None:
    here = town(**HONEST, liar=LIE)
    desks(here)
    rank = here.hub.rank_ppm  # type: ignore[union-attr]
    assert rank(keys("liar").public) < PPM // 3
    assert min(rank(keys(name).public) for name in HONEST) > PPM // 2


def test_a_thousandth_budget_leaves_offers_where_they_are() -> None:
    here = Town(*HONEST, **{name: {"data": local} for name, local in HONEST.items() if name != "me"},
                me={"data": MINE, "budget_bytes": 18_000})  # fmt: skip
    found = desks(here)["me"]
    assert len(found.kept) + len(found.waiting) < 3
    assert len(found.offers) == 3
    assert same(found, statistics(MINE), *(parcel.content for parcel in found.kept.values()))


# --- nobody's data counts twice -----------------------------------------------------------------------------------------------


def publishes(*contents: Statistics, slots: tuple[str, ...] = ("shard",), every_s: float = 20.0) -> Main:
    """Versions of one slot, or one version in each of several."""

    async def main(node: Node) -> None:
        for version, content in enumerate(contents):
            for slot in slots:
                await node.publish(content, slot=slot, version=version)
            await node.sleep(every_s)

    return main


def taken(here: Town, **mains: Main) -> Desk:
    found: Desk = here.run(me=learner(publishes=False), **mains)["me"]
    return found


A = statistics(HONEST["a"])
CAREFUL = data("01234", train=8, heldout=13)


def test_a_copy_that_somebody_else_signed_counts_once() -> None:
    found = taken(
        Town("me", "a", "copy", me={"data": CAREFUL}), a=publishes(A), copy=publishes(A, slots=("shard", "mine", "too"))
    )
    assert same(found, statistics(CAREFUL), A)


def test_a_copy_of_my_own_knowledge_adds_nothing() -> None:
    own = statistics(CAREFUL)
    found = taken(Town("me", "copy", me={"data": CAREFUL}), copy=publishes(own))
    assert same(found, own)


def test_a_new_version_replaces_the_old_one() -> None:
    grown = statistics(data("34567", part=1, train=19))
    found = taken(Town("me", "a", me={"data": CAREFUL}), a=publishes(A, grown))
    assert len(found.kept) == 2  # what was absorbed when
    assert same(found, statistics(CAREFUL), grown)
    assert found.integrator.counts(found.kept.values())["7"] == 19  # type: ignore[attr-defined]


def test_an_old_version_that_comes_late_does_not_come_back() -> None:
    """Whoever holds version 0 may announce it again; the hub refuses, and a desk that has both keeps the newer."""
    grown = statistics(data("34567", part=1, train=19))
    found = taken(
        Town("me", "a", "copy", me={"data": CAREFUL}), a=publishes(A, grown, every_s=1), copy=publishes(A, every_s=60)
    )
    assert same(
        found, statistics(CAREFUL), grown, A
    )  # a stranger's copy of version 0 is another content: it is judged like any


def crafted(change: Callable[[Statistics], Statistics]) -> Main:
    return publishes(change(A))


def test_knowledge_that_would_overflow_is_refused_and_the_receiver_lives_on() -> None:
    """Counts near the limit, laws kept: it opens, and does not add up."""

    def huge(stats: Statistics) -> Statistics:
        factor = (2**63 - 1) // (int(stats.counts_C.sum()) * stats.clip**2)
        return msgspec.structs.replace(
            stats, counts_C=stats.counts_C * factor, sums_dC=stats.sums_dC * factor, gram_dd=stats.gram_dd * factor
        )

    found = taken(Town("me", "a", "b", me={"data": CAREFUL}), a=crafted(huge), b=publishes(A))
    assert authors(found.kept.values()) <= {"b", "a"}
    assert np.isfinite(found.model.head.weights_dC).all()


def test_knowledge_on_another_grid_is_refused() -> None:
    other = msgspec.structs.replace(A, step_log2=4, clip=A.clip)
    found = taken(Town("me", "a", "b", me={"data": CAREFUL}), a=publishes(other), b=publishes(A))
    assert same(found, statistics(CAREFUL), A)
    assert len(found.refused) == 1


def test_terms_that_expire_before_it_is_absorbed_are_kept() -> None:
    async def brief(node: Node) -> None:
        await node.publish(statistics(data("89", part=1)), slot="shard", version=0, terms=Terms(expires_at_ms=20_000))

    async def witness(node: Node) -> None:
        await node.sleep(45)
        await learner(looks=2)(node)

    here = Town("me", "a", "w", me={"data": CAREFUL}, w={"data": data("0123489", part=2)})
    found = here.run(me=learner(), a=brief, w=witness)["me"]
    assert authors(found.kept.values()) == {"w"}
    assert any("expired" in why for why in found.refused.values())


# --- claims -------------------------------------------------------------------------------------------------------------------


def some_probe() -> Probe:
    part = samples(data("0123456789", part=3, train=20).train)
    return probe_from(part.x_N, [part.labels[y] for y in part.y_N], levels=16)


PROBE = some_probe()
BOAST = (Claim(probe_of(PROBE), dict.fromkeys("3456789", PPM)),)


def again(knowledge: Knowledge) -> Callable[[Card, Probe], dict[str, int]]:
    return lambda card, probe: recall_ppm(open_value(knowledge), probe, EXTRACTOR)


def accused(here: Town) -> list[SignedFraudProof]:
    """What a bystander hears about fraud, while all others run."""
    heard: list[SignedFraudProof] = []

    async def bystander(node: Node) -> None:
        async for _, body in node.place.transport.subscribe("fraud/digits"):
            heard.append(read(body, SignedFraudProof))

    here.outcome(
        me=learner(probe=PROBE), a=learner(probe=PROBE), liar=learner(probe=PROBE, claims=BOAST), w=bystander, until_s=200
    )
    return heard


def test_a_false_claim_becomes_a_proof_that_anybody_can_check() -> None:
    local = {"me": MINE, "a": HONEST["a"], "liar": LIE}
    here = Town(*local, "w", **{name: {"data": one} for name, one in local.items()})
    proofs = accused(here)
    assert {proof.proof.accuser for proof in proofs} == {keys("me").public, keys("a").public}
    store = here.world.store(NodeId("liar"))
    for proof in proofs:
        assert proof.proof.accused.card.author == keys("liar").public
        blobs = tuple(store.get(ref.digest) for ref in proof.proof.accused.card.blobs)
        assert check_fraud(proof, PROBE, again(Knowledge(proof.proof.accused, blobs)))
    (refusal,) = here.notes["me"].of("refused")
    assert "its claim is false" in refusal["why"]


def test_a_true_claim_stands_and_is_evidence_for_labels_that_nobody_else_holds() -> None:
    local = {"me": MINE, "a": data("56789", part=1)}
    here = Town(*local, "liar", "w", **{name: {"data": one} for name, one in local.items()}, liar={"data": data("01", part=2)})
    mains = {"me": learner(probe=PROBE), "a": learner(probe=PROBE)}
    found = here.run(**mains)["me"]
    assert authors(found.kept.values()) == {"a"}
    assert here.notes["me"].of("accused") == []
    assert set(here.notes["me"].of("absorbed")[0]["labels"].values()) == {"credit"}


def test_a_second_claim_on_the_same_probe_does_not_hide_behind_an_honest_one() -> None:
    async def two_tongues(node: Node) -> None:
        content = statistics(LIE)
        honest = Claim(probe_of(PROBE), recall_ppm(content, PROBE, EXTRACTOR))
        await node.publish(content, slot="shard", version=0, claims=(honest, *BOAST))

    here = Town("me", "liar", me={"data": data("01")})
    here.run(me=learner(probe=PROBE, looks=1), liar=two_tongues)
    assert len(here.notes["me"].of("accused")) == 1


# --- for long -----------------------------------------------------------------------------------------------------------------


def test_offers_that_a_newer_version_has_replaced_are_forgotten_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A liar publishes anew ten times between looks; what is honest and stands is not asked for twice."""
    monkeypatch.setattr("kuberml.exchange.desk.MANY", 3)

    async def again_and_again(node: Node) -> None:
        for version in range(10):
            await node.publish(statistics(data("234567", part=version % 5, relabel=TURNED)), slot="shard", version=version)
            await node.sleep(30)

    here = town(me=MINE, a=HONEST["a"], liar=LIE)
    found = desks(here, me=learner(looks=12), a=learner(looks=0), liar=again_and_again)["me"]
    assert len(here.notes["me"].of("refused")) == 10
    assert len(found.offers) <= 4
    assert len(found.refused) <= 4
    assert authors(found.kept.values()) == {"a"}
    assert len(here.notes["me"].of("absorbed")) == 1


# --- after a restart ----------------------------------------------------------------------------------------------------------


def test_after_a_crash_nothing_is_delivered_twice_and_the_model_is_the_same() -> None:
    from kuberml.worlds.simulated.faults import Fault

    quiet = desks(town(**HONEST))["me"]
    crash = Fault(at_s=50.0, what="crash", nodes=("me",))
    here = Town(*HONEST, faults=[crash], **{name: {"data": local} for name, local in HONEST.items()})
    found = desks(here)["me"]
    assert digest(found.model) == digest(quiet.model)
    blobs = sum(parcel.signed.card.size_bytes for parcel in found.kept.values())
    assert here.world.traffic(NodeId("me")).received_blob < 1.1 * blobs + 1000
