"""Split learning against training the uncut network, and what really crosses the cut; SplitFed against FedAvg of two parts."""

from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.rng import rng, seed_of
from kuberml.core.values import loads
from kuberml.knowledge.kinds.weights import Weights, blob_of
from kuberml.knowledge.tensors import decode
from kuberml.learning.datasets import samples
from kuberml.learning.split import cut
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import Array, FitPlan
from kuberml.scenario.play import Play
from kuberml.scenario.stage import SERVER
from kuberml.worlds.simulated.links import HEADER_BYTES
from kuberml.worlds.simulated.store import SimulatedStore
from tests.scenario.small import SMALL, ran

UNEVEN = {**SMALL["data"], "partition": "dirichlet", "options": {"alpha": 0.5, "min_samples": 5}}
THREE = {"count": 3, "models": ["mlp"], "options": {"mlp": {"hidden": [24, 12]}}}
TREE = {**SMALL, "learners": THREE, "data": UNEVEN}
BATCHES = {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.01, "batch": 8, "steps": 5}
NODES = ("n0", "n1", "n2")
LABELS = tuple(str(label) for label in range(10))


def split_run(name: str, tree: dict[str, Any] = TREE, **options: Any) -> Play:
    return ran({**tree, "paradigms": {name: {**BATCHES, **options}}})


def learner_of(play: Play) -> TorchLearner:
    learner = play.stage.services[SERVER].learner
    assert isinstance(learner, TorchLearner)
    return learner


def trained(play: Play, node: str, state: Array, number: int) -> Array:
    """The uncut network, by the ordinary engine, on the batches of a client's turn."""
    (actor,) = [one for one in play.stage.learners if one.node == node]
    assert actor.data is not None
    seed = seed_of(0, "node", node, "fit", number)
    return learner_of(play).fit(state, samples(actor.data.train), FitPlan(**BATCHES), seed)


def start(play: Play) -> Array:
    return learner_of(play).init(seed_of(0, "node", "server", "init", 0))


def remembered(play: Play) -> Any:
    return loads(play.world.store(SERVER).memory()["weights"])


# --- split learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["shared", "stay"])
@pytest.mark.parametrize("model", ["mlp", "lenet", "cnn"])
def test_turns_are_training_the_uncut_network(model: str, labels: str) -> None:
    """Client after client on the same batches, with momentum in each turn. Every built-in layer sees the same numbers."""
    tree = {**TREE, "learners": {**THREE, "models": [model]}}
    play = split_run("split", tree, rounds=2, labels=labels)
    expected = start(play)
    for r in range(2):
        for place, node in enumerate(rng(0, "node", "server", "order", r).permutation(NODES).tolist()):
            expected = trained(play, node, expected, 3 * r + place)
    assert np.abs(expected - start(play)).max() > 0.05
    np.testing.assert_allclose(remembered(play), expected, rtol=0, atol=1e-6)
    if model == "mlp":
        np.testing.assert_array_equal(remembered(play), expected)  # to the bit
    models = [play.watch.serving(actor.node, 1 << 62) for actor in play.stage.learners]
    for found in models:
        assert found is not None
        np.testing.assert_array_equal(play.watch.predictors[found].state, remembered(play))


def test_a_cut_between_images_is_the_uncut_network_too() -> None:
    """What passes is then (H, W, channels), in the memory order that the engine has."""
    for model, at in (("lenet", "3"), ("resnet8", "4"), ("cnn", "1")):
        options = {"resnet8": {"width": 4}} if model == "resnet8" else {}
        tree = {**TREE, "learners": {"count": 2, "models": [model], "options": options}, "places": {"degree": 1}}
        play = split_run("split", tree, rounds=1, cut=at, labels="stay")
        expected = start(play)
        for turn, node in enumerate(rng(0, "node", "server", "order", 0).permutation(NODES[:2]).tolist()):
            expected = trained(play, node, expected, turn)
        np.testing.assert_allclose(remembered(play), expected, rtol=0, atol=1e-6)


