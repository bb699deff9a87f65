"""FedProto, FedPFT and QKT against their equations in numpy and float64."""

from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.rng import rng, seed_of
from kuberml.core.values import loads
from kuberml.knowledge.kinds.weights import Weights
from kuberml.learning.datasets import samples
from kuberml.learning.extractors import features, make_extractor
from kuberml.learning.feature_prototypes import Nearest, Prototypes
from kuberml.learning.head_learner import HeadLearner
from kuberml.learning.masked_transfer import experts, masked, transfer
from kuberml.learning.mixtures import Mixtures, draw, fit_mixture, packed, unpacked
from kuberml.learning.predictor import Network
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import DataRef, FitPlan, Samples
from kuberml.scenario.play import Play
from kuberml.scenario.stage import SERVER
from tests.scenario.small import SMALL, ran

Vector = np.ndarray[Any, Any]
UNEVEN = {**SMALL["data"], "partition": "dirichlet", "options": {"alpha": 0.5, "min_samples": 5}}
TREE = {**SMALL, "learners": {"count": 3, "models": ["tests.paradigms.two_linear:TwoLinear"]}, "data": UNEVEN}
NODES = ("n0", "n1", "n2")
LABELS = tuple(str(label) for label in range(10))


def remembered(play: Play, node: str = SERVER) -> dict[str, Any]:
    return {name: loads(data) for name, data in play.world.store(node).memory().items()}  # type: ignore[arg-type]


def owned(play: Play) -> list[Samples]:
    return [samples(actor.data.train) for actor in play.stage.learners if actor.data is not None]


def softmax(logits_NC: Vector) -> Vector:
    e_NC: Vector = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    found: Vector = e_NC / e_NC.sum(axis=1, keepdims=True)
    return found


def served(play: Play, node: str) -> Any:
    model = play.watch.serving(node, 1 << 62)  # type: ignore[arg-type]
    assert model is not None
    return play.watch.predictors[model]


# --- FedProto -----------------------------------------------------------------------------------------------------------------


class TwoLayers:
    """softmax(W2 (W1 x + b1) + b2); features are the six numbers between. Its gradient of CE + weight * MSE, by hand."""

    def __init__(self, state_P: Vector) -> None:
        w1, self.b1, w2, self.b2 = (part.astype(np.float64) for part in np.split(state_P, np.cumsum([64 * 6, 6, 6 * 10])))
        self.w1, self.w2 = w1.reshape(6, 64), w2.reshape(10, 6)

    def step(self, own: Samples, means_Cd: Vector, known_C: Vector, weight: float, lr: float) -> None:
        x, n = own.x_N.reshape(len(own), -1).astype(np.float64), len(own)
        z = self.features(own)
        error = (softmax(z @ self.w2.T + self.b2) - np.eye(10)[own.y_N]) / n
        apart = (z - means_Cd[own.y_N]) * known_C[own.y_N][:, None]
        down = error @ self.w2 + weight * 2 * apart / z.size
        self.w2, self.b2 = self.w2 - lr * error.T @ z, self.b2 - lr * error.sum(0)
        self.w1, self.b1 = self.w1 - lr * down.T @ x, self.b1 - lr * down.sum(0)

    def features(self, own: Samples) -> Vector:
        found: Vector = own.x_N.reshape(len(own), -1).astype(np.float64) @ self.w1.T + self.b1
        return found

    @property
    def state(self) -> Vector:
        return np.concatenate([self.w1.ravel(), self.b1, self.w2.ravel(), self.b2])


