"""Many peers in one process, each with a session, a key and a token of its own: run as a program by test_security.

    python -m tests.worlds.live.crowd ADDRESS FIRST COUNT

Prints "ready", waits for a line, connects all at once, says hello with each, and prints a JSON line: how many were welcomed,
why others were not, and when each was, in seconds. Keeps the sessions until its stdin ends.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import zenoh

from kuberml.core import canonical
from kuberml.core.errors import Unreachable
from kuberml.knowledge.signing import Keys
from kuberml.worlds.live import names
from kuberml.worlds.live.envelope import Answer, Voice, opened
from kuberml.worlds.live.session import client, open_session
from kuberml.worlds.live.welcome import Hello

ATTEMPTS, AT_ONCE = 5, 64
kept: list[object] = []
"""Tokens: they live as long as they are held."""
PATIENCE_S = 60.0


def welcomed(config: dict[str, object], number: int) -> tuple[zenoh.Session | None, str, float]:
    """Connect and say hello: the session, what came of it, seconds."""
    began_s, session = time.monotonic(), None
    for _ in range(ATTEMPTS):
        try:
            session = open_session(config)
            break
        except Unreachable:
            time.sleep(0.2)
    if session is None:
        return None, "no session", time.monotonic() - began_s
    voice = Voice(names.NodeId(f"n{number}"), Keys(number.to_bytes(32, "big")), "default")
    presence = names.Presence(voice.node, "peer", voice.key, voice.epoch)
    token = session.liveliness().declare_token(names.here_key("default", presence))
    epoch, said = "0" * 32, "no answer"
    while time.monotonic() - began_s < PATIENCE_S:
        envelope, _ = voice.ask(names.HUB, epoch, "hello", canonical.encode(Hello(role="peer")))
        replies = list(session.get(names.ask_key("default", names.HUB, "hello"), payload=envelope, timeout=10.0))
        if not replies or replies[0].ok is None:
            continue
        answer = opened(replies[0].ok.payload.to_bytes(), Answer)
        said = answer.status
        if said == "ok":
            break
        epoch = answer.body.decode() if said == "epoch" else epoch
    kept.append(token)
    return session, said, time.monotonic() - began_s


def main() -> None:
    """See the module."""
    address, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    config = client(names.endpoints(address))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(lambda number: welcomed(config, number), range(first, first + count)))
    sys.stdout.write(
        json.dumps({"said": Counter(said for _, said, _ in done), "waits_s": [wait_s for *_, wait_s in done]}) + "\n"
    )
    sys.stdout.flush()
    sys.stdin.read()
    for session, *_ in done:
        if session is not None:
            session.close()


if __name__ == "__main__":
    main()
