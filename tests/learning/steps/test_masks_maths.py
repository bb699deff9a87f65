"""Masks that cancel, shares that open, numbers that add up exactly."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.learning.steps.masking import Mask, agreed, fixed, masked, public_key, real, scale_for, unmasked
from kuberml.learning.steps.secrets import words
from kuberml.learning.steps.shamir import PRIME, SECRET_BYTES, opened, shares, weights

SECRET = bytes(range(SECRET_BYTES))


@given(st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES), st.integers(1, 7), st.data())
@settings(max_examples=30, deadline=None)
def test_any_threshold_of_shares_opens_the_secret(secret: bytes, threshold: int, data: st.DataObject) -> None:
    made = shares(secret, 7, threshold, b"coins")
    some = data.draw(st.permutations(range(1, 8)))[:threshold]
    assert opened({i: made[i - 1] for i in some}) == secret


@pytest.mark.parametrize(("i", "k", "third"), [(1, 2, 3), (2, 5, 1), (4, 5, 2)])
@pytest.mark.parametrize("wanted", [b"\0" * SECRET_BYTES, b"\xff" * SECRET_BYTES], ids=["zeros", "ones"])
def test_one_share_too_few_says_nothing(i: int, k: int, third: int, wanted: bytes) -> None:
    """With t - 1 shares every secret is as possible as every other: for each there is one more share that opens it."""
    made = shares(SECRET, 5, 3, b"coins")
    numbers = tuple(sorted((i, k, third)))
    at_0 = dict(zip(numbers, weights(numbers), strict=True))
    known = sum(at_0[n] * int.from_bytes(made[n - 1], "little") for n in (i, k))
    fitting = (int.from_bytes(wanted, "little") - known) * pow(at_0[third], -1, PRIME) % PRIME
    assert opened({i: made[i - 1], k: made[k - 1], third: fitting.to_bytes(32, "little")}) == wanted


def test_shares_that_do_not_belong_together_are_noticed() -> None:
    made = shares(SECRET, 5, 3, b"coins")
    with pytest.raises(RemoteError, match="do not belong together"):
        opened({1: made[0], 2: made[1]})


def test_shares_of_a_line_by_hand() -> None:
    """Two shares open a line; its value at 0 is 2 y1 - y2."""
    one, two = (int.from_bytes(share, "little") for share in shares(SECRET, 2, 2, b"coins"))
    assert (2 * one - two) % PRIME == int.from_bytes(SECRET, "little")
    assert weights((1, 2)) == [2, PRIME - 1]


@pytest.mark.parametrize(("secret", "count", "threshold"), [(b"short", 3, 2), (SECRET, 3, 4), (SECRET, 3, 0)])
def test_shares_that_cannot_be(secret: bytes, count: int, threshold: int) -> None:
    with pytest.raises(ConfigError, match="cannot be"):
        shares(secret, count, threshold, b"coins")


def test_two_agree_on_a_secret_that_a_third_does_not_have() -> None:
    a, b, c = b"a" * 31, b"b" * 31, b"c" * 31
    assert agreed(a, public_key(b), b"x") == agreed(b, public_key(a), b"x")
    assert agreed(a, public_key(b), b"x") != agreed(a, public_key(b), b"y")
    assert agreed(c, public_key(b), b"x") != agreed(a, public_key(b), b"x")
    with pytest.raises(RemoteError, match="X25519"):
        agreed(a, bytes(32), b"x")  # the point at infinity would make a secret that everybody knows


def test_the_sum_of_masked_numbers_is_the_plain_sum_bit_for_bit() -> None:
    draw = np.random.Generator(np.random.Philox(3))
    scale = scale_for(4, 2.0)
    plain = [fixed(draw.normal(size=1000), scale, 2.0) for _ in range(4)]
    own = [bytes([i]) * 31 for i in range(4)]
    pairs = {frozenset(two): bytes(two) for two in itertools.combinations(range(4), 2)}
    sent = [
        masked(plain[i], [Mask(own[i], True), *(Mask(pairs[frozenset((i, k))], k > i) for k in range(4) if k != i)])
        for i in range(4)
    ]
    total = unmasked(sent, [Mask(seed, True) for seed in own])
    np.testing.assert_array_equal(total, sum(plain[1:], plain[0]))
    gone = [Mask(pairs[frozenset((i, 3))], True) for i in range(3)]  # client 3 is gone; it stands behind all: 3 > i
    np.testing.assert_array_equal(
        unmasked(sent[:3], [*(Mask(seed, True) for seed in own[:3]), *gone]), plain[0] + plain[1] + plain[2]
    )


def test_one_masked_update_looks_uniform() -> None:
    """Chi-squared over the values of each byte, and no correlation with what is under the mask."""
    values_V = fixed(np.linspace(-1, 1, 100_000), scale_for(10, 1.0), 1.0)
    on = masked(values_V, [Mask(b"seed", True)])
    counts = np.bincount(on.view(np.uint8), minlength=256)
    expected = 4 * 100_000 / 256
    chi = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi - 255) < 5 * math.sqrt(2 * 255)
    assert abs(np.corrcoef(on.view(np.int32), values_V.view(np.int32))[0, 1]) < 5 / math.sqrt(100_000)
    plain = np.bincount(values_V.view(np.uint8), minlength=256)
    assert float(((plain - expected) ** 2 / expected).sum()) > 10_000  # the same test sees what is not masked


@given(st.integers(3, 1000), st.floats(0.01, 100))
def test_fixed_point_numbers_cannot_run_over(count: int, limit: float) -> None:
    scale = scale_for(count, limit)
    top = fixed(np.array([limit, -limit, 1e30]), scale, limit)
    total = np.zeros(3, np.uint32)
    for _ in range(count):
        total += top
    np.testing.assert_allclose(real(total, scale), [count * limit, -count * limit, count * limit], rtol=1e-3)


def test_a_mask_does_not_print_its_seed() -> None:
    assert "seed" not in repr(Mask(b"seed", True))
    np.testing.assert_array_equal(masked(words(b"x", 4), []), words(b"x", 4))
