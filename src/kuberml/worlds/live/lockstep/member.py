"""The life of a node process: it is told where its run is, and then plays what the conductor begins, play after play."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable

import msgspec

from kuberml.core.ids import NodeId
from kuberml.worlds.live.lockstep.orders import Attend, Begin, Failed, Final, Report
from kuberml.worlds.live.lockstep.wire import HungUpError, Wire
from kuberml.worlds.live.names import endpoints
from kuberml.worlds.live.session import client, open_session

Perform = Callable[[Wire, Begin], bytes]
"""Plays a part to its end, in a `LockstepWorld`; returns what it came to."""


class Hello(msgspec.Struct, frozen=True):
    """The first line that a node process reads: where the router is, which run this is, and who it is."""

    address: str
    run: str
    node: NodeId


def serve(perform: Perform, *, wire: type[Wire] = Wire) -> None:
    """Be a node process until the conductor closes this process's standard input; then the process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the conductor; our input tells us
    hello = msgspec.json.decode(sys.stdin.buffer.readline(), type=Hello)
    session = open_session(client(endpoints(hello.address)))
    try:
        line = wire(session, hello.run, hello.node)
        threading.Thread(target=_listen, args=(line,), daemon=True).start()
        with contextlib.suppress(HungUpError):
            while True:
                play(line, perform)
    finally:
        session.close()  # type: ignore[no-untyped-call]
    sys.stderr.flush()
    os._exit(0)  # all that was open is closed, and taking torch down piece by piece would cost half a second of a core


def play(wire: Wire, perform: Perform) -> None:
    """Carry out the next order that comes outside a play: say that one is there, or play.

    Raises:
        HungUpError: there will be none.
    """
    begin = wire.next_order()
    if isinstance(begin, Attend):
        wire.tell(Report(None, (), False))
        return
    assert isinstance(begin, Begin), "a play begins with its beginning"
    try:
        wire.tell(Final(perform(wire, begin)))
    except HungUpError:
        raise
    except Exception as error:
        traceback.print_exception(error)
        wire.tell(Failed(type(error).__name__, str(error), "".join(traceback.format_exception(error))))


def _listen(wire: Wire) -> None:
    sys.stdin.buffer.read()  # until it is closed, or whoever holds the other end is gone
    wire.hang_up()
