"""How inputs are read: JSON, little-endian float32 bytes, or safetensors; checked to the last number before any is used.

A `Form` is made once for each model: it knows the shape of a sample, so every message can say what would be right.
Legend: N rows.
"""

from __future__ import annotations

import functools
import json
import math
import re
from typing import Annotated, Any, NamedTuple, cast

import msgspec
import numpy as np

from kuberml.core.damage import NOT_JSON
from kuberml.learning.types import Array
from kuberml.serving.http.problem import Refusal, shown

JSON, RAW, SAFETENSORS = "application/json", "application/octet-stream", "application/vnd.safetensors"
TYPES = (JSON, RAW, SAFETENSORS)
SHAPE_HEADER = "Kuberml-Shape"
LARGEST = 1e9
"""Of an input's numbers. Features are at most squares and sums of them, which float32 can still hold."""
DIGITS = 32
"""Bytes that a number takes in JSON, at most; what is longer than so many for each number is refused unread."""
HEAD_BYTES = 16 * 1024
"""For all that is not numbers: names, brackets, a safetensors header."""


class Inputs(NamedTuple):
    """A request that was understood: N samples, and whether the answer has all log-probabilities."""

    x_N: Array
    full: bool = False


class Form:
    """Reads requests to one model."""

    def __init__(self, shape: tuple[int, ...], max_rows: int) -> None:
        """`shape`: of one sample. `max_rows`: of a request."""
        self.shape, self.max_rows = tuple(shape), max_rows
        self.numbers = math.prod(self.shape)
        self.max_bytes = max_rows * self.numbers * DIGITS + HEAD_BYTES
        self._decoder = _decoder(self.shape, max_rows)

    @property
    def wanted(self) -> str:
        """What inputs are right, in words."""
        return f"{self.max_rows} rows at most, each of shape {list(self.shape)}"

    def read(self, content_type: str, body: bytes, shape_header: str | None) -> Inputs:
        """The inputs of a body of one of TYPES.

        Raises:
            Refusal: 400 or 415, and why.
        """
        if content_type == JSON:
            return self._json(body)
        if content_type == RAW:
            return Inputs(self._checked(self._raw(body, shape_header)))
        if content_type == SAFETENSORS:
            return Inputs(self._checked(self._safetensors(body)))
        raise Refusal(415, "a body of this type is not read here", field="Content-Type", value=content_type,
                      right=" or ".join(TYPES))  # fmt: skip

    def _json(self, body: bytes) -> Inputs:
        try:
            found = self._decoder.decode(body)
            x_N = np.array(found.inputs, np.float32)
        except NOT_JSON as error:
            raise self._fault(body, error) from None
        return Inputs(x_N.reshape(len(x_N), *self.shape), found.log_probabilities)

    def _raw(self, body: bytes, header: str | None) -> Array:
        row_bytes = 4 * self.numbers
        rows = len(body) // row_bytes
        if header:
            rows = self._rows_of(header)
        if len(body) != rows * row_bytes or not rows:
            raise Refusal(400, f"these bytes are not {max(rows, 1)} x {row_bytes} bytes of float32", field="body",
                          value=f"{len(body)} bytes", right=f"little-endian float32, {self.wanted}")  # fmt: skip
        self._check_rows(rows, "body")
        return np.frombuffer(body, "<f4").reshape(rows, *self.shape)

    def _rows_of(self, header: str) -> int:
        parts = [part.strip() for part in header.split(",")]
        if not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts) or [int(part) for part in parts[1:]] != [*self.shape]:
            right = ",".join(["N", *map(str, self.shape)])
            raise Refusal(400, "this is not the shape of a batch for this model", field=SHAPE_HEADER, value=header, right=right)
        return int(parts[0])

    def _safetensors(self, body: bytes) -> Array:
        from safetensors import SafetensorError, deserialize

        try:
            tensors: dict[str, Any] = dict(deserialize(body))  # type: ignore[no-untyped-call]
        except (SafetensorError, ValueError) as error:
            raise Refusal(400, f"not a file of safetensors: {shown(str(error))}", field="body", value=f"{len(body)} bytes",
                          right="one tensor 'inputs' of F32") from None  # fmt: skip
        if set(tensors) != {"inputs"} or tensors["inputs"]["dtype"] != "F32":
            kinds = ", ".join(f"{name!r} of {one['dtype']}" for name, one in tensors.items()) or "no tensor"
            raise Refusal(400, "one tensor 'inputs' of F32 is read", field="body", value=kinds, right="'inputs' of F32")
        shape = tuple(tensors["inputs"]["shape"])
        if not shape or shape[1:] != self.shape or not shape[0]:
            raise Refusal(400, "the tensor has another shape than this model reads", field="inputs", value=list(shape),
                          right=self.wanted)  # fmt: skip
        self._check_rows(shape[0], "inputs")
        return np.frombuffer(bytes(tensors["inputs"]["data"]), "<f4").reshape(shape)

    def _check_rows(self, rows: int, field: str) -> None:
        if rows > self.max_rows:
            raise Refusal(400, f"{rows} rows are more than a request may have", field=field, value=f"{rows} rows",
                          right=f"{self.max_rows} at most: send several requests")  # fmt: skip

    def _checked(self, x_N: Array) -> Array:
        """The same numbers, all of them usable."""
        good_N = np.abs(x_N) <= LARGEST  # false for NaN too
        if not good_N.all():
            place = np.unravel_index(int(np.argmin(good_N)), x_N.shape)
            field = "inputs" + "".join(f"[{at}]" for at in place)
            raise Refusal(400, "a number that cannot be an input", field=field, value=str(x_N[place]), right=_RIGHT_NUMBER)
        return cast(Array, np.ascontiguousarray(x_N, np.float32))

    def _fault(self, body: bytes, error: Exception) -> Refusal:
        """What is wrong with a JSON body, found again at leisure: which field, what is there, what would be right."""
        try:
            found = _as_python_reads(body)
        except (ValueError, RecursionError) as unreadable:
            why = "nested too deeply" if isinstance(unreadable, RecursionError) else shown(str(unreadable))
            return Refusal(400, f"not JSON: {why}", field="body", value=body[:40].decode("utf-8", "replace"),
                           right='{"inputs": [...]}')  # fmt: skip
        if not isinstance(found, dict) or "inputs" not in found:
            return Refusal(400, "an object with the field inputs is read", field="inputs", value=found, right=self.wanted)
        if more := sorted(found.keys() - {"inputs", "log_probabilities"}):
            return Refusal(400, "a field that is not known", field=more[0][:64], value=found[more[0]],
                           right="inputs, and log_probabilities")  # fmt: skip
        if not isinstance(found.get("log_probabilities", False), bool):
            return Refusal(400, "not a truth value", field="log_probabilities", value=found["log_probabilities"],
                           right="true or false")  # fmt: skip
        rows = found["inputs"]
        if isinstance(rows, list) and len(rows) > self.max_rows:
            return Refusal(400, f"{len(rows)} rows are more than a request may have", field="inputs",
                           value=f"{len(rows)} rows", right=f"{self.max_rows} at most: send several requests")  # fmt: skip
        field, value, right = _first_fault(rows, (0, *self.shape), "inputs") or ("body", "", str(error))
        return Refusal(400, f"{field} cannot be an input of this model", field=field, value=value, right=right)