def test_a_state_divides_into_parts_and_joins_to_the_bit() -> None:
    learner = TorchLearner("lenet", (28, 28, 1), LABELS)
    for parts in (cut(learner), cut(learner, labels_stay=True), cut(learner, "3")):
        state_P = learner.init(3)
        halves = parts.divide(state_P)
        assert tuple(halves) == parts.names
        assert sum(len(part) for part in halves.values()) == learner.size
        np.testing.assert_array_equal(parts.join(halves), state_P)
        assert sum(parts.flops(name) for name in parts.names) == learner.flops_per_sample
    assert cut(learner, labels_stay=True).part("front").shape == (400,)
    assert cut(learner, "3").part("front").shape == (14, 14, 6)


# --- what crosses ------------------------------------------------------------------------------------------------------------


def overheard(monkeypatch: pytest.MonkeyPatch, name: str = "split", **options: Any) -> tuple[Play, list[dict[str, Any]]]:
    """A run, and the tensors of every package that anybody put into a store: nothing is deleted."""
    blobs: list[bytes] = []
    put = SimulatedStore.put

    def keep(self: SimulatedStore, blob: bytes) -> Any:
        blobs.append(bytes(blob))
        return put(self, blob)

    monkeypatch.setattr(SimulatedStore, "put", keep)
    play = split_run(name, **options)
    return play, [dict(decode(blob)) for blob in dict.fromkeys(blobs)]


def test_labels_never_leave_a_client_in_the_u_shaped_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    play, packages = overheard(monkeypatch, rounds=2, labels="stay")
    names = {frozenset(tensors) for tensors in packages}
    assert names == {
        frozenset(one) for one in (["front", "tail"], ["front", "tail", "samples"], ["activations"], ["features"],
                                   ["gradient"], ["state"])
    }  # fmt: skip
    counts = [note.fields["labels"] for note in play.notes.of("published") if note.node != "library"]
    assert counts
    assert not any(counts)  # nor on a card
    for tensors in packages:  # a gradient of the loss for logits would tell them: (p - y) / B. The tail's are for its input
        for name in {"features", "gradient", "activations"} & tensors.keys():
            assert tensors[name].shape[1] in (24, 12)


def test_shared_labels_are_seen_by_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail."""
    _, packages = overheard(monkeypatch, rounds=1)
    assert {"activations", "targets"} in [set(tensors) for tensors in packages]


@pytest.mark.parametrize("labels", ["shared", "stay"])
def test_bytes_on_the_wire_are_activations_and_gradients(labels: str) -> None:
    """And each client's part, once a turn. No sample crosses: 64 pixels would be more than 24 numbers."""
    one = split_run("split", rounds=1, labels=labels, hand_out=0)
    own = {"front": 64 * 24 + 24, **({"tail": 12 * 10 + 10} if labels == "stay" else {})}
    parts = {name: np.zeros(count, np.float32) for name, count in own.items()}
    batch, up = 8, {"activations": np.zeros((8, 24), np.float32)}
    if labels == "shared":
        up["targets"] = np.zeros(batch, np.int64)  # type: ignore[assignment]
    sent = 5 * len(blob_of(Weights(up))) + len(blob_of(Weights({**parts, "samples": np.zeros(1, np.int64)})))
    back = 5 * len(blob_of(Weights({"gradient": np.zeros((8, 24), np.float32)}))) + len(blob_of(Weights(parts)))
    if labels == "stay":
        sent += 5 * len(blob_of(Weights({"gradient": np.zeros((8, 12), np.float32)})))
        back += 5 * len(blob_of(Weights({"features": np.zeros((8, 12), np.float32)})))
    back += len(blob_of(Weights({"state": start(one)})))  # the whole network at the end
    big = [actor for actor in one.stage.learners if actor.data is not None and len(actor.data.train) >= 5 * batch]
    assert big
    for actor in big:
        traffic = one.world.traffic(actor.node)
        told = 6 + 5 * (labels == "stay")  # packages up; one more comes down
        assert traffic.sent_blob == sent + told * HEADER_BYTES
        assert traffic.received_blob == back + (told + 1) * HEADER_BYTES


