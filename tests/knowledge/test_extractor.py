import sys

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core import canonical
from kuberml.core.errors import ConfigError
from kuberml.core.ids import digest_of
from kuberml.knowledge import tensors
from kuberml.knowledge.kinds.extractor import Extractor, basis_of

from .wire import AUTHOR, flipped, refused, sent, survives_damage, there_and_back

SMALL = Extractor("random-convolutions", {"filters": 8, "seed": 3, "two_sided": True}, {"w": np.eye(3, dtype=np.float32)})
facts = st.dictionaries(st.text(max_size=5), st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5) | st.booleans(), max_size=5)


@given(st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True), facts)
@settings(derandomize=True, max_examples=50)
def test_any_settings_come_back(architecture, settings_of_it):
    found = dict(sorted(settings_of_it.items()))
    there_and_back("extractor", Extractor(architecture, found))
    there_and_back("extractor", Extractor(architecture, found, {"b": np.array(1.5), "w": np.zeros((2, 0), np.int8)}))


def test_the_basis_is_the_digest_of_the_blob():
    card, (blob,) = sent("extractor", SMALL)
    assert basis_of(SMALL) == digest_of(blob) == card.blobs[0].digest
    assert basis_of(SMALL) == "5045511d67d435ba2f96e6cc3d1c2de49481fb0817b166a27fbe57179d77bef7"


@pytest.mark.parametrize(
    "change",
    [{"architecture": "other"}, {"facts": {"filters": 9}}, {"tensors": {}}, {"tensors": {"w": np.zeros((3, 3), np.float32)}}],
)
def test_whatever_decides_the_features_decides_the_basis(change):
    assert basis_of(msgspec.structs.replace(SMALL, **change)) != basis_of(SMALL)


def test_reading_one_imports_nothing():
    card, blobs = sent("extractor", Extractor("this.module.would:Run", {"path": "import os"}))
    before = set(sys.modules)
    assert (
        there_and_back("extractor", Extractor("this.module.would:Run", {"path": "import os"})).architecture
        == card.facts["architecture"]
    )
    assert set(sys.modules) == before
    assert blobs


def test_damage_is_the_senders_fault():
    survives_damage("extractor", SMALL)


@given(st.lists(st.integers(0, 10**6), min_size=10, max_size=40))
@settings(derandomize=True, max_examples=20)
def test_a_flipped_bit_changes_the_basis(positions):
    flipped("extractor", SMALL, positions, lambda back: basis_of(back) != basis_of(SMALL) or pytest.fail("same basis"))


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": ""},
        {"architecture": "a b"},
        {"architecture": "a" * 200},
        {"facts": {"x": 0.5}},
        {"facts": {"x": None}},
        {"facts": {"x": 2**63}},
        {"facts": {str(i): i for i in range(300)}},
        {"tensors": {"w": np.array([np.nan])}},
        {"tensors": {"w": np.array([None])}},
    ],
)
def test_a_value_that_breaks_a_rule_is_the_callers_fault(change):
    with pytest.raises(ConfigError):
        sent("extractor", msgspec.structs.replace(SMALL, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "../x"},
        {"facts": {"x": None}},
        {"facts": [1]},
        {"facts": {"x": 2**64 - 1}},
        {"tensors": b"\0" * 8},
        {"tensors": tensors.encode({})},
        {"tensors": "text"},
        {"schema": "kuberml.extractor/2"},
        {"surplus": 1},
    ],
)
def test_a_body_that_cannot_be(change):
    card, (blob,) = sent("extractor", SMALL)
    refused("extractor", card, canonical.encode({**canonical.decode(blob), **change}))


def test_a_card_that_says_something_else():
    card, (blob,) = sent("extractor", SMALL)
    refused("extractor", msgspec.structs.replace(card, labels={"a": 3}), blob, match="no labels")
    refused("extractor", msgspec.structs.replace(card, facts={"architecture": AUTHOR}), blob, match="another architecture")
