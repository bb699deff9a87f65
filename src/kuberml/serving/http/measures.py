"""What the service says of itself to Prometheus. Numbers, digests and labels of the task; nothing of any query."""

from __future__ import annotations

import time
from collections.abc import Iterator

from kuberml.serving.http.batching import Batcher
from kuberml.serving.http.slot import Slot
from kuberml.worlds.live.hub.metrics import of_process
from kuberml.worlds.live.hub.prometheus import CONTENT_TYPE, MAX_SERIES, Counts, Family, Histogram, one, text


class Measures:
    """Counts what happens; the rest is looked up when somebody asks."""

    def __init__(self) -> None:
        self._requests = Counts("kuberml_serve_requests_total", "Requests answered, by path and status.", ("path", "status"))
        self._seconds = Histogram("kuberml_serve_request_seconds", "Seconds from a request's head to its answer.", "path")
        self._left = Counts("kuberml_serve_left_total", "Requests whose client left before the answer.", ("path",))
        self.builds = Counts("kuberml_serve_builds_total", "Engines built for a new version, by outcome.", ("outcome",))
        for outcome in ("built", "failed", "passed over"):  # all there from the start: another thread counts them
            self.builds.add(outcome, by=0)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """A request came to its end. Only those that were answered count for latency: refusing is quick."""
        self._requests.add(path, str(status))
        if status < 400:
            self._seconds.observe(path, seconds)

    def left(self, path: str) -> None:
        """A client did not wait."""
        self._left.add(path)

    def page(self, slot: Slot, batcher: Batcher, hub: str) -> tuple[bytes, str]:
        """The text, and its content type."""
        families = [self._requests.family(), self._left.family(), self.builds.family(), *_of_batcher(batcher)]
        families += [*_of_slot(slot), *of_process()]
        if hub:
            families.append(one("kuberml_serve_hub_up", "gauge", "Whether the hub is there.", hub == "there"))
        return text(families, [self._seconds]).encode(), CONTENT_TYPE


def _of_batcher(batcher: Batcher) -> Iterator[Family]:
    yield one("kuberml_serve_batches_total", "counter", "Batches that engines computed.", batcher.batches)
    yield one("kuberml_serve_rows_total", "counter", "Rows in them.", batcher.rows)
    yield one("kuberml_serve_queued_rows", "gauge", "Rows that wait for an engine.", batcher.queued_rows)
    yield one("kuberml_serve_wait_seconds", "gauge", "What a request would wait now.", batcher.wait_s)


def _of_slot(slot: Slot) -> Iterator[Family]:
    live = slot.now
    yield one("kuberml_serve_swaps_total", "counter", "How often what is served was replaced.", slot.swaps)
    yield one("kuberml_serve_version", "gauge", "Number of the version that is served, 0: none.",
              0 if live is None else live.served.number)  # fmt: skip
    if live is None:
        return
    about = live.served.model, live.served.manifest, live.engine.name, live.engine.precision
    yield Family("kuberml_serve_model_info", "gauge", "What is served: digests and engine.", [(about, 1)],
                 ("model", "manifest", "engine", "precision"))  # fmt: skip
    yield one("kuberml_serve_labels", "gauge", "Labels that it knows.", len(live.served.predictor.labels))
    yield one("kuberml_serve_age_seconds", "gauge", "Since this version is served.",
              max(0.0, time.time() - live.served.since_ms / 1000))  # fmt: skip
    fresh = [((label,), seconds) for label, seconds in sorted(slot.freshness_s.items())][:MAX_SERIES]
    yield Family("kuberml_serve_freshness_seconds", "gauge", "From learning at an edge to being served, when a label was last"
                 " taught.", fresh, ("label",))  # fmt: skip