def _as_python_reads(body: bytes) -> Any:
    """A body, also with NaN, Infinity and 1e999, which Python writes and JSON has not: so it can be said where they are.

    Raises:
        ValueError, RecursionError: it is not JSON.
    """
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        try:
            return json.loads(body.decode())
        except ValueError:
            raise error from None


_RIGHT_NUMBER = f"a finite number from -{LARGEST:g} to {LARGEST:g}"


def _first_fault(found: Any, shape: tuple[int, ...], at: str) -> tuple[str, Any, str] | None:
    """The first place where nested lists are not numbers of this shape (0: one or more); None: nowhere."""
    if not shape:
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        return None if is_number and abs(found) <= LARGEST else (at, found, _RIGHT_NUMBER)
    if not isinstance(found, list):
        return at, found, f"a list of {shape[0] or 'rows'}"
    if not found or (shape[0] and len(found) != shape[0]):
        return at, f"a list of {len(found)}", f"a list of {shape[0] or 'one row or more'}"
    faults = (_first_fault(each, shape[1:], f"{at}[{place}]") for place, each in enumerate(found))
    return next((fault for fault in faults if fault is not None), None)


@functools.lru_cache(maxsize=16)
def _decoder(shape: tuple[int, ...], max_rows: int) -> msgspec.json.Decoder[Any]:
    """Checks types, lengths and bounds while it decodes: nothing of a wrong body is kept."""
    nested: Any = Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)]
    for size in reversed(shape):
        nested = Annotated[list[nested], msgspec.Meta(min_length=size, max_length=size)]
    rows = Annotated[list[nested], msgspec.Meta(min_length=1, max_length=max_rows)]
    body = msgspec.defstruct("Predict", [("inputs", rows), ("log_probabilities", bool, False)], forbid_unknown_fields=True)
    return msgspec.json.Decoder(body)