@pytest.mark.parametrize(("by_samples", "least"), [(True, 1), (False, 1), (True, 5)])
def test_fedproto_is_algorithm_1(by_samples: bool, least: int) -> None:
    """Full batches: every step of every client's own network, its class means, and their mean at the server.

    What is ours: the mean of a label with fewer samples than `least` stays with its client.
    """
    options = {"rounds": 3, "weight": 2.0, "lr": 0.2, "batch": 10_000, "epochs": 2, "by_samples": by_samples}
    options["min_class_count"] = least
    play = ran({**TREE, "paradigms": {"fedproto": options}})
    learner = play.stage.services[SERVER].learner
    assert learner is not None
    nets = [TwoLayers(learner.init(seed_of(0, "node", node, "init", 0))) for node in NODES]
    means_Cd, known_C = np.zeros((10, 6)), np.zeros(10)
    for _ in range(3):
        sums_Cd, weight_C = np.zeros((10, 6)), np.zeros(10)
        for net, own in zip(nets, owned(play), strict=True):
            for _epoch in range(2):
                net.step(own, means_Cd, known_C, 2.0, 0.2)
            for label in np.unique(own.y_N):
                mine = net.features(own)[own.y_N == label]
                if len(mine) < least:
                    continue
                each = len(mine) if by_samples else 1
                sums_Cd[label] += each * mine.mean(axis=0)
                weight_C[label] += each
        means_Cd, known_C = sums_Cd / np.maximum(weight_C, 1)[:, None], (weight_C > 0) * 1.0
    assert {len(np.unique(own.y_N)) for own in owned(play)} != {10}
    rare = sum(int(((np.bincount(own.y_N) > 0) & (np.bincount(own.y_N) < least)).sum()) for own in owned(play))
    assert (rare > 0) == (least > 1)
    assert sum(len(note.fields["labels"]) for note in play.notes.of("withheld")) == rare
    np.testing.assert_allclose(remembered(play)["means"], means_Cd, atol=1e-5)
    for node, net, own in zip(NODES, nets, owned(play), strict=True):
        np.testing.assert_allclose(remembered(play, node)["state"], net.state, atol=1e-5)
        apart_NC = ((net.features(own)[:, None, :] - means_Cd) ** 2).sum(axis=2)
        apart_NC[:, known_C == 0] = np.inf
        said_NC = served(play, node).predict(own.x_N)
        np.testing.assert_array_equal(said_NC.argmax(axis=1), apart_NC.argmin(axis=1))
        assert isinstance(served(play, node), Nearest)


def test_without_a_weight_fedproto_trains_alone() -> None:
    play = ran({**TREE, "paradigms": {"fedproto": {"rounds": 1, "weight": 0.0, "answer": "network"}}})
    for node, own in zip(NODES, owned(play), strict=True):
        learner = play.stage.services[SERVER].learner
        assert isinstance(learner, TorchLearner)
        start = learner.init(seed_of(0, "node", node, "init", 0))
        alone = learner.fit(start, own, FitPlan(lr=0.1), seed_of(0, "node", node, "fit", 0))
        np.testing.assert_array_equal(served(play, node).state, alone)


def test_networks_of_other_shapes_meet_in_their_features() -> None:
    """Two architectures whose last layers take equally many numbers; and one whose does not is refused by the server."""
    mixed = {"count": 3, "models": ["mlp", "lenet"], "options": {"mlp": {"hidden": [32]}}}
    play = ran({**TREE, "learners": mixed, "paradigms": {"fedproto": {"rounds": 2}}})
    assert remembered(play)["means"].shape == (10, 32)
    assert remembered(play)["known"].any()
    assert len({served(play, node).learner.architecture for node in NODES}) == 2


def test_features_are_what_goes_into_the_last_layer() -> None:
    for model, d in (("lenet", 84), ("resnet8", 64), ("mlp", 200), ("linear", 784)):
        learner = TorchLearner(model, (28, 28, 1), LABELS)
        x_N, state = rng(0, "x").random((3, 28, 28, 1), dtype=np.float32), learner.init(1)
        assert learner.feature_count == d
        parts = learner.tensors(state)
        *_, weight, bias = parts.values()
        logits_NC = learner.features(state, x_N) @ weight.T + bias
        np.testing.assert_allclose(np.exp(learner.predict(state, x_N)), softmax(logits_NC), atol=1e-5)


def test_prototypes_of_other_features_and_learners_without_any_are_refused() -> None:
    learner = TorchLearner("mlp", (8, 8, 1), LABELS, {"hidden": [5]})
    wrong = Prototypes(np.zeros((10, 6), np.float32), np.ones(10, np.bool_))
    with pytest.raises(ConfigError, match="not of 10 labels and 5 features"):
        learner.fit(learner.init(0), samples(DataRef("digits", "train", np.arange(9, dtype=np.int32))), FitPlan(0.1), 0,
                    towards=wrong)  # fmt: skip
    line = {"count": 3, "adapter": "sklearn", "estimator": "sklearn.linear_model:LogisticRegression"}
    with pytest.raises(ConfigError, match="shows no features"):
        ran({**TREE, "learners": line, "paradigms": {"fedproto": {}}})


# --- FedPFT -------------------------------------------------------------------------------------------------------------------


