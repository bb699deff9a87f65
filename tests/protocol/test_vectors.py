"""The golden vectors, and the document that explains them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import msgspec
import pytest

from kuberml.core.ids import check_digest
from kuberml.knowledge.card import decode_card
from kuberml.knowledge.signing import check_card
from kuberml.worlds.live.envelope import Answer, News, Request, digest, opened
from kuberml.worlds.live.trust.policy import right_for
from tests.protocol.vectors import text
from tests.worlds.live.town import hub

DOCS = Path(__file__).parents[2] / "docs"
VECTORS = DOCS / "protocol_vectors.json"


def test_the_vectors_are_what_this_version_says() -> None:
    assert VECTORS.read_text() == text(), "protocol 1 has changed: that breaks every client there is"


@pytest.mark.parametrize(("name", "sort"), [("request", Request), ("ticket", Request), ("answer", Answer), ("news", News)])
def test_what_the_vectors_say_is_understood(name: str, sort: type[Request] | type[Answer] | type[News]) -> None:
    vector = msgspec.json.decode(VECTORS.read_bytes())["envelopes"][name]
    assert digest(opened(bytes.fromhex(vector["sealed"]), sort)) == vector["digest"]


def test_the_card_of_the_vectors_is_a_card() -> None:
    vector = msgspec.json.decode(VECTORS.read_bytes())["card"]
    assert check_card(decode_card(bytes.fromhex(vector["signed"]))).digest == check_digest(vector["digest"])


def test_the_document_names_every_request_that_a_hub_serves(tmp_path: Path) -> None:

    async def served() -> set[str]:
        async with hub(tmp_path / "hub") as at:
            return set(at.transport.answering.handlers)

    documented = set(re.findall(r"^\| `(\w+)` \|", (DOCS / "protocol.md").read_text(), re.MULTILINE))
    assert asyncio.run(served()) <= documented
    assert {name for name in documented if right_for(name) != "ask"} >= {"find", "announce", "hello"}
