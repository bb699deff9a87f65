"""The head: the ridge solve, the ridge chosen without data, scores that read what the packet read."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from kuberml.core.errors import ConfigError
from kuberml.core.rng import rng
from kuberml.knowledge.kinds.statistics import describe, empty, prefix, solve
from kuberml.knowledge.ridge import RIDGES, choose_ridge, solve_ridge
from kuberml.knowledge.threads import one_thread

from .packets import BASIS, packet, samples


def test_the_head_solves_the_normal_equations() -> None:
    stats = packet(1)
    head = solve(stats, ridge=2.5)
    gram_dd, sums_dC = stats.gram_dd / stats.gram_unit, stats.sums_dC / stats.sums_unit
    assert np.abs((gram_dd + 2.5 * np.eye(13)) @ head.weights_dC - sums_dC).max() < 1e-10
    assert (head.labels, head.ridge, head.basis, head.dims) == (("a", "b", "c"), 2.5, BASIS, 12)


def test_cross_validation_from_the_packet_is_that_of_the_samples() -> None:
    z_Nd, y_N = samples(3, count=50, dims=8)
    stats, _ = describe(z_Nd, y_N, basis=BASIS)
    x_Nd = np.c_[np.ones(50), np.rint(z_Nd * 256) / 256]
    y_NC = (np.array(y_N)[:, None] == np.array(stats.labels)).astype(float)

    def gcv(ridge: float) -> float:
        hat_NN = x_Nd @ np.linalg.solve(x_Nd.T @ x_Nd + ridge * np.eye(9), x_Nd.T)
        return float(((y_NC - hat_NN @ y_NC) ** 2).sum() / 50 / (1 - np.trace(hat_NN) / 50) ** 2)

    assert solve(stats).ridge == min(RIDGES, key=gcv)


def test_noise_gets_a_larger_ridge_than_a_clear_rule() -> None:
    draw = rng(5, "ridge")
    z_Nd = draw.normal(size=(400, 20))
    noise, _ = describe(z_Nd, [str(i) for i in draw.integers(0, 2, 400)], basis=BASIS)
    rule, _ = describe(z_Nd, [str(int(z[0] > 0)) for z in z_Nd], basis=BASIS)
    assert solve(noise).ridge > solve(rule).ridge


def test_fewer_samples_than_features_still_get_a_ridge_that_regularises() -> None:
    stats = packet(1, count=15, dims=40)
    gram_dd = stats.gram_dd / stats.gram_unit
    ridge = choose_ridge(gram_dd, stats.sums_dC / stats.sums_unit, 15)
    eigenvalues_d = np.linalg.eigvalsh(gram_dd).clip(0)
    assert (eigenvalues_d / (eigenvalues_d + ridge)).sum() <= 0.9 * 15


def test_the_head_answers_right_and_reads_a_prefix_of_longer_features() -> None:
    z_Nd, y_N = samples(1, count=300, dims=10)
    stats, _ = describe(z_Nd, y_N, basis=BASIS)
    head, short = solve(stats), solve(prefix(stats, 6))
    answers = np.array(head.labels)[head.scores(z_Nd).argmax(axis=1)]
    assert (answers == np.array(y_N)).mean() > 0.6
    assert np.array_equal(short.scores(z_Nd), short.scores(z_Nd[:, :6]))
    with pytest.raises(ConfigError, match="reads \\[N, 6\\]"):
        short.scores(z_Nd[:, :5])


def test_scores_quantise_and_clip_as_the_packet_did() -> None:
    head = solve(packet(1, clip=2.0, step_log2=2))
    assert np.array_equal(head.scores(np.full((1, 12), 9.0)), head.scores(np.full((1, 12), 2.0)))
    assert np.array_equal(head.scores(np.full((1, 12), 0.1)), head.scores(np.full((1, 12), 0.0)))


@pytest.mark.parametrize("ridge", [0.0, -1.0, float("nan"), float("inf")])
def test_a_ridge_that_cannot_be_is_refused(ridge: float) -> None:
    with pytest.raises(ConfigError, match="ridge must be above 0"):
        solve_ridge(np.eye(2), np.eye(2), ridge)


def test_no_samples_have_no_head() -> None:
    with pytest.raises(ConfigError, match="no samples"):
        solve(empty(3, basis=BASIS))


def test_the_solve_uses_one_thread() -> None:
    """Numpy's BLAS, that is: another test may have loaded scipy's beside it."""
    with one_thread():
        pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas" and "numpy" in pool["filepath"]]
        assert [pool["num_threads"] for pool in pools] == [1]
