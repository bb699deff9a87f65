"""`kuberml export`: what was published leaves as a graph, checked; what cannot be says why."""

import json

import numpy as np
import pytest

from kuberml.knowledge.card import encode_card
from kuberml.knowledge.kinds.extractor import basis_of
from kuberml.knowledge.kinds.statistics import describe
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.pack import make
from kuberml.knowledge.signing import Keys
from kuberml.learning.extractors import features, random_convolutions
from kuberml.vault.folder import FolderStore
from tests.serving.engines.models import digits, network

pytest.importorskip("onnxscript", reason="extra 'onnx'")
EXTRACTOR = random_convolutions(patch=3, filters=8, grid=2, seed=1)


def keep(folder, kind, content):
    """A vault with one more package: the digest of its card."""
    found = make(kind, content, keys=Keys.generate(), task="digits", slot=kind, version=0, learned_at_ms=1)
    with FolderStore(folder) as store:
        for blob in found.blobs:
            store.put(blob)
        store.put_card(found.signed.digest, encode_card(found.signed))
    return found.signed.digest


def statistics(among="0123456789"):
    taught = digits("train")
    names = [taught.labels[position] for position in taught.y_N]
    those = [position for position, name in enumerate(names) if name in among]
    return describe(features(EXTRACTOR, taught.x_N[those]), [names[k] for k in those], basis=basis_of(EXTRACTOR))[0]


def weights():
    net = network("linear", 60)
    return Weights(net.learner.tensors(net.state), {"3": 120}, outputs=net.labels)


def test_statistics_and_their_extractor_leave_as_onnx_that_the_light_engine_serves(cli, tmp_path):
    keep(tmp_path / "vault", "extractor", EXTRACTOR)
    card = keep(tmp_path / "vault", "statistics", statistics())
    status, out, err = cli("export", "vault", card[:10], "model.onnx", "--data", "digits", "--json")
    assert status == 0, err
    said = json.loads(out)
    assert said == json.loads((tmp_path / "model.onnx.json").read_text())
    assert (said["labelled"], said["agreement"]) == (500, 1.0)
    assert said["accuracy"] == said["reference"] > 0.8
    from kuberml.serving.engines.light import load

    right_N = load(tmp_path / "model.onnx").predict(digits().x_N).argmax(1) == digits().y_N
    assert np.isclose(right_N.mean(), said["accuracy"])


def test_what_a_service_served_leaves_by_its_manifest(cli, tmp_path):
    from kuberml.exchange.continual.cloud import Cloud
    from tests.exchange.continual.edges import RULES, edge, running, town

    async def serves(node):
        here = Cloud(node, EXTRACTOR, RULES, None)
        await here.open()
        await running(here, 30)
        return here

    keep(tmp_path / "vault", "extractor", EXTRACTOR)
    with FolderStore(tmp_path / "vault") as store:
        here = town("a", cloud={"store": store}).run(cloud=serves, a=edge(statistics("01"), statistics("2345")))["cloud"]
    for entry in here.history:
        status, out, err = cli("export", "vault", entry.manifest[:10], "model.onnx", "--data", "digits", "--json")
        assert status == 0, err
        assert json.loads(out)["model"] == entry.model
    assert len(here.history) == 2
    status, _, err = cli("export", "vault", "zz", "model.onnx", "--data", "digits")
    assert (status, "begins with 'zz'" in err) == (2, True)


def test_weights_leave_as_openvino_ir_once_their_architecture_is_said(cli, tmp_path):
    pytest.importorskip("openvino", reason="extra 'openvino'")
    card = keep(tmp_path / "vault", "weights", weights())
    words = ("export", "vault", card[:10], "model.xml", "--to", "openvino", "--shape", "8,8,1")
    status, _, err = cli(*words)
    assert (status, "add --model" in err) == (2, True)
    status, out, err = cli(*words, "--model", "linear")
    assert status == 0, err
    assert "256 samples drawn at random" in out
    assert "model.xml, model.bin, model.xml.json" in " ".join(out.split())
    assert not err.strip()
    assert (tmp_path / "model.bin").is_file()


def test_what_is_no_model_or_lacks_its_extractor_says_so(cli, tmp_path):
    card = keep(tmp_path / "vault", "statistics", statistics())
    assert "is not in the vault" in cli("export", "vault", card[:10], "model.onnx", "--data", "digits")[2]
    other = keep(tmp_path / "vault", "extractor", EXTRACTOR)
    assert "'extractor' is no model" in cli("export", "vault", other[:10], "model.onnx", "--data", "digits")[2]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--data", "digits", "--to", "onyx"), "did you mean 'onnx'"),
        (("--data", "digits", "--shape", "8,8,1"), "--data NAME, or --shape"),
        (("--shape", "8,x"), "whole numbers"),
        (("--data", "digits", "--bound", "0"), "--bound"),
        (("--data", "digits"), "not a vault"),
    ],
)
def test_wrong_words_are_named(cli, words, what):
    status, _, err = cli("export", "vault", "3f", "model.onnx", *words)
    assert (status, what in err) == (2, True), err
