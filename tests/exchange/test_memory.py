import msgspec
import numpy as np
import pytest

from kuberml.core.errors import InternalError
from kuberml.exchange.memory import Memory
from kuberml.knowledge.kinds.weights import Weights
from kuberml.worlds.simulated.store import SimulatedStore


@pytest.fixture
def store() -> SimulatedStore:
    return SimulatedStore()


def test_what_was_committed_is_read_back_and_survives_a_restart(store: SimulatedStore) -> None:
    memory = Memory(store)
    memory.update(round=3, weights=np.arange(4, dtype=np.float32), nested={"a": [1, (2.5, "x")]})
    memory.name = "n0"
    for one in (memory, Memory(store)):
        assert (one.round, one.name, one.nested) == (3, "n0", {"a": [1, (2.5, "x")]})
        np.testing.assert_array_equal(one.weights, [0, 1, 2, 3])


def test_values_are_read_only_and_share_nothing_with_what_was_given(store: SimulatedStore) -> None:
    weights_P, counts = np.zeros(3, np.float32), {"7": 1}
    memory = Memory(store)
    memory.update(weights=weights_P, counts=counts)
    weights_P[0], counts["7"] = 9, 9
    assert memory.weights[0] == 0
    assert memory.counts == {"7": 1}
    with pytest.raises(ValueError, match="read-only"):
        memory.weights[0] = 1


def test_structs_come_back_as_what_they_were(store: SimulatedStore) -> None:
    Memory(store).update(model=Weights({"state": np.ones(2, np.float32)}, {"7": 3}))
    found = Memory(store).model
    assert isinstance(found, Weights)
    np.testing.assert_array_equal(found.tensors["state"], [1, 1])


def test_setdefault_sets_what_is_missing_and_nothing_else(store: SimulatedStore) -> None:
    Memory(store).update(round=5)
    memory = Memory(store)
    memory.setdefault(round=0, state="fresh")
    assert (memory.round, memory.state) == (5, "fresh")
    assert "round" in memory
    assert "none" not in memory
    assert memory.get("none", 7) == 7


def test_what_was_never_set_says_how_to_set_it(store: SimulatedStore) -> None:
    with pytest.raises(AttributeError, match=r"memory\.setdefault\(round=\.\.\.\)"):
        _ = Memory(store).round


@pytest.mark.parametrize("wrong", [object(), {1, 2}, 1j, {1: "a"}, lambda: None])
def test_a_transaction_with_one_wrong_value_changes_nothing(store: SimulatedStore, wrong: object) -> None:
    memory = Memory(store)
    memory.update(round=1, state="old")
    with pytest.raises(InternalError):
        memory.update(round=2, state=wrong)
    assert (memory.round, memory.state) == (1, "old")
    assert (Memory(store).round, Memory(store).state) == (1, "old")


@pytest.mark.parametrize("fault", ["is_full", "is_frozen"])
def test_a_disk_that_refuses_leaves_memory_as_a_restart_would_find_it(store: SimulatedStore, fault: str) -> None:
    memory = Memory(store)
    memory.update(round=1)
    setattr(store, fault, True)
    with pytest.raises(OSError, match=r"disk|down"):
        memory.update(round=2)
    assert memory.round == 1
    setattr(store, fault, False)
    assert Memory(store).round == 1


def test_a_struct_that_is_not_a_value_is_refused(store: SimulatedStore) -> None:
    class Loose(msgspec.Struct, frozen=True):
        x: int

    with pytest.raises(InternalError):
        Memory(store).loose = Loose(1)
