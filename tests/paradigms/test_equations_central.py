"""Paradigms around a server against their papers' equations, step by step in numpy and float64, on softmax regression.

With one full batch a local step is an exact gradient step, so nothing of the training engine is used on the numpy side.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.rng import rng, seed_of
from kuberml.core.values import loads
from kuberml.learning.datasets import samples
from kuberml.learning.types import FitPlan
from kuberml.paradigms.fedasync import Config as FedAsync
from kuberml.paradigms.fedasync import trust
from kuberml.paradigms.scaffold import pace
from kuberml.scenario.config import parse
from kuberml.scenario.play import Play
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.stage import SERVER
from kuberml.worlds.simulated.workers import make_workers
from tests.scenario.small import SMALL, ran

Vector = np.ndarray[Any, Any]
UNEVEN = {**SMALL["data"], "partition": "dirichlet", "options": {"alpha": 0.5, "min_samples": 5}}
FOUR = {**SMALL, "learners": {"count": 4, "models": ["linear"]}, "data": UNEVEN}
NODES = ["n0", "n1", "n2", "n3"]
FULL = {"batch": 10_000, "epochs": 3, "lr": 0.3}


def remembered(play: Play, node: str = SERVER) -> dict[str, Any]:
    return {name: loads(data) for name, data in play.world.store(node).memory().items()}  # type: ignore[arg-type]


def sizes(play: Play) -> Vector:
    return np.array([len(actor.data.train) for actor in play.stage.learners if actor.data is not None], np.float64)


def start(play: Play) -> Vector:
    learner = play.stage.services[SERVER].learner
    assert learner is not None
    first: Vector = learner.init(seed_of(0, "node", "server", "init", 0)).astype(np.float64)
    return first


def gradients(play: Play) -> list[Callable[[Vector], Vector]]:
    """Of each learner's mean cross entropy; a state of "linear" is W [C, d], then b [C]."""

    def of(x_Nd: Vector, y_N: Vector) -> Callable[[Vector], Vector]:
        def gradient(w_P: Vector) -> Vector:
            logits_NC = x_Nd @ w_P[:640].reshape(10, 64).T + w_P[640:]
            e_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
            error_NC = (e_NC / e_NC.sum(axis=1, keepdims=True) - np.eye(10)[y_N]) / len(y_N)
            return np.concatenate([(error_NC.T @ x_Nd).ravel(), error_NC.sum(axis=0)])

        return gradient

    parts = [samples(actor.data.train) for actor in play.stage.learners if actor.data is not None]
    return [of(part.x_N.reshape(len(part), -1).astype(np.float64), part.y_N) for part in parts]


def descended(w_P: Vector, gradient: Callable[[Vector], Vector], steps: int = 3, lr: float = 0.3) -> Vector:
    for _ in range(steps):
        w_P = w_P - lr * gradient(w_P)
    return w_P


def served(play: Play) -> list[Vector]:
    models = [play.watch.serving(actor.node, 1 << 62) for actor in play.stage.learners]
    return [play.watch.predictors[model].state for model in models if model is not None]


def check_everybody_serves(play: Play, expected_P: Vector, atol: float = 1e-5) -> None:
    assert len(served(play)) == 4
    assert np.abs(expected_P - start(play)).max() > 0.01
    for state in served(play):
        np.testing.assert_allclose(state, expected_P, atol=atol)


# --- rounds -------------------------------------------------------------------------------------------------------------------


def test_fedprox_goes_down_the_loss_plus_mu_half_the_distance() -> None:
    play = ran({**FOUR, "paradigms": {"fedprox": {"rounds": 4, "mu": 0.8, **FULL}}})
    w_P, n = start(play), sizes(play)
    assert len(set(n)) > 1
    for _ in range(4):
        base_P = w_P
        ends = [descended(w_P, lambda y, g=g, x=base_P: g(y) + 0.8 * (y - x)) for g in gradients(play)]  # type: ignore[misc]
        w_P = np.average(ends, axis=0, weights=n)
    check_everybody_serves(play, w_P)


def test_fedprox_without_a_pull_is_fedavg_to_the_bit() -> None:
    prox = ran({**FOUR, "paradigms": {"fedprox": {"rounds": 2, "mu": 0.0}}})
    plain = ran({**FOUR, "paradigms": {"fedavg": {"rounds": 2}}})
    for one, other in zip(served(prox), served(plain), strict=True):
        assert np.array_equal(one, other)


def cohort(r: int) -> list[int]:
    """Who is asked in a round when half of four are."""
    return sorted(NODES.index(name) for name in rng(0, "node", "server", "cohort", r).choice(NODES, 2, replace=False))


