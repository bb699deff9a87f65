"""Whether a hub on this machine answers; for the image's health check: `python -m kuberml.worlds.live.hub.health HOST:PORT`.

It asks for `/metrics`, under TLS with the certificate of the hub itself ($KUBERML_TLS), and no proxy.
"""

from __future__ import annotations

import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from kuberml.core.errors import ConfigError
from kuberml.worlds.live.entry import tls_in

PATIENCE_S = 2.0


def problem(where: str) -> str:
    """What is wrong with the hub whose HTTP door is at host:port; "" if it answers."""
    try:
        tls = tls_in()
        if tls is None:
            door = HTTPConnection(where, timeout=PATIENCE_S)
        else:  # by key: members dial other names than this
            door = HTTPSConnection(where, timeout=PATIENCE_S, context=tls.client_context(by_key=True))
        door.request("GET", "/metrics")
        reply = door.getresponse()
    except (ConfigError, HTTPException, OSError) as error:
        return f"{where}: {error or type(error).__name__}"
    return "" if reply.status == 200 else f"{where} answers with status {reply.status}"


if __name__ == "__main__":
    sys.exit(problem(*sys.argv[1:]) or 0)
