import json

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save, save_file

from kuberml.core.errors import RemoteError
from kuberml.core.rng import rng
from kuberml.knowledge.card import Claim, encode_card
from kuberml.knowledge.from_file import make_from_file
from kuberml.knowledge.kinds.extractor import basis_of
from kuberml.knowledge.kinds.probe import Probe, probe_of
from kuberml.knowledge.kinds.statistics import describe
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.pack import make
from kuberml.knowledge.pieces import refer
from kuberml.knowledge.signing import Keys, sign_card
from kuberml.learning.claims import recall_ppm
from kuberml.learning.extractors import identity
from kuberml.vault.catalog import SLOTS_PER_AUTHOR
from kuberml.vault.folder import FolderStore
from kuberml.vault.in_place import LARGE_BYTES, check_in_place

AUTHOR = Keys(b"a" * 32)


def digits(count, seed):
    """Three well separated classes of vectors in 0..1."""
    draw = rng(seed, "vault test")
    y_N = draw.integers(0, 3, count)
    return np.clip(np.eye(3, 4)[y_N] + draw.normal(0, 0.1, (count, 4)), 0, 1).astype(np.float32), y_N


def statistics(extractor):
    x_N, y_N = digits(60, 1)
    return describe(x_N, [str(y) for y in y_N], basis=basis_of(extractor))[0]


def knowledge(kind, content, slot, **card):
    return make(kind, content, keys=AUTHOR, task="digits", slot=slot, version=1, learned_at_ms=1, **card)


@pytest.fixture
def probe():
    x_N, y_N = digits(90, 2)
    return Probe(np.round(x_N * 255).astype(np.uint8), y_N.astype(np.uint16), ("0", "1", "2"))


@pytest.fixture
def vault(tmp_path, probe):
    """A vault with an extractor, a probe, honest statistics and statistics with a false claim: their digests."""
    extractor = identity(4)
    content = statistics(extractor)
    honest = Claim(probe_of(probe), recall_ppm(content, probe, extractor))
    lie = Claim(probe_of(probe), dict.fromkeys(honest.recall_ppm, 1000000) | {"9": 1_000_000})
    parts = {
        "extractor": knowledge("extractor", extractor, "extractor"),
        "probe": knowledge("probe", probe, "probe"),
        "honest": knowledge("statistics", content, "honest", claims=(honest,)),
        "liar": knowledge("statistics", content, "liar", claims=(lie,)),
    }
    with FolderStore(tmp_path / "vault") as store:
        for part in parts.values():
            for blob in part.blobs:
                store.put(blob)
            store.put_card(part.signed.digest, encode_card(part.signed))
    return {name: part.signed.digest for name, part in parts.items()}


def test_claims_are_right_for_separable_classes(probe):
    found = recall_ppm(statistics(identity(4)), probe, identity(4))
    assert set(found) == {"0", "1", "2"}
    assert min(found.values()) > 950_000


def test_show_lists_cards_and_one_card(cli, vault):
    status, out, _ = cli("show", "vault")
    assert status == 0
    assert vault["honest"][:12] in out
    rows = json.loads(cli("show", "vault", "--json")[1])
    assert sorted(row["kind"] for row in rows) == ["extractor", "probe", "statistics", "statistics"]
    status, out, _ = cli("show", "vault", vault["honest"][:10])
    assert status == 0
    assert "recall_ppm" in out
    assert json.loads(cli("show", "vault", vault["probe"], "--json")[1])["task"] == "digits"


def test_verify_bytes(cli, vault):
    status, out, _ = cli("verify", "vault")
    assert status == 0
    assert out.count("bytes and signature are right") == 4


def test_verify_reads_what_is_too_large_to_be_opened_where_it_lies(cli, tmp_path):
    """As a fetch of any size leaves it."""
    large = np.zeros((LARGE_BYTES >> 3) + 1)
    save_file({"a": large, "b": large[:5]}, tmp_path / "f")
    with FolderStore(tmp_path / "large") as store:
        signed = make_from_file(tmp_path / "f", store, keys=AUTHOR, task="t", slot="s", version=0, learned_at_ms=1)
        store.put_card(signed.digest, encode_card(signed))
        check_in_place(store, signed)
    (row,) = json.loads(cli("verify", "large", "--claims", "--json")[1])
    assert (row["good"], row["verdict"]) == (True, "bytes and signature are right; it claims nothing")
    (blob,) = (tmp_path / "large" / "blobs").glob("*/*")
    with blob.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"x")
    status, out, _ = cli("verify", "large", "--json")
    assert (status, json.loads(out)[0]["good"]) == (3, False)
    assert "dropped, fetch it again" in out
    assert "is not in the vault" in cli("verify", "large", "--json")[1]


@pytest.mark.parametrize(("change", "why"), [
    ({"labels": {"a": 0}}, "stands on 0 samples"),
    ({"facts": {"wire": "fp16", "outputs": "[]"}}, "the tensors are fp32, and the card says fp16"),
    ({"facts": {"wire": "fp32", "outputs": '["b"]'}, "labels": {"a": 9}}, "not among the outputs"),
])  # fmt: skip
def test_what_a_card_says_wrong_of_large_weights_is_found(tmp_path, change, why):
    save_file({"x": np.ones(9, np.float32)}, tmp_path / "f")
    with FolderStore(tmp_path / "v") as store:
        made = make_from_file(tmp_path / "f", store, keys=AUTHOR, task="t", slot="s", version=0, learned_at_ms=1)
        check_in_place(store, made)
        with pytest.raises(RemoteError, match=why):
            check_in_place(store, sign_card(msgspec.structs.replace(made.card, **change), AUTHOR))


