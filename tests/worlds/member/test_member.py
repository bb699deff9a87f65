import json
import subprocess
import sys

import numpy as np
import pytest

import kuberml
from kuberml.cli.main import main as cli
from kuberml.core.errors import ConfigError
from kuberml.core.ids import NodeId
from kuberml.knowledge.card import Terms
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.signing import Keys
from kuberml.learning.datasets import DATASETS
from kuberml.vault.folder import FolderStore
from kuberml.worlds.member.keyfile import keys_in

DIGITS = DATASETS.get("digits")
LABELS = DIGITS.labels


def of(split, keep, every=1):
    """Samples of some digits: (x_N, y_N)."""
    part = DIGITS.split(split)
    mine = np.isin(part.y_N, keep)
    return part.x_N[mine][::every], part.y_N[mine][::every]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    public = DIGITS.split("public")
    kuberml.agree("shared", task="digits", labels=LABELS, x=public.x_N, y=public.y_N, levels=16)
    return tmp_path


def join(name, data=None, **options):
    return kuberml.join("shared", task="digits", name=name, labels=LABELS, data=data, **options)


def taken(me, *labels):
    """Try every offer; absorb what is accepted: verdicts and reasons."""
    found = []
    for offer in me.want(*labels):
        trial = me.try_out(offer)
        found.append((trial.verdict, trial.why))
        if trial.accepted:
            me.absorb(trial)
    return found


def recall(me, label):
    x_N, _ = of("test", [label])
    return float(np.mean(np.argmax(me.predict(x_N), axis=1) == label))


def test_when_the_best_offers_have_been_tried_those_behind_them_come(here):
    seen = set()
    with join("teacher", of("train", range(5, 10))) as teacher, join("student", of("train", range(6), every=4)) as student:
        for k in range(40):
            teacher.publish(teacher.statistics(), slot=f"again-{k}")
        while fresh := [offer for offer in student.want() if offer.signed.digest not in seen]:
            for offer in fresh:
                trial = student.try_out(offer)
                if trial.accepted:
                    student.absorb(trial)
            seen |= {offer.signed.digest for offer in fresh}
    assert len(seen) == 40


def test_what_i_lack_comes_is_tried_and_is_kept(here):
    with join("teacher", of("train", range(5, 10))) as teacher:
        teacher.publish(teacher.statistics())
    with join("ward", of("train", range(7))) as me:
        assert recall(me, 8) == 0
        assert [verdict for verdict, _ in taken(me, "7", "8")] == ["credit"]
        assert recall(me, 8) > 0.8
        assert recall(me, 3) > 0.8
        assert me.want("7", "8") == []  # nothing else is left to try
        x_N, p_NC = me.lesson()
        assert x_N.shape == (200, 8, 8, 1)
        np.testing.assert_allclose(p_NC.sum(axis=1), 1, rtol=1e-5)


def test_a_liar_is_found_out_by_his_claim_or_by_my_own_data(here):
    x_N, y_N = of("train", range(4, 10))
    with join("liar", (x_N, (y_N - 4 + 1) % 6 + 4)) as liar:
        liar.publish(liar.statistics())
    with join("ward", of("train", range(7))) as me:
        before = me.predict(x_N)
        ((verdict, why),) = taken(me)
        assert (verdict, "my own labels would get worse" in why) == ("refused", True)
        assert me.want() == []
        np.testing.assert_array_equal(me.predict(x_N), before)


def test_verdicts_of_other_processes_are_evidence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x_N, _ = of("public", range(10))
    kuberml.agree("shared", task="digits", labels=LABELS, x=x_N, levels=16)  # no labels: no claims can be run
    with join("a", of("train", [0, 1, 2])) as a:
        a.publish(a.statistics())
    with join("me", of("train", [2, 3, 4])) as me:
        assert [verdict for verdict, _ in taken(me, "0", "1")] == ["untested"]
    for name in ("b", "c"):
        with join(name, of("train", [0, 1, 2, 3], every=2)) as witness:
            assert "tested" in dict(taken(witness))
    with join("me", of("train", [2, 3, 4])) as me:
        assert taken(me, "0", "1") == [("credit", "other holders or the public probe confirm 0, 1")]


