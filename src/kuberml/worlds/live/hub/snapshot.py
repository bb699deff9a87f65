"""A scene as one JSON text for the page: bounded, whatever goes on; what does not fit is counted."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import msgspec

from kuberml.worlds.live.hub.people import Delivery, Person, Trial
from kuberml.worlds.live.hub.scene import Scene

SHOWN_PEOPLE, SHOWN_LABELS, SHOWN_DELIVERIES, SHOWN_TRIALS, SHOWN_LESSONS = 120, 60, 60, 80, 240


def snapshot(scene: Scene) -> bytes:
    """What the page shows now."""
    scene.settle()
    people = sorted(scene.people.values(), key=lambda one: (not one.here, one.role != "hub", one.role, one.node))
    shown = people[:SHOWN_PEOPLE]
    labels = _labels(shown)
    moving = sorted(scene.deliveries.values(), key=lambda one: (one.state != "under way", one.node, one.card))
    trials = list(reversed(scene.trials.values()))
    lessons = sorted(scene.lessons.items(), key=lambda item: (-item[1], item[0]))
    return msgspec.json.encode(
        {
            "realm": scene.realm,
            "now_ms": scene.now_ms(),
            "here": sum(one.here for one in people),
            "counts": dict(scene.counts),
            "people": [_person(one, labels) for one in shown],
            "labels": labels,
            "deliveries": [_delivery(scene, one) for one in moving[:SHOWN_DELIVERIES]],
            "trials": [_trial(scene, one) for one in trials[:SHOWN_TRIALS]],
            "lessons": [
                {"from": scene.name_of(author), "to": node, "cards": count} for (author, node), count in lessons[:SHOWN_LESSONS]
            ],
            "left_out": {
                "people": len(people) - len(shown),
                "deliveries": max(0, len(moving) - SHOWN_DELIVERIES),
                "lessons": max(0, len(lessons) - SHOWN_LESSONS),
            },
        }
    )


def _labels(people: list[Person]) -> list[str]:
    """Those that most people know, in the order in which people count."""
    known = Counter(label for one in people for label in one.knows(256))
    most = sorted(known, key=lambda label: (-known[label], label))[:SHOWN_LABELS]
    return sorted(most, key=_place)


def _place(label: str) -> list[tuple[int, int, str]]:
    """Numbers by their size, before text."""
    parts = re.findall(r"[0-9]{1,15}|[^0-9]+", label)
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts]


def _person(one: Person, labels: list[str]) -> dict[str, Any]:
    known = one.knows(256)
    return {
        "node": one.node, "role": one.role, "here": one.here, "since_ms": one.since_ms, "seen_ms": one.seen_ms,
        "published": one.works.published, "learned": len(one.learned), "accuracy_ppm": one.accuracy_ppm,
        "knows": [known.get(label, 0) for label in labels],
    }  # fmt: skip


def _delivery(scene: Scene, one: Delivery) -> dict[str, Any]:
    card = scene.about(one.card)
    return {
        "node": one.node, "holder": one.holder, "card": one.card[:12], "kind": card.kind if card else "",
        "author": scene.name_of(card.author) if card else "", "done_bytes": one.done_bytes, "total_bytes": one.total_bytes,
        "bytes_s": round(one.bytes_s), "state": one.state,
    }  # fmt: skip


def _trial(scene: Scene, one: Trial) -> dict[str, Any]:
    card = scene.about(one.card)
    return one.row(card, scene.name_of(card.author) if card else "")