def test_what_its_author_should_not_have_signed_is_found_where_it_lies(tmp_path):
    for array, why in ((np.array([1, np.nan], np.float32), "holds NaN"), (np.ones(3, np.uint8), "is uint8")):
        blob = save({"x": array})
        with FolderStore(tmp_path / "v") as store:
            store.put(blob)
            card = make("weights", Weights({"x": np.ones(1)}), keys=AUTHOR, task="t", slot="s", version=0, learned_at_ms=1).card
            with pytest.raises(RemoteError, match=why):
                check_in_place(store, sign_card(msgspec.structs.replace(card, blobs=(refer(blob),)), AUTHOR))


def test_verify_finds_missing_and_damaged_blobs(cli, vault, tmp_path):
    blobs = sorted((tmp_path / "vault" / "blobs").glob("*/*"), key=lambda path: path.stat().st_size)
    blobs[0].unlink()
    blobs[1].write_bytes(b"x" * blobs[1].stat().st_size)
    status, out, _ = cli("verify", "vault", "--json")
    assert status == 3
    verdicts = [row["verdict"] for row in json.loads(out) if not row["good"]]
    assert any("is not in the vault" in verdict for verdict in verdicts)
    assert len(verdicts) >= 2


def test_a_false_claim_becomes_a_proof_that_others_can_check(cli, vault, tmp_path):
    (tmp_path / "key").write_bytes(b"k" * 32)
    status, out, err = cli("verify", "vault", "--claims", "--key", "key", "--json")
    assert status == 3
    found = {row["card"]: row for row in json.loads(out)}
    assert found[vault["honest"]]["good"]
    assert "holds" in found[vault["honest"]]["verdict"]
    assert "is false: label 9 claimed 100.0 %, got 0.0 %" in found[vault["liar"]]["verdict"]
    proof = f"{vault['liar'][:12]}.proof"
    assert proof in err
    status, out, _ = cli("verify", "vault", "--proof", proof)
    assert status == 0
    assert "claimed too much of 9" in out
    (tmp_path / proof).write_bytes((tmp_path / proof).read_bytes().replace(b"recall", b"rexall"))
    status, _, err = cli("verify", "vault", "--proof", proof)
    assert status == 3
    assert "not a proof" in err


def test_one_card_is_picked_by_its_first_characters(cli, vault):
    assert cli("verify", "vault", vault["honest"][:8], "--claims")[0] == 0
    status, _, err = cli("verify", "vault", "zzz")
    assert status == 2
    assert "no cards begin with 'zzz'" in err


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["digits"], 4),
        (["digits", "--labels", "1,7=0.5", "--kinds", "statistics"], 2),
        (["digits", "--labels", "7"], 0),
        (["letters"], 0),
        (["digits", "--limit", "1"], 1),
    ],
)
def test_find_by_need(cli, vault, arguments, found):
    status, out, _ = cli("find", "vault", *arguments, "--json")
    assert status == 0
    assert len(json.loads(out)) == found


def test_find_leaves_out_none_of_an_author_with_many_slots(cli, tmp_path):
    """A hub bounds an author's slots; what lies in one's own vault is all there."""
    few = make("weights", Weights({"w": np.zeros(2, np.float32)}), keys=AUTHOR, task="digits", slot="0", version=1,
               learned_at_ms=1)  # fmt: skip
    count = SLOTS_PER_AUTHOR + 3
    with FolderStore(tmp_path / "vault", durable=False) as store:
        for blob in few.blobs:
            store.put(blob)
        for slot in range(count):
            signed = sign_card(msgspec.structs.replace(few.card, slot=str(slot)), AUTHOR)
            store.put_card(signed.digest, encode_card(signed))
    status, out, said = cli("find", "vault", "digits", "--limit", str(2 * count), "--json")
    assert (status, said) == (0, "")
    assert len(json.loads(out)) == count


def test_find_says_when_nothing_answers(cli, vault):
    assert "answers this want" in cli("find", "vault", "letters")[2]
    assert "statistics" in cli("find", "vault", "digits")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["find", "vault", "digits", "--labels", "3=x"],
        ["find", "vault", "digits", "--labels", "3=2"],
        ["find", "none", "digits"],
        ["verify", "none"],
        ["verify", "vault", "--key", "none"],
        ["verify", "vault", "--key", "short"],
        ["verify", "vault", "--proof", "none"],
        ["show", "none"],
    ],
)
def test_what_cannot_be_asked(cli, vault, tmp_path, arguments):
    (tmp_path / "short").write_bytes(b"x")
    status, out, err = cli(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("kuberml: ")


def test_a_probe_that_is_missing_is_said(cli, tmp_path, probe):
    content = statistics(identity(4))
    part = knowledge("statistics", content, "s", claims=(Claim(probe_of(probe), {"0": 1}),))
    with FolderStore(tmp_path / "vault") as store:
        for blob in part.blobs:
            store.put(blob)
        store.put_card(part.signed.digest, encode_card(part.signed))
    status, out, _ = cli("verify", "vault", "--claims")
    assert status == 0
    assert "not run: the probe" in out
    assert msgspec.json.decode(cli("verify", "vault", "--json")[1])[0]["good"]
