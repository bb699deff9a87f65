import msgspec
import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.plugins import Registry
from kuberml.scenario.config import load, parse
from kuberml.scenario.digests import data_digest, scenario_digest
from kuberml.scenario.options import check_options


class FedAvgConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rounds: int = 10
    lr: float = 0.01
    chunk_bytes: int = 1000


class FedAvgModule:
    Config = FedAvgConfig


@pytest.fixture
def paradigms():
    registry = Registry("paradigm", "kuberml.tests.none")
    registry.add("fedavg", lambda: FedAvgModule)
    return registry


def tree(**tables):
    return {"paradigms": {"local": {}}, **tables}


def test_ten_lines_are_enough(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('seeds = 2\n[learners]\ncount = 12\nbudget_bytes = "64 KB"\n[paradigms.fast]\nuse = "fedavg"\nrounds = 5\n')
    config = load(path)
    assert (config.name, config.task, config.run_seeds) == ("mine", "digits", (0, 1))
    assert config.learners.budget_bytes == 64_000
    assert config.paradigms["fast"].use == "fedavg"
    assert config.paradigms["fast"].options == {"rounds": 5}
    assert (config.degree, config.common_model) == (4, "mlp")


def test_task_follows_the_data_set():
    assert parse(tree(data={"dataset": "cifar10"})).task == "cifar10"
    assert parse(tree(data={"dataset": "cifar10"}, task="objects")).task == "objects"


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"sede": 1}, "unknown setting sede = 1; did you mean 'seed'?"),
        ({"learners": {"cuont": 3}}, "unknown setting learners.cuont = 3; did you mean 'count'?"),
        ({"learners": {"count": "twelve"}}, "learners.count = 'twelve': expected int, got str"),
        ({"learners": {"count": 0}}, "learners.count = 0: expected int >= 1"),
        ({"learners": {"adapter": "troch"}}, "learners.adapter = 'troch': did you mean 'torch'?"),
        ({"learners": {"budget_bytes": "64 KX"}}, "learners.budget_bytes = '64 KX': not a size"),
        ({"learners": {"count": 3, "liars": 3}}, "learners.liars = 3: fewer than learners.count = 3"),
        ({"learners": {"models": []}}, "learners.models = []"),
        ({"learners": {"adapter": "sklearn"}}, "learners.estimator is missing"),
        ({"learners": 3}, "learners = 3: a table is needed"),
        ({"data": {"dataset": "digit"}}, "data.dataset = 'digit' is not known; did you mean 'digits'?"),
        ({"data": {"partition": "iidd"}}, "data.partition = 'iidd' is not known; did you mean 'iid'?"),
        (
            {"data": {"partition": "dirichlet", "options": {"alhpa": 1}}},
            "data.options = 'alhpa' is not known",
        ),
        ({"data": {"partition": "labels", "options": {"per_learner": 11}}}, "data.options.per_learner = 11: 'digits' has 10"),
        ({"data": {"partition": "natural"}}, "data.partition = 'natural': the data set 'digits' has no natural owners"),
        ({"data": {"domains": ["plan"]}}, "data.domains = 'plan' is not known; did you mean 'plain'?"),
        ({"places": {"devices": "phone"}}, "places.devices = 'phone' is not known; did you mean 'phones'?"),
        ({"places": {"links": "wfi"}}, "places.links = 'wfi' is not known"),
        ({"learners": {"models": ["mpl"]}}, "learners.models = 'mpl' is not known; did you mean 'mlp'?"),
        ({"learners": {"common_model": "lent"}}, "learners.models = 'lent' is not known; did you mean 'lenet'?"),
        ({"extractor": {"name": "patches"}}, "extractor.name = 'patches' is not known; did you mean 'patch-filters'?"),
        ({"faults": [{"at_s": 5, "what": "crush"}]}, "faults[0].what = 'crush' is not known; did you mean 'crash'?"),
        ({"places": {"topology": "rnig"}}, "places.topology = 'rnig' is not known; did you mean 'ring'?"),
        (
            {"places": {"degree": 3}, "learners": {"count": 5}},
            "places.degree = 3: with learners.count = 5 it must",
        ),
        ({"places": {"degree": 8}}, "places.degree = 8: at most learners.count - 1 = 7"),
        ({"data": {"domains": []}}, "data.domains = []"),
        ({"data": {"probe_labels": True}}, "data.probe_labels = true needs public samples"),
        ({"data": {"heldout": 1.0}}, "data.heldout = 1.0: expected float < 1.0"),
        ({"data": {"options": {"alpha": {"a": 1}}}}, "data.options = "),
        ({"world": {"target": 90}}, "world.target = 90.0: an accuracy is over 0 and at most 1"),
        ({"world": {"target": "fedavg"}}, "world.target = 'fedavg' is not known; known: local"),
        ({"faults": [{"at_s": 5, "what": "crash", "until_s": 2}]}, "faults[0].until_s = 2.0"),
        ({"faults": [{"what": "crash"}]}, "the setting faults[0].at_s is missing"),
        ({"faults": {"at_s": 5}}, "a list of tables is needed here, [[faults]]"),
        ({"paradigms": {}}, "no paradigms"),
        ({"paradigms": {"local": 3}}, "paradigms.local = 3: write a table"),
        ({"paradigms": []}, "paradigms = []: tables are needed here"),
        ({"paradigms": {"local": {"use": 3}}}, "paradigms.local.use = 3"),
    ],
)
def test_refused_with_path_value_and_what_is_right(tables, says):
    with pytest.raises(ConfigError) as error:
        parse(tree(**tables))
    assert says in str(error.value)


