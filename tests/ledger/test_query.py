import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.ids import NodeId, digest_of
from kuberml.ledger.ledger import Ledger
from kuberml.ledger.query import Decision, Made, accepted_refused, ancestors, descendants, history, who_taught
from tests.ledger.worlds import CARD_A, CARD_B, CARD_X, KEY_A, MODEL_B0, MODEL_B1, MODEL_C, small_world


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    small_world(ledger)
    return ledger


def test_who_taught_a_model_goes_back_all_the_way(ledger: Ledger) -> None:
    a, b = Made(CARD_A, ("card",), tuple(sorted(("a", KEY_A)))), Made(CARD_B, ("card",), ("b",))
    assert who_taught(ledger, MODEL_C) == sorted([a, b])
    assert who_taught(ledger, MODEL_B1) == [a]
    assert who_taught(ledger, MODEL_B0) == who_taught(ledger, digest_of(b"never heard of")) == []


def test_ancestors_are_models_too(ledger: Ledger) -> None:
    found = {made.digest: made.types for made in ancestors(ledger, MODEL_C)}
    assert found == {
        CARD_A: ("card",),
        CARD_B: ("card",),
        MODEL_B0: ("model",),
        MODEL_B1: ("model",),
        digest_of(b"in"): ("value",),
    }


def test_descendants_are_what_must_change_when_a_card_is_forgotten(ledger: Ledger) -> None:
    found = {made.digest: made.by for made in descendants(ledger, CARD_A)}
    assert found == {MODEL_B1: ("b",), CARD_B: ("b",), MODEL_C: ("c",), digest_of(b"model d"): ("d",)}
    assert descendants(ledger, CARD_X) == []


def test_a_thing_may_be_of_several_types(ledger: Ledger) -> None:
    assert {made.digest: made.types for made in descendants(ledger, digest_of(b"in"))} == {MODEL_C: ("model", "value")}


def test_history_is_what_one_node_did_in_order(ledger: Ledger) -> None:
    assert [event.event for event in history(ledger, NodeId("b"))] == ["found", "fetched", "tried", "absorbed", "published"]
    assert list(history(ledger, NodeId("nobody"))) == []


def test_the_last_word_on_each_card(ledger: Ledger) -> None:
    assert accepted_refused(ledger) == [
        Decision(6000, NodeId("b"), CARD_A, True, "tested", ""),
        Decision(9000, NodeId("c"), CARD_A, False, "untested", "no evidence"),
        Decision(10000, NodeId("c"), CARD_B, True, "", ""),
        Decision(13000, NodeId("d"), CARD_A, False, "", "forgotten"),
    ]


edges = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25)


@given(edges)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_lineage_equals_a_closure_by_matrices_even_with_loops(pairs: list[tuple[int, int]]) -> None:
    names = [digest_of(b"%d" % number) for number in range(10)]
    ledger = Ledger()
    recorder = ledger.recorder(NodeId("n"), lambda: 0)
    reach = np.zeros((10, 10), dtype=bool)
    for later, earlier in pairs:
        recorder.record("published", card=names[later], parents=[names[earlier]])
        reach[later, earlier] = True
    for _ in range(4):
        reach |= reach @ reach
    for number in range(10):
        behind = {names[other] for other in np.flatnonzero(reach[number])} - {names[number]}
        ahead = {names[other] for other in np.flatnonzero(reach[:, number])} - {names[number]}
        assert {made.digest for made in ancestors(ledger, names[number])} == behind
        assert {made.digest for made in descendants(ledger, names[number])} == ahead
