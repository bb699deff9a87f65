import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError, InternalError
from kuberml.scenario import curves
from kuberml.scenario.aggregate import aggregate, find_target, rank
from kuberml.scenario.result import Interval
from kuberml.scenario.result_files import read_result, read_runs, write_result
from kuberml.scenario.run_summary import CurvePoint
from kuberml.scenario.spread import deviation, interval_95, mean, overlap, percentile, t_95
from tests.scenario.factory import config, run, runs

PROMISED = """accuracy_mean accuracy_p10 accuracy_own accuracy_pooled_reference virtual_time_s time_to_target_s bytes_moved
bytes_to_target energy_j energy_to_target_j freshness_s latency_p50_ms latency_p99_ms flops curve"""


@pytest.fixture(scope="module")
def result():
    return aggregate(runs(), config(), wall_s=1.5)


def test_the_schema_that_is_promised(result):
    tree = json.loads(msgspec.json.encode(result))
    assert tree["schema"] == "kuberml.result/1"
    assert (tree["task"], tree["learners"], tree["wall_s"]) == ("digits", 8, 1.5)
    assert {"paradigm", "seed", "trace_hash"} <= set(tree["runs"][0])
    assert len(tree["runs"]) == 9
    for paradigm in tree["paradigms"].values():
        for name in PROMISED.split():
            assert name in paradigm
            assert f"{name}_std" in paradigm
        assert set(paradigm["freshness_s"]) == {"median", "p99"}


def test_means_leave_liars_out():
    liar = run(seed=0, liars=("n5",))
    honest = [value for node, value in liar.accuracy.items() if node != "n5"]
    result = aggregate([liar], config(seeds=1, paradigms=("local",)), wall_s=0)
    assert result.paradigms["local"].accuracy_mean == pytest.approx(np.mean(honest))
    assert result.paradigms["local"].accuracy_p10 == min(honest)


def test_a_target_that_is_not_reached_is_null(result):
    local, kuber = result.paradigms["local"], result.paradigms["kuber-statistics"]
    assert (local.time_to_target_s, local.bytes_to_target, local.energy_to_target_j, local.target_reached) == (None,) * 3 + (0,)
    assert kuber.target_reached == 3
    assert kuber.time_to_target_s == 30.0
    assert kuber.bytes_to_target == pytest.approx(600)


def test_targets():
    by_label = {"a": [run("a", top=0.5)], "b": [run("b", top=0.7)], "c": [run("c", top=0.9)]}
    top_b = by_label["b"][0].curve[-1].accuracy_mean
    assert find_target(by_label, 0.8).accuracy == 0.8
    assert find_target(by_label, "b").accuracy == pytest.approx(top_b - 0.01)
    assert find_target(by_label, None).accuracy == pytest.approx(top_b - 0.01)
    assert "median" in find_target(by_label, None).how
    assert find_target({"a": [run("a", curve=())]}, None) is None


def test_ranking_says_when_intervals_overlap(result):
    assert [place.paradigm for place in result.ranking] == ["kuber-statistics", "fedavg", "local"]
    assert all(place.ties == () for place in result.ranking)
    close = aggregate(runs(local=0.5, fedavg=0.503), config(paradigms=("local", "fedavg")), wall_s=0)
    assert {place.paradigm: place.ties for place in close.ranking} == {"fedavg": ("local",), "local": ("fedavg",)}
    single = aggregate(runs(1, local=0.3, fedavg=0.9), config(seeds=1, paradigms=("local", "fedavg")), wall_s=0)
    assert rank(single.paradigms)[0].ties == ("local",)


def test_harm_is_counted():
    before = {"n0": 0.9, "n1": 0.1, "n5": 0.9}
    harmed = run(accuracy={"n0": 0.8, "n1": 0.2, "n5": 0.1}, accuracy_before=before)
    assert aggregate([harmed], config(seeds=1, paradigms=("local",)), wall_s=0).paradigms["local"].harmed == 1
    unknown = run(accuracy_before={})
    assert aggregate([unknown], config(seeds=1, paradigms=("local",)), wall_s=0).paradigms["local"].harmed is None


@pytest.mark.parametrize("wrong", [[run("other")], [run(), run()], []])
def test_runs_that_do_not_fit(wrong):
    with pytest.raises(InternalError):
        aggregate(wrong, config(paradigms=("local",)), wall_s=0)


def test_one_seed_has_no_spread():
    lone = aggregate([run()], config(seeds=1, paradigms=("local",)), wall_s=0).paradigms["local"]
    assert (lone.accuracy_mean_std, lone.accuracy_mean_interval, lone.curve_std) == (None, None, None)


def test_files_round_trip(tmp_path, result):
    write_result(tmp_path, result, tuple(runs()))
    assert read_result(tmp_path) == result
    assert read_runs(tmp_path) == tuple(runs())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.json", "runs.json"]


def test_files_of_others_are_refused(tmp_path, result):
    with pytest.raises(ConfigError, match="no result"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(ConfigError, match="is not a kuberml"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(result, schema="kuberml.result/9")))
    with pytest.raises(ConfigError, match="result/9"):
        read_result(tmp_path)


def test_a_missing_number_is_null_and_not_zero():
    assert mean([1.0, None]) is None
    assert mean([]) is None
    assert mean([float("nan")]) is None
    assert deviation([1.0]) is None
    assert percentile([], 50) is None


def test_intervals():
    assert interval_95([1.0, 2.0, 3.0]) == Interval(
        pytest.approx(2 - 4.303 / math.sqrt(3)), pytest.approx(2 + 4.303 / math.sqrt(3))
    )
    assert t_95(40) == pytest.approx(2.0211, abs=2e-3)
    assert overlap(Interval(0, 1), Interval(1, 2))
    assert not overlap(Interval(0, 1), Interval(1.1, 2))
    assert overlap(None, Interval(0, 1))


@settings(max_examples=50, derandomize=True)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30), st.sampled_from([1, 10, 50, 99]))
def test_percentile_is_a_sample_and_holds_its_share(samples, percent):
    found = percentile(samples, percent)
    assert found in samples
    assert sum(sample <= found for sample in samples) >= percent / 100 * len(samples) - 1e-9


def test_interval_coverage():
    draws = np.random.Generator(np.random.Philox(3)).normal(size=(2000, 4))
    covered = [interval.low <= 0 <= interval.high for row in draws if (interval := interval_95(row.tolist()))]
    assert 0.93 < np.mean(covered) < 0.97


def test_curves_of_seeds_meet_on_the_union_of_times():
    a = [CurvePoint(0, 0, 0.1), CurvePoint(10, 5, 0.5)]
    b = [CurvePoint(0, 0, 0.3), CurvePoint(5, 9, 0.7)]
    means, stds = curves.combine([a, b])
    assert [(point.time_s, point.bytes, point.accuracy_mean) for point in means] == [
        (0, 0, pytest.approx(0.2)),
        (5, 4.5, pytest.approx(0.4)),
        (10, 7, pytest.approx(0.6)),
    ]
    assert stds[1].accuracy_mean == pytest.approx(0.6 / math.sqrt(2))
    assert curves.combine([[], []]) == ((), None)


def test_long_curves_are_thinned_and_keep_their_ends():
    long = [CurvePoint(i, i, i / 1000) for i in range(1000)]
    means, _ = curves.combine([long])
    assert len(means) == curves.MAX_POINTS
    assert (means[0], means[-1]) == (long[0], long[-1])
