import html
import re
import sys
from html.parser import HTMLParser

import msgspec
import pytest

from kuberml.core.errors import ConfigError, MissingExtra
from kuberml.scenario import plots
from kuberml.scenario.aggregate import aggregate
from kuberml.scenario.compare import compare, write_comparison
from kuberml.scenario.markup import Safe, esc, table, tag
from kuberml.scenario.report import render, write_report
from kuberml.scenario.result import Interval, Rank
from kuberml.scenario.result_files import write_result
from kuberml.scenario.run_summary import Decision
from kuberml.scenario.sentence import HOW_FAR, about_target, ties
from tests.scenario.factory import config, run, runs

VOID = {"meta", "br", "link", "img", "path", "use", "line"}


class Balanced(HTMLParser):
    """Fails when an element is closed that is not open."""

    def __init__(self):
        super().__init__()
        self.open, self.urls = [], []

    def handle_starttag(self, tag, attrs):
        self.urls += [value for name, value in attrs if name in ("src", "href", "xlink:href") and not value.startswith("#")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def check_page(page):
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert parser.urls == []
    assert "$" not in re.sub(r"<style.*?</style>", "", page, flags=re.DOTALL)


@pytest.fixture(scope="module")
def some_runs():
    return runs()


@pytest.fixture(scope="module")
def result(some_runs):
    return aggregate(some_runs, config(), wall_s=2.0, versions={"kuberml": "0"})


def test_the_page_is_whole_and_self_contained(tmp_path, result, some_runs):
    page = write_report(tmp_path, result, some_runs).read_text()
    check_page(page)
    assert page.count("<svg") == 3
    for words in (
        result.sentence,
        "The five factors",
        "Accuracy over time",
        "Accuracy over bytes",
        "kuber-statistics: who taught whom",
        "Gain per class",
        "own labels got worse by 0.2",
        "n5 ✗",
        result.scenario.digest,
    ):
        assert words in page
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_same_result_gives_the_same_page(result, some_runs):
    assert render(result, some_runs) == render(result, some_runs)


def test_everything_is_escaped(some_runs):
    evil = '<script>alert("x")</script>&'
    decision = Decision(1.0, "n0", evil, "refused", evil, evil, (evil,), 1, {evil: 0.1})
    mine = run(
        "kuber-statistics", note=evil, decisions=(decision,), recall={evil: {evil: 1.0}}, recall_before={evil: {evil: 0}}
    )
    result = aggregate([mine], config(seeds=1, paradigms=("kuber-statistics",)), wall_s=0, versions={evil: evil})
    result = msgspec.structs.replace(result, task=evil, sentence=evil)
    page = render(result, [mine])
    check_page(page)
    assert "<script" not in page


def test_without_matplotlib_the_page_says_what_is_missing(monkeypatch, result, some_runs):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = render(result, some_runs)
    check_page(page)
    assert "pip install &#x27;kuberml[report]&#x27;" in page
    assert "The five factors" in page
    assert "<svg" not in page
    with pytest.raises(MissingExtra):
        plots.over_time(some_runs)


def test_one_seed_is_said_to_prove_nothing():
    mine = [run("local"), run("fedavg", top=0.9)]
    result = aggregate(mine, config(seeds=1, paradigms=("local", "fedavg")), wall_s=0)
    assert "One seed: nothing here has a spread" in render(result, mine)
    assert "cannot be told apart: one seed decides nothing" in result.sentence


@pytest.mark.parametrize(
    ("tops", "says"),
    [
        ({"fedavg": 0.6, "kuber-statistics": 0.9}, "points above fedavg"),
        ({"fedavg": 0.9, "kuber-statistics": 0.6}, "points below fedavg"),
        ({"fedavg": 0.701, "kuber-statistics": 0.7}, "cannot be told apart: their intervals overlap"),
        ({"local": 0.5, "fedavg": 0.8}, "points above local"),
        ({"centralised": 0.99, "kuber-statistics": 0.9, "local": 0.2}, "points above local"),
        ({"kuber-statistics": 0.9}, "it ran alone"),
        ({"kuber-statistics": 0.2, "local": 0.3}, "honest learners ended worse than before"),
    ],
)
def test_the_sentence_is_honest_when_we_win_tie_or_lose(tops, says):
    assert says in aggregate(runs(**tops), config(paradigms=tuple(tops)), wall_s=0).sentence


def test_a_run_without_curves_or_decisions_still_has_a_page():
    bare = run(curve=(), decisions=(), recall={}, recall_before={}, accuracy_before={}, latency_ms=(), freshness_s=())
    result = aggregate([bare], config(seeds=1, paradigms=("local",)), wall_s=0)
    assert result.target is None
    check_page(render(result, [bare]))


def test_a_paradigm_in_which_nobody_served_anything():
    nothing = {"accuracy": {}, "accuracy_own": {}, "accuracy_before": {}, "recall": {}, "recall_before": {}, "curve": ()}
    mine = [run("local"), run("fedavg", **nothing)]
    result = aggregate(mine, config(seeds=1, paradigms=("local", "fedavg"), learners={"count": 6}), wall_s=0)
    assert result.paradigms["fedavg"].accuracy_mean is None
    assert [place.paradigm for place in result.ranking] == ["local"]
    page = render(result, mine)
    check_page(page)
    assert "fedavg: learners that served nothing are left out of its means (5, over all seeds)" in page
    alone = aggregate(mine[1:], config(seeds=1, paradigms=("fedavg",)), wall_s=0)
    assert alone.sentence == "No learner served anything: there is nothing to compare."
    check_page(render(alone, mine[1:]))


def test_compare_puts_results_side_by_side_and_warns(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, data in zip(folders, ("iid", "shards"), strict=True):
        some = runs(local=0.3, fedavg=0.6)
        write_result(
            folder, aggregate(some, config(paradigms=("local", "fedavg"), data={"partition": data}), wall_s=0), tuple(some)
        )
    found = compare(folders)
    assert sorted(found.paradigms) == ["a/fedavg", "a/local", "b/fedavg", "b/local"]
    assert found.warnings == ("a and b have different data or partition",)
    page = write_comparison(tmp_path / "c.html", found, folders).read_text()
    check_page(page)
    assert "different data or partition" in page


def test_compare_needs_two_different_results(tmp_path):
    with pytest.raises(ConfigError, match="at least two"):
        compare([tmp_path])
    with pytest.raises(ConfigError, match="no result"):
        compare([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(ConfigError, match="twice"):
        compare([tmp_path, tmp_path])


def test_markup():
    assert esc("<b>") == "&lt;b&gt;"
    assert esc(Safe("<b>")) == "<b>"
    assert tag("p", "a", css='x"y') == '<p class="x&quot;y">a</p>'
    assert "<td>&lt;</td>" in table(["a", "b"], [["r", "<"]])


def test_a_live_run_is_not_called_simulated(result, some_runs):
    assert "simulated world" in render(result, some_runs)
    lived = [run(paradigm, trace_hash="") for paradigm in ("local", "fedavg", "kuber-statistics")]
    page = render(aggregate(lived, config(seeds=1), wall_s=1.0), lived)
    assert "real processes, real time" in page
    assert "simulated world" not in page
    assert "virtual time" not in page


def test_any_label_can_be_drawn_and_found_in_the_legend():
    labels = ["$x$", "_mine", r"$\bad{"]
    page = plots.over_time([run(label) for label in labels])
    assert all(text in page for text in ("$x$", "_mine", r"$\bad{"))


def test_lines_of_one_colour_differ_by_their_dashes():
    labels = [f"way {i}" for i in range(25)]
    looks = {(plots.colour_of(labels)[label], plots.dashes_of(labels)[label]) for label in labels}
    assert len(looks) == len(labels)


def test_the_target_is_said_and_who_did_not_always_reach_it(result, some_runs):
    words = about_target(result.target, result.paradigms)
    assert words.startswith("Target: 58.7 %, one point under the median of the paradigms' best")
    assert words.endswith("Without a figure, since not every seed reached it: local (0 of 3).")
    assert words in html.unescape(render(result, some_runs))
    assert about_target(None, result.paradigms) == ""


def test_an_interval_ends_where_accuracy_does():
    two = [run("local", seed, top=top) for seed, top in enumerate((0.1, 0.9))]
    page = render(aggregate(two, config(seeds=2, paradigms=("local",)), wall_s=1.0), two)
    assert "0.0 – 100.0 %" in page
    assert not re.search(r"-\d+\.\d – ", page)


def place(paradigm, *others):
    return Rank(paradigm, 0.5, Interval(0.4, 0.6), others)


def test_who_cannot_be_told_apart_is_said_once():
    assert ties([place("a", "b"), place("b", "a", "c"), place("c", "b")]) == "Cannot be told apart: a from b; b from c."
    assert ties([place("a", "b", "c"), place("b", "a", "c"), place("c", "a", "b")]) == (
        "No two of these can be told apart: a, b, c."
    )
    assert ties([place("a"), place("b")]) == ""
    assert ties([place("a")]) == ""


def test_the_page_says_what_its_figures_cover():
    some = runs(seeds=2)
    page = render(aggregate(some, config(seeds=2), wall_s=1.0), some)
    assert HOW_FAR in page
    assert "accuracy, % (0: serves nothing yet)" in page
