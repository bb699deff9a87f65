"""A node process whose letters reach the network late and in another order than they were sent."""

from __future__ import annotations

import threading

from kuberml.core.ids import digest_of
from kuberml.scenario.lockstep_member import perform
from kuberml.worlds.live.lockstep.member import serve
from kuberml.worlds.live.lockstep.wire import Wire


class LateWire(Wire):
    def put(self, key: str, letter: bytes) -> None:
        late_s = int(digest_of(key.encode())[:2], 16) / 256 * 0.03
        threading.Timer(late_s, super().put, (key, letter)).start()


if __name__ == "__main__":
    serve(perform, wire=LateWire)
