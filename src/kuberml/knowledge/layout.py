"""The layout of tensors in a blob or a file: the header of safetensors, read and written without the data.

8 bytes        length of the header, little-endian
header         JSON: name -> dtype, shape, data_offsets (from the end of the header), padded with spaces to 8 bytes
data           without gaps; canonical: by size and sort of dtype, then by name
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import msgspec

from kuberml.core.damage import NOT_JSON
from kuberml.core.errors import RemoteError

MAX_HEADER_BYTES = 4 * 2**20
LENGTH_BYTES = 8
_ORDER = ("I64", "F64", "F32", "U32", "I32", "F16", "U16", "I16", "I8", "U8", "BOOL")
NUMPY = {"I64": "int64", "F64": "float64", "F32": "float32", "U32": "uint32", "I32": "int32", "F16": "float16", "U16": "uint16",
         "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}  # fmt: skip
"""Names of dtypes in a header, and NumPy's."""
_ITEM_BYTES = {"I64": 8, "F64": 8, "F32": 4, "U32": 4, "I32": 4, "F16": 2, "U16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor in a header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]

    @property
    def size_bytes(self) -> int:
        """Of its data."""
        return self.data_offsets[1] - self.data_offsets[0]


def header_bytes(first: bytes, limit_bytes: int = MAX_HEADER_BYTES) -> int:
    """Where the data begin, from the first 8 bytes. Raises RemoteError: over the limit, or not 8 bytes."""
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if len(first) < LENGTH_BYTES or not 2 <= length <= limit_bytes:
        raise RemoteError(f"the header of the tensors is damaged or over the limit of {limit_bytes} bytes")
    return LENGTH_BYTES + length


def read_header(header: bytes, data_bytes: int) -> dict[str, Entry]:
    """The tensors that a header (from the length on) names, by name; metadata are passed over.

    Raises:
        RemoteError: not JSON, unknown dtypes, or tensors that do not cover `data_bytes` of data without gap and overlap.
    """
    try:
        plain = msgspec.json.decode(header[LENGTH_BYTES:], type=dict[str, msgspec.Raw])
        plain.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(raw, type=Entry) for name, raw in plain.items()}
    except NOT_JSON as error:
        raise RemoteError(f"damaged header of tensors: {error}") from error
    reached = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if entry.dtype not in NUMPY:
            raise RemoteError(f"tensor {name!r:.80} is {entry.dtype!r:.20}, which does not travel")
        start, stop = entry.data_offsets
        if min(entry.shape, default=0) < 0 or math.prod(entry.shape) * _ITEM_BYTES[entry.dtype] != stop - start:
            raise RemoteError(f"tensor {name!r:.80} does not have the bytes that its shape needs")
        if start != reached:
            raise RemoteError(f"tensor {name!r:.80} begins at {start}, not at {reached}: a gap or an overlap")
        reached = stop
    if reached != data_bytes:
        raise RemoteError(f"tensors of {reached} bytes in {data_bytes} bytes of data")
    return entries


def canonical(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The same tensors in canonical order, and where each is then."""
    ordered, reached = {}, 0
    for name, entry in sorted(entries.items(), key=lambda item: (_ORDER.index(item[1].dtype), item[0])):
        ordered[name] = Entry(entry.dtype, entry.shape, (reached, reached + entry.size_bytes))
        reached += entry.size_bytes
    return ordered


def write_header(ordered: Mapping[str, Entry]) -> bytes:
    """The header of tensors in canonical order, from the length on."""
    text = msgspec.json.encode(dict(ordered))
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def ends(header_end: int, entries: Collection[Entry]) -> list[int]:
    """Where the header ends, then where each tensor ends, in the blob."""
    return [header_end, *(header_end + entry.data_offsets[1] for entry in entries)]


def ends_in(blob: bytes) -> list[int]:
    """The same of a blob of tensors. Raises RemoteError: it is none."""
    header_end = header_bytes(blob)
    return ends(header_end, read_header(blob[:header_end], len(blob) - header_end).values())
