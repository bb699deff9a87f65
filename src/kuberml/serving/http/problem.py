"""What a client is told when it is not answered: RFC 9457 `application/problem+json` that names field, value, and the right.

400 what cannot be read · 404 no such thing · 405 · 406 · 413 too large · 415 a type that is not read · 422 no finite answer
429 busy, with Retry-After · 500 ours · 503 no model yet, or stopping
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

CONTENT_TYPE = "application/problem+json"
SHOWN = 80
"""Characters of a wrong value that are told back."""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why there is no answer.

    Attributes:
        title: the status in words.
        status: of HTTP.
        detail: what is wrong, in a sentence.
        field: what in the request it is about.
        value: what was found there, shortened.
        right: what would be right.
    """

    title: str
    status: int
    detail: str
    field: str = ""
    value: str = ""
    right: str = ""


class Refusal(Exception):
    """Raised inside the service where a request is not answered; becomes its response."""

    def __init__(
        self, status: int, detail: str, *, field: str = "", value: object = "", right: str = "", retry_s: int = 0,
        headers: Mapping[str, str] | None = None, closes: bool = False,
    ) -> None:  # fmt: skip
        """`retry_s`: for Retry-After, 0: none. `closes`: the connection too, since its body was not read."""
        super().__init__(detail)
        self.problem = Problem(HTTPStatus(status).phrase, status, detail, field, shown(value), right)
        self.headers = dict(headers or {}) | ({"Retry-After": str(retry_s)} if retry_s else {})
        self.closes = closes

    def response(self) -> web.Response:
        """As the client gets it."""
        body = msgspec.json.encode(self.problem)
        response = web.Response(body=body, status=self.problem.status, content_type=CONTENT_TYPE, headers=self.headers)
        if self.closes:
            response.force_close()
        return response


def shown(value: Any) -> str:
    """A value as it is told back: its beginning, printable, as JSON spells it."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
