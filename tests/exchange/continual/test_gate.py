"""What may not change what is served: lies, harm, copies under new names; and what edges say of it, and whose word counts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from kuberml.core.values import digest
from kuberml.exchange.continual import examination, gate
from kuberml.exchange.continual.cloud import Cloud
from kuberml.exchange.continual.examination import Examiner
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.continual.served import Served
from kuberml.exchange.node import Node
from kuberml.exchange.place import LocalData
from kuberml.knowledge.algebra import merge_all
from kuberml.knowledge.kinds.statistics import Statistics
from kuberml.knowledge.verdict import Pooled
from tests.exchange.continual.edges import cloud, edge, packets, probe, running, town
from tests.exchange.town import EXTRACTOR, Main, data, keys, statistics

A, B, C, D = packets("01", "23", "45", "6789")
EVERYTHING = packets(*["0123456789"] * 3)
PUBLIC = probe()
TURNED = {str(d): str((d + 1) % 10) for d in range(10)}
RULES = Rules(every_s=5.0)


def lie(labels: str, relabel: dict[str, str] | None = None, *, part: int = 3, train: int = 14) -> Statistics:
    return statistics(data(labels, part=part, train=train, relabel=relabel or TURNED))


def sums(here: Cloud) -> Any:
    assert here._model.sums is not None
    return here._model.sums.digest


def run(*, places: dict[str, Any] | None = None, **mains: Any) -> Cloud:
    edges = [name for name in mains if name != "cloud"]
    found: Cloud = town(*edges, **(places or {})).run(**{"cloud": cloud(public=PUBLIC), **mains})["cloud"]
    return found


@pytest.mark.parametrize("labels", ["0123456789", "345", "7"], ids=["all", "some", "one"])
def test_flipped_labels_are_refused_and_what_is_served_does_not_change(labels: str) -> None:
    seen: list[Served] = []
    here = run(cloud=cloud(public=PUBLIC, on_served=seen.append), a=edge(*EVERYTHING), liar=edge(lie(labels), first_s=40.0))
    without = run(cloud=cloud(public=PUBLIC), a=edge(*EVERYTHING))
    assert [one.model for one in seen] == [entry.model for entry in without.history]
    assert digest(here.served.predictor) == digest(without.served.predictor)  # type: ignore[union-attr]
    (why,) = here.refused.values()
    assert "their mean lies at" in why


def test_without_a_probe_the_model_itself_says_where_labels_lie() -> None:
    here = run(cloud=cloud(), a=edge(*EVERYTHING), liar=edge(lie("345"), first_s=40.0))
    assert sums(here) == merge_all(EVERYTHING).digest
    assert len(here.refused) == 1


def test_one_bad_packet_does_not_hold_up_the_rest_and_is_not_tried_for_ever() -> None:
    """Half of the samples are of other labels, and nobody looks at the means: only a trial shows the harm."""
    half = merge_all([statistics(data("0123456789", part=3, train=10)), lie("0123456789", part=4, train=13)])
    loud = merge_all([half] * 3)
    rules = Rules(every_s=5.0, resembles=0.0)
    here = run(
        cloud=cloud(90.0, public=PUBLIC, rules=rules),
        a=edge(EVERYTHING[0]),
        b=edge(EVERYTHING[1], EVERYTHING[2], first_s=20.0),
        liar=edge(loud, first_s=20.0),
    )
    assert sums(here) == merge_all(EVERYTHING).digest
    (refusal,) = here._history.state.refused.values()
    assert "answers on the probe" in refusal.why
    assert refusal.tries <= RULES.tries


def test_a_copy_of_a_class_under_a_new_name_is_refused() -> None:
    many = merge_all([statistics(data("38", part=part, train=25)) for part in (0, 1, 2, 4)])
    many = msgspec.structs.replace(many, labels=("copy of 3", "copy of 8"))
    here = run(a=edge(*EVERYTHING), liar=edge(many, first_s=40.0))
    assert sums(here) == merge_all(EVERYTHING).digest
    (why,) = here.refused.values()
    assert "new labels would take" in why


def test_a_flood_of_one_label_is_no_harm_and_honest_new_labels_are_none() -> None:
    """Two hundred zeros beside fourteen of each: the ridge head leans to them, the balanced one does not."""
    zeros = merge_all([statistics(data("0", part=part, train=25)) for part in range(5)])
    here = run(a=edge(A, B, C), b=edge(D, zeros, first_s=30.0))
    assert here.refused == {}
    assert len(here.history[-1].labels) == 10


def test_losses_that_are_small_each_time_do_not_add_up() -> None:
    """Each of many packets is half a lie, and nobody looks at the means: alone none would lose enough to be refused."""
    everything = "0123456789"
    drops = [
        merge_all([statistics(data(everything, part=p % 5, train=5 + p)), lie(everything, part=(p + 1) % 5, train=6 + p)])
        for p in range(12)
    ]
    here = run(
        cloud=cloud(200.0, public=PUBLIC, rules=Rules(every_s=5.0, resembles=0.0)),
        a=edge(*EVERYTHING, every_s=1.0),
        liar=edge(*drops, every_s=10.0, first_s=20.0),
    )
    assert any("little by little" in why for why in here.refused.values())
    best = [max(entry.fair.get(label, 0.0) for entry in here.history) for label in PUBLIC.labels]
    last = here.history[-1].fair
    assert all(before - last[label] < RULES.creep for before, label in zip(best, PUBLIC.labels, strict=True))


# --- the edges' word ----------------------------------------------------------------------------------------------------------


def examines(content: Statistics | None, local: LocalData, *, first_s: float = 1.0, turn: bool = False) -> Main:
    """An edge that publishes something and tries every version; `turn`: it says the opposite of what it sees."""

    async def main(node: Node) -> None:
        examiner = Examiner(node, EXTRACTOR)
        if turn:
            said = examiner._verdict

            def opposite(signed: Any, counts: dict[str, list[int]], *, compares: bool) -> Any:
                return said(signed, {label: [n, 0, n] for label, (n, _, _) in counts.items()}, compares=compares)

            examiner._verdict = opposite  # type: ignore[method-assign]
        node.serve(examine=examiner.examine)
        await node.sleep(first_s)
        if content is not None:
            await node.publish(content, slot="stage-0", version=0)
        await node.sleep(400)

    return main


def judged(
    *, liars: int = 0, bad: Statistics | None = None, public: bool = True, then: Callable[[Cloud], Any] | None = None
) -> Cloud:
    """Four edges with digits of their own to try things on; `bad` comes from a fifth."""
    parts = [data("0123456789", part=part, train=10, heldout=15) for part in range(4)]
    mains: dict[str, Main] = {
        f"e{k}": examines(statistics(part), part, first_s=1.0 + 30 * k, turn=k < liars) for k, part in enumerate(parts)
    }
    if bad is not None:
        mains["bad"] = edge(bad, first_s=150.0)
    rules = Rules(every_s=5.0, evaluate=True, resembles=0.0, bound=0.1)
    places = {f"e{k}": {"data": part} for k, part in enumerate(parts)}
    return run(cloud=cloud(300.0, rules=rules, public=PUBLIC if public else None, then=then), places=places, **mains)


def test_edges_find_what_no_probe_shows_and_the_version_goes() -> None:
    """Without a probe, and with the look at the means switched off: only the edges can tell."""
    here = judged(bad=merge_all([lie("0123456789", part=4, train=25)] * 3), public=False)
    whys = [entry.why for entry in here.history]
    assert any("edges say" in why for why in whys)
    assert keys("bad").public not in {one.author for parts in here.served.taught.values() for one in parts}  # type: ignore[union-attr]
    assert sums(here) == merge_all([statistics(data("0123456789", part=part, train=10)) for part in range(4)]).digest
    (why,) = here.refused.values()
    assert "edges say" in why


def test_a_lying_witness_loses_its_word() -> None:
    here = judged(liars=1)
    assert len(here.served.taught["0"]) == 4  # type: ignore[union-attr]
    assert not any("edges say" in entry.why for entry in here.history)
    trust = {name: here._review.examination.trust_ppm(keys(name).public) for name in ("e0", "e1", "e2", "e3")}
    assert trust["e0"] == 0
    assert min(trust["e1"], trust["e2"], trust["e3"]) > 500_000


@pytest.mark.parametrize("cut_off", [False, True])
def test_the_last_word_is_not_lost_by_asking_again(cut_off: bool) -> None:
    """A run ends with an examination of what is served: mostly it was tried before; or the asking was cut off by the end."""
    said: list[dict[str, tuple[int, int]]] = []

    async def again(here: Cloud) -> None:
        last = here.history[-1].number
        said.append(dict(here._history.heard(last)))
        if cut_off:
            here._review.tried = 0
        await here.examine()
        said.append(dict(here._history.heard(last)))
        assert all(one.before for one in here._review.examination._verdicts.popitem()[1].values()), "and compares as before"

    here = judged(then=again)
    assert len(said[0]) == 4
    assert said[0] == said[1]
    assert not here.refused


def test_a_version_that_was_served_before_an_end_and_not_tried_is_tried_after_the_start() -> None:
    local, heard = data("0123456789", train=10, heldout=15), []
    rules = Rules(every_s=5.0, evaluate=True)

    async def twice(node: Node) -> None:
        await node.sleep(10)
        ended = Cloud(node, EXTRACTOR, rules, PUBLIC)
        await ended.open()
        await ended.catch_up()
        await ended.absorb()
        assert ended.history
        started = Cloud(node, EXTRACTOR, rules, PUBLIC)
        await running(started, 60)
        heard.append(started._history.heard(len(started.history)))

    town("e0", e0={"data": local}).run(cloud=twice, e0=examines(statistics(local), local))
    assert keys("e0").public in heard[0]


class Killed(BaseException):
    """As `kill -9`: nobody mends anything after it."""


@pytest.mark.parametrize("commits", [0, 1, 2, None])
def test_what_edges_found_worse_goes_and_comes_back_alone_wherever_the_cloud_is_killed(commits: int | None) -> None:
    """A liar and an honest edge come in with one version. The cloud is killed before one of its commits, or after the last."""
    parts = [data("0123456789", part=part, train=10, heldout=15) for part in range(4)]
    lies, late = merge_all([lie("0123456789", part=4, train=25)] * 3), statistics(data("0123456789", part=4, train=5))
    mains = {f"e{k}": examines(statistics(part), part) for k, part in enumerate(parts)}
    mains |= {"bad": edge(lies, first_s=30.0), "late": edge(late, first_s=30.0)}
    rules = Rules(every_s=5.0, evaluate=True, resembles=0.0, bound=0.1)

    async def twice(node: Node) -> Cloud:
        ended = Cloud(node, EXTRACTOR, rules, None)
        await ended.open()
        for at_s in (20, 40):
            await node.sleep(at_s - node.now_ms / 1000)
            await ended.catch_up()
            await ended.absorb()
            if at_s == 20:
                await ended.examine()
        assert len(ended.history[-1].added) == 2
        store, left = node.place.store, iter(range(1 << 30 if commits is None else commits))
        remember = store.remember

        def counted(entries: Any) -> None:
            if next(left, None) is None:
                raise Killed
            remember(entries)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(store, "remember", counted)
            with contextlib.suppress(Killed):
                await ended.examine()
                assert commits is None, "it has fewer commits"
        started = Cloud(node, EXTRACTOR, rules, None)
        await running(started, 100)
        return started

    here = town(*mains, **{f"e{k}": {"data": part} for k, part in enumerate(parts)}).run(cloud=twice, **mains)["cloud"]
    taught = {one.author for parts in here.served.taught.values() for one in parts}  # type: ignore[union-attr]
    assert taught == {keys(name).public for name in ("e0", "e1", "e2", "e3", "late")}
    (gone,) = [entry.number for entry in here.history if "edges say" in entry.why and len(entry.dropped) == 2]
    assert all(len(entry.added) <= 1 for entry in here.history[gone:]), "what was suspect came back alone"


def test_a_version_travels_with_both_heads_and_nothing_else_is_one() -> None:
    here = judged()
    head = here.served.predictor.head  # type: ignore[union-attr]
    content = examination.packed(head, here._model.fair or head, {})
    again, fair = examination.unpacked(content)
    assert digest(again) == digest(head)
    assert fair.labels == head.labels


def test_too_few_witnesses_or_answers_take_nothing_back() -> None:
    lost = Pooled(tested_ppm=40_000_000, correct_ppm=10_000_000, before_ppm=38_000_000, compared_ppm=40_000_000)
    assert gate.testimony({"3": lost}, 2, Rules())
    assert gate.testimony({"3": lost}, 1, Rules()) == ""
    assert gate.testimony({"3": lost}, 2, Rules(protected=("4",))) == ""
    few = Pooled(tested_ppm=3_000_000, correct_ppm=0, before_ppm=3_000_000, compared_ppm=3_000_000)
    assert gate.testimony({"3": few}, 2, Rules()) == ""
