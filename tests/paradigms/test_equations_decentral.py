"""The decentralised paradigms on tiny problems, against their equations, computed by hand in numpy; and when nodes crash."""

from typing import Any

import numpy as np
import pytest

from kuberml.core.rng import seed_of
from kuberml.core.values import dumps, loads
from kuberml.exchange.pulled import packed
from kuberml.knowledge.kinds.weights import blob_of
from kuberml.learning.datasets import samples
from kuberml.learning.mixing import step_factor
from kuberml.learning.sparsity import mean_of_holders
from kuberml.paradigms.divshare import Config as Fragments
from kuberml.paradigms.divshare import averaged, cut
from kuberml.paradigms.epidemic import receivers
from kuberml.scenario.play import Play
from tests.paradigms.test_equations import served
from tests.scenario.small import SMALL, prepared, run_to_end

FEW: dict[str, Any] = {**SMALL, "learners": {"count": 4, "models": ["linear"]}, "places": {"degree": 3}}
STILL = 1e-30
"""A learning rate that moves nothing."""


def memory(play: Play, node: str) -> dict[str, Any]:
    return {name: loads(data) for name, data in play.world.store(node).memory().items()}  # type: ignore[arg-type]


def started(tree: dict[str, Any], **beside: Any) -> tuple[Play, np.ndarray[Any, Any]]:
    """A run whose nodes start from different points, which stand here row by row."""
    play, stream, starts = prepared(tree), np.random.default_rng(0), []
    for actor in play.stage.learners:
        assert actor.learner is not None
        starts.append(stream.standard_normal(actor.learner.init(0).shape).astype(np.float32))
        play.world.store(actor.node).remember({"state": dumps(starts[-1]), **{k: dumps(v) for k, v in beside.items()}})
    run_to_end(play)
    return play, np.stack(starts)


def fitted(play: Play, position: int, state: Any, seed: int, **plan: Any) -> Any:
    """What a learner makes of a state on its own data."""
    actor = play.stage.learners[position]
    assert actor.learner is not None
    assert actor.data is not None
    chosen = type(play.options.plan)(
        **{**{f: getattr(play.options.plan, f) for f in play.options.plan.__struct_fields__}, **plan}
    )
    return actor.learner.fit(state, samples(actor.data.train), chosen, seed_of(0, "node", actor.node, "fit", seed))


# --- AD-PSGD ------------------------------------------------------------------------------------------------------------------

PAIR = {**FEW, "learners": {"count": 2, "models": ["linear"]}, "places": {"degree": 1}}


