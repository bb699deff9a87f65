"""Masks: what is kept, who is averaged, what travels, what is charged."""

import numpy as np
import pytest

from kuberml.core.errors import RemoteError
from kuberml.learning.datasets import samples
from kuberml.learning.jobs import fit, training_flops
from kuberml.learning.sparse_jobs import fit_sparse, gradient, look, thin, uses_of
from kuberml.learning.sparsity import Masks, folded, has_flattened, loss_rise, mean_of_holders, regrown, unfolded, within_budget
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import DataRef, FitPlan

STREAM = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return STREAM.standard_normal(shape).astype(np.float32)


def masks(*shape: int) -> np.ndarray:
    return STREAM.random(shape) < 0.5


def test_each_weight_is_averaged_over_those_who_keep_it() -> None:
    states_SP, masks_SP, weights_S, own_P = floats(3, 50), masks(3, 50), [0.5, 1.0, 3.0], floats(50)
    masks_SP[:, 7] = False
    mean_P, total_P = mean_of_holders(list(zip(states_SP, masks_SP, weights_S, strict=True)), own_P)
    for c in range(50):
        held = [s for s in range(3) if masks_SP[s, c]]
        expected = np.average([states_SP[s, c] for s in held], weights=[weights_S[s] for s in held]) if held else own_P[c]
        assert mean_P[c] == pytest.approx(expected, rel=1e-6)
        assert total_P[c] == pytest.approx(sum(weights_S[s] for s in held))
    with pytest.raises(RemoteError, match="cannot be averaged"):
        mean_of_holders([(floats(49), None, 1.0)], own_P)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 1000])
def test_a_sparse_state_comes_back_and_takes_a_bit_a_weight_and_what_is_kept(size: int) -> None:
    mask_P = masks(size)
    state_P = floats(size) * mask_P
    packed = folded(state_P, mask_P)
    assert packed["bits"].nbytes == -(-size // 64) * 8
    assert packed["state"].nbytes == 4 * mask_P.sum()
    back_P, kept_P = unfolded(packed, size)
    np.testing.assert_array_equal(back_P, state_P)
    np.testing.assert_array_equal(kept_P, mask_P)
    whole_P, everything = unfolded(folded(state_P, None), size)
    np.testing.assert_array_equal(whole_P, state_P)
    assert everything is None


def test_a_sparse_state_that_does_not_fit_is_refused() -> None:
    packed = folded(floats(100), masks(100))
    beyond = packed["bits"].copy()
    beyond[-1] |= np.int64(1) << np.int64(60)
    for wrong in ({"bits": packed["bits"]}, {**packed, "state": packed["state"][1:]}, {**packed, "bits": beyond},
                  {**packed, "bits": packed["bits"][:1]}, {"state": packed["state"]}, {"state": floats(10, 10)},
                  {**packed, "bits": packed["bits"].astype(np.float64)}):  # fmt: skip
        with pytest.raises(RemoteError):
            unfolded(wrong, 100)


def test_the_budget_prunes_what_costs_least_and_no_more_than_it_allows() -> None:
    rise_P, keep_P = STREAM.random(200), np.zeros(200, np.bool_)
    keep_P[:20] = True
    mask_P = within_budget(rise_P, keep_P, 3.0, 0.0)
    assert mask_P[:20].all()
    assert rise_P[~mask_P].sum() <= 3.0 < rise_P[~mask_P].sum() + rise_P[20:][mask_P[20:]].min()
    assert rise_P[~mask_P].max() <= rise_P[20:][mask_P[20:]].min()
    assert within_budget(rise_P, keep_P, 1e9, 0.25).sum() == 50
    assert within_budget(rise_P, keep_P, 0.0, 0.0).all()


def test_the_steepest_of_the_pruned_grow_back() -> None:
    mask_P, gradient_P = masks(100), floats(100)
    grown_P = regrown(mask_P, gradient_P, 0.2)
    back, gone = np.flatnonzero(grown_P & ~mask_P), np.flatnonzero(~grown_P)
    assert len(back) == int(0.2 * (~mask_P).sum())
    assert np.abs(gradient_P[back]).min() >= np.abs(gradient_P[gone]).max()


def test_a_mask_comes_when_the_loss_is_flat_and_again_until_three_quarters() -> None:
    rule = Masks(warm_up=2, slope=0.05, refresh=5)
    assert has_flattened([1.0, 1.0, 0.99, 0.98], 0.05)
    assert not has_flattened([2.0, 1.8, 1.6, 1.4], 0.05)
    assert not rule.are_due([1.0, 1.0, 1.0], since=None, spent=0.1)
    assert rule.are_due([1.0, 1.0, 1.0, 1.0], since=None, spent=0.1)
    assert [rule.are_due([], since=since, spent=0.5) for since in (4, 5)] == [False, True]
    assert not rule.are_due([1.0] * 4, since=9, spent=0.8)


# --- with a network -----------------------------------------------------------------------------------------------------------

torch = pytest.importorskip("torch")
LABELS = tuple("0123456789")
NET = TorchLearner("mlp", (8, 8, 1), LABELS, {"hidden": [24, 16]})
DATA = DataRef("digits", "train", np.arange(0, 960, 10, dtype=np.int32))
PLAN = FitPlan(lr=0.1, steps=100, batch=16)


def test_the_gradient_is_torch_s() -> None:
    state, own = NET.init(0), samples(DATA)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 24), torch.nn.ReLU(), torch.nn.Linear(24, 16),
                                 torch.nn.ReLU(), torch.nn.Linear(16, 10))  # fmt: skip
    torch.nn.utils.vector_to_parameters(torch.from_numpy(state.copy()), module.parameters())
    loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(own.x_N.copy())), torch.from_numpy(own.y_N.copy()))
    expected = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, list(module.parameters()))]).numpy()
    np.testing.assert_allclose(gradient(NET, state, own, 0), expected, atol=1e-6)
    seen = look(NET, state, DATA, 96, 0)
    assert seen.loss == pytest.approx(loss.item(), rel=1e-5)
    np.testing.assert_allclose(seen.gradient_P, expected, atol=1e-6)


