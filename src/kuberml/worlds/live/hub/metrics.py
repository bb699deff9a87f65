"""What a hub says of itself to Prometheus, at `/metrics`. Numbers only: no names of members, cards or labels."""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from aiohttp import web

from kuberml.worlds.live.energy import Meter, meters
from kuberml.worlds.live.hub.prometheus import CONTENT_TYPE, OTHER, Counts, Family, Histogram, one, text
from kuberml.worlds.live.hub.scene import Scene
from kuberml.worlds.live.hub.visitors import HEADERS, Guard

REASONS = (
    ("replay", ("a replay",)),
    ("revoked", ("is revoked",)),
    ("other key", ("belongs to another key",)),
    ("other realm", ("a request of realm",)),
    ("signature", ("the signature is not by",)),
    ("busy", ("is busy", "more than", "too many")),
    ("not allowed", ("may not", "not on the roll", "right")),
    ("too large", ("over the limit", "are more than")),
    ("unknown request", ("serves no",)),
    ("stale", ("older than", "withdrawn by its author", "the first stays")),
    ("malformed", ("not canonical", "not a ", "cannot be", "a damaged message")),
)
"""Reason -> how messages say it. Bounded: strangers must not be able to make up label values."""


def reason_of(why: str) -> str:
    """Which of REASONS a refusal's message is; "other" if none."""
    return next((reason for reason, signs in REASONS if any(sign in why for sign in signs)), OTHER)


ROLES = frozenset({"hub", "peer", "client", "server", "library", "visitor"})
"""Roles that are told apart. Members choose theirs, so all others are one: "other"."""


class Metrics:
    """Counts what happens; the rest is looked up when somebody asks."""

    def __init__(self) -> None:
        self.requests = Counts("kuberml_requests_total", "Requests answered, by name and outcome.", ("name", "outcome"))
        self.refusals = Counts("kuberml_refusals_total", "Requests refused, by reason.", ("reason",))
        self.latency = Histogram("kuberml_request_seconds", "Seconds from a request's arrival to its answer.", "name")

    def answered(self, name: str, outcome: str, seconds: float, why: str = "") -> None:
        """One request was answered; `why` it was not granted, if so."""
        self.requests.add(name[:64], outcome[:16])
        self.latency.observe(name[:64], seconds)
        if outcome == "refused":
            self.refusals.add(reason_of(why))


Look = Callable[[], Iterable[Family]]


def add_metrics(
    app: web.Application,
    metrics: Metrics,
    looks: Sequence[Look],
    only: Guard,
    *,
    energy: Sequence[Meter] | None = None,
) -> None:
    """Serve `/metrics`.

    Args:
        app: not yet running.
        metrics: what is counted as it happens.
        looks: each gives families as they are now.
        only: who may look (`visitors.guarded`).
        energy: whose joules are told; default: what this machine has.
    """
    found = meters() if energy is None else energy

    async def answer(request: web.Request) -> web.StreamResponse:
        families = [metrics.requests.family(), metrics.refusals.family(), *of_process(), _energy(found)]
        families += [family for look in looks for family in look()]
        body = text(families, [metrics.latency]).encode()
        return web.Response(body=body, headers={**HEADERS, "Content-Type": CONTENT_TYPE})

    app.add_routes([web.get("/metrics", only(answer))])


def of_scene(scene: Scene) -> Iterator[Family]:
    """Members by role, deliveries, trials by verdict."""
    roles = Counter(person.role if person.role in ROLES else OTHER for person in scene.people.values() if person.here)
    of_role = [((role,), count) for role, count in sorted(roles.items())]
    yield Family("kuberml_members", "gauge", "Members that are present, by role.", of_role, ("role",))
    states = Counter(delivery.state for delivery in scene.deliveries.values())
    yield one("kuberml_deliveries_open", "gauge", "Deliveries under way that members report.", states["under way"])
    counts = scene.counts
    yield Family("kuberml_deliveries_total", "counter", "Deliveries that members report to have ended.",
                 [((state,), counts["deliveries " + state]) for state in ("done", "failed")], ("state",))  # fmt: skip
    yield one("kuberml_delivered_bytes_total", "counter", "Bytes of deliveries that came to an end.", counts["delivered bytes"])
    yield Family("kuberml_trials_total", "counter", "Trials that members report, by what came of them.",
                 [((verdict,), counts["trials " + verdict]) for verdict in ("accepted", "refused")], ("verdict",))  # fmt: skip
    yield Family("kuberml_verdicts_total", "counter", "Signed verdicts accepted, by what they say.",
                 [((what,), counts["verdicts " + what]) for what in ("good", "bad")], ("says",))  # fmt: skip
    yield one("kuberml_withdrawn_cards_total", "counter", "Cards that their authors took back.", counts["withdrawn"])


def of_process() -> Iterator[Family]:
    """CPU seconds, memory, descriptors and start of this process."""
    used = os.times()
    yield one("process_cpu_seconds_total", "counter", "CPU seconds of this process.", used.user + used.system)
    pages = _field(Path("/proc/self/statm"), 1)
    if pages is not None:
        yield one("process_resident_memory_bytes", "gauge", "Memory in RAM.", pages * os.sysconf("SC_PAGE_SIZE"))
    try:
        yield one("process_open_fds", "gauge", "Open file descriptors.", len(os.listdir("/proc/self/fd")))
    except OSError:
        return
    began_s = _began_s(os.getpid())
    if began_s is not None:
        yield one("process_start_time_seconds", "gauge", "When this process began, since 1970.", began_s)


@functools.cache
def _began_s(pid: int) -> float | None:
    """When process `pid`, this one, began: one number for its life, or `changes()` would see a restart at every look."""
    ticks = _field(Path("/proc/self/stat"), 21)  # since boot; the second field has no blanks: this is Python
    if ticks is None:
        return None
    since_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return round(time.time() - since_s, 2)


def _field(file: Path, place: int) -> int | None:
    try:
        return int(file.read_text().rpartition(")")[2].split()[place - (2 if file.name == "stat" else 0)])
    except (OSError, ValueError, IndexError):
        return None


def _energy(found: Sequence[Meter]) -> Family:
    samples = [((meter.label,), meter.joules()) for meter in found]
    return Family(
        "kuberml_energy_joules_total", "counter", "Joules since the start, and how they are known.", samples, ("source",)
    )
