"""`[data.stream]`: which data come when, in every world."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.learning.datasets import samples
from kuberml.learning.views import by_views
from kuberml.scenario.config import parse
from kuberml.scenario.digests import data_digest, scenario_digest
from kuberml.scenario.stage import Stage, set_stage

TREE: dict[str, Any] = {
    "name": "stream",
    "data": {"partition": "iid", "limit": 600, "stream": {"tasks": 5, "every_s": 20}},
    "learners": {"count": 3, "models": ["linear"]},
    "extractor": {"name": "identity"},
    "world": {"until_s": 120},
    "paradigms": {"local": {}},
}


def staged(stream: dict[str, Any] | None, seed: int = 0, **data: Any) -> Stage:
    table = {**TREE["data"], **data}
    table |= {"stream": stream} if stream is not None else {}
    if stream is None:
        del table["stream"]
    return set_stage(parse({**TREE, "data": table}), seed, common=True)


def test_learners_meet_the_labels_in_tasks_each_in_an_order_of_its_own() -> None:
    stage, before = staged({"tasks": 5, "every_s": 20}), staged(None)
    assert [task.name for task in stage.tasks] == ["0+1", "2+3", "4+5", "6+7", "8+9"]
    for task in stage.tasks:
        test = samples(task.test)
        assert {test.labels[y] for y in test.y_N} == set(task.labels)
    orders = []
    for actor, whole in zip(stage.learners, before.learners, strict=True):
        assert [stage.at_s for stage in actor.stages] == [0, 20, 40, 60, 80]
        assert sorted(stage.data.labels for stage in actor.stages) == [task.labels for task in stage.tasks]
        orders.append(tuple(stage.data.labels for stage in actor.stages))
        assert actor.data is not None
        assert whole.data is not None
        assert np.array_equal(actor.data.train.indices_N, whole.data.train.indices_N)  # as without a stream
        assert np.array_equal(actor.data.heldout.indices_N, whole.data.heldout.indices_N)
        assert actor.data.counts == whole.data.counts
        parts = [set(stage.data.train.indices_N.tolist()) for stage in actor.stages]
        assert sum(map(len, parts)) == len(set.union(*parts)) == len(whole.data.train)
    assert len(set(orders)) > 1
    assert before.tasks == ()
    assert all(actor.stages == () for actor in before.learners)


def test_in_the_same_order_everybody_meets_the_tasks_as_they_stand() -> None:
    stage = staged({"tasks": 5, "every_s": 20, "order": "same"})
    for actor in stage.learners:
        assert [one.data.labels for one in actor.stages] == [task.labels for task in stage.tasks]


def test_the_order_follows_from_the_seed() -> None:
    def orders(seed: int) -> list[list[tuple[str, ...]]]:
        stage = staged({"tasks": 10, "every_s": 10}, seed)
        return [[one.data.labels for one in actor.stages] for actor in stage.learners]

    assert orders(0) == orders(0) != orders(1)


def test_domains_come_one_after_the_other() -> None:
    domains = ["plain", "inverted", "dim"]
    stage = staged({"tasks": 3, "every_s": 20, "by": "domains", "order": "same"}, domains=domains)
    assert [task.name for task in stage.tasks] == domains
    assert [task.test.view for task in stage.tasks] == domains
    for actor in stage.learners:
        assert [one.data.train.view for one in actor.stages] == domains
        sizes = [len(one.data.train) for one in actor.stages]
        assert max(sizes) - min(sizes) <= 10, "of each label as many in each domain, but for one"
        first, second = (set(one.data.train.indices_N.tolist()) for one in actor.stages[:2])
        assert not first & second
        assert actor.data is not None
        assert [part.view for part in by_views(actor.data.train)] == domains
        assert actor.domain in stage.tests
    whole = stage.tests[stage.learners[0].domain]
    assert len(whole) == len(stage.tasks[0].test)
    assert [part.view for part in by_views(whole)] == domains
    assert len(set(whole.indices_N.tolist())) == len(whole), "each sample once, in one domain"


def test_a_liar_lies_in_every_stage() -> None:
    tree = {**TREE, "learners": {**TREE["learners"], "liars": 1}}
    stage = set_stage(parse(tree), 0, common=True)
    (liar,) = (actor for actor in stage.learners if actor.liar)
    assert liar.data is not None
    for one in liar.stages:
        assert one.data.train.relabel == liar.data.train.relabel != {}
        said = samples(one.data.train)
        assert set(one.data.labels) == {said.labels[y] for y in said.y_N}


@pytest.mark.parametrize(
    ("stream", "data", "message"),
    [
        ({"tasks": 0}, {}, r"data\.stream\.tasks = 0"),
        ({"tasks": 11, "every_s": 1}, {}, r"data\.stream\.tasks = 11: 'digits' has 10 labels; no task is empty"),
        ({"every_s": 0}, {}, r"data\.stream\.every_s = 0"),
        ({"tasks": 5, "every_s": 25}, {}, r"world\.until_s = 120: the last of data\.stream\.tasks = 5 ends after 125 s"),
        ({"by": "label"}, {}, r"data\.stream\.by = 'label': did you mean 'labels'"),
        ({"order": "mine"}, {}, r"data\.stream\.order = 'mine'"),
        ({"task": 3}, {}, r"unknown setting data\.stream\.task = 3; did you mean 'tasks'"),
        ({"by": "domains"}, {"domains": ["plain", "dim"]}, r"data\.stream\.tasks = 5: with by = 'domains'.*set it to 2"),
        ({"tasks": 2, "by": "domains"}, {"domains": ["dim", "dim"]}, r"each is a task, and comes once"),
        ("fast", {}, r"data\.stream = 'fast': a table is needed here"),
    ],
)
def test_what_cannot_be(stream: Any, data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse({**TREE, "data": {**TREE["data"], "stream": stream, **data}})


def test_settings_reach_into_a_stream_that_the_file_does_not_have() -> None:
    tree = {**TREE, "data": {"limit": 600}}
    config = parse(tree, ("data.stream.tasks=2", "data.stream.order=same"))
    assert config.data.stream is not None
    assert (config.data.stream.tasks, config.data.stream.order, config.data.stream.every_s) == (2, "same", 60.0)


def test_digests_know_a_stream_and_are_what_they_were_without_one() -> None:
    tree = {"name": "still", "data": {"limit": 600}, "paradigms": {"local": {}}}
    still, moving = parse(tree), parse(tree, ("data.stream.tasks=2",))
    assert scenario_digest(still)[:16] == "607bb81f6f79d779"
    assert data_digest(still)[:16] == "06a3ac0327dba739"
    assert scenario_digest(moving) != scenario_digest(still)
    assert data_digest(moving) != data_digest(still)


def test_the_times_of_stages_rise() -> None:
    for actor in staged({"tasks": 10, "every_s": 7}).learners:
        assert all(one.at_s < other.at_s for one, other in pairwise(actor.stages))