def test_soft_labels_are_another_way_in(here):
    with join("teacher", of("train", range(10))) as teacher:
        offer = teacher.publish(teacher.soft_labels(teacher.predict))
        assert offer.signed.card.kind == "soft-labels"
        assert offer.signed.card.size_bytes < 3000
    with join("ward", of("train", range(7), every=4), kind="soft-labels") as me:
        assert taken(me, "8") == [("credit", "other holders or the public probe confirm 8")]
        assert recall(me, 8) > 0.6
        passed_on = me.publish(me.soft_labels(me.predict))
        assert passed_on.signed.card.parents == (offer.signed.digest,)
        assert "8" in passed_on.signed.card.labels


def test_a_teacher_who_does_not_know_my_labels_would_harm_and_is_refused(here):
    with join("teacher", of("train", range(5, 10))) as teacher:
        teacher.publish(teacher.soft_labels(teacher.predict))
    with join("ward", of("train", range(7), every=4), kind="soft-labels") as me:
        ((verdict, why),) = taken(me, "8")
        assert (verdict, "my own labels would get worse" in why) == ("refused", True)


def test_how_strict_a_trial_is_is_mine_to_say(here):
    with join("teacher", of("train", range(5, 10))) as teacher:
        teacher.publish(teacher.soft_labels(teacher.predict))
    lenient = {"tolerance": 1.0, "guard": 0.0}
    with join("ward", of("train", range(7), every=4), kind="soft-labels", trial=lenient) as me:
        assert taken(me, "8") == [("credit", "other holders or the public probe confirm 8")]


def test_a_torch_module_and_tensors_keep_torchs_layout(here):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Dropout(), torch.nn.Flatten(), torch.nn.Linear(72, 10))
    x_N, y_N = of("train", range(5, 10))
    x, y = torch.from_numpy(x_N.copy()).permute(0, 3, 1, 2), torch.from_numpy(y_N.copy())
    with join("ward", (x, y)) as me:
        soft = me.soft_labels(model)
        assert model.training
        assert soft.labels == tuple("56789")
        lesson, p_NC = me.lesson()
        assert lesson.shape == (200, 1, 8, 8)
        assert model(lesson).shape == p_NC.shape
        assert (me.predict(x).argmax(1) == y).float().mean() > 0.9


def test_publishing_replaces_and_the_same_again_is_one(here):
    data = of("train", [0, 1])
    with join("ward", data) as me:
        first = me.publish(me.statistics())
        assert me.publish(me.statistics()) == first
    with join("ward", data) as me:
        assert me.publish(me.statistics()) == first
        assert me.publish(me.statistics(), terms=Terms(purposes=("research",))).signed.card.version == 1
        me.hold(*of("train", [0, 1, 2]))
        third = me.publish(me.statistics())
        assert (third.signed.card.version, sorted(third.signed.card.labels)) == (2, ["0", "1", "2"])
        weights = me.publish(Weights({"w": np.ones(3, np.float32)}, {"0": 5}), slot="mine")
        assert (weights.signed.card.kind, weights.signed.card.slot, weights.signed.card.version) == ("weights", "mine", 0)


def test_terms_are_enforced(here):
    with join("ward", of("train", range(5, 10))) as me:
        me.publish(me.statistics(), terms=Terms(purposes=("research",)))
    with join("shop", of("train", range(7)), purpose="marketing") as other:
        assert other.want("8") == []
    with join("lab", of("train", range(7)), purpose="research") as other:
        assert len(other.want("8")) == 1


def test_small_classes_stay_at_home(here):
    x_N, y_N = of("train", [0, 1])
    few = np.concatenate([np.flatnonzero(y_N == 0), np.flatnonzero(y_N == 1)[:4]])
    with join("ward", (x_N[few], y_N[few])) as me:
        assert me.statistics().labels == ("0",)


def test_a_spoiled_blob_is_not_taken_in(here):
    with join("teacher", of("train", range(5, 10))) as teacher:
        blob = teacher.publish(teacher.statistics()).signed.card.blobs[0].digest
    path = here / "shared" / "blobs" / blob[:2] / blob
    path.write_bytes(b"\0" * path.stat().st_size)
    with join("ward", of("train", range(7))) as me:
        ((verdict, why),) = taken(me, "8")
        assert (verdict, why) == ("untested", "it was not delivered")  # the package may be good: others may give it


