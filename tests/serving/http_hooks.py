"""What schemathesis cannot read in a description: bytes that are tensors, and a header that has to agree with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import schemathesis
from hypothesis import strategies as st
from safetensors.numpy import save

SHAPE, MOST = (8, 8, 1), 8


def batch(count: int) -> Any:
    return np.full((count, *SHAPE), 0.5, "<f4")


COUNTS = st.integers(1, MOST)
schemathesis.openapi.media_type("application/octet-stream", COUNTS.map(lambda count: batch(count).tobytes()))
schemathesis.openapi.media_type("application/vnd.safetensors", COUNTS.map(lambda count: save({"inputs": batch(count)})))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """OpenAPI cannot say that a header is the shape of the body."""
    if case.headers is not None:
        case.headers.pop("Kuberml-Shape", None)