# --- SplitFed ----------------------------------------------------------------------------------------------------------------


def sizes(play: Play) -> list[int]:
    return [len(actor.data.train) for actor in play.stage.learners if actor.data is not None]


@pytest.mark.parametrize("labels", ["shared", "stay"])
def test_splitfed_1_is_fedavg_of_both_halves(labels: str) -> None:
    """A copy of the server's part for each client, and the mean of both parts: FedAvg, through a cut."""
    play = split_run("splitfed", rounds=2, labels=labels)
    assert len(set(sizes(play))) > 1
    expected = start(play)
    for r in range(2):
        ends = [trained(play, node, expected, r * 2**14 + place) for place, node in enumerate(NODES)]
        expected = np.average(ends, axis=0, weights=sizes(play)).astype(np.float32)
    np.testing.assert_allclose(remembered(play), expected, rtol=0, atol=1e-6)


def test_splitfed_2_by_hand_on_a_linear_network() -> None:
    """Two linear layers W2 W1 in numpy: one server part takes every step as it comes, fronts are averaged apart.

    One full batch each, so who came first is all that decides; the order is read off the run.
    """
    options = {"rounds": 1, "variant": 2, "steps": 1, "batch": 10_000, "momentum": 0.0, "weight_decay": 0.0, "lr": 0.2}
    tree = {**TREE, "learners": {**THREE, "models": ["tests.paradigms.two_linear:TwoLinear"], "options": {}}}
    play = split_run("splitfed", tree, **options)
    state = start(play).astype(np.float64)
    w1, b1, w2, b2 = (part.copy() for part in np.split(state, np.cumsum([64 * 6, 6, 6 * 10])))
    w1, w2, fronts, weights = w1.reshape(6, 64), w2.reshape(10, 6), [], []
    first = list(dict.fromkeys(note.fields["holder"] for note in play.notes.of("fetched") if note.node == SERVER))
    assert set(first) == set(NODES)
    for node in first:
        (actor,) = [one for one in play.stage.learners if one.node == node]
        assert actor.data is not None
        own = samples(actor.data.train)
        x = own.x_N.reshape(len(own), -1).astype(np.float64)
        h = x @ w1.T + b1
        e = np.exp(h @ w2.T + b2)
        error = (e / e.sum(1, keepdims=True) - np.eye(10)[own.y_N]) / len(own)
        down = error @ w2
        w2, b2 = w2 - 0.2 * error.T @ h, b2 - 0.2 * error.sum(0)
        fronts.append(np.concatenate([(w1 - 0.2 * down.T @ x).ravel(), b1 - 0.2 * down.sum(0)]))
        weights.append(len(own))
    expected = np.concatenate([np.average(fronts, axis=0, weights=weights), w2.ravel(), b2])
    assert np.abs(expected - state).max() > 0.01
    np.testing.assert_allclose(remembered(play), expected, atol=1e-6)


# --- what cannot be -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "at", "stay", "why"),
    [("linear", "", False, "needs two layers with weights"), ("mlp", "9", False, "its layers are called 0, 1, 2"),
     ("mlp", "1", False, r"have \[0, 3\] layers with weights"), ("mlp", "5", True, r"have \[2, 0, 1\]"),
     ("tests.paradigms.two_linear:NotInARow", "", False, "module is a NotInARow")],
)  # fmt: skip
def test_networks_that_cannot_be_cut_are_named(model: str, at: str, stay: bool, why: str) -> None:
    options = {"hidden": [24, 12]} if model == "mlp" else {}
    with pytest.raises(ConfigError, match=why):
        cut(TorchLearner(model, (8, 8, 1), LABELS, options), at, labels_stay=stay)


def test_other_learners_and_bfloat16_are_refused() -> None:
    with pytest.raises(ConfigError, match="bf16"):
        split_run("split", bf16=True)
    line = {"count": 3, "adapter": "sklearn", "estimator": "sklearn.linear_model:LogisticRegression"}
    with pytest.raises(ConfigError, match="SklearnLearner cannot be cut"):
        split_run("splitfed", {**TREE, "learners": line})
