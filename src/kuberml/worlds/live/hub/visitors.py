"""Who may look at a hub's page and its numbers: they come with a browser and have no key to sign with."""

from __future__ import annotations

import functools
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Guard = Callable[[Handler], Handler]


def everybody() -> bool:
    """For a realm that is open whatever happens."""
    return True


def guarded(hosts: Iterable[str] = (), is_open: Callable[[], bool] = everybody) -> Guard:
    """Wraps handlers so that they answer visitors who may look.

    Only under an address or a known name of this machine: another site whose name is made to point here (DNS rebinding)
    reads nothing. And where the realm is not open, only on this machine itself or with a certificate of the realm.

    Args:
        hosts: names by which browsers may call this machine, besides its own name, localhost and any address.
        is_open: whether everybody may come into the realm now.
    """
    known = {"localhost", socket.gethostname().lower(), *(host.lower() for host in hosts)}

    def only(handler: Handler) -> Handler:
        @functools.wraps(handler)
        async def answer(request: web.Request) -> web.StreamResponse:
            name = _host(request.host)
            if name not in known and _address(name) is None:
                text = f"this hub does not go by the name {name[:80]!r}: use its address, or start it with --advertise\n"
                raise web.HTTPMisdirectedRequest(text=text, headers=HEADERS)
            if not (is_open() or _is_here(request) or _has_certificate(request)):
                text = "this realm is not open: look at it on the hub's own machine, or with a certificate\n"
                raise web.HTTPForbidden(text=text, headers=HEADERS)
            return await handler(request)

        return answer

    return only


def _host(text: str) -> str:
    name = text.rpartition(":")[0] if re.search(r":\d*$", text) else text
    return name.lower().removeprefix("[").removesuffix("]").removesuffix(".")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_here(request: web.Request) -> bool:
    address = _address((request.remote or "").partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address is not None and address.is_loopback


def _has_certificate(request: web.Request) -> bool:
    return request.transport is not None and bool(request.transport.get_extra_info("peercert"))
