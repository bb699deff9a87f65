"""Streams of bytes and numbers from a secret that nobody can tell from randomness: ChaCha20 under a key from HKDF.

Masks and the noise of differential privacy come from here, not from `core.rng`: who could guess the seed could take them off.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
Words = npt.NDArray[np.uint32]


def derived(secret: bytes, purpose: bytes, size_bytes: int = KEY_BYTES) -> bytes:
    """A key for one purpose from a secret (HKDF with SHA-256)."""
    return HKDF(SHA256(), size_bytes, None, b"kuberml.steps/1\0" + purpose).derive(secret)


def stream(secret: bytes, size_bytes: int) -> bytes:
    """The first bytes of the stream of a secret. One secret, one stream: use it for one thing only."""
    cipher = Cipher(ChaCha20(derived(secret, b"stream"), bytes(16)), mode=None)
    return cipher.encryptor().update(bytes(size_bytes))


def words(secret: bytes, count: int) -> Words:
    """`count` uniform numbers of 32 bits, uint32 [count]."""
    return np.frombuffer(stream(secret, 4 * count), dtype="<u4").astype(np.uint32)


def normal(secret: bytes, count: int) -> npt.NDArray[np.float64]:
    """`count` standard normal numbers, float64 [count], by Box and Muller from 53 bits each."""
    pairs = (count + 1) // 2
    bits_N2 = np.frombuffer(stream(secret, 16 * pairs), dtype="<u8").reshape(pairs, 2) >> np.uint64(11)
    radius_N = np.sqrt(-2 * np.log((bits_N2[:, 0] + 1.0) * 2.0**-53))
    angle_N = 2 * np.pi * bits_N2[:, 1] * 2.0**-53
    return np.concatenate([radius_N * np.cos(angle_N), radius_N * np.sin(angle_N)])[:count]