def test_absorb_takes_only_what_a_fresh_trial_accepted(here):
    for name, digits in (("one", [5, 6, 7]), ("two", [6, 7, 8])):
        with join(name, of("train", digits)) as teacher:
            teacher.publish(teacher.statistics())
    with join("ward", of("train", range(7))) as me:
        first, second = [me.try_out(offer) for offer in me.want("7", "8")]
        me.absorb(first)
        with pytest.raises(ConfigError, match="try it again"):
            me.absorb(second)
        assert me.try_out(me.want("7")[0]).verdict == "credit"


def test_what_was_absorbed_is_there_after_a_restart_and_can_be_forgotten(here):
    x_N, _ = of("test", [8])
    with join("teacher", of("train", range(5, 10))) as teacher:
        teacher.publish(teacher.statistics())
    with join("ward", of("train", range(7))) as me:
        alone = me.predict(x_N)
        trial = me.try_out(me.want("8")[0])
        me.absorb(trial)
        taught = me.predict(x_N)
    with join("ward", of("train", range(7))) as me:
        np.testing.assert_array_equal(me.predict(x_N), taught)
        me.forget(trial)
        np.testing.assert_array_equal(me.predict(x_N), alone)
        assert me.want("8") == []
        with pytest.raises(ConfigError, match="nothing to forget"):
            me.forget(trial)
    with join("ward", of("train", range(7))) as me:
        np.testing.assert_array_equal(me.predict(x_N), alone)


def test_what_is_gone_from_the_folder_is_not_restored(here):
    with join("teacher", of("train", range(5, 10))) as teacher:
        blob = teacher.publish(teacher.statistics()).signed.card.blobs[0].digest
    with join("ward", of("train", range(7))) as me:
        taken(me, "8")
    (here / "shared" / "blobs" / blob[:2] / blob).unlink()
    with join("ward", of("train", range(7))) as me:
        assert recall(me, 8) == 0


def test_processes_share_one_folder_at_once(here):
    code = (
        "import sys, kuberml\n"
        "from kuberml.learning.datasets import DATASETS\n"
        "d = DATASETS.get('digits')\n"
        "s = d.split('train')\n"
        "with kuberml.join('shared', task='digits', name=sys.argv[1], labels=d.labels, data=(s.x_N, s.y_N)) as me:\n"
        "    for _ in range(5): me.publish(me.statistics(), slot=sys.argv[1] + str(_))\n"
    )
    running = [subprocess.Popen([sys.executable, "-W", "error", "-c", code, name], stderr=subprocess.PIPE) for name in "abc"]
    assert [process.communicate()[1].decode()[-500:] for process in running] == [""] * 3
    with join("ward", of("train", range(7))) as me:
        assert len({offer.signed.card.author for offer in me.want("8")}) == 3
        assert len(me.want("8")) == 15


def test_nobodys_data_count_twice(here):
    """A new version replaces the old one; a copy that somebody else signed counts once; one's own comes back as a copy."""
    with join("teacher", of("train", range(5, 10), every=2)) as teacher:
        teacher.publish(teacher.statistics())
        with join("ward", of("train", range(7))) as me:
            assert [verdict for verdict, _ in taken(me, "8")] == ["credit"]
            some = me.predict(of("test", [8])[0])
            teacher.hold(*of("train", range(5, 10)))  # contains the samples of version 0
            whole = teacher.statistics()
            teacher.publish(whole)
            assert [verdict for verdict, _ in taken(me, "8")] == ["credit"]
            both = me.predict(of("test", [8])[0])
            assert not np.array_equal(both, some)
            with join("copycat", of("train", range(7), every=3)) as copycat:
                copycat.publish(whole)
            taken(me, "8")
            np.testing.assert_array_equal(me.predict(of("test", [8])[0]), both)
    with join("fresh", of("train", range(7))) as me:  # who never saw version 0 has the same model
        taken(me, "8")
        np.testing.assert_array_equal(me.predict(of("test", [8])[0]), both)
    with join("mirror", of("train", range(5, 10))) as mirror:
        alone = mirror.predict(of("test", [8])[0])
        assert taken(mirror, "8")
        np.testing.assert_array_equal(mirror.predict(of("test", [8])[0]), alone)


def test_a_version_that_would_show_single_samples_is_neither_published_nor_taken(here, monkeypatch):
    x_N, y_N = of("train", range(5, 10))
    with join("teacher", (x_N, y_N)) as teacher, join("ward", of("train", range(7))) as me:
        teacher.publish(teacher.statistics())
        taken(me, "8")
        teacher.hold(x_N[:-8], y_N[:-8])
        with pytest.raises(ConfigError, match="is not published beside version 0"):
            teacher.publish(teacher.statistics())
        monkeypatch.setattr("kuberml.worlds.member.seat.version_problem", lambda *_: None)  # somebody who does not care
        teacher.publish(teacher.statistics())
        ((verdict, why),) = taken(me, "8")
        assert (verdict, why.startswith("version 1 of 'statistics'")) == ("refused", True)


