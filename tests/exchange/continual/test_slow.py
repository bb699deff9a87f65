"""The slower path: learned from what is at hand, named by its recipe, made again from it, served only if no label suffers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.values import digest
from kuberml.exchange.continual import gate
from kuberml.exchange.continual.cloud import Cloud
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.node import Node
from kuberml.exchange.trial import Change
from kuberml.knowledge.kinds.probe import probe_of
from kuberml.knowledge.kinds.prototypes import describe as describe_prototypes
from kuberml.knowledge.soften import soften
from kuberml.learning.datasets import samples
from kuberml.learning.extractors import features
from kuberml.learning.predictor import HeadOn, Network
from kuberml.learning.types import FitPlan
from kuberml.vault.folder import FolderStore
from tests.exchange.continual.edges import RULES, cloud, edge, packets, probe, running, town
from tests.exchange.town import BASIS, EXTRACTOR, LEARNER, Main, data

PARTS = packets("01234", "56789", "0123456789", train=12)
PUBLIC = probe()
PLAN = FitPlan(lr=0.2, epochs=4, batch=32, momentum=0.9)


def teacher(*, lies: bool = False) -> Main:
    """Sends soft labels about the public samples and prototypes of its own digits."""

    async def main(node: Node) -> None:
        truth_NC = np.full((len(PUBLIC), 10), 0.01, np.float32)
        assert PUBLIC.y_N is not None
        right_N = (PUBLIC.y_N + (3 if lies else 0)) % 10
        truth_NC[np.arange(len(PUBLIC)), right_N] = 0.91
        ids_N = np.arange(len(PUBLIC), dtype=np.int32)
        soft = soften(np.log(truth_NC), PUBLIC.labels, known=dict.fromkeys(PUBLIC.labels, 20), probe=probe_of(PUBLIC),
                      sample_ids_N=ids_N, form="dense-fp16")  # fmt: skip
        await node.publish(soft, slot="soft", version=0)
        part = samples(data("0123456789", part=4).train)
        near = describe_prototypes(features(EXTRACTOR, part.x_N), [part.labels[y] for y in part.y_N], basis=BASIS)[0]
        await node.publish(near, slot="near", version=0)
        await node.sleep(200)

    return main


def tuned(plan: FitPlan = PLAN, *, lies: bool = False, rules: Rules = RULES, public: Any = PUBLIC, **options: Any) -> Any:
    found: list[str] = []

    async def then(here: Cloud) -> None:
        found.append(await here.tune(plan, **options))

    here = town("a", "t").run(cloud=cloud(30.0, rules=rules, public=public, then=then), a=edge(*PARTS, every_s=2.0),
                              t=teacher(lies=lies))["cloud"]  # fmt: skip
    return here, found[0]


def test_a_head_that_learned_further_is_served_and_names_what_it_is_made_of() -> None:
    here, why = tuned()
    assert why == ""
    entry = here.history[-1]
    assert entry.recipe is not None
    assert len(entry.recipe.soft) == len(entry.recipe.prototypes) == 1
    assert entry.manifest == entry.recipe.manifest != entry.base == here.history[-2].manifest
    assert here.served.manifest == entry.manifest
    assert here.served.model != here.history[-2].model
    assert entry.sums == here.history[-2].sums
    assert np.mean(list(entry.recall.values())) >= np.mean(list(entry.joint.values()))
    assert entry.measures is not None
    assert entry.measures.gap_to_joint is not None
    assert entry.measures.gap_to_joint <= 0.0


def test_it_is_made_again_from_its_recipe_also_after_a_restart(tmp_path: Path) -> None:
    async def then(here: Cloud) -> None:
        assert await here.tune(PLAN, seed=3) == ""
        assert digest(await here.rebuild(here.history[-1].manifest)) == here.served.model  # type: ignore[union-attr]

    with FolderStore(tmp_path) as store:
        first = town("a", "t", cloud={"store": store}).run(
            cloud=cloud(30.0, public=PUBLIC, then=then), a=edge(*PARTS, every_s=2.0), t=teacher()
        )["cloud"]

    async def again(here: Cloud) -> None:
        assert here.served is not None
        assert (here.served.number, here.served.model) == (first.served.number, first.served.model)
        back = await here.rollback()
        assert back.manifest == here.history[-2].base
        forth = await here.rollback(here.history[-2].manifest)
        assert forth.model == first.served.model

    with FolderStore(tmp_path) as store:
        town(cloud={"store": store}).run(cloud=cloud(1.0, public=PUBLIC, then=again))


def test_lying_teachers_are_left_out() -> None:
    here, why = tuned(FitPlan(lr=1.0, epochs=20, batch=32, momentum=0.9), lies=True)
    assert why == ""
    entry = here.history[-1]
    assert entry.recipe is not None
    assert entry.recipe.soft == ()


def test_what_falls_behind_the_joint_model_is_refused_and_nothing_changes() -> None:
    here, why = tuned(FitPlan(lr=1e4, epochs=2, batch=8))
    assert "behind the joint model" in why or "would lose" in why
    assert here.history[-1].recipe is None
    assert here.served.model == here.history[-1].model


def test_a_network_is_distilled_from_the_merged_head() -> None:
    here, why = tuned(FitPlan(lr=0.5, epochs=60, batch=16, momentum=0.9), learner=LEARNER, rules=Rules(every_s=5.0, bound=0.3))
    assert why == ""
    assert isinstance(here.served.predictor, Network)
    assert np.mean(list(here.history[-1].recall.values())) > 0.85  # from a hundred public samples without their labels


def test_new_knowledge_is_served_exactly_again() -> None:
    async def then(here: Cloud) -> None:
        assert await here.tune(PLAN) == ""
        await running(here, 60)

    here = town("a", "t").run(
        cloud=cloud(8.0, public=PUBLIC, then=then), a=edge(*PARTS, every_s=6.0), t=teacher()
    )["cloud"]  # fmt: skip
    assert isinstance(here.served.predictor, HeadOn)
    assert here.history[-1].recipe is None
    assert any(entry.recipe is not None for entry in here.history)


def test_without_labelled_public_samples_or_anything_served_nothing_is_learned() -> None:
    _, why = tuned(public=None)
    assert "no labelled public samples" in why

    async def then(here: Cloud) -> None:
        with pytest.raises(ConfigError, match="nothing is served yet"):
            await here.tune(PLAN)

    town().run(cloud=cloud(1.0, then=then))


def test_the_gap_is_on_the_whole_and_for_each_label() -> None:
    def change(better: list[int], worse: list[int]) -> Change:
        return Change(("a", "b"), np.array(better), np.array(worse), np.array([20, 20]))

    assert gate.gap(change([2, 3], [1, 2]), Rules()) == ""
    assert "on the whole" in gate.gap(change([0, 0], [1, 0]), Rules())
    assert "'b' would lose" in gate.gap(change([9, 0], [0, 8]), Rules())
