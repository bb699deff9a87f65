"""The parts of a live run, each by itself: who may enter, what bytes are counted, when who begins, what a table shows."""

from __future__ import annotations

import asyncio
import stat
import threading
from pathlib import Path

import msgspec
import pytest

from kuberml.cli.live_table import HEAD, cells, headline
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import NodeId
from kuberml.knowledge.signing import Keys
from kuberml.scenario.live import counted
from kuberml.scenario.live.actor import Actor
from kuberml.scenario.live.crew import how_ended
from kuberml.scenario.live.playbill import Playbill, drawn, found_realm, new_secret, read_playbill, write_playbill
from kuberml.scenario.live.prompter import Prompter
from kuberml.scenario.live.status import ASK, LIMIT_BYTES, Cue, Status, read_status
from kuberml.scenario.live.up import narrowed
from kuberml.scenario.live.view import Row, View
from kuberml.scenario.parts import Parts
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.stage import keys_of
from kuberml.worlds.folder.clock import SystemClock
from kuberml.worlds.live import names
from kuberml.worlds.live.envelope import Voice
from kuberml.worlds.live.trust.by_roll import RollTrust
from tests.scenario.live.troupe import digits
from tests.worlds.live.town import hub, member
from tests.worlds.live.town import keys_of as town_keys

N0, N1, SERVER = NodeId("n0"), NodeId("n1"), NodeId("server")


def test_only_the_cast_may_enter_the_realm_of_a_run(tmp_path: Path) -> None:
    deal = drawn(new_secret())
    owner = found_realm(tmp_path / "hub", "up-1234", {N0: deal(0, N0).public})

    async def main() -> None:
        async with hub(tmp_path / "hub", realm="up-1234", policy="listed") as at:
            trust = RollTrust("up-1234", owner=owner)
            async with member(at, "n0", tmp_path, realm="up-1234", keys=deal(0, N0), trust=trust) as world:
                await world.enter(20.0)
            for name in ("stranger", "n0"):
                async with member(at, name, tmp_path / "other", realm="up-1234", keys=town_keys(name)) as world:
                    with pytest.raises(RemoteError):
                        await world.transport.ask(world.hub, "find", b"", timeout_s=10.0)

    asyncio.run(main())


def test_a_live_node_opens_packages_beside_its_loop(tmp_path: Path) -> None:
    config = digits({"local": {}})
    parts = Parts(config, "local", 0, PublicThings(config))

    async def main() -> None:
        async with hub(tmp_path / "hub") as at, member(at, "n0", tmp_path) as world:
            actor = Actor(world, parts, N0, tmp_path)
            actor._begin()
            assert actor._part is not None
            await asyncio.sleep(0)
            named = await parts.nodes[N0].beside(lambda: threading.current_thread().name)
            actor._part.cancel()
            await asyncio.gather(actor._part, return_exceptions=True)
            assert named != threading.main_thread().name

    asyncio.run(main())


def test_keys_follow_from_the_secret_and_from_nothing_that_is_public() -> None:
    one, other = drawn(b"1" * 32), drawn(b"2" * 32)
    assert one(0, N0).public == one(7, N0).public
    assert len({one(0, N0).public, other(0, N0).public, one(0, N1).public, keys_of(0, N0).public}) == 4


def test_a_playbill_is_for_its_owner_only(tmp_path: Path) -> None:
    bill = Playbill(
        config=digits({"local": {}}), label="local", seed=1, host="127.0.0.1", doors=True, realm="up",
        owner="0" * 64, secret="ab" * 32,
    )  # fmt: skip
    write_playbill(tmp_path, bill)
    assert stat.S_IMODE((tmp_path / "playbill.json").stat().st_mode) == 0o600
    assert read_playbill(tmp_path) == bill
    with pytest.raises(ConfigError, match="is not the folder of a live run"):
        read_playbill(tmp_path / "elsewhere")


