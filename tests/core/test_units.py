from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError
from kuberml.core.units import MAX_S, NS, parse_size_bytes, plain, show_bytes, show_seconds, to_ns


@pytest.mark.parametrize(
    ("seconds", "time_ns"), [(0, 0), (-0.0, 0), (1.5, 1_500_000_000), (1e-9, 1), (0.1, 100_000_000), (MAX_S, MAX_S * NS)]
)
def test_seconds_become_whole_nanoseconds(seconds: float, time_ns: int) -> None:
    assert to_ns(seconds) == time_ns
    assert type(to_ns(seconds)) is int


@pytest.mark.parametrize("wrong", [-1, -1e-12, math.nan, math.inf, -math.inf, 1e300, MAX_S * 1.01])
def test_no_time_is_negative_infinite_or_beyond_64_bits(wrong: float) -> None:
    with pytest.raises(ConfigError, match="seconds"):
        to_ns(wrong)


@given(st.integers(0, 10**6 * NS))
@settings(max_examples=100, derandomize=True)
def test_nanoseconds_survive_the_way_through_seconds(time_ns: int) -> None:
    """Doubles hold nanoseconds exactly for eleven days and more."""
    assert to_ns(time_ns / NS) == time_ns


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        (65536, 65536), ("0", 0), ("64 KB", 64_000), ("64KiB", 65_536), ("64 kib", 65_536), (" 1.5 MB ", 1_500_000),
        ("2 GiB", 2 * 2**30), ("7 B", 7), ("0.1 KiB", 102), ("9007199254740993", 2**53 + 1),
    ],
)  # fmt: skip
def test_sizes(text: str | int, size_bytes: int) -> None:
    assert parse_size_bytes(text) == size_bytes


@pytest.mark.parametrize(
    "wrong", ["", "KB", "-1", -1, "1e3", "1.2.3", "64 kbit", "1,5 MB", "nan", "inf", True, None, "\u0663", "9" * 5000, 10**400]
)
def test_what_is_not_a_size_is_refused_with_an_example(wrong: object) -> None:
    with pytest.raises(ConfigError, match="64 KiB"):
        parse_size_bytes(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (999.6, "1 KB"), (1000, "1 KB"), (63_900, "63.9 KB"), (999_499, "999 KB"), (999_999, "1 MB"),
     (1_200_000, "1.2 MB"), (5e11, "500 GB"), (1.234e13, "12340 GB"), (-63_900, "-63.9 KB")],
)  # fmt: skip
def test_bytes_for_people(size_bytes: float, text: str) -> None:
    assert show_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (1e-4, "0.1 ms"), (0.0123, "12.3 ms"), (0.99999, "1 s"), (4.56, "4.56 s"), (119.4, "119 s"),
     (119.99, "2 min"), (192, "3.2 min"), (7199, "2 h"), (5400, "90 min"), (1e6, "278 h"), (1e9, "277778 h"), (-1, "-1 s")],
)  # fmt: skip
def test_seconds_for_people(seconds: float, text: str) -> None:
    assert show_seconds(seconds) == text


@given(st.floats(-1e15, 1e15))
@settings(max_examples=200, derandomize=True)
def test_people_never_see_an_exponent_and_three_digits_are_right(amount: float) -> None:
    for text, factors in (
        (show_bytes(amount), {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}),
        (show_seconds(amount), {"ms": 1e-3, "s": 1, "min": 60, "h": 3600}),
    ):
        number, unit = text.split(" ")
        assert "e" not in number
        assert float(number) * factors[unit] == pytest.approx(amount, rel=0.0051, abs=0.51 if unit == "B" else 1e-9)


def test_a_missing_number_is_shown_and_not_an_error() -> None:
    assert show_bytes(math.nan) == "nan GB"
    assert show_seconds(math.inf) == "inf h"


@pytest.mark.parametrize(
    ("said", "shown"),
    [("Größe 7, 日本", "Größe 7, 日本"), ("3\n+ a", "3\\n+ a"), ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
     ("\r\u202e\x9b", "\\r\\u202e\\x9b")],
)  # fmt: skip
def test_strangers_text_neither_begins_a_line_nor_commands_a_terminal(said: str, shown: str) -> None:
    assert plain(said) == shown
    assert plain("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"
