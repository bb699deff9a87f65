"""Each paradigm on a tiny problem, against its own equation, computed by hand in numpy."""

from typing import Any

import numpy as np
import pytest

from kuberml.core.rng import seed_of
from kuberml.core.values import digest, dumps, loads
from kuberml.knowledge.algebra import merge_all
from kuberml.knowledge.kinds.extractor import basis_of
from kuberml.knowledge.kinds.statistics import describe, solve
from kuberml.learning.datasets import samples
from kuberml.learning.extractors import features, identity
from kuberml.learning.head_learner import HeadLearner
from kuberml.learning.jobs import describe_own
from kuberml.learning.types import Samples
from kuberml.scenario.play import Play
from kuberml.scenario.stage import SERVER
from tests.scenario.small import SMALL, prepared, ran, run_to_end

HEAD = HeadLearner(identity(64), tuple("0123456789"), 64, (8, 8, 1))
HONEST = {**SMALL, "learners": {"count": 4, "models": ["linear"]}}
LARGE = {**HONEST, "data": {"partition": "iid", "public": 60}}


def served(play: Play) -> dict[str, Any]:
    """What each learner serves at the end."""
    found = {actor.node: play.watch.serving(actor.node, 1 << 62) for actor in play.stage.learners}
    assert None not in found.values()
    return {node: play.watch.predictors[model] for node, model in found.items() if model is not None}


def local_samples(play: Play) -> list[Samples]:
    return [samples(actor.data.train) for actor in play.stage.learners if actor.data is not None]


def gradient(w_dC: np.ndarray[Any, Any], part: Samples) -> np.ndarray[Any, Any]:
    """Of the mean cross entropy of softmax regression, in float64."""
    z_Nd = np.concatenate([np.ones((len(part), 1)), part.x_N.reshape(len(part), -1).astype(np.float64)], axis=1)
    e_NC = np.exp(z_Nd @ w_dC - (z_Nd @ w_dC).max(axis=1, keepdims=True))
    return z_Nd.T @ (e_NC / e_NC.sum(axis=1, keepdims=True) - np.eye(10)[part.y_N]) / len(part)


def test_fedavg_with_one_full_batch_is_gradient_descent_on_the_weighted_mean() -> None:
    """w <- w - lr sum_k (n_k / n) grad_k(w)  =  w - lr grad of the pooled loss."""
    options = {"rounds": 4, "lr": 0.5, "epochs": 1, "batch": 10_000}
    play = ran({**HONEST, "paradigms": {"fedavg-head": options}})
    parts = local_samples(play)
    pooled = Samples(np.concatenate([p.x_N for p in parts]), np.concatenate([p.y_N for p in parts]), parts[0].labels)
    w_dC = np.zeros((65, 10))
    for _ in range(4):
        w_dC -= 0.5 * gradient(w_dC, pooled)
    for predictor in served(play).values():
        np.testing.assert_allclose(predictor.state.reshape(65, 10), w_dC, atol=2e-6)


def test_fedavg_averages_what_clients_trained_weighted_by_their_samples() -> None:
    """w_(r+1) = sum_k (n_k / n) fit_k(w_r), with the network and the seeds of the run."""
    play = ran({**HONEST, "data": {**HONEST["data"], "partition": "dirichlet", "options": {"alpha": 0.5}},
                "paradigms": {"fedavg": {"rounds": 2, "lr": 0.1, "epochs": 2}}})  # fmt: skip
    learner = play.stage.services[SERVER].learner
    assert learner is not None
    state = learner.init(seed_of(0, "node", "server", "init", 0))
    for r in range(2):
        states, counts = [], []
        for actor in play.stage.learners:
            assert actor.data is not None
            part = samples(actor.data.train)
            states.append(learner.fit(state, part, play.options.plan, seed_of(0, "node", actor.node, "fit", r)))
            counts.append(len(part))
        assert len(set(counts)) > 1
        state = np.average(np.stack(states), axis=0, weights=counts).astype(np.float32)
    for predictor in served(play).values():
        np.testing.assert_allclose(predictor.state, state, rtol=1e-5, atol=1e-7)


def test_one_shot_is_the_weighted_mean_of_heads() -> None:
    play = ran({**HONEST, "paradigms": {"one-shot": {"epochs": 3, "lr": 0.2}}})
    heads, counts = [], []
    for actor in play.stage.learners:
        assert actor.data is not None
        part = samples(actor.data.train)
        heads.append(HEAD.fit(HEAD.init(0), part, play.options.plan, seed_of(0, "node", actor.node, "fit", 0)))
        counts.append(len(part))
    mean = np.average(np.stack(heads), axis=0, weights=counts)
    for predictor in served(play).values():
        np.testing.assert_allclose(predictor.state, mean, rtol=1e-5, atol=1e-6)


def pooled_head(play: Play) -> Any:
    """The ridge head of everybody's samples in one place."""
    parts = local_samples(play)
    z_Nd = np.concatenate([features(identity(64), part.x_N) for part in parts])
    names = [part.labels[y] for part in parts for y in part.y_N]
    return solve(describe(z_Nd, names, basis=basis_of(play.things.extractor))[0])


def test_fed3r_s_head_is_the_pooled_ridge_head() -> None:
    play = ran({**LARGE, "paradigms": {"fed3r": {}}})
    expected = pooled_head(play)
    for predictor in served(play).values():
        assert predictor.head.labels == expected.labels
        assert np.abs(predictor.head.weights_dC - expected.weights_dC).max() < 1e-9