def test_a_version_is_compared_with_all_before_it(here):
    x_N, y_N = of("train", range(5, 10))
    with join("teacher", (x_N[:-60], y_N[:-60])) as teacher:
        teacher.publish(teacher.statistics())
        teacher.hold(x_N, y_N)
        teacher.publish(teacher.statistics())
        teacher.hold(x_N[:-65], y_N[:-65])
        with pytest.raises(ConfigError, match="is not published beside version 0"):
            teacher.publish(teacher.statistics())


def test_the_command_line_reads_the_same_folder(here, monkeypatch, capsys):
    with join("ward", of("train", range(5, 10))) as me:
        me.publish(me.statistics())
    for arguments, kinds in (
        (["show", "shared", "--json"], ["extractor", "probe", "statistics"]),
        (["find", "shared", "digits", "--labels", "8", "--kinds", "statistics", "--json"], ["statistics"]),
        (["verify", "shared", "--claims", "--json"], ["extractor", "probe", "statistics"]),
    ):
        monkeypatch.setattr(sys, "argv", ["kuberml", *arguments])
        with pytest.raises(SystemExit) as end:
            cli()
        assert not end.value.code
        assert sorted(row["kind"] for row in json.loads(capsys.readouterr().out)) == kinds


def test_every_step_is_in_the_ledger(here):
    with join("teacher", of("train", range(5, 10))) as teacher:
        teacher.publish(teacher.statistics())
    with join("ward", of("train", range(7))) as me:
        taken(me, "8")
    from kuberml.ledger.ledger import Ledger

    with Ledger(here / "shared" / "ledger.sqlite") as ledger:
        mine = {event.event for event in ledger.events() if event.node == NodeId("ward")}
    assert {"found", "fetched", "absorbed", "deployed"} <= mine


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "a b"}, "not a node id"),
        ({"name": "hub"}, "is the hub's"),
        ({"labels": ["0", "0"]}, "each once"),
        ({"kind": "weights"}, "'statistics' and 'soft-labels'"),
        ({"heldout": 1.0}, "heldout = 1.0"),
        ({"trial": {"bra": 0.3}}, "unknown setting trial.bra = 0.3; did you mean 'bar'"),
        ({"trial": {"bar": 3}}, "trial.bar = 3"),
        ({"trial": 0.3}, "trial = 0.3: a table is needed here"),
        ({"data": (np.zeros((3, 8, 8)), np.zeros(3, int))}, "right are images"),
        ({"data": (np.zeros((3, 64)), np.zeros(3))}, "integers"),
        ({"data": (np.zeros((3, 64)), np.array([0, 1, 10]))}, "are 0..10"),
        ({"data": (np.full((3, 64), np.nan), np.zeros(3, int))}, "NaN"),
        ({"data": (np.zeros((3, 64)), np.zeros(2, int))}, "x_N"),
    ],
)
def test_what_cannot_be_is_said_before_anything_happens(here, change, says):
    with pytest.raises(ConfigError, match=says):
        kuberml.join("shared", **{"task": "digits", "name": "ward", "labels": LABELS, **change})


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with join("ward") as me:
        with pytest.raises(ConfigError, match="no data are held here"):
            me.want("8")
        me.hold(*of("train", [0, 1]))
        with pytest.raises(ConfigError, match=r"kuberml\.agree"):
            me.statistics()
        with pytest.raises(ConfigError, match="not among the labels"):
            me.want("ten")