def test_fedpft_by_hand_with_one_spherical_component() -> None:
    """Means and one variance a label, drawn from by the same streams; two full-batch steps of softmax regression."""
    options = {"components": 1, "covariance": "spherical", "half": False, "min_class_count": 2,
               "lr": 0.5, "batch": 10**6, "epochs": 2}  # fmt: skip
    play = ran({**TREE, "paradigms": {"fedpft": options}})
    seed = seed_of(0, "node", "server", "head", 0)
    z, y = [], []
    for number, own in enumerate(owned(play)):
        flat = features(play.things.extractor, own.x_N).astype(np.float64)
        for label in np.unique(own.y_N):
            mine = flat[own.y_N == label]
            if len(mine) < 2:
                continue
            stream = rng(seed, "draw", number, str(label))
            stream.choice(1, len(mine), p=[1.0])
            deviation = np.sqrt(max(1e-6, ((mine - mine.mean(0)) ** 2).mean()))
            z.append(mine.mean(0) + deviation * stream.standard_normal(mine.shape))
            y += [label] * len(mine)
    z_Nd = np.concatenate([np.ones((len(y), 1)), np.concatenate(z)], axis=1)
    w_dC = np.zeros((z_Nd.shape[1], 10))
    for _ in range(2):
        w_dC -= 0.5 * z_Nd.T @ (softmax(z_Nd @ w_dC) - np.eye(10)[y]) / len(y)
    for node in NODES:
        np.testing.assert_allclose(served(play, node).state, w_dC.ravel(), atol=1e-5)
    assert np.abs(w_dC).max() > 0.01


@pytest.mark.parametrize("form", ["spherical", "diagonal"])
def test_a_mixture_finds_its_clusters(form: Any) -> None:
    stream = np.random.default_rng(3)
    centres_Kd, sizes = np.array([[0.0, 0, 0], [6, 0, 0], [0, 6, 6]]), (300, 200, 100)
    z_Nd = np.concatenate([c + 0.5 * stream.standard_normal((n, 3)) for c, n in zip(centres_Kd, sizes, strict=True)])
    found = [fit_mixture(z_Nd, 3, form, seed) for seed in range(6)]
    means_Kd, variances_KD, shares_K = max(found, key=lambda one: one[2].min())  # expectation-maximisation is local
    order = [int(((means_Kd - centre) ** 2).sum(axis=1).argmin()) for centre in centres_Kd]
    np.testing.assert_allclose(means_Kd[order], centres_Kd, atol=0.15)
    np.testing.assert_allclose(variances_KD, 0.25, rtol=0.35)
    np.testing.assert_allclose(shares_K[order], [1 / 2, 1 / 3, 1 / 6], atol=0.01)
    assert variances_KD.shape == (3, 1 if form == "spherical" else 3)


def test_draws_have_the_moments_of_the_mixture_and_packets_survive_the_wire() -> None:
    extractor = make_extractor("identity", np.zeros((1, 2, 2, 1), np.float32), 0)
    learner = HeadLearner(extractor, ("a", "b"), 4, (2, 2, 1))
    means, variances = np.array([[[1, 2, 3, 4.0]], [[0, 0, 0, 0]]]), np.array([[[0.25]], [[4.0]]])
    shares = np.ones((2, 1), np.float32)
    one = Mixtures({"a": 20_000, "b": 10}, means.astype(np.float32), variances.astype(np.float32), shares)
    back = unpacked(packed(one, extractor, half=True), learner)
    assert back.counts == one.counts
    z_Nd, y_N = draw([back], learner.labels, 7)
    assert np.bincount(y_N).tolist() == [20_000, 10]
    np.testing.assert_allclose(z_Nd[y_N == 0].mean(axis=0), [1, 2, 3, 4], atol=0.02)
    np.testing.assert_allclose(z_Nd[y_N == 0].var(axis=0), 0.25, rtol=0.05)
    wrong = Weights({**packed(one, extractor, half=False).tensors, "shares": -shares}, {"a": 1, "b": 1}, (), "fp32",
                    packed(one, extractor, half=False).basis)  # fmt: skip
    with pytest.raises(RemoteError, match="0 or more"):
        unpacked(wrong, learner)
    with pytest.raises(RemoteError, match="not this task's"):
        unpacked(Weights(wrong.tensors, {"a": 1, "c": 1}, (), "fp32", wrong.basis), learner)
    nothing = {name: part[:0] for name, part in wrong.tensors.items()}
    with pytest.raises(RemoteError, match="of no label"):
        unpacked(Weights(nothing, {}, (), "fp32", wrong.basis), learner)


