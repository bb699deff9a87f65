"""Whose word counts is known after a restart, and rests on the latest versions alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from kuberml.core.ids import Digest
from kuberml.exchange.continual.cloud import Cloud
from kuberml.exchange.continual.words import LATEST, Heard
from kuberml.exchange.memory import Memory
from kuberml.exchange.node import Node
from kuberml.exchange.standing import Standing
from kuberml.knowledge.card import PPM
from kuberml.knowledge.verdict import Verdict
from kuberml.vault.folder import FolderStore
from tests.exchange.continual.edges import RULES, probe, town
from tests.exchange.continual.test_gate import judged
from tests.exchange.town import EXTRACTOR, keys

ME, EDGE, LIAR = (letter * 64 for letter in "abc")


def word(number: int, witness: str, correct: int) -> Verdict:
    return Verdict(Digest(f"{number:064x}"), ME, witness, {"7": 10}, {"7": correct}, at_ms=number)


def test_a_liar_is_still_known_after_a_restart(tmp_path: Path) -> None:
    """Four edges try versions, one of them lies; before anybody is asked again, a cloud with that memory knows which."""
    first = judged(liars=1)
    before = first.witnesses
    assert before[keys("e0").public] == 0
    assert sum(trust > PPM // 2 for trust in before.values()) == 3

    async def back(node: Node) -> Cloud:
        return Cloud(node, EXTRACTOR, RULES, probe())

    with FolderStore(tmp_path) as store:
        store.remember(first.node.place.store.memory())
    with FolderStore(tmp_path) as store:
        assert town(cloud={"store": store}).run(cloud=back)["cloud"].witnesses == before


def test_words_on_the_latest_versions_count_and_older_ones_take_no_room(tmp_path: Path) -> None:
    with FolderStore(tmp_path) as store:
        standing = Standing(ME)
        heard = Heard(Memory(store), standing)
        for number in range(1, 3 * LATEST):
            turned = 0 if number < LATEST else 10  # whoever lied once and does so no more is believed again
            heard.hear(number, [word(number, ME, 10), word(number, EDGE, 10), word(number, LIAR, turned)])
            if number in (1, LATEST - 1):
                assert (standing.trust_ppm(EDGE), standing.trust_ppm(LIAR)) == (PPM, 0)
        assert standing.trust_ppm(LIAR) == PPM
        entries = [name for name in store.memory() if name.startswith("cloud.words.")]
        assert len(entries) == LATEST
        again = Standing(ME)
        assert Heard(Memory(store), again).witnesses == {ME, EDGE, LIAR}
        assert again.trust_ppm(LIAR) == PPM


def test_a_version_that_is_tried_again_keeps_what_was_said(tmp_path: Path) -> None:
    with FolderStore(tmp_path) as store:
        standing = Standing(ME)
        heard = Heard(Memory(store), standing)
        heard.hear(3, [word(3, ME, 10)])
        heard.hear(3, [word(3, ME, 10), word(3, EDGE, 9)])
        assert standing.trust_ppm(EDGE) == PPM


def test_a_disk_that_is_full_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FolderStore(tmp_path) as store:
        standing = Standing(ME)
        heard = Heard(Memory(store), standing)
        heard.hear(1, [word(1, ME, 10), word(1, EDGE, 10)])

        def full(entries: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(store, "remember", full)
        with pytest.raises(OSError, match="No space"):
            heard.hear(1 + LATEST, [word(1 + LATEST, ME, 10), word(1 + LATEST, LIAR, 10)])
        assert (standing.trust_ppm(EDGE), standing.trust_ppm(LIAR)) == (PPM, 0)
        assert heard.witnesses == {ME, EDGE}