ODD = np.random.default_rng(0).random((60, 3)).astype(np.float32)
ODD_Y = np.arange(60) % 2


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ((ODD, ["a", "b"] * 30), r"instead of names \[labels.index\(name\) for name in y\]"),
        ((ODD, ODD_Y.astype(float)), "not float64"),
        ((ODD, np.eye(2, dtype=int)[ODD_Y]), r"right is \[N\]"),
        ((ODD, [[0], [1, 2]]), "one for each"),
        ((np.where(ODD > 0.9, np.nan, ODD), ODD_Y), "NaN"),
        (([["a", "b"]] * 60, ODD_Y), "samples are numbers"),
        (([[1, 2], [3]], [0, 1]), "samples are numbers"),
        ((ODD, ODD_Y[:10]), "y_N"),
        ((ODD[:0], ODD_Y[:0]), "N > 0"),
        (ODD, "data = a ndarray: give a pair"),
        ({"x": ODD}, "data = a dict: give a pair"),
    ],
)
def test_odd_samples_are_refused_in_words(here, data, says):
    with pytest.raises(ConfigError, match=says):
        kuberml.join("shared", task="odd", name="odd", labels=["a", "b"], data=data)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": "ab"}, "labels = 'ab': give the names"),
        ({"labels": [0, 1]}, "names of classes are text"),
        ({"task": ""}, "what the knowledge is about"),
        ({"heldout": "much"}, "over 0 and under 1"),
    ],
)
def test_odd_words_are_refused_too(here, change, says):
    with pytest.raises(ConfigError, match=says):
        kuberml.join("shared", **{"task": "odd", "labels": ["a", "b"], **change})


def test_what_a_member_is_asked_wrongly_is_said(here):
    kuberml.agree("shared", task="odd", labels=["a", "b"], x=ODD, y=ODD_Y)
    with kuberml.join("shared", task="odd", name="odd", labels=["a", "b"], data=(ODD, ODD_Y)) as me:
        with pytest.raises(ConfigError, match=r"want: \[\['b'\]\] are not among"):
            me.want(["b"])
        with pytest.raises(ConfigError, match="NaN"):
            me.predict(ODD * np.nan)  # mine, not the extractor's author's
        with pytest.raises(ConfigError, match="a list cannot be called"):
            me.soft_labels([1])
        with pytest.raises(ConfigError, match="unknown kind 'object'"):
            me.publish(object())
    with pytest.raises(ConfigError, match="odd has left"):
        me.want()
    with kuberml.join("shared", task="odd", name="few", labels=["a", "b"], data=(ODD[:4], ODD_Y[:4])) as me:
        with pytest.raises(ConfigError, match="no class has 5 samples"):
            me.publish(me.statistics())
        assert me.known() == {"a": 2, "b": 2}


def test_agree_refuses_what_is_no_public_sample_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for x_N, y_N in (
        (np.full((4, 3), 7.0), None),
        (np.zeros((4, 3)), np.array([0, 1, 2, 10])),
        (np.zeros((4, 3)), np.zeros(3, int)),
        (np.zeros((4, 3)), np.zeros((4, 1), int)),
        (np.zeros((0, 3)), np.zeros(0, int)),
        ([[0, 1], [1]], [0, 1]),
    ):
        with pytest.raises(ConfigError):
            kuberml.agree("shared", task="t", labels=LABELS, x=x_N, y=y_N)
    kuberml.agree("shared", task="t", labels=["a", "b"], x=np.eye(4, 3), y=np.array([0, 1, 0, 1]))
    with kuberml.join("shared", task="t", name="v", labels=["a", "b"], data=(np.eye(30, 3), np.arange(30) % 2)) as me:
        assert me.statistics().gram_dd.shape == (4, 4)  # vectors are taken as they are


def test_a_key_file_is_made_once_and_for_its_owner_only(tmp_path):
    path = tmp_path / "me.key"
    first = keys_in(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys_in(path).public == first.public == Keys(path.read_bytes()).public
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        keys_in(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(ConfigError, match="5 bytes"):
        keys_in(path)
    with pytest.raises(ConfigError, match="cannot make the secret file"):
        keys_in(tmp_path / "none" / "me.key")


def test_joining_inside_a_running_loop_works_as_in_a_notebook(here):
    import asyncio

    async def cell():
        with join("ward", of("train", [0, 1])) as me:
            return me.statistics().labels

    assert asyncio.run(cell()) == ("0", "1")


def test_importing_kuberml_is_cheap():
    code = "import sys, kuberml; print([name for name in ('numpy', 'msgspec', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert callable(kuberml.join)
    with pytest.raises(AttributeError, match="no attribute 'jion'"):
        _ = kuberml.jion


def test_a_closed_folder_has_no_leftovers(here):
    with join("ward", of("train", [0, 1])) as me:
        me.publish(me.statistics())
    assert list((here / "shared" / "sessions").iterdir()) == [here / "shared" / "sessions" / "lock"]
    with FolderStore(here / "shared") as store:
        assert store.sweep() == 0
