"""Named arrays as bytes and back: safetensors with every check that needs no knowledge of what the arrays mean.

The bytes are canonical: the same arrays give the same bytes, and bytes in another form (other order, gaps, metadata,
something at the end) are refused, because equal content must have one digest. Nothing is executed. Compression is
optional: zstd frames depend on the version of the library, so what is *named* by its digest is not compressed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard
from safetensors import SafetensorError
from safetensors.numpy import load, save

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.knowledge.checks import Fault
from kuberml.knowledge.layout import MAX_HEADER_BYTES

AnyArray = npt.NDArray[Any]

MAX_BYTES = 512 * 2**20
"""Of one encoded set of tensors, compressed or not."""
MAX_TENSORS = 16_384
MAX_AXES = 8

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")
DTYPES = (*FLOATS, *INTEGERS, "bool")
"""What may travel. bfloat16 and the 8-bit floats have no NumPy type; complex and objects have no use here."""
_NAMES = {np.dtype(name): name for name in DTYPES}
"""NumPy spells the name of a dtype anew whenever it is asked, in the time of checking a small tensor."""


def encode(tensors: Mapping[str, AnyArray], *, dtypes: Collection[str] = DTYPES) -> bytes:
    """Canonical bytes of named arrays: 8 + about 60 bytes a tensor + the data.

    Raises:
        ConfigError: too many, too big, a dtype that may not travel, NaN or infinity; the message names the tensor.
    """
    check(tensors, ConfigError, dtypes=dtypes)
    return _save(tensors)


def decode(blob: bytes, *, dtypes: Collection[str] = DTYPES, limit_bytes: int = MAX_BYTES) -> dict[str, AnyArray]:
    """Named read-only arrays of `encode` bytes, in the order of their names.

    Raises:
        RemoteError: over limit_bytes, truncated, trailing bytes, not canonical, a dtype that may not travel, NaN or infinity.
    """
    if len(blob) > limit_bytes:
        raise RemoteError(f"tensors of {len(blob)} bytes are over the limit of {limit_bytes}")
    if int.from_bytes(blob[:8], "little") > MAX_HEADER_BYTES:
        raise RemoteError("the header of the tensors is damaged or over the limit")
    try:
        found = dict(sorted(load(blob).items()))  # the library gives them in no fixed order
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, AttributeError) as error:
        raise RemoteError(f"damaged tensors: {error}") from error
    check(found, RemoteError, dtypes=dtypes)
    if _save(found) != blob:
        raise RemoteError("tensors are not in canonical form")
    for array in found.values():
        array.flags.writeable = False
    return found


def check(tensors: Mapping[str, AnyArray], fault: Fault, *, dtypes: Collection[str] = DTYPES) -> None:
    """Every rule for tensors that travel.

    Raises:
        fault: one is broken; the message names the tensor.
    """
    if len(tensors) > MAX_TENSORS:
        raise fault(f"{len(tensors)} tensors are over the limit of {MAX_TENSORS}")
    if sum(array.nbytes for array in tensors.values()) > MAX_BYTES:
        raise fault(f"the tensors are over the limit of {MAX_BYTES} bytes")
    for name, array in tensors.items():
        if not isinstance(name, str) or not 1 <= len(name) <= 256 or name == "__metadata__":
            raise fault(f"a tensor's name has 1 to 256 characters, unlike {name!r:.80}")
        if (_NAMES.get(array.dtype) or array.dtype.name) not in dtypes:
            raise fault(f"tensor {name!r} is {array.dtype.name}; allowed: {', '.join(dtypes)}")
        if array.ndim > MAX_AXES:
            raise fault(f"tensor {name!r} has {array.ndim} axes, more than {MAX_AXES}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise fault(f"tensor {name!r} holds NaN or infinity: if it was trained, at too high a learning rate")


def compress(data: bytes, *, level: int = 9) -> bytes:
    """One zstd frame that says how long its content is. Deterministic for one version of the library."""
    return zstandard.ZstdCompressor(level=level, write_content_size=True).compress(data)


def decompress(data: bytes, *, limit_bytes: int = MAX_BYTES) -> bytes:
    """The content of one zstd frame; memory is bounded by limit_bytes whatever the frame says.

    Raises:
        RemoteError: not one whole frame, of undeclared length, or over limit_bytes.
    """
    try:
        size_bytes = zstandard.frame_content_size(data)
        if not 0 <= size_bytes <= limit_bytes:
            raise RemoteError(f"compressed content of {size_bytes} bytes; declared and at most {limit_bytes} is allowed")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=limit_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise RemoteError(f"damaged compression: {error}") from error


def _save(tensors: Mapping[str, AnyArray]) -> bytes:
    # safetensors wants dense row-major arrays, and copies; its own order (dtype, then name) is deterministic.
    return save({name: _dense(tensors[name]) for name in sorted(tensors)})


def _dense(array: AnyArray) -> AnyArray:
    # ascontiguousarray makes an [1] of a scalar: keep the shape.
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).reshape(array.shape)
