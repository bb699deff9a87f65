"""What a newcomer reads: one file a paradigm, short, and it says where the algorithm comes from."""

import ast
import re
from pathlib import Path

import pytest

from kuberml import paradigms
from kuberml.core.errors import ConfigError
from kuberml.paradigms import PARADIGMS, roles
from kuberml.scenario.config import parse
from kuberml.scenario.options import check_options

FILES = sorted(path for path in Path(paradigms.__file__).parent.glob("*.py") if path.stem not in ("__init__", "options"))
ROUNDS = ("fedavg", "fedavg-head", "one-shot", "fed3r", "fedprox", "scaffold", "fedadam", "fedyogi", "feddf")
GOSSIP = ("dpsgd", "adpsgd", "epidemic", "divshare", "aedfl")
CUT = ("split", "splitfed")
STREAM = ("frozen", "sequential", "fedavg-replay", "joint")
OTHERS = ("fedasync", "fedbuff", "fedproto", "fedpft", "qkt", "kuber", "continual")
NAMES = ("local", "centralised", *ROUNDS, *GOSSIP, *CUT, *STREAM, *OTHERS)
NO_ALGORITHM = {"local", "centralised"}  # what others are compared with; nobody invented them


def test_every_paradigm_is_one_file_and_the_other_way_round() -> None:
    assert set(NAMES) <= set(PARADIGMS.names())
    assert {path.stem for path in FILES} == {name.replace("-", "_") for name in NAMES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_short_and_cites_its_source(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 150
    docstring = ast.get_docstring(ast.parse(text)) or ""
    if path.stem not in NO_ALGORITHM:
        assert re.search(r"(AISTATS|NeurIPS|ICML|ICLR|MLSys|arXiv)[^.]*\d{4}", docstring), "who, where and when"


@pytest.mark.parametrize("name", NAMES)
def test_a_paradigm_exports_a_config_and_its_roles(name: str) -> None:
    module = PARADIGMS.get(name)
    assert set(roles(module)) - {"library"} in ({"peer"}, {"server", "client"})
    assert module.Config.__struct_config__.frozen
    assert module.Config()  # every option has a default


def test_a_module_without_roles_is_no_paradigm() -> None:
    with pytest.raises(ConfigError, match="is not a paradigm"):
        roles(paradigms)


@pytest.mark.parametrize(
    ("use", "option", "value"),
    [
        ("fedavg", "cohort", 2.0), ("fedavg", "rounds", -1), ("fedavg", "deadline_s", -1),
        ("fedproto", "cohort", 1.5), ("fedasync", "cohort", -1), ("splitfed", "cohort", 3), ("sequential", "rounds", -1),
        ("epidemic", "peers", -1), ("divshare", "receivers", -1), ("divshare", "fragments", 0), ("dpsgd", "rounds", -1),
        ("aedfl", "peers", -1), ("adpsgd", "tries", -1), ("qkt", "patience_s", -1), ("joint", "settle_s", -0.5),
        ("kuber", "looks", -1), ("kuber", "step_log2", 99), ("kuber", "ridge", 0.0), ("kuber", "every_s", -1.0),
        ("fed3r", "step_log2", -1), ("one-shot", "deadline_s", -1), ("kuber", "tries", -1),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_is_refused_by_name_before_anything_runs(use: str, option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^paradigms\.{use}\.{option} = {value!r}: expected"):
        check_options(parse({"paradigms": {use: {option: value}}}), PARADIGMS)