@pytest.mark.parametrize("server_lr", [1.0, 0.6])
def test_scaffold_is_algorithm_1_with_option_2(server_lr: float) -> None:
    """Half of the clients in each round, so that controls are of different ages."""
    play = ran({**FOUR, "paradigms": {"scaffold": {"rounds": 7, "cohort": 0.5, "server_lr": server_lr, **FULL}}})
    x_P, slopes = start(play), gradients(play)
    c_P, own = np.zeros(650), [np.zeros(650) for _ in NODES]
    assert {k for r in range(7) for k in cohort(r)} == {0, 1, 2, 3}
    for r in range(7):
        moves, changes = [], []
        for k in cohort(r):
            y_P = descended(x_P, lambda y, k=k, c=c_P: slopes[k](y) - own[k] + c)  # type: ignore[misc]
            new_P = own[k] - c_P + (x_P - y_P) / (3 * 0.3)
            moves.append(y_P - x_P)
            changes.append(new_P - own[k])
            own[k] = new_P
        x_P = x_P + server_lr * np.mean(moves, axis=0)
        c_P = c_P + 2 / 4 * np.mean(changes, axis=0)
    check_everybody_serves(play, x_P)
    control_P = remembered(play)["control"]
    np.testing.assert_allclose(control_P, c_P, atol=1e-5)
    controls = [remembered(play, node)["control"] for node in NODES]
    np.testing.assert_allclose(np.mean(controls, axis=0), control_P, atol=1e-6)  # c is the mean of the c_k


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_control_is_the_gradient_that_its_client_saw(momentum: float) -> None:
    """At a tiny step all gradients of a fit are those at its start, also where momentum counts them more than once."""
    plan = {**FULL, "lr": 1e-3, "epochs": 5, "momentum": momentum}
    play = ran({**FOUR, "paradigms": {"scaffold": {"rounds": 1, **plan}}})
    for node, gradient in zip(NODES, gradients(play), strict=True):
        expected_P = gradient(start(play))
        assert np.abs(remembered(play, node)["control"] - expected_P).max() < 0.03 * np.abs(expected_P).max()


def test_the_pace_of_momentum_is_the_sum_of_what_each_gradient_is_counted() -> None:
    assert pace(FitPlan(lr=1.0), 7) == 7
    velocity = went = 0.0
    for _ in range(7):
        velocity = 0.9 * velocity + 1.0
        went += velocity
    assert pace(FitPlan(lr=1.0, momentum=0.9), 7) == pytest.approx(went)
    assert pace(FitPlan(lr=1.0), 0) == 0


@pytest.mark.parametrize("name", ["fedadam", "fedyogi"])
def test_fedadam_and_fedyogi_are_algorithm_2(name: str) -> None:
    options = {"server_lr": 0.02, "beta1": 0.8, "beta2": 0.9, "tau": 0.01}
    play = ran({**FOUR, "paradigms": {name: {"rounds": 6, **options, **FULL}}})
    x_P, m_P, v_P, n = start(play), np.zeros(650), np.full(650, 0.01**2), sizes(play)
    grew = shrank = 0
    for _ in range(6):
        delta_P = np.average([descended(x_P, gradient) for gradient in gradients(play)], axis=0, weights=n) - x_P
        m_P = 0.8 * m_P + 0.2 * delta_P
        before_P = v_P
        v_P = 0.9 * v_P + 0.1 * delta_P**2 if name == "fedadam" else v_P - 0.1 * delta_P**2 * np.sign(v_P - delta_P**2)
        grew, shrank = grew + (v_P > before_P).sum(), shrank + (v_P < before_P).sum()
        x_P = x_P + 0.02 * m_P / (np.sqrt(v_P) + 0.01)
    assert grew > 100
    assert shrank > 100
    check_everybody_serves(play, x_P)
    for entry, expected_P in (("m", m_P), ("v", v_P)):
        np.testing.assert_allclose(remembered(play)[entry], expected_P, rtol=1e-4, atol=1e-7)


# --- without rounds -----------------------------------------------------------------------------------------------------------


def watched(tree: dict[str, Any]) -> tuple[Play, list[tuple[int, int]]]:
    """A run, and (which client, how stale) of each update that its server took in."""
    taken: list[tuple[int, int]] = []

    class Taking:
        def record(self, event: str, **fields: Any) -> None:
            if event == "taken in":
                taken.append((NODES.index(fields["of"]), fields["staleness"]))

    config = parse(tree)
    (label,) = config.paradigms
    workers = make_workers(1)
    play = Play(config, label, 0, things=PublicThings(config), workers=workers, cache=None, records=lambda *_: Taking())
    try:
        play.run()
    finally:
        workers.close()
    return play, taken


@pytest.mark.parametrize(("form", "a", "b"), [("polynomial", 0.7, 4), ("hinge", 2.0, 1), ("constant", 0.5, 4)])
def test_fedasync_mixes_what_comes_by_its_age(form: str, a: float, b: int) -> None:
    """x <- (1 - alpha s) x + alpha s y, y from K steps down F_k + rho / 2 |y - x_base|^2, x_base as old as the record says."""
    options = {"updates": 24, "alpha": 0.5, "rho": 0.4, "staleness": form, "a": a, "b": b}
    play, taken = watched({**FOUR, "paradigms": {"fedasync": {**options, **FULL}}})
    assert len(taken) == 24
    assert len({client for client, _ in taken}) == 4
    assert max(stale for _, stale in taken) > 2
    slopes, history = gradients(play), [start(play)]
    for client, stale in taken:
        base_P = history[-1 - stale]
        y_P = descended(base_P, lambda y, k=client, x=base_P: slopes[k](y) + 0.4 * (y - x))  # type: ignore[misc]
        s = {"polynomial": (stale + 1) ** -a, "constant": 1.0, "hinge": 1 if stale <= b else 1 / (a * (stale - b) + 1)}[form]
        history.append((1 - 0.5 * s) * history[-1] + 0.5 * s * y_P)
    check_everybody_serves(play, history[-1])


