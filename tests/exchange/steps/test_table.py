"""Which steps go together: every pair either works in a real run or is refused by name, and the page says the same."""

from pathlib import Path
from typing import Any, get_args

import pytest

from kuberml.core.errors import ConfigError
from kuberml.exchange.steps.options import Dp, Name, Steps, TopK
from kuberml.exchange.steps.table import COLLECTS, NAMES, check, rows, why_not, why_not_with
from kuberml.paradigms import PARADIGMS
from kuberml.scenario.config import parse
from kuberml.scenario.options import check_options
from tests.scenario.small import SMALL

PAGE = Path(__file__).parents[3] / "docs" / "steps.md"


def steps(*names: Name, **options: Any) -> Steps:
    return Steps(names=names, **options)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("masks", "median"), "'median' cannot come after 'masks': masks show the server only the sum"),
        (("masks", "krum"), "krum compares single updates"),
        (("masks", "trimmed-mean"), "trimmed-mean compares single updates"),
        (("masks", "centred-clip"), "centred-clip compares single updates"),
        (("top-k", "masks"), "set top_k.support = 'common'"),
        (("quantise", "masks"), "fixed-point ones already"),
        (("median", "trimmed-mean"), "each of them makes one vector"),
        (("median", "krum"), "krum comes first"),
        (("top-k", "median"), "what is in the middle there is 0"),
        (("dp", "clip"), "clip comes first"),
        (("dp",), "'dp' needs 'clip' before it"),
        (("clip", "dp", "median"), "set dp.at = 'client'"),
        (("masks", "clip"), "masks come last of what clients do"),
        (("clip", "dp", "masks"), "masks come first"),
        (("quantise", "top-k"), "top-k comes first"),
        (("median", "clip"), "done by each client"),
        (("clip", "clip"), "twice"),
    ],
)
def test_what_cannot_be_is_refused_by_both_names_and_why(names: tuple[Name, ...], why: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check(steps(*names), "sum")
    assert why in str(raised.value)
    assert all(name in str(raised.value) for name in names)


@pytest.mark.parametrize(
    "chain",
    [
        steps("clip", "top-k", "quantise", "krum"),
        steps("top-k", "masks", top_k=TopK(support="common")),
        steps("clip", "dp", "masks", dp=Dp(at="client")),
        steps("clip", "masks", "dp"),
        steps("clip", "dp", "top-k", "krum", "trimmed-mean", dp=Dp(at="client"), top_k=TopK(support="common")),
    ],
    ids=lambda chain: "+".join(chain.names),
)
def test_what_makes_sense_is_allowed(chain: Steps) -> None:
    check(chain, "sum")


@pytest.mark.parametrize("use", ["dpsgd", "adpsgd", "epidemic", "divshare", "aedfl"])
@pytest.mark.parametrize("name", ["masks", "median"])
def test_gossip_is_refused_and_told_why(use: str, name: str) -> None:
    config = parse({**SMALL, "paradigms": {use: {"update_steps": [name]}}})
    with pytest.raises(ConfigError, match=f"paradigms.{use}.*'{name}' cannot go with gossip: ") as raised:
        check_options(config, PARADIGMS)
    assert "sum of an agreed cohort" in str(raised.value) or "no server" in str(raised.value)


@pytest.mark.parametrize(
    ("use", "names", "why"),
    [
        ("fedasync", ["masks"], "masks' cannot go with an asynchronous paradigm"),
        ("fedbuff", ["krum"], "compares the updates of one round"),
        ("fedbuff", ["clip", "dp"], "with dp.at = 'client' each client noises its own"),
        ("feddf", ["masks"], "looks at each client's model"),
        ("feddf", ["median"], "the liars' too"),
        ("fedavg", ["mask"], "update_steps"),
    ],
)
def test_paradigms_are_refused_by_what_their_server_does(use: str, names: list[str], why: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_options(parse({**SMALL, "paradigms": {use: {"update_steps": names}}}), PARADIGMS)
    assert why in str(raised.value)
    assert f"paradigms.{use}" in str(raised.value)


def test_options_of_steps_are_checked_like_all_others() -> None:
    tree = {"update_steps": ["clip"], "clip": {"nrm": 1.0}}
    with pytest.raises(ConfigError, match=r"paradigms.fedavg.clip.nrm.*norm"):
        check_options(parse({**SMALL, "paradigms": {"fedavg": tree}}), PARADIGMS)


def test_every_pair_has_an_answer_and_reasons_are_sentences() -> None:
    assert set(NAMES) == set(get_args(Name))
    for one in NAMES:
        for where in COLLECTS:
            assert isinstance(why_not_with(one, where), str)
        for other in set(NAMES) - {one}:
            why = why_not(one, other, steps(one, other))
            assert why == "" or len(why.split()) > 5


def test_the_page_shows_the_table_of_the_code() -> None:
    table = rows()
    lines = ["| " + " | ".join(row) + " |" for row in table]
    lines.insert(1, "|" + " --- |" * len(table[0]))
    assert "\n".join(lines) in PAGE.read_text(), "docs/steps.md: the table is\n" + "\n".join(lines)