def test_an_exchange_of_adpsgd_is_the_symmetric_average() -> None:
    play, starts_NP = started({**PAIR, "paradigms": {"adpsgd": {"rounds": 1, "lr": STILL, "pause_s": 0.5}}})
    answered = [memory(play, actor.node)["answered"] for actor in play.stage.learners]
    assert any(answered), "they met"
    for actor in play.stage.learners:
        np.testing.assert_allclose(memory(play, actor.node)["state"], starts_NP.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(served(play)[actor.node].state, starts_NP.mean(axis=0), atol=1e-6)


def test_an_iteration_of_adpsgd_is_the_average_less_the_step_at_the_model_before() -> None:
    """Only n0 iterates: x_0 <- (x_0 + x_1) / 2 + (fit(x_0) - x_0); x_1 <- (x_0 + x_1) / 2."""
    play, stream = prepared({**PAIR, "paradigms": {"adpsgd": {"rounds": 1, "lr": 0.3}}}), np.random.default_rng(0)
    starts = [stream.standard_normal(play.stage.learners[0].learner.init(0).shape).astype(np.float32) for _ in range(2)]  # type: ignore[union-attr]
    for i, actor in enumerate(play.stage.learners):
        play.world.store(actor.node).remember({"state": dumps(starts[i]), "round": dumps(i)})
    run_to_end(play)
    change = fitted(play, 0, starts[0], 0) - starts[0]
    np.testing.assert_allclose(memory(play, "n0")["state"], (starts[0] + starts[1]) / 2 + change, atol=1e-5)
    np.testing.assert_allclose(memory(play, "n1")["state"], (starts[0] + starts[1]) / 2, atol=1e-6)


def test_adpsgd_without_training_keeps_the_sum_and_comes_together_although_all_ask_at_once() -> None:
    """Four equal devices, everybody everybody's neighbour: every exchange of all of them collides at first."""
    equal = {"degree": 3, "devices": "hospital", "links": "lan"}
    play, starts_NP = started({**FEW, "places": equal, "paradigms": {"adpsgd": {"rounds": 25, "lr": STILL}}})
    ends_NP = np.stack([memory(play, actor.node)["state"] for actor in play.stage.learners])
    np.testing.assert_allclose(ends_NP.mean(axis=0), starts_NP.mean(axis=0), atol=1e-5)
    assert np.abs(ends_NP - ends_NP.mean(axis=0)).max() < 0.02 * np.abs(starts_NP - starts_NP.mean(axis=0)).max()
    assert all(memory(play, actor.node)["round"] == 25 for actor in play.stage.learners)


@pytest.mark.parametrize("at_s", [0.05, 0.35, 0.8, 1.3, 2.1])
def test_adpsgd_counts_every_exchange_once_although_nodes_crash(at_s: float) -> None:
    """The sum over all nodes is what an exchange that counted on one side only would change."""
    faults = [{"at_s": at_s + k * 0.37, "what": "crash", "nodes": [f"n{k}"]} for k in range(4)]
    tree = {**FEW, "paradigms": {"adpsgd": {"rounds": 8, "lr": STILL, "patience_s": 5.0}}, "faults": faults}
    play, starts_NP = started(tree)
    ends_NP = np.stack([memory(play, actor.node)["state"] for actor in play.stage.learners])
    np.testing.assert_allclose(ends_NP.sum(axis=0), starts_NP.sum(axis=0), atol=1e-4)
    assert all(memory(play, actor.node)["round"] == 8 for actor in play.stage.learners)


def test_a_corrected_step_is_divided_by_the_rate_over_the_mean_rate() -> None:
    tree = {**FEW, "places": {"degree": 3, "devices": "phones"}}
    play, _ = started(
        {**tree, "paradigms": {"adpsgd": {"for_s": 20.0, "rounds": 0, "lr": STILL, "corrected": True, "pause_s": 0.5}}}
    )
    kept = [memory(play, actor.node) for actor in play.stage.learners]
    rates = [one["rate"] for one in kept]
    assert max(rates) > 1.2 * min(rates)
    for one in kept:  # averaged along with the models: everybody knows the mean rate
        assert one["mean_rate"] == pytest.approx(np.mean(rates), rel=0.4)
    assert np.mean([one["mean_rate"] for one in kept]) == pytest.approx(np.mean(rates), rel=1e-6)
    assert step_factor(min(rates) / float(np.mean(rates))) > 1 > step_factor(max(rates) / float(np.mean(rates)))


# --- Epidemic Learning --------------------------------------------------------------------------------------------------------


def test_a_round_of_epidemic_learning_averages_what_came_in() -> None:
    play, starts_NP = started({**FEW, "paradigms": {"epidemic": {"rounds": 1, "peers": 2, "lr": STILL}}}, round=0)
    to_NS = receivers(0, 0, 4, 2)
    for i, actor in enumerate(play.stage.learners):
        came = [j for j in range(4) if i in to_NS[j]]
        np.testing.assert_allclose(served(play)[actor.node].state, starts_NP[[i, *came]].mean(axis=0), atol=1e-6)


def test_every_node_sends_to_s_others_each_as_often() -> None:
    counts = np.zeros((6, 6))
    for r in range(600):
        to_NS = receivers(3, r, 6, 2)
        assert all(len({i, *row}) == 3 for i, row in enumerate(to_NS.tolist()))
        for i, row in enumerate(to_NS):
            counts[i, row] += 1
    off = counts[~np.eye(6, dtype=bool)]
    assert counts.trace() == 0
    assert np.abs(off - 240).max() < 5 * np.sqrt(240 * 0.6)
    assert receivers(3, 0, 3, 9).shape == (3, 2)


@pytest.mark.parametrize("at_s", [0.3, 1.0])
def test_epidemic_does_every_round_although_all_crash(at_s: float) -> None:
    options = {"rounds": 5, "peers": 2, "patience_s": 20.0}
    play = prepared({**FEW, "paradigms": {"epidemic": options}, "faults": [{"at_s": at_s, "what": "crash"}]})
    run_to_end(play)
    assert all(memory(play, actor.node)["round"] == 5 for actor in play.stage.learners)


# --- fragments ----------------------------------------------------------------------------------------------------------------


def test_fragments_cover_a_model_once_and_each_weight_is_averaged_with_what_came_for_it() -> None:
    cfg, state = Fragments(fragments=3), np.arange(10, dtype=np.float32)
    assert sorted(i for place in range(3) for i in range(10)[cut(place, 10, cfg)]) == list(range(10))
    came: Any = {
        ("a", 0): np.full(4, 1.0, np.float32),
        ("b", 0): np.full(4, 4.0, np.float32),
        ("b", 2): np.full(3, 7.0, np.float32),
    }
    expected = state.copy()
    expected[0::3] = (state[0::3] + 1 + 4) / 3
    expected[2::3] = (state[2::3] + 7) / 2
    np.testing.assert_allclose(averaged(state, came, cfg), expected, rtol=1e-6)


def test_without_training_nodes_that_share_fragments_come_together() -> None:
    tree = {**FEW, "places": {"degree": 3, "links": "lan", "devices": "phones"}}
    options = {"rounds": 60, "lr": STILL, "epochs": 10, "fragments": 4}
    play, starts_NP = started({**tree, "paradigms": {"divshare": options}})
    ends_NP = np.stack([predictor.state for predictor in served(play).values()])
    assert np.abs(ends_NP - ends_NP.mean(axis=0)).max() < 0.05 * np.abs(starts_NP - starts_NP.mean(axis=0)).max()
    assert (ends_NP >= starts_NP.min(axis=0) - 1e-4).all()
    assert (ends_NP <= starts_NP.max(axis=0) + 1e-4).all()


# --- AEDFL --------------------------------------------------------------------------------------------------------------------

PLAIN = {"corrected": False, "staleness": False, "learned": False, "sparse": False}


def test_an_aedfl_node_mixes_its_neighbours_newest_models_with_metropolis_weights() -> None:
    """Nobody trains yet: the first to mix has everybody's first model."""
    play, starts_NP = started({**FEW, "paradigms": {"aedfl": {**PLAIN, "rounds": 0}}})
    nodes = [actor.node for actor in play.stage.learners]
    for i, actor in enumerate(play.stage.learners):
        row = np.array([actor.mixing.get(node, 0.0) for node in nodes])
        row[i] = 1 - row.sum()
        np.testing.assert_allclose(served(play)[actor.node].state, row @ starts_NP, atol=1e-5)


def test_staleness_weights_of_aedfl_are_those_of_its_equation() -> None:
    play, starts_NP = started({**FEW, "paradigms": {"aedfl": {"rounds": 0, "mu": 0.5}}}, version=7)
    for i, actor in enumerate(play.stage.learners):
        others = [j for j in range(4) if j != i]
        weight = 0.5 * (1.0 + 0.1)  # nobody is behind
        expected = (starts_NP[i] + weight * starts_NP[others].sum(axis=0)) / (1 + 3 * weight)
        np.testing.assert_allclose(served(play)[actor.node].state, expected, atol=1e-5)


def test_versions_of_aedfl_are_lamport_clocks_and_its_share_stays_1_with_metropolis_weights() -> None:
    play, _ = started({**FEW, "paradigms": {"aedfl": {**PLAIN, "rounds": 6, "lr": STILL}}})
    for actor in play.stage.learners:
        kept = memory(play, actor.node)
        assert kept["round"] == 6
        assert kept["version"] >= 6
        assert kept["ratio"] == pytest.approx(1.0, abs=0.05)


def test_masked_models_of_aedfl_are_small_stay_masked_and_cost_less() -> None:
    masks = {"every": 1, "warm_up": 1, "slope": 1.0, "rise": 1e9, "least": 0.3, "refresh": 3}
    tree = {**FEW, "learners": {"count": 4, "models": ["mlp"], "options": {"mlp": {"hidden": [32]}}}}
    whole = run_to_end(prepared({**tree, "paradigms": {"aedfl": {**PLAIN, "rounds": 8, "epochs": 10}}}))
    play = prepared(
        {**tree, "paradigms": {"aedfl": {**PLAIN, "sparse": True, "rounds": 8, "epochs": 10, "masks": masks, "look": 1}}}
    )
    sparse = run_to_end(play)
    for actor in play.stage.learners:
        kept = memory(play, actor.node)
        mask, state = kept["mask"], kept["state"]
        assert 0.3 <= mask.mean() < 0.45
        assert not state[~mask].any()
        weights = packed(state, mask, 1.0, {}, actor.data.counts)  # type: ignore[union-attr]
        assert len(blob_of(weights)) < 0.55 * len(blob_of(packed(state, None, 1.0, {}, {})))
        others = np.asarray(served(play)[actor.node].state)
        assert not others[~mask].any()
    assert sparse.bytes_moved < 0.75 * whole.bytes_moved
    assert sparse.flops < 0.85 * whole.flops


def test_the_mean_of_masked_models_counts_holders_only() -> None:
    one, two = np.array([2.0, 4.0, 0.0], np.float32), np.array([4.0, 0.0, 0.0], np.float32)
    mean_P, _ = mean_of_holders([(one, np.array([True, True, False]), 1.0), (two, np.array([True, False, False]), 3.0)], one)
    np.testing.assert_allclose(mean_P, [3.5, 4.0, 0.0])


@pytest.mark.parametrize("name", ["aedfl", "divshare"])
def test_a_node_that_crashes_goes_on_where_it_was(name: str) -> None:
    faults = [{"at_s": at_s, "what": "crash", "nodes": [f"n{k}" for k in range(4)]} for at_s in (0.4, 1.1)]
    play = prepared({**FEW, "paradigms": {name: {"rounds": 6, "patience_s": 5.0}}, "faults": faults})
    summary = run_to_end(play)
    assert all(memory(play, actor.node)["round"] == 6 for actor in play.stage.learners)
    for actor in play.stage.learners:
        said = [n.fields for n in play.notes.of("published") if n.node == actor.node]
        for slot, version in {(one["slot"], one["version"]) for one in said}:
            assert len({one["card"] for one in said if (one["slot"], one["version"]) == (slot, version)}) == 1
    assert np.mean(list(summary.accuracy.values())) > 0.2