def test_fedbuff_moves_by_the_mean_of_k_changes() -> None:
    play, taken = watched({**FOUR, "paradigms": {"fedbuff": {"updates": 23, "buffer": 3, "server_lr": 0.9, **FULL}}})
    assert len(taken) == 23
    assert max(stale for _, stale in taken) > 1
    slopes, history, buffer = gradients(play), [start(play)], []
    for client, stale in taken:
        base_P = history[-1 - stale]
        buffer.append((descended(base_P, slopes[client]) - base_P) / np.sqrt(1 + stale))
        if len(buffer) == 3:
            history.append(history[-1] + 0.9 * np.mean(buffer, axis=0))
            buffer = []
    check_everybody_serves(play, history[-1])
    memory = remembered(play)
    assert (memory["taken"], memory["version"], memory["buffered"]) == (23, 7, 2)
    np.testing.assert_allclose(memory["buffer"], np.sum(buffer, axis=0), atol=1e-5)


def test_a_client_never_does_the_same_work_twice() -> None:
    """The server's version stands still while its buffer fills: every fit still draws its own batches."""
    play, _ = watched({**FOUR, "paradigms": {"fedbuff": {"updates": 20, "buffer": 20, "batch": 8}}})
    for actor in play.stage.learners:
        mine = [note.fields for note in play.notes.of("published") if note.node == actor.node]
        assert len(mine) > 2
        assert [one["version"] for one in mine] == list(range(len(mine)))
        changes = {actor.node: len(mine)}
        assert remembered(play, actor.node)["fits"] >= changes[actor.node]
        assert len({one["card"] for one in mine}) == len(mine)


def test_trust_falls_with_age() -> None:
    poly, hinge = FedAsync(), FedAsync(staleness="hinge", a=10.0, b=4)
    assert [trust(poly, age) for age in (0, 3, 8)] == pytest.approx([1, 1 / 2, 1 / 3])
    assert [trust(hinge, age) for age in (0, 4, 5, 6)] == pytest.approx([1, 1, 1 / 11, 1 / 21])
    assert {trust(FedAsync(staleness="constant"), age) for age in range(9)} == {1.0}


# --- what cannot be -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fedprox", "scaffold", "fedasync"])
def test_a_learner_that_cannot_be_steered_is_refused(name: str) -> None:
    line = {"count": 4, "adapter": "sklearn", "estimator": "sklearn.linear_model:LogisticRegression"}
    with pytest.raises(ConfigError, match="SklearnLearner cannot be steered"):
        ran({**FOUR, "learners": line, "paradigms": {name: {}}})


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [("fedprox", "mu", -0.1), ("scaffold", "server_lr", 0.0), ("fedadam", "tau", 0.0), ("fedyogi", "beta2", 1.0),
     ("fedasync", "alpha", 1.5), ("fedasync", "staleness", "linear"), ("fedbuff", "buffer", 0)],
)  # fmt: skip
def test_impossible_options_are_named(name: str, option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"paradigms\.{name}\.{option}"):
        ran({**FOUR, "paradigms": {name: {option: value}}})


# --- fusion -------------------------------------------------------------------------------------------------------------------


def test_feddf_goes_down_the_divergence_from_the_mean_of_logits() -> None:
    """The gradient of KL(p || softmax(x W)) is x (softmax - p): two full-batch steps on the probe after each weighted mean."""
    options = {"rounds": 2, "fusion_lr": 0.5, "fusion_epochs": 2, **FULL}
    play = ran({**FOUR, "paradigms": {"feddf": options}})
    x_Nd = play.things.probe.inputs().reshape(60, -1).astype(np.float64)

    def logits(w_P: Vector) -> Vector:
        found: Vector = x_Nd @ w_P[:640].reshape(10, 64).T + w_P[640:]
        return found

    def softmax(logits_NC: Vector) -> Vector:
        e_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
        found: Vector = e_NC / e_NC.sum(axis=1, keepdims=True)
        return found

    w_P = start(play)
    for _ in range(2):
        ends = [descended(w_P, gradient) for gradient in gradients(play)]
        taught_NC = softmax(np.mean([logits(end) for end in ends], axis=0))
        w_P = np.average(ends, axis=0, weights=sizes(play))
        for _ in range(2):
            error_NC = (softmax(logits(w_P)) - taught_NC) / 60
            w_P = w_P - 0.5 * np.concatenate([(error_NC.T @ x_Nd).ravel(), error_NC.sum(axis=0)])
    check_everybody_serves(play, w_P)