def test_kuber_among_the_honest_is_the_pooled_head_exactly() -> None:
    """Same integers: every learner took everybody's packet once, in whatever order, and solves the same system.

    The trial is told to trust: with its usual caution it leaves out what brings nothing, or costs an answer by chance.
    """
    trusting = {"alpha": 1.0, "bar": 0.0, "guard": 0.0, "tolerance": 1.0}
    play = ran({**LARGE, "paradigms": {"kuber": {"looks": 4, "trial": trusting}}})
    own = [describe_own(play.things.extractor, a.data.train, 1)[0] for a in play.stage.learners if a.data is not None]
    expected = solve(merge_all(own))
    assert digest(expected) == digest(pooled_head(play))
    for node, predictor in served(play).items():
        assert digest(predictor.head) == digest(expected), node


def test_local_is_one_fit_and_centralised_a_fit_on_everything() -> None:
    play = ran({**HONEST, "paradigms": {"local": {"epochs": 2}}})
    for actor in play.stage.learners:
        assert actor.learner is not None
        assert actor.data is not None
        start = actor.learner.init(seed_of(0, "node", actor.node, "init", 0))
        plan, seed = play.options.plan, seed_of(0, "node", actor.node, "fit", 0)
        state = actor.learner.fit(start, samples(actor.data.train), plan, seed)
        np.testing.assert_array_equal(served(play)[actor.node].state, state)
    play = ran({**HONEST, "paradigms": {"centralised": {"epochs": 2}}})
    parts, learner = local_samples(play), play.stage.services[SERVER].learner
    assert learner is not None
    pooled = Samples(np.concatenate([p.x_N for p in parts]), np.concatenate([p.y_N for p in parts]), parts[0].labels)
    start = learner.init(seed_of(0, "node", "server", "init", 0))
    state = learner.fit(start, pooled, play.options.plan, seed_of(0, "node", "server", "fit", 0))
    for predictor in served(play).values():  # 8 bits a value on the wire
        np.testing.assert_allclose(predictor.state, state, atol=0.02)


# --- D-PSGD -------------------------------------------------------------------------------------------------------------------

GOSSIP = {**HONEST, "learners": {"count": 6, "models": ["linear"]}, "places": {"degree": 2}}


def mixed(rounds: int) -> tuple[Play, np.ndarray[Any, Any]]:
    """D-PSGD that does not train, from a different start at each node, which stand here row by row."""
    play = prepared({**GOSSIP, "paradigms": {"dpsgd": {"rounds": rounds, "lr": 1e-30}}})
    stream, starts = np.random.default_rng(0), []
    learner = play.stage.learners[0].learner
    assert learner is not None
    for actor in play.stage.learners:
        starts.append(stream.standard_normal(learner.init(0).shape).astype(np.float32))
        play.world.store(actor.node).remember({"state": dumps(starts[-1]), "round": dumps(0)})
    run_to_end(play)
    return play, np.stack(starts)


def test_a_round_of_dpsgd_is_one_product_with_the_metropolis_matrix() -> None:
    play, starts_NP = mixed(1)
    nodes = [actor.node for actor in play.stage.learners]
    mixing = np.zeros((6, 6))
    for i, actor in enumerate(play.stage.learners):
        for j, weight in actor.mixing.items():
            mixing[i, nodes.index(j)] = weight
        mixing[i, i] = 1 - mixing[i].sum()
    assert mixing.min() >= 0
    np.testing.assert_allclose(mixing, mixing.T)
    for node, row in zip(nodes, mixing @ starts_NP, strict=True):
        np.testing.assert_allclose(served(play)[node].state, row, atol=1e-5)


def test_dpsgd_without_training_converges_to_the_average() -> None:
    play, starts_NP = mixed(60)
    for predictor in served(play).values():
        np.testing.assert_allclose(predictor.state, starts_NP.mean(axis=0), atol=1e-3)


# --- restarts -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_s", [0.4, 0.8, 1.5, 2.2])
def test_fedavg_does_every_round_once_although_its_server_crashes(at_s: float) -> None:
    crash = {"at_s": at_s, "what": "crash", "nodes": ["server"]}
    play = ran({**HONEST, "paradigms": {"fedavg": {"rounds": 4, "deadline_s": 20.0}}, "faults": [crash]})
    assert loads(play.world.store(SERVER).memory()["round"]) == 4
    said = [n.fields for n in play.notes.of("published") if n.node == "server" and n.fields["slot"] == "global"]
    assert sorted({one["version"] for one in said}) == [0, 1, 2, 3, 4]
    for version in range(5):  # a round that is done again is signed once
        assert len({one["card"] for one in said if one["version"] == version}) == 1


@pytest.mark.parametrize("at_s", [0.3, 0.9, 1.7])
def test_dpsgd_does_every_round_at_every_node_although_all_crash(at_s: float) -> None:
    crash = {"at_s": at_s, "what": "crash"}
    play = ran({**GOSSIP, "paradigms": {"dpsgd": {"rounds": 5, "patience_s": 20.0}}, "faults": [crash]})
    for actor in play.stage.learners:
        assert loads(play.world.store(actor.node).memory()["round"]) == 5
        mine = {(n.fields["version"], n.fields["card"]) for n in play.notes.of("published") if n.node == actor.node}
        assert sorted(version for version, _ in mine) == [0, 1, 2, 3, 4]
