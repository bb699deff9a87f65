"""Draws of links, delays between cities, graphs and their averaging weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError
from kuberml.core.rng import rng
from kuberml.worlds.simulated.energy import RADIOS
from kuberml.worlds.simulated.graphs import KINDS, is_connected
from kuberml.worlds.simulated.networks import CITIES, graph, latency_ns, link, link_tables, metropolis, radio_of


@pytest.mark.parametrize("table", link_tables())
def test_a_draw_is_a_function_of_its_seed(table):
    drawn = [link(table, rng(5, table, k)) for k in range(5)]
    assert drawn == [link(table, rng(5, table, k)) for k in range(5)]
    assert all(each.up_bps >= 1 and each.down_bps >= 1 and each.latency_ns > 0 and each.loss_ppm == 0 for each in drawn)
    assert radio_of(table) in RADIOS


def test_wifi_has_the_bandwidth_of_the_field():
    up, down = (np.array(way) / 8e6 for way in zip(*((each.up_bps, each.down_bps) for each in wifi_draws(400)), strict=True))
    assert np.mean(up) == pytest.approx(3.55, rel=0.1)  # mean over the 19 rows, MB/s
    assert np.mean(down) == pytest.approx(6.1, rel=0.15)
    assert up.min() >= 0.0431  # never under a tenth of the slowest mean


def wifi_draws(count):
    return [link("flash-wifi", rng(2, k)) for k in range(count)]


def test_delays_are_the_measured_ones():
    delays_ms = np.array([each.latency_ns for each in wifi_draws(400)]) / 1e6
    assert 27.5 <= delays_ms.min() <= delays_ms.max() <= 353.75
    assert np.median(delays_ms) == pytest.approx(38.75, rel=0.06)


def test_newer_networks_are_faster():
    mean = {name: np.mean([link(name, rng(1, k)).down_bps for k in range(40)]) for name in ("3g", "lte", "5g-driving", "5g")}
    assert mean["3g"] < mean["lte"] < mean["5g-driving"] < mean["5g"]


def test_wired_links():
    assert link("lan", rng(0)).up_bps == 10**9
    delays = {link("wan", rng(0, k)).latency_ns for k in range(30)}
    assert len(delays) > 5
    assert all(10_000_000 < delay < 150_000_000 for delay in delays)


def test_city_delays():
    assert latency_ns(0, 0) == 0
    assert latency_ns(0, 1) == 183_600_000
    assert latency_ns(0, 219) >= 0
    for pair in ((0, CITIES), (-1, 0)):
        with pytest.raises(ConfigError, match="numbered 0 to 226"):
            latency_ns(*pair)


@pytest.mark.parametrize("call", [lambda: link("wifi", rng(0)), lambda: radio_of("lanx")])
def test_unknown_link_tables_are_refused(call):
    with pytest.raises(ConfigError, match="unknown link table"):
        call()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_graphs_are_simple_symmetric_and_reproducible(kind):
    drawn = graph(kind, 40, rng(9, kind), degree=4, p=0.3)
    assert drawn == graph(kind, 40, rng(9, kind), degree=4, p=0.3)
    for i, around in enumerate(drawn):
        assert i not in around
        assert list(around) == sorted(set(around))
        assert all(i in drawn[j] for j in around)
    assert is_connected(drawn)


def test_known_shapes():
    assert graph("ring", 4, rng(0)) == ((1, 3), (0, 2), (1, 3), (0, 2))
    assert graph("star", 3, rng(0)) == ((1, 2), (0,), (0,))
    assert graph("complete", 3, rng(0)) == ((1, 2), (0, 2), (0, 1))
    assert graph("exponential", 8, rng(0))[0] == (1, 2, 4, 6, 7)
    assert graph("ring", 1, rng(0)) == ((),)
    assert graph("watts-strogatz", 6, rng(0), degree=2, p=0.0) == graph("ring", 6, rng(0))


@settings(max_examples=25, derandomize=True)
@given(st.integers(2, 40), st.integers(1, 9), st.integers(0, 99))
def test_random_regular_is_regular_or_refused(count, degree, seed):
    possible = degree < count and count * degree % 2 == 0 and (degree > 1 or count == 2)
    if possible:
        assert {len(around) for around in graph("random-regular", count, rng(seed), degree=degree)} == {degree}
    else:
        with pytest.raises(ConfigError):
            graph("random-regular", count, rng(seed), degree=degree)


def test_random_regular_differs_between_seeds_and_mixes():
    one, two = (graph("random-regular", 200, rng(seed), degree=6) for seed in (1, 2))
    assert one != two
    near = sum((j - i) % 200 <= 3 or (i - j) % 200 <= 3 for i, around in enumerate(one) for j in around)
    assert near / 1200 < 0.1  # the ring it starts from is gone: 6 of 199 would be chance


def test_erdos_renyi_has_its_density():
    assert np.mean([len(around) for around in graph("erdos-renyi", 200, rng(1), p=0.1)]) == pytest.approx(19.9, rel=0.1)


@pytest.mark.parametrize(
    ("kind", "count", "options", "says"),
    [
        ("rnig", 4, {}, "did you mean 'ring'"),
        ("ring", 0, {}, "1 node or more"),
        ("erdos-renyi", 50, {"p": 1.5}, "0 to 1"),
        ("erdos-renyi", 50, {"p": 0.001}, "raise p"),
        ("random-regular", 5, {"degree": 3}, "even"),
        ("watts-strogatz", 10, {"degree": 3}, "even degree"),
    ],
)
def test_impossible_graphs_are_refused(kind, count, options, says):
    with pytest.raises(ConfigError, match=says):
        graph(kind, count, rng(0), **options)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_metropolis_weights_are_symmetric_and_doubly_stochastic(kind):
    drawn = graph(kind, 20, rng(4), degree=4, p=0.4)
    w = np.zeros((20, 20))
    for i, row in enumerate(metropolis(drawn)):
        assert set(row) == {i, *drawn[i]}
        w[i, list(row)] = list(row.values())
    assert np.allclose(w, w.T)
    assert np.allclose(w.sum(axis=0), 1)
    assert w.min() >= -1e-12
    assert sorted(abs(np.linalg.eigvalsh(w)))[-2] < 1  # averaging converges


def test_metropolis_by_hand():
    ends, middle = pytest.approx({0: 2 / 3, 1: 1 / 3}), pytest.approx({0: 1 / 3, 1: 1 / 3, 2: 1 / 3})
    path = metropolis(((1,), (0, 2), (1,)))
    assert path[0] == ends
    assert path[1] == middle
    assert list(path[2]) == [1, 2]
