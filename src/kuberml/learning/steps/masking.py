"""Masks that cancel in a sum: what each client adds to its numbers, and what takes off those of clients that have dropped out.

K. Bonawitz, V. Ivanov, B. Kreuter, A. Marcedone, H. B. McMahan, S. Patel, D. Ramage, A. Segal, K. Seth: Practical Secure
Aggregation for Privacy-Preserving Machine Learning. CCS 2017, section 4: y_u = x_u + PRG(b_u) + sum over v > u of PRG(s_uv) -
sum over v < u of PRG(s_uv), modulo 2^32, with s_uv from X25519. Numbers are fixed-point; V of them.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from kuberml.core.errors import RemoteError
from kuberml.core.jobs import job
from kuberml.core.values import value
from kuberml.learning.steps.secrets import Words, derived, words

Reals = npt.NDArray[np.float64]
TOP = 2**31 - 1


@value
class Mask(msgspec.Struct, frozen=True):
    """One stream to add, or to subtract. Its seed is as secret as what it hides."""

    seed: bytes
    added: bool

    def __repr__(self) -> str:
        return "Mask(...)"


def private_key(seed: bytes) -> X25519PrivateKey:
    """The X25519 key of a short secret."""
    return X25519PrivateKey.from_private_bytes(derived(seed, b"x25519"))


def public_key(seed: bytes) -> bytes:
    """Its public half, 32 bytes."""
    return private_key(seed).public_key().public_bytes_raw()


def agreed(seed: bytes, other: bytes, purpose: bytes) -> bytes:
    """The secret of two clients, the same from either side.

    Raises:
        RemoteError: `other` is no public key.
    """
    try:
        secret = private_key(seed).exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError as error:
        raise RemoteError(f"not a public key of X25519: {error}") from error
    return derived(secret, purpose)


def fixed(values_V: Reals, scale: float, limit: float) -> Words:
    """round(x scale) modulo 2^32 with x held within -limit..limit, uint32 [V]."""
    return np.rint(np.clip(values_V, -limit, limit) * scale).astype(np.int64).astype(np.uint32)


def real(words_V: Words, scale: float) -> Reals:
    """The numbers of a sum that stayed within 31 bits and a sign, float64 [V]."""
    return words_V.view(np.int32).astype(np.float64) / scale


def scale_for(count: int, limit: float) -> float:
    """What 1 is worth so that `count` numbers within -limit..limit cannot run over."""
    return float((TOP // count - 1) / limit)


@job(flops=lambda numbers_V, masks: 10 * numbers_V.size * len(masks))
def masked(numbers_V: Words, masks: list[Mask]) -> Words:
    """The numbers with all masks on, modulo 2^32, uint32 [V]."""
    total_V = numbers_V.copy()
    for mask in masks:
        stream_V = words(mask.seed, numbers_V.size)
        total_V += stream_V if mask.added else -stream_V
    return total_V


@job(flops=lambda parts, masks: (len(parts) + 10 * len(masks)) * parts[0].size)
def unmasked(parts: list[Words], masks: list[Mask]) -> Words:
    """The sum of masked numbers with what is left of the masks on it taken off, uint32 [V]. Masks are as they were put on."""
    total_V = np.zeros_like(parts[0])
    for part_V in parts:
        total_V += part_V
    taken: Words = masked(total_V, [Mask(mask.seed, not mask.added) for mask in masks])
    return taken