@pytest.mark.parametrize("text", [None, "not toml", b"\xff\xfe"])
def test_unreadable_files(tmp_path, text):
    path = tmp_path / "x.toml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=r"x\.toml"):
        load(path)


def test_paradigm_options_by_their_own_struct(paradigms):
    config = parse({"paradigms": {"a": {"use": "fedavg", "rounds": 3}, "fedavg": {"lr": 0.5, "chunk_bytes": "2 KB"}}})
    options = check_options(config, paradigms)
    assert options == {"a": FedAvgConfig(rounds=3), "fedavg": FedAvgConfig(lr=0.5, chunk_bytes=2000)}


def test_train_gives_every_paradigm_its_defaults(paradigms):
    config = parse({"train": {"lr": 0.3, "batch": 8}, "paradigms": {"a": {"use": "fedavg"}, "fedavg": {"lr": 0.5}}})
    options = check_options(config, paradigms)
    assert (options["a"].lr, options["fedavg"].lr) == (0.3, 0.5)  # batch: it has no such option


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"fedvag": {}}, "paradigms.fedvag: unknown paradigm 'fedvag'; did you mean 'fedavg'?"),
        ({"fedavg": {"round": 3}}, "unknown setting paradigms.fedavg.round = 3; did you mean 'rounds'?"),
        ({"fedavg": {"rounds": "x"}}, "paradigms.fedavg.rounds = 'x': expected int"),
    ],
)
def test_wrong_paradigm_options(paradigms, tables, says):
    with pytest.raises(ConfigError) as error:
        check_options(parse({"paradigms": tables}), paradigms)
    assert says in str(error.value)


def test_a_paradigm_in_a_file_beside_the_scenario(tmp_path, monkeypatch, paradigms):
    monkeypatch.syspath_prepend(tmp_path)
    text = "import msgspec\nclass Config(msgspec.Struct, forbid_unknown_fields=True):\n    rounds: int = 2\n"
    (tmp_path / "my_own_gossip.py").write_text(text)
    (tmp_path / "my_broken_gossip.py").write_text("def")
    (tmp_path / "my_empty_gossip.py").write_text("")
    (tmp_path / "json.py").write_text(text)
    found = check_options(parse({"paradigms": {"mine": {"use": "my_own_gossip.py", "rounds": 7}}}), paradigms)
    assert found["mine"].rounds == 7
    for use, says in (
        ("my_broken_gossip.py", "cannot be imported"),
        ("none.py", "no file"),
        ("json.py", "use = 'json.py': 'json' is also a library's name"),
        ("msgspec.py", "'msgspec' is also a library's name"),
        ("my_empty_gossip.py", "no Config"),
    ):
        with pytest.raises(ConfigError, match=rf"paradigms\.mine: .*{says}"):
            check_options(parse({"paradigms": {"mine": {"use": use}}}), paradigms)


def test_digests_follow_what_a_result_depends_on():
    base = parse(tree())
    assert scenario_digest(parse(tree(name="other", world={"workers": 2}))) == scenario_digest(base)
    assert scenario_digest(parse(tree(train={"lr": 0.2}))) != scenario_digest(base)
    assert data_digest(parse(tree(train={"lr": 0.2}))) == data_digest(base)
    assert data_digest(parse(tree(data={"partition": "shards"}))) != data_digest(base)