def test_a_thinned_network_keeps_its_ends_its_loss_and_trains_where_it_is_kept() -> None:
    state = fit(NET, NET.init(0), DATA, PLAN, 1)
    found = thin(NET, state, DATA, 32, 3, 0.2, 0.05, 0.05, 2)
    parts = dict(NET.tensors(found.mask_P.astype(np.float32)))
    middle = [name for name, part in parts.items() if not part.all()]
    assert len(middle) == 1
    assert parts[middle[0]].shape == (16, 24)
    uses_P = uses_of(NET, state)
    assert found.density == pytest.approx(uses_P[found.mask_P].sum() / uses_P.sum())
    kept = np.where(found.mask_P, state, np.float32(0))
    trained = fit_sparse(NET, kept, DATA, PLAN, 3, found.mask_P, found.density)
    assert not trained[~found.mask_P].any()
    assert (trained[found.mask_P] != kept[found.mask_P]).mean() > 0.2
    cost = fit_sparse.flops(NET, kept, DATA, PLAN, 3, found.mask_P, 0.5)
    assert cost == training_flops(NET, PLAN, 96) // 2
    assert look(NET, trained, DATA, 96, 0).loss < look(NET, kept, DATA, 96, 0).loss


def test_what_is_pruned_costs_less_than_as_many_weights_by_chance() -> None:
    """The prediction itself is off: it takes weights one by one. It is a good order, not a good number."""
    state = fit(NET, NET.init(0), DATA, FitPlan(lr=0.1, steps=200, batch=16), 1)
    squares_P = np.zeros_like(state)
    for i in range(96):  # the diagonal Fisher information itself: one sample at a time
        one = DataRef("digits", "train", DATA.indices_N[[i]])
        squares_P += gradient(NET, state, samples(one), 0) ** 2 / 96
    mask_P = within_budget(loss_rise(squares_P, state), np.zeros(len(state), np.bool_), 0.02, 0.0)
    assert 0.3 < (~mask_P).mean() < 0.95

    def loss(kept_P: np.ndarray) -> float:
        return look(NET, np.where(kept_P, state, np.float32(0)), DATA, 96, 0).loss

    by_chance = [loss(STREAM.permutation(mask_P)) for _ in range(5)]
    assert loss(mask_P) < min(by_chance)


def test_a_convolution_s_weight_is_used_at_every_position() -> None:
    net = TorchLearner("lenet", (28, 28, 1), LABELS)
    state = net.init(0)
    uses_P = uses_of(net, state)
    assert 2 * uses_P.sum(dtype=np.float64) == net.flops_per_sample
    parts = net.tensors(uses_P)
    kernels = [part for part in parts.values() if part.ndim == 4]
    assert all((part == part.flat[0]).all() and part.flat[0] > 1 for part in kernels)
    assert not any(part.any() for part in parts.values() if part.ndim == 1)
