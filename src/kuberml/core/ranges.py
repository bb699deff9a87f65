"""What numbers a setting may have, as types. Where a scenario is read, one out of range is refused by its name."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Count = Annotated[int, Meta(ge=1)]
Whole = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Fading = Annotated[float, Meta(ge=0, lt=1)]
"""A factor whose powers die away, for instance momentum."""
