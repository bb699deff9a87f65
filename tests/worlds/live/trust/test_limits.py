"""How much a key, and all keys, may ask: on a clock that the test moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError, RemoteError, Unreachable
from kuberml.worlds.live.trust.limits import Bounds, Limits

from .test_policy import Clock

WIDE = Bounds(requests_per_s=1e6, burst=1e6, open=10**6, bytes_s=1e9, burst_bytes=1e9)


def limits(clock: Clock, **narrow: float) -> Limits:
    """Narrow for each key, wide for all."""
    fields = {"requests_per_s": 1e6, "burst": 1e6, "open": 10**6, "bytes_s": 1e9, "burst_bytes": 1e9, **narrow}
    return Limits(Bounds(**fields), WIDE, now_s=clock)  # type: ignore[arg-type]


def test_requests_beyond_the_rate_wait() -> None:
    clock = Clock()
    bounded = limits(clock, requests_per_s=10, burst=3)
    for _ in range(3):
        bounded.admit("a", 1)
    with pytest.raises(Unreachable, match=r"your requests, requests come faster than 10 per second; try again in 0.1 s"):
        bounded.admit("a", 1)
    bounded.admit("b", 1)
    clock.at_s += 0.1
    bounded.admit("a", 1)


def test_bytes_beyond_the_rate_wait_and_more_than_a_burst_never_passes() -> None:
    clock = Clock()
    bounded = limits(clock, bytes_s=1000, burst_bytes=5000)
    bounded.admit("a", 4000)
    with pytest.raises(Unreachable, match="bytes come faster than 1000 per second; try again in 1 s"):
        bounded.admit("a", 2000)
    clock.at_s += 1
    bounded.admit("a", 2000)
    clock.at_s += 1e6
    with pytest.raises(RemoteError, match="a request of 5001 bytes; at most 5000 are read"):
        bounded.admit("a", 5001)


def test_open_requests_are_bounded_until_they_are_released() -> None:
    bounded = limits(Clock(), open=2)
    bounded.admit("a", 1)
    bounded.admit("a", 1)
    with pytest.raises(Unreachable, match="2 requests are open, and at most 2 may be"):
        bounded.admit("a", 1)
    bounded.release("a")
    bounded.admit("a", 1)


def test_all_keys_together_are_bounded_whoever_they_are() -> None:
    bounded = Limits(WIDE, Bounds(requests_per_s=10, burst=5, open=100, bytes_s=1e9, burst_bytes=1e9), now_s=Clock())
    for number in range(5):
        bounded.admit(f"key-{number}", 1)
    with pytest.raises(Unreachable, match="of all requests"):
        bounded.admit("another", 1)
    assert bounded.open == 5


def test_a_request_too_large_is_refused_before_anything_is_counted() -> None:
    bounded = Limits(size_max_bytes=100)
    with pytest.raises(RemoteError, match="a request of 101 bytes; at most 100 are read"):
        bounded.admit("a", 101)
    assert bounded.open == 0


def test_keys_are_forgotten_when_there_are_many_but_none_that_waits() -> None:
    bounded = Limits(keys_max=2, now_s=Clock())
    bounded.admit("a", 1)
    bounded.admit("b", 1)
    with pytest.raises(Unreachable, match="2 keys have requests open"):
        bounded.admit("c", 1)
    bounded.release("a")
    bounded.admit("c", 1)
    bounded.release("b")
    bounded.release("c")
    assert bounded.open == 0


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 500)), max_size=60))
def test_no_pattern_of_requests_gets_more_than_burst_and_rate(pattern: list[tuple[float, int]]) -> None:
    clock, passed, passed_bytes = Clock(), 0, 0
    bounded = limits(clock, requests_per_s=2, burst=4, bytes_s=300, burst_bytes=1000)
    began_s = clock.at_s
    for wait_s, size_bytes in pattern:
        clock.at_s += wait_s
        try:
            bounded.admit("a", size_bytes)
        except Unreachable:
            continue
        passed, passed_bytes = passed + 1, passed_bytes + size_bytes
        bounded.release("a")
    lasted_s = clock.at_s - began_s
    assert passed <= 4 + 2 * lasted_s + 1e-6
    assert passed_bytes <= 1000 + 300 * lasted_s + 1e-6


def test_a_bound_that_lets_nothing_through_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="every bound is at least 1"):
        limits(Clock(), burst=0)
