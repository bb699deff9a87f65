"""The shipped tables: what they say, and that the tool derives the same ones from the data."""

import os
from pathlib import Path

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.rng import rng
from kuberml.worlds.simulated import cellular, tables

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "src/kuberml/worlds/simulated/tables"
FAMILIES = sorted(tables.settings("cellular"))


@pytest.fixture
def data():
    folder = Path(os.environ.get("KUBERML_DATA", ""))
    if not (folder / "network/mahimahi_cellular.npz").is_file() or not (folder / "device").is_dir():
        pytest.skip("needs the measurements: set KUBERML_DATA to the folder with device/ and network/")
    return folder


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import make_tables

    return make_tables


def test_phones_match_the_published_quantiles():
    score = tables.numbers("phones")["cpu_float"]
    assert [score[p] for p in (0, 5, 25, 50, 75, 95, 100)] == [105, 218, 568, 1548, 2154, 3691, 4310]
    flops = tables.numbers("phones")["flops_per_s"]
    assert list(flops) == sorted(flops)
    assert 1.7e9 < flops[50] < 1.8e9  # the middle phone: 1.033 Gflop a batch in 588 ms


def test_links_of_the_field_match_the_published_range():
    rows = tables.numbers("flash_links")
    assert len(rows["up_mean"]) == 19
    assert (min(rows["up_mean"]), float(np.median(rows["up_mean"])), max(rows["up_mean"])) == (431.0, 3285.7, 6635.4)
    assert (min(rows["down_mean"]), float(np.median(rows["down_mean"])), max(rows["down_mean"])) == (2370.2, 4317.6, 17332.7)


def test_cities_are_small_non_negative_and_read_only():
    assert (TABLES / "cities.npz").stat().st_size < 150_000
    delays = tables.matrix("cities")
    assert delays.shape == (227, 227)
    assert delays.min() == 0
    assert delays.max() == 8118
    with pytest.raises(ValueError, match="read-only"):
        delays[0, 0] = 1


def test_nothing_of_the_gpl_traces_is_shipped():
    assert sorted(path.name for path in TABLES.iterdir() if not path.name.startswith("__")) == [
        "README.md",
        "cellular.toml",
        "cities.npz",
        "classes.toml",
        "delays.csv",
        "flash_links.csv",
        "links.toml",
        "phones.csv",
    ]
    notices = (TABLES / "README.md").read_text(encoding="utf-8")
    assert notices.count("Permission is hereby granted, free of charge") == 2
    assert "BSD 2-Clause License" in notices


@pytest.mark.parametrize("name", FAMILIES)
def test_draws_follow_the_parameters(name):
    model = cellular.family(name)
    sessions = [model.rates(rng(3, name, k), 400) for k in range(60)]
    rates = np.concatenate(sessions)
    assert rates.dtype == np.int64
    assert rates.min() >= 0
    assert rates.max() <= model.rate_bytes_s_K[-1]
    out = model.outage_starts / (model.outage_starts + 1 / model.outage_s)
    assert np.mean(rates == 0) == pytest.approx(out, abs=0.02)
    median = np.median(rates[rates > 0])
    assert model.rate_bytes_s_K[4] < median < model.rate_bytes_s_K[8]  # between z = -1 and z = 1
    assert len({session.tobytes() for session in sessions}) == 60


def test_outages_last_as_long_as_stated():
    model = cellular.Cellular((-1.0, 1.0), (100, 200), level=0.0, phi=0.5, outage_starts=0.02, outage_s=5.0)
    out = np.concatenate([[False], model.rates(rng(1), 60_000) == 0, [False]])
    begins, ends = np.flatnonzero(~out[:-1] & out[1:]), np.flatnonzero(out[:-1] & ~out[1:])
    assert np.mean(ends - begins) == pytest.approx(5.0, rel=0.1)
    assert len(begins) / np.sum(~out) == pytest.approx(0.02, rel=0.1)


def test_the_walk_has_its_autocorrelation_and_the_session_its_share():
    z = (-8.0, 8.0)
    model = cellular.Cellular(z, (0, 16_000_000), level=0.3, phi=0.9, outage_starts=0.0, outage_s=1.0)
    z_ST = np.stack([model.rates(rng(2, k), 500) for k in range(150)]) / 1e6 - 8  # the marginal is a line: rates are scores
    assert z_ST.mean() == pytest.approx(0, abs=0.2)
    assert z_ST.var() == pytest.approx(1, abs=0.15)
    assert z_ST.mean(axis=1).var() == pytest.approx(0.3, abs=0.12)
    inside = z_ST - z_ST.mean(axis=1, keepdims=True)
    assert np.mean(inside[:, 1:] * inside[:, :-1]) / inside.var() == pytest.approx(0.9, abs=0.03)


def test_golden_rates_are_the_same_on_every_machine():
    assert cellular.rates_bps("lte-down", rng(7, "golden"), 5).tolist() == [6691144, 9066872, 5862088, 3381384, 8296872]


@pytest.mark.parametrize(
    ("name", "seconds", "says"), [("lte_down", 5, "did you mean 'lte-down'"), ("3g-up", 0, "1 second or more")]
)
def test_bad_sessions_are_refused(name, seconds, says):
    with pytest.raises(ConfigError, match=says):
        cellular.rates_bps(name, rng(0), seconds)


def test_the_tool_derives_the_shipped_tables(data, tool):
    for name, make in {"phones.csv": tool.phones, "delays.csv": tool.delays}.items():
        assert make(data) == (TABLES / name).read_text(encoding="utf-8")
    assert np.array_equal(tool.cities(data), tables.matrix("cities"))


def test_the_stated_fit_errors_are_reproduced(data, tool):
    sessions = tool.traces.families(data)
    assert sorted(sessions) == FAMILIES
    for name in FAMILIES:
        stated = {key[6:]: value for key, value in tables.settings("cellular")[name].items() if key.startswith("error_")}
        assert tool.traces.errors(cellular.family(name), sessions[name]) == pytest.approx(stated, abs=0.0011)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_stated_fit_errors_are_small(name):
    fitted = tables.settings("cellular")[name]
    assert fitted["error_ks"] < 0.06
    assert abs(fitted["error_mean"]) < 0.11
    assert abs(fitted["error_acf1"]) < 0.01
