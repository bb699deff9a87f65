"""The parts of a run in lockstep, each over real sessions: doors, wires, conductor, processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zenoh

from kuberml.core.errors import ConfigError, InternalError, RemoteError, Unreachable
from kuberml.core.ids import NodeId, digest_of
from kuberml.worlds.live.lockstep.conductor import Conductor
from kuberml.worlds.live.lockstep.keys import letter_key
from kuberml.worlds.live.lockstep.line import Lines
from kuberml.worlds.live.lockstep.member import play
from kuberml.worlds.live.lockstep.orders import Attend, Begin, Failed, Name, failure, read_order
from kuberml.worlds.live.lockstep.troupe import Troupe
from kuberml.worlds.live.lockstep.wire import HungUpError, Wire
from kuberml.worlds.live.lockstep.world import LockstepWorld
from kuberml.worlds.live.names import Endpoint, free_port
from kuberml.worlds.live.session import client, open_session, router
from kuberml.worlds.simulated.bodies import Place
from kuberml.worlds.simulated.lockstep_loop import STEP_NS
from kuberml.worlds.simulated.processes import worker_environment
from tests.contracts.transport import Main, TransportContract
from tests.worlds.live.lockstep_member import bodies
from tests.worlds.simulated.little import DEVICE, LINK, ROLES, A, B, C

RUN = "0" * 32
MEMBER = "tests.worlds.live.lockstep_member"


@pytest.fixture(scope="module")
def sessions() -> Iterator[list[zenoh.Session]]:
    """Four clients of one router."""
    endpoint = Endpoint("127.0.0.1", free_port("127.0.0.1"))
    hub = open_session(router([endpoint]))
    clients = [open_session(client([endpoint])) for _ in range(4)]
    yield clients
    for session in (*clients, hub):
        session.close()


class TestLockstepTransport(TransportContract):
    """Nodes in threads instead of processes, so that the contract can hand them its closures; all else is as it runs."""

    @pytest.fixture(autouse=True)
    def _given(self, sessions: list[zenoh.Session], tmp_path: Path, request: pytest.FixtureRequest) -> None:
        self.sessions, self.folder = sessions, tmp_path
        self.run_id = digest_of(request.node.nodeid.encode())[:32]

    def run(self, *mains: Main) -> list[Any]:
        nodes = (A, B, C)[: len(mains)]
        wires = [Wire(session, self.run_id, node) for session, node in zip(self.sessions, nodes, strict=False)]
        results: dict[NodeId, Any] = {}
        threads = [
            threading.Thread(target=self.act, args=(wire, main, results)) for wire, main in zip(wires, mains, strict=True)
        ]
        for thread in threads:
            thread.start()
        try:
            lines = Lines(self.sessions[3], self.run_id, lambda: None, stall_s=20.0)
            Conductor(lines.ask, STEP_NS).conduct(dict.fromkeys(nodes, b""), waited=nodes, until_ns=None)
        finally:
            for wire, thread in zip(wires, threads, strict=True):
                wire.hang_up()
                thread.join()
                wire.close()
        return [results[node] for node in nodes]

    def act(self, wire: Wire, main: Main, results: dict[NodeId, Any]) -> None:
        def perform(wire: Wire, begin: Begin) -> bytes:
            world = LockstepWorld(wire, begin, Place(wire.node, ROLES[wire.node], DEVICE, LINK), ROLES, self.folder / wire.node)

            async def acted() -> None:
                results[wire.node] = await main(world.transport(wire.node), world.store(wire.node))

            try:
                world.run(acted)
            finally:
                world.close()
            return b""

        try:
            while True:
                play(wire, perform)
        except HungUpError:
            pass


def put(session: zenoh.Session, run: str, to: NodeId | None, name: Name, letter: bytes) -> None:
    session.put(letter_key(run, 0, to, name.sender, name.number), letter)


def settle(wire: Wire, session: zenoh.Session, run: str) -> None:
    """Wait until the router knows its inbox: it does when an order reaches it."""
    attending = threading.Thread(target=play, args=(wire, lambda wire, begin: b""))
    attending.start()
    Lines(session, run, lambda: None).ask({wire.node: Attend(1)})
    attending.join()


def test_an_inbox_is_in_the_order_of_its_names_whatever_comes_first(sessions: list[zenoh.Session]) -> None:
    wire = Wire(sessions[0], "1" * 32, A, patience_s=10.0)
    settle(wire, sessions[3], "1" * 32)
    letters = {Name(B, 1, digest_of(b"b1")): b"b1", Name(B, 2, digest_of(b"b2")): b"b2", Name(C, 1, digest_of(b"c1")): b"c1"}
    late = [
        threading.Timer(0.05 * place, put, (sessions[place % 3 + 1], "1" * 32, None if letter == b"b2" else A, name, letter))
        for place, (name, letter) in enumerate(reversed(letters.items()))
    ]
    for timer in late:
        timer.start()
    assert wire.letters(list(letters)) == [b"b1", b"b2", b"c1"]
    for timer in late:
        timer.join()
    wire.close()


def test_a_letter_that_never_comes_or_comes_changed_is_named(sessions: list[zenoh.Session]) -> None:
    wire = Wire(sessions[0], "2" * 32, A, patience_s=0.2)
    settle(wire, sessions[3], "2" * 32)
    with pytest.raises(Unreachable, match=r"letter 7 of b did not reach a in 0\.2 s"):
        wire.letters([Name(B, 7, digest_of(b"x"))])
    name = Name(C, 1, digest_of(b"as it was sent"))
    put(sessions[1], "2" * 32, A, name, b"as it came")
    with pytest.raises(RemoteError, match="letter 1 of c reached a with other bytes"):
        wire.letters([name])
    wire.close()


def test_an_inbox_takes_no_more_than_it_has_room_for(sessions: list[zenoh.Session]) -> None:
    wire = Wire(sessions[0], "4" * 32, A, patience_s=0.5, limit_bytes=10)
    settle(wire, sessions[3], "4" * 32)
    small, large = Name(B, 1, digest_of(b"12345")), Name(B, 2, digest_of(b"123456"))
    put(sessions[1], "4" * 32, A, small, b"12345")
    put(sessions[1], "4" * 32, A, large, b"123456")
    with pytest.raises(Unreachable, match="letter 2 of b did not reach a"):
        wire.letters([small, large])
    assert wire.letters([small]) == [b"12345"], "and there is room again"
    put(sessions[1], "4" * 32, A, large, b"123456")
    assert wire.letters([large]) == [b"123456"]
    wire.close()


def test_one_that_takes_no_order_is_named(sessions: list[zenoh.Session]) -> None:
    lines = Lines(sessions[3], "3" * 32, lambda: None, start_s=0.3)
    with pytest.raises(Unreachable, match=r"a: started, but took no order in 0\.3 s"):
        Conductor(lines.ask, STEP_NS).conduct({A: b""}, waited=[A], until_ns=None)


def test_what_is_no_order_is_refused() -> None:
    for data in (b"", b"\xc1", b"\x80", b"\x81\xa4type\xa4Stop"):
        with pytest.raises(RemoteError, match="neither an order nor a report"):
            read_order(data)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("ConfigError", ConfigError), ("ZeroDivisionError", ZeroDivisionError), ("UnicodeDecodeError", InternalError),
     ("KuberError", InternalError), ("print", InternalError), ("SystemExit", InternalError), ("Odd", InternalError)],
)  # fmt: skip
def test_what_broke_a_node_is_raised_as_what_it_was(kind: str, expected: type[Exception]) -> None:
    error = failure(A, Failed(kind, "why", "line 1"))
    assert type(error) is expected
    assert "why" in str(error)
    assert error.__notes__ == ["in the process of node a\nline 1"]


def test_a_deadlock_is_an_error_and_time_ends_it(tmp_path: Path) -> None:
    with Troupe(MEMBER, tmp_path) as troupe:
        ended = troupe.play(bodies(a="waits in vain", b="for ever"), waited=[A], until_ns=10 * STEP_NS)
        assert (ended.time_ns, ended.finished, ended.steps) == (11 * STEP_NS, False, 11)
        with pytest.raises(InternalError, match="deadlock in step 0"):
            troupe.play(bodies(a="waits in vain", b="waits in vain"), waited=[A], until_ns=None)


def test_what_a_node_raises_ends_the_run_and_names_it(tmp_path: Path) -> None:
    with Troupe(MEMBER, tmp_path) as troupe:
        with pytest.raises(ZeroDivisionError, match="three by nothing") as raised:
            troupe.play(bodies(a="for ever", b="breaks"), waited=[A], until_ns=None)
        assert "in the process of node b" in raised.value.__notes__[0]
    assert [process.returncode for process in troupe.processes.values()] == [0, 0]


@pytest.mark.parametrize(
    ("deadly", "stall_s", "why"),
    [(signal.SIGKILL, 60.0, "b: its process was killed by signal 9.*the run in lockstep is over"),
     (signal.SIGSTOP, 3.0, r"b: no report of a step in 3\.0 s; the process stalls")],
)  # fmt: skip
def test_a_process_that_dies_or_stalls_is_named(deadly: int, stall_s: float, why: str, tmp_path: Path) -> None:
    with Troupe(MEMBER, tmp_path, stall_s=stall_s) as troupe:
        troupe.play(bodies(a="for ever", b="for ever"), waited=[A], until_ns=STEP_NS)
        killer = threading.Timer(0.3, os.kill, (troupe.processes[B].pid, deadly))
        killer.start()
        try:
            with pytest.raises(Unreachable, match=why):
                troupe.play(bodies(a="for ever", b="for ever"), waited=[A], until_ns=None)
            killer.join()
        finally:
            troupe.processes[B].send_signal(signal.SIGCONT)  # nothing happens if it is dead
    assert all(process.returncode is not None for process in troupe.processes.values())


CONDUCTOR = """
import pathlib, sys
from kuberml.worlds.live.lockstep.troupe import Troupe
from tests.worlds.live.lockstep_member import bodies
troupe = Troupe("tests.worlds.live.lockstep_member", pathlib.Path(sys.argv[1]))
troupe.play(bodies(a="for ever", b="for ever"), waited=["a"], until_ns=1)
print(*(process.pid for process in troupe.processes.values()), flush=True)
troupe.play(bodies(a="for ever", b="for ever"), waited=["a"], until_ns=None)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_no_process_outlives_a_conductor_that_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CONDUCTOR, str(tmp_path)]
    with subprocess.Popen(command, env=worker_environment(), stdout=subprocess.PIPE, text=True) as conductor:
        assert conductor.stdout is not None
        members = [int(pid) for pid in conductor.stdout.readline().split()]
        assert all(lives(pid) for pid in members), members
        conductor.kill()
    until_s = time.monotonic() + 10
    while any(lives(pid) for pid in members) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert [pid for pid in members if lives(pid)] == []


def lives(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
