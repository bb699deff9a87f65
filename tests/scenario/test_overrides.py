import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError
from kuberml.scenario.overrides import apply, split


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("learners.count=20", ("learners", "count"), 20),
        ("train.lr=1e-2", ("train", "lr"), 0.01),
        ("data.probe_labels=true", ("data", "probe_labels"), True),
        ('data.domains=["plain", "inverted"]', ("data", "domains"), ["plain", "inverted"]),
        ("data.options={alpha = 0.1}", ("data", "options"), {"alpha": 0.1}),
        ("places.links=flash-wifi", ("places", "links"), "flash-wifi"),
        ('name="a = b"', ("name",), "a = b"),
        ("learners.budget_bytes=64 KB", ("learners", "budget_bytes"), "64 KB"),
    ],
)
def test_values_are_typed(setting, path, value):
    assert split(setting) == (path, value)


@pytest.mark.parametrize("setting", ["count", "=3", ".a=3", "a..b=3", "a=[1,", 'a="x'])
def test_malformed(setting):
    with pytest.raises(ConfigError):
        split(setting)


def test_later_wins_and_the_tree_is_untouched():
    tree = {"learners": {"count": 3}}
    assert apply(tree, ["learners.count=4", "learners.count=5", "world.until_s=9"]) == {
        "learners": {"count": 5},
        "world": {"until_s": 9},
    }
    assert tree == {"learners": {"count": 3}}


def test_a_path_through_a_value():
    with pytest.raises(ConfigError, match="seed is not a table"):
        apply({"seed": 3}, ["seed.x=3"])


@settings(max_examples=30, derandomize=True)
@given(st.integers(-(2**60), 2**60))
def test_integers_round_trip(number):
    assert apply({}, [f"a.b={number}"]) == {"a": {"b": number}}