# --- QKT ----------------------------------------------------------------------------------------------------------------------


def test_qkt_goes_down_cross_entropy_and_the_masked_divergence() -> None:
    """(1 - alpha) CE + alpha T² mean KL(teacher || student over the mask), one full batch; its value and both phases' steps."""
    learner = TorchLearner("tests.paradigms.two_linear:TwoLinear", (8, 8, 1), LABELS)
    ref = DataRef("digits", "train", np.arange(40, dtype=np.int32))
    own, start = samples(ref), learner.init(0)
    teachers = [learner.init(1), learner.init(2)]
    masks = [np.isin(np.arange(10), [1, 2, 5]), np.isin(np.arange(10), [0, 7])]
    t, alpha, lr = 3.0, 0.4, 0.7
    soft = masked(learner, teachers, masks, own.x_N, temperature=t, alpha=alpha)
    x = own.x_N.reshape(40, -1).astype(np.float64)

    def down(net: TwoLayers, *, head_only: bool) -> None:
        z = x @ net.w1.T + net.b1
        logits = z @ net.w2.T + net.b2
        error = (1 - alpha) * (softmax(logits) - np.eye(10)[own.y_N]) / 40
        for place, (state, mask) in enumerate(zip(teachers, masks, strict=True)):
            said = learner.predict(state, own.x_N).astype(np.float64)
            wanted, mine = np.zeros((40, 10)), np.zeros((40, 10))
            wanted[:, mask], mine[:, mask] = softmax(said[:, mask] / t), softmax(logits[:, mask] / t)
            np.testing.assert_allclose(soft.probs_NC[40 * place : 40 * place + 40], wanted, atol=1e-6)
            error += alpha * t**2 * (mine - wanted) / t / 80
        back = error @ net.w2
        net.w2, net.b2 = net.w2 - lr * error.T @ z, net.b2 - lr * error.sum(0)
        if not head_only:
            net.w1, net.b1 = net.w1 - lr * back.T @ x, net.b1 - lr * back.sum(0)

    net = TwoLayers(start)
    down(net, head_only=False)
    down(net, head_only=True)
    plan = FitPlan(lr=lr, steps=1, batch=10_000)
    found = transfer(learner, start, ref, teachers, masks, None, plan, 5, t, alpha)
    assert np.abs(found - start).max() > 0.01
    np.testing.assert_allclose(found, net.state, atol=2e-6)


def test_noise_shows_what_a_model_has_learned() -> None:
    """Of a model trained on some labels, the mask holds those and no others: digits, half an even probability."""
    learner = TorchLearner("mlp", (8, 8, 1), LABELS, {"hidden": [32]})
    every = samples(DataRef("digits", "train", np.arange(600, dtype=np.int32)))
    for known in ((0, 3), (1, 4, 7), (2, 5, 8, 9)):
        mine = np.flatnonzero(np.isin(every.y_N, known))
        part = Samples(every.x_N[mine], every.y_N[mine], every.labels)
        state = learner.fit(learner.init(0), part, FitPlan(lr=0.1, epochs=15), 1)
        assert np.flatnonzero(experts(learner, state, (8, 8, 1), 256, 0.5, 9)).tolist() == list(known)
    assert experts(learner, learner.init(0), (8, 8, 1), 256, 0.5, 9).sum() > 5  # who knows nothing knows no label better


def test_a_query_chooses_its_teachers() -> None:
    """A learner of every label asks for nothing; cards tell no labels; who learns from others remembers that it did."""
    tree = {**SMALL, "data": {**SMALL["data"], "partition": "labels", "options": {"per_learner": 3}},
            "learners": {"count": 6, "models": ["mlp"], "options": {"mlp": {"hidden": [32]}}}}  # fmt: skip
    options = {"lr": 0.2, "epochs": 15, "teachers": 3}
    play = ran({**tree, "paradigms": {"qkt": options}})
    done = {node: remembered(play, node)["done"] for node in ("n0", "n1", "n2", "n3", "n4", "n5")}
    assert set(done.values()) <= {"alone", "taught"}
    assert "taught" in done.values()
    for note in play.notes.of("published"):
        assert not note.fields["labels"]
    alone = ran({**tree, "data": {**tree["data"], "options": {"per_learner": 10}}, "paradigms": {"qkt": options}})
    assert {remembered(alone, node)["done"] for node in done} == {"alone"}
    for node in done:
        assert isinstance(served(play, node), Network)
