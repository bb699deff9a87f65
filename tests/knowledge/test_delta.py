import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import digest_of
from kuberml.core.rng import rng
from kuberml.knowledge import tensors
from kuberml.knowledge.differences import difference
from kuberml.knowledge.kinds.delta import Delta, apply
from kuberml.knowledge.kinds.weights import Weights

from .wire import flipped, refused, sent, survives_damage, there_and_back

FORMS = ("fp32", "fp16", "int8", "sparse")


def network(seed=0, step=0.0, n=7):
    draw = rng(0, "network")
    noise = rng(seed, "step")
    shapes = {"a.weight": (20, 10), "b": (10,), "scalar": ()}
    found = {
        name: np.array(draw.normal(size=shape) + step * noise.normal(size=shape), np.float32) for name, shape in shapes.items()
    }
    return Weights({**found, "seen": np.array(n), "mean": np.array([1.0, 2.0 + step])}, {"x": 5}, ("x", "y"))


BASE, NEW = network(), network(1, 0.01, n=9)


def largest_gap(a, b):
    return max(float(np.abs(a.tensors[name] - b.tensors[name]).max()) for name in a.tensors)


@given(st.sampled_from(FORMS), st.integers(0, 10), st.floats(1e-6, 10), st.booleans())
@settings(derandomize=True, max_examples=60)
def test_every_form_comes_back_bit_for_bit(form, seed, step, unbiased):
    made = difference(BASE, network(seed, step), form=form, fraction=0.1, unbiased=unbiased, seed=seed)
    there_and_back("delta", made)


@pytest.mark.parametrize(("form", "error"), [("fp32", 2e-7), ("fp16", 2e-5), ("int8", 4e-4)])
def test_base_and_delta_are_near_the_new_weights(form, error):
    made = apply(BASE, difference(BASE, NEW, form=form))
    assert largest_gap(made, NEW) < error
    assert made.tensors["seen"] == 9
    assert made.labels == NEW.labels
    assert made.outputs == BASE.outputs
    assert {name: array.dtype for name, array in made.tensors.items()} == {
        name: array.dtype for name, array in BASE.tensors.items()
    }


def test_sparse_sends_the_largest_changes_as_they_are():
    made = difference(BASE, NEW, form="sparse", fraction=0.1)
    assert sum(array.size for array in made.places.values()) == 22
    result = apply(BASE, made)
    gap = np.abs(NEW.tensors["a.weight"] - BASE.tensors["a.weight"])
    changed = result.tensors["a.weight"] != BASE.tensors["a.weight"]
    assert gap[changed].min() > gap[~changed].max()
    assert np.allclose(result.tensors["a.weight"][changed], NEW.tensors["a.weight"][changed], atol=1e-7)


def test_sparse_of_everything_is_everything():
    for unbiased in (False, True):
        made = apply(BASE, difference(BASE, NEW, form="sparse", fraction=1.0, unbiased=unbiased))
        assert largest_gap(made, NEW) < 0.05 if unbiased else largest_gap(made, NEW) < 2e-7


@pytest.mark.parametrize(("form", "options"), [("int8", {}), ("sparse", {"fraction": 0.2, "unbiased": True})])
def test_the_mean_over_seeds_is_the_true_difference(form, options):
    """Within 5 standard errors for each of 200 entries; the variance is at most step |d| (sparse) or step^2 / 4 (int8)."""
    true = (NEW.tensors["a.weight"].astype(float) - BASE.tensors["a.weight"]).reshape(-1)
    zero = Weights({name: np.zeros_like(array) for name, array in BASE.tensors.items()})
    moved = Weights({name: NEW.tensors[name] - BASE.tensors[name] for name in BASE.tensors})
    draws = np.array(
        [
            apply(zero, difference(zero, moved, form=form, seed=seed, **options)).tensors["a.weight"].reshape(-1)
            for seed in range(400)
        ]
    )
    step = np.abs(draws[draws != 0]).min()  # int8: the scale; sparse: what a change kept by chance is sent as
    error = np.sqrt(np.maximum(step * np.abs(true), step**2 / 4) / len(draws))
    assert (np.abs(draws.mean(axis=0) - true) / error).max() < 5


def test_unbiased_sparse_keeps_the_asked_number_on_average():
    kept = [
        sum(
            array.size for array in difference(BASE, NEW, form="sparse", fraction=0.2, unbiased=True, seed=seed).places.values()
        )
        for seed in range(100)
    ]
    assert 41 < np.mean(kept) < 44 + 3


def test_same_seed_same_bytes():
    for form in ("int8", "sparse"):
        one, two, other = (
            sent("delta", difference(BASE, NEW, form=form, unbiased=True, fraction=0.3, seed=s)) for s in (1, 1, 2)
        )
        assert one == two != other


def test_bytes_fall_with_the_form():
    draw = rng(0, "big")
    base = Weights({"w": draw.normal(size=20_000).astype(np.float32)})
    new = Weights({"w": base.tensors["w"] + draw.normal(size=20_000).astype(np.float32) * 1e-3})
    sizes = {form: len(sent("delta", difference(base, new, form=form))[1][0]) for form in FORMS}
    assert 80_000 < sizes["fp32"] < 80_200
    assert 40_000 < sizes["fp16"] < 40_200
    assert sizes["int8"] < 20_000
    assert sizes["sparse"] < 200 * 7


