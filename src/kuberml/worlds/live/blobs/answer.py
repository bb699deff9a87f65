"""The head of an HTTP/1.1 answer to a request for one range: only as much of HTTP as that needs, and nothing that surprises."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kuberml.core.errors import KuberError, RemoteError, Unreachable

HEAD_BYTES = 1 << 14
_STATUS = re.compile(r"HTTP/1\.([01]) (\d{3})(?: .*)?")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(?:\d{1,15}|\*)")
_LATER = {429, 503}
_AWAY = {408, 500, 502, 504}
_WAIT_S = (1.0, 60.0)
"""Where a busy server does not say how long to leave it alone, and the most that is believed."""


class Busy(Unreachable):
    """It is there, and asks to be left alone for `wait_s`."""

    wait_s = _WAIT_S[0]


@dataclass(frozen=True)
class Answer:
    """What the head says.

    size_bytes: of the body, None if it does not say. span: start and stop of the range, if there is one. keeps: the connection.
    where: who says it. later: after how many seconds to ask again.
    """

    status: int
    size_bytes: int | None
    span: tuple[int, int] | None
    keeps: bool
    where: str
    later: float = _WAIT_S[0]

    def offset_of(self, start: int, stop: int, whole_bytes: int) -> int:
        """Where in the body of a 200 or 206 the bytes start..stop begin.

        Args:
            whole_bytes: a whole file instead of the range is acceptable up to this size.

        Raises:
            RemoteError: it is not an answer to this question.
        """
        if self.size_bytes is None:
            raise RemoteError(f"{self.where} does not say how long its answer is")
        if self.status == 206:
            if self.span != (start, stop) or self.size_bytes != stop - start:
                raise RemoteError(f"{self.where} sends bytes {self.span} ({self.size_bytes}), asked for were {start}..{stop}")
            return 0
        if (start, stop) == (0, self.size_bytes):
            return 0
        if self.size_bytes > whole_bytes:
            raise RemoteError(
                f"{self.where} does not serve ranges: it sends all {self.size_bytes} bytes, at most {whole_bytes} are taken"
            )
        if stop > self.size_bytes:
            raise RemoteError(f"{self.where} has only {self.size_bytes} bytes, asked for were {start}..{stop}")
        return start


def answer_of(got: bytes, where: str) -> tuple[Answer, bytes]:
    """Head and the beginning of the body from the first bytes of an answer.

    Raises:
        RemoteError: not HTTP/1, a head over HEAD_BYTES, or one that contradicts itself.
    """
    head, end, body = got.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = _STATUS.fullmatch(lines[0])
    if not end or status is None:
        raise RemoteError(f"{where} does not speak HTTP/1.1, or its head is over {HEAD_BYTES} bytes: {lines[0]!r:.60}")
    fields: dict[str, str] = {}
    for line in lines[1:]:
        name, _, text = line.partition(":")
        name, text = name.strip().lower(), text.strip()
        if fields.get(name, text) != text and name in ("content-length", "content-range", "transfer-encoding"):
            raise RemoteError(f"{where} says two different things about {name}")
        fields[name] = text
    size = fields.get("content-length", "")
    if "transfer-encoding" in fields or fields.get("content-encoding", "identity") != "identity":
        size = ""
    later = fields.get("retry-after", "")
    span = _CONTENT_RANGE.fullmatch(fields.get("content-range", ""))
    return Answer(
        status=int(status[2]),
        size_bytes=int(size) if re.fullmatch(r"[0-9]{1,15}", size) else None,
        span=(int(span[1]), int(span[2]) + 1) if span else None,
        keeps=status[1] == "1" and fields.get("connection", "").lower() != "close",
        where=where,
        later=min(float(later), _WAIT_S[1]) if re.fullmatch(r"[0-9]{1,9}", later) else _WAIT_S[0],
    ), body


def refusal(answer: Answer, text: bytes, where: str) -> KuberError:
    """The error for an answer that is not 200 or 206; `text` is what its body says, of which one line is shown."""
    said = "".join(c if c.isprintable() else " " for c in text.decode("utf-8", "replace"))[:200].strip()
    if 300 <= answer.status < 400:
        return RemoteError(f"{where} redirects ({answer.status}), which is not followed: give the final address")
    why = f"{where} answers {answer.status}{': ' if said else ''}{said}"
    if answer.status in _LATER:
        busy = Busy(why)
        busy.wait_s = answer.later
        return busy
    return (Unreachable if answer.status in _AWAY else RemoteError)(why)