def test_envelopes_are_about_as_long_as_they_are_counted() -> None:
    asker, answerer = Voice(N0, Keys.generate(), "up-1234"), Voice(N1, Keys.generate(), "up-1234")
    envelope, request = asker.ask(N1, answerer.epoch, "latest", b"")
    asked = len(envelope) + len(names.ask_key("up-1234", N1, "latest"))
    assert asked == pytest.approx(counted.REQUEST_BYTES, rel=0.1)
    answered = len(answerer.answer(request, "ok", b"")) + len(names.ask_key("up-1234", N1, "latest"))
    assert answered == pytest.approx(counted.ANSWER_BYTES, rel=0.1)
    news = len(asker.news("cards/digits", b"")) + len(names.news_key("up-1234", "cards/digits"))
    assert news == pytest.approx(counted.NEWS_BYTES, rel=0.1)


class Door:
    """Keeps the prompter's handler, so that a test can be the nodes."""

    def serve(self, name: str, handler: object) -> None:
        assert name == ASK
        self.handler = handler

    async def says(self, node: NodeId, phase: str) -> str:
        answer = await self.handler(node, msgspec.json.encode(Status(phase=phase)))  # type: ignore[operator]
        return msgspec.json.decode(answer, type=Cue).act


def test_those_who_answer_begin_before_those_who_ask() -> None:
    async def main() -> None:
        door = Door()
        prompter = Prompter(door, SystemClock(), {SERVER: "server", N0: "client", N1: "client"}, "server")  # type: ignore[arg-type]
        server = asyncio.ensure_future(door.says(SERVER, "ready"))
        first = asyncio.ensure_future(door.says(N0, "ready"))
        await asyncio.sleep(0.05)
        assert not server.done()
        assert prompter.missing() == [N1]
        assert prompter.began_ns is None
        assert await door.says(N1, "ready") == "play"
        assert await first == "play"
        assert prompter.began_ns is not None
        assert not server.done(), "not before every client serves"
        playing = [asyncio.ensure_future(door.says(node, "playing")) for node in (N0, N1)]
        assert await server == "play"
        assert not prompter.is_over
        ended = asyncio.ensure_future(door.says(SERVER, "done"))
        await asyncio.sleep(0)
        assert prompter.is_over
        again = asyncio.ensure_future(door.says(SERVER, "playing"))
        await asyncio.sleep(0)
        assert prompter.is_over, "it died afterwards and plays again, but over is over"
        prompter.end()
        assert [await one for one in (*playing, ended, again)] == ["end"] * 4
        with pytest.raises(RemoteError, match="no part in this run"):
            await door.says(NodeId("stranger"), "ready")

    asyncio.run(main())


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"phase": "dancing"}', b" " * (LIMIT_BYTES + 1), b'{"phase": "done", "step": -1}', b'{"phase": "\xff"}'],
)
def test_a_status_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteError):
        read_status(body)


def test_an_end_in_words() -> None:
    assert how_ended(-9) == "was ended by SIGKILL"
    assert how_ended(75) == "left because its time was up"
    assert how_ended(1) == "failed with status 1"


def test_the_table_shows_what_a_node_said() -> None:
    status = Status(
        phase="playing", step=3, labels=tuple("0123"), accuracy_ppm=912_300, received_bytes=2500, accepted=2, refused=1
    )
    shown = dict(zip(HEAD, cells(Row(N0, "peer", status, deaths=1), begun=True), strict=True))
    assert shown == {
        "node": "n0", "role": "peer", "state": "playing, restarted 1x", "step": "3", "knows": "0 1 2 3", "accuracy": "91.2 %",
        "in": "2.5 KB", "out": "0 B", "kept": "2", "refused": "1",
    }  # fmt: skip
    view = View(
        paradigm="kuber", seed=0, time_s=None, until_s=60, moved_bytes=0, page="http://h", rows=(Row(N0, "peer", None),)
    )
    assert headline(view) == "kuber, seed 0: starting, 0 of 1 are here. Page of the hub: http://h"


def test_a_scenario_is_narrowed_to_what_is_played() -> None:
    config = digits({"local": {}, "kuber": {}})
    one = narrowed(config, paradigm="kuber", seed=7, until_s=5.0)
    assert (list(one.paradigms), one.run_seeds, one.world.until_s) == (["kuber"], (7,), 5.0)
    with pytest.raises(ConfigError, match="--paradigm kubr: did you mean 'kuber'"):
        narrowed(config, paradigm="kubr", seed=None, until_s=None)
    faulty = msgspec.structs.replace(config, faults=({"at_s": 1.0},))
    with pytest.raises(ConfigError, match="faults"):
        narrowed(faulty, paradigm=None, seed=None, until_s=None)
