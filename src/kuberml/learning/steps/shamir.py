"""Shamir's secret sharing (CACM 1979): n shares of a secret of which any t give it back, and t - 1 say nothing about it.

Numbers modulo the prime 2^255 - 19; a secret has 31 bytes, a share 32. Share number i, from 1 on, is the polynomial at i.
"""

from __future__ import annotations

from collections.abc import Mapping

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.learning.steps.secrets import stream

PRIME = 2**255 - 19
SECRET_BYTES, SHARE_BYTES = 31, 32


def shares(secret: bytes, count: int, threshold: int, coins: bytes) -> list[bytes]:
    """Shares number 1 .. count. `coins`: a secret of its own, from which the polynomial is drawn.

    Raises:
        ConfigError: the secret has not SECRET_BYTES, or not 1 <= threshold <= count.
    """
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= count:
        raise ConfigError(f"a secret of {len(secret)} bytes in {count} shares, of which {threshold} open it, cannot be")
    drawn = stream(coins, 48 * (threshold - 1))  # 384 bits each: what the remainder is not uniform by is under 2^-128
    rest = [int.from_bytes(drawn[48 * k : 48 * k + 48], "little") % PRIME for k in range(threshold - 1)]
    polynomial = [int.from_bytes(secret, "little"), *rest]
    return [_at(polynomial, i).to_bytes(SHARE_BYTES, "little") for i in range(1, count + 1)]


def weights(numbers: tuple[int, ...]) -> list[int]:
    """What the shares of these numbers count at 0 (Lagrange), modulo PRIME."""
    found = []
    for i in numbers:
        above, below = 1, 1
        for k in numbers:
            if k != i:
                above, below = above * k % PRIME, below * (k - i) % PRIME
        found.append(above * pow(below, -1, PRIME) % PRIME)
    return found


def opened(given: Mapping[int, bytes]) -> bytes:
    """The secret of shares by number; exactly as many as the threshold.

    Raises:
        RemoteError: they are no shares of one secret of SECRET_BYTES (not all wrong shares are noticed).
    """
    numbers = tuple(sorted(given))
    total = sum(w * int.from_bytes(given[i], "little") for w, i in zip(weights(numbers), numbers, strict=True)) % PRIME
    if total.bit_length() > 8 * SECRET_BYTES:
        raise RemoteError(f"the shares {numbers} do not belong together")
    return total.to_bytes(SECRET_BYTES, "little")


def _at(polynomial: list[int], x: int) -> int:
    result = 0
    for factor in reversed(polynomial):
        result = (result * x + factor) % PRIME
    return result