def test_the_base_is_checked():
    made = difference(BASE, NEW)
    with pytest.raises(RemoteError, match="against the base"):
        apply(NEW, made)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"values": {"nowhere": np.zeros(2, np.float32)}}, "no tensor 'nowhere'"),
        ({"values": {"b": np.zeros(2, np.float32)}}, r"shape \(2,\)"),
        ({"values": {"seen": np.array(1.0, np.float32)}}, "int64"),
        ({"values": {"b": np.zeros(10)}}, "does not fit"),
        ({"values": {"b": np.full(10, 3e38, np.float32)}}, None),
        (
            {"form": "sparse", "values": {"b": np.ones(1, np.float32)}, "places": {"b": np.array([10], np.uint32)}},
            "place 10 of 10",
        ),
    ],
)
def test_a_delta_that_does_not_fit_its_base(change, match):
    made = msgspec.structs.replace(difference(BASE, NEW, form="fp32"), **change)
    base = BASE
    if match is None:
        base = msgspec.structs.replace(BASE, tensors={"b": np.full(10, 3e38, np.float32)})
        made = msgspec.structs.replace(made, base=difference(base, Weights({"b": np.zeros(10, np.float32)})).base)
        match = "NaN or infinity"
    back = there_and_back("delta", made)
    with pytest.raises(RemoteError, match=match):
        apply(base, back)


@pytest.mark.parametrize("form", FORMS)
def test_damage_is_the_senders_fault(form):
    survives_damage("delta", difference(BASE, NEW, form=form, fraction=0.1))


@given(st.sampled_from(FORMS), st.lists(st.integers(0, 10**6), min_size=10, max_size=40))
@settings(derandomize=True, max_examples=30)
def test_a_flipped_bit_never_gives_nan(form, positions):
    def accept(back):
        try:
            result = apply(BASE, back)
        except RemoteError:
            return
        assert all(np.isfinite(array).all() for array in result.tensors.values())

    flipped("delta", difference(BASE, NEW, form=form, fraction=0.1), positions, accept)


def test_a_bomb_is_refused_before_it_is_unpacked():
    card, _ = sent("delta", difference(BASE, NEW, form="int8"))
    bomb = tensors.compress(bytes(64 * 2**20))
    assert len(bomb) < 10_000
    refused("delta", card, bomb, match="damaged tensors|damaged or over")


@pytest.mark.parametrize(
    "change",
    [
        {"form": "fp8"},
        {"form": "int8"},
        {"form": "sparse"},
        {"values": {"b": np.array([np.nan], np.float32)}},
        {"values": {"b": np.zeros(2, np.float16)}},
        {"scales": {"b": np.array(1, np.float32)}},
        {"places": {"b": np.array([1], np.uint32)}},
        {"labels": {"x": 0}},
    ],
)
def test_a_value_that_breaks_a_rule_is_the_callers_fault(change):
    with pytest.raises(ConfigError):
        sent("delta", msgspec.structs.replace(difference(BASE, NEW, form="fp32"), **change))


def test_parts_that_do_not_fit_each_other():
    sparse = Delta(digest_of(b"x"), "sparse", {"b": np.ones(2, np.float32)}, {"b": np.array([1, 4], np.uint32)})
    card, _ = sent("delta", sparse)
    ones = np.ones(2, np.float32)
    for parts in (
        {"v/b": ones},
        {"v/b": ones, "p/b": np.zeros(3, np.uint32)},
        {"v/b": ones, "p/b": np.zeros(2, np.int64)},
        {"v/b": ones, "p/b": np.full(2, 2**32 - 1, np.uint32)},
        {"v/b": ones, "p/b": np.zeros(2, np.uint32), "s/b": np.array(1, np.float32)},
        {"v/b": ones, "p/b": np.zeros(2, np.uint32), "x/b": ones},
        {"v/b": ones, "p/b": np.zeros(2, np.uint32), "v": ones},
    ):
        refused("delta", card, tensors.compress(tensors.encode(parts)))
    coded = msgspec.structs.replace(card, facts={"form": "int8"})
    for scale, code in ((0.0, 1), (-1.0, 1), (1.0, -128)):
        parts = {"v/b": np.array([code], np.int8), "s/b": np.array(scale, np.float32)}
        refused("delta", coded, tensors.compress(tensors.encode(parts)), match="positive scalar")
    refused("delta", msgspec.structs.replace(card, basis=None), sent("delta", sparse)[1][0], match="digest")


def test_what_has_no_difference():
    with pytest.raises(ConfigError, match="nothing changed"):
        difference(BASE, BASE)
    with pytest.raises(ConfigError, match="same tensors"):
        difference(BASE, Weights({"b": BASE.tensors["b"]}))
    with pytest.raises(ConfigError, match="fraction"):
        difference(BASE, NEW, form="sparse", fraction=0.0)
    with pytest.raises(ConfigError, match="bool"):
        difference(Weights({"m": np.array([True])}), Weights({"m": np.array([False])}))
    far = Weights({"w": np.array([1e30], np.float32)})
    with pytest.raises(ConfigError, match="NaN or infinity"):
        sent("delta", difference(Weights({"w": np.array([0.0], np.float32)}), far, form="fp16"))


def test_only_a_counter_changed():
    for form in FORMS:
        made = there_and_back(
            "delta", difference(BASE, msgspec.structs.replace(BASE, tensors={**BASE.tensors, "seen": np.array(8)}), form=form)
        )
        assert set(made.values) == {"seen"}
        assert apply(BASE, made).tensors["seen"] == 8
