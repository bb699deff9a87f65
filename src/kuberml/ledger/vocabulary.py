"""Which event says what about whom, in the terms of W3C PROV.

Every event is an activity that its node was associated with. What else it says is a table: relation, subject, object. A
derivation is written because the node says so; it is never guessed from equal values.

Direction is PROV's, from the later to the earlier: `model wasDerivedFrom card`, `card wasGeneratedBy activity`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

RELATIONS = (
    "used",
    "wasGeneratedBy",
    "wasAssociatedWith",
    "wasDerivedFrom",
    "wasAttributedTo",
    "wasInvalidatedBy",
)
"""Relations by the number under which the store keeps them."""

ACTIVITY, NODE = "@activity", "@node"
"""The event itself, and the node that recorded it. Other roles are names of the event's fields."""

AGENTS = {NODE: "node", "holder": "node", "author": "author"}
"""Roles that are agents, and their type."""

ENTITIES = {
    "card": "card",
    "parents": "card",
    "sources": "card",
    "model": "model",
    "base": "model",
    "want": "want",
    "inputs": "value",
    "output": "value",
}
"""Roles that are entities, and their type. An entity may have several: a job's output that is deployed is also a model."""


class Rule(NamedTuple):
    """One statement that an event makes, if it has those fields; a list in a field makes one statement for each item."""

    relation: str
    subject: str
    object: str


_AUTHOR = Rule("wasAttributedTo", "card", "author")

EVENTS: Mapping[str, tuple[Rule, ...]] = {
    # card, kind, slot, version, size_bytes, labels, parents
    "published": (
        Rule("wasGeneratedBy", "card", ACTIVITY),
        Rule("wasDerivedFrom", "card", "parents"),
        Rule("wasDerivedFrom", "card", "model"),
        Rule("wasAttributedTo", "card", NODE),
        _AUTHOR,
    ),
    # want, offers
    "found": (Rule("used", ACTIVITY, "want"),),
    # card, holder, size_bytes, cached
    "fetched": (Rule("used", ACTIVITY, "card"), Rule("wasAssociatedWith", ACTIVITY, "holder"), _AUTHOR),
    # card, verdict, labels, before_ppm, after_ppm, evidence
    "tried": (Rule("used", ACTIVITY, "card"), _AUTHOR),
    # card, model (as it is now), base (as it was before)
    "absorbed": (
        Rule("used", ACTIVITY, "card"),
        Rule("wasGeneratedBy", "model", ACTIVITY),
        Rule("wasDerivedFrom", "model", "card"),
        Rule("wasDerivedFrom", "model", "base"),
        Rule("wasAttributedTo", "model", NODE),
        _AUTHOR,
    ),
    # card, why
    "refused": (Rule("used", ACTIVITY, "card"), _AUTHOR),
    # card; model (as it is now, without it: not derived from what it was)
    "forgot": (Rule("wasInvalidatedBy", "card", ACTIVITY), Rule("wasGeneratedBy", "model", ACTIVITY)),
    # model, sources, learned_at_ms (one for each source)
    "deployed": (
        Rule("used", ACTIVITY, "model"),
        Rule("wasDerivedFrom", "model", "sources"),
        Rule("wasAttributedTo", "model", NODE),
    ),
    # function, inputs, output, flops, started_ns, ended_ns
    "job": (
        Rule("used", ACTIVITY, "inputs"),
        Rule("wasGeneratedBy", "output", ACTIVITY),
        Rule("wasDerivedFrom", "output", "inputs"),
    ),
}
"""Statements by event. Events that are not here ("fault", or a paradigm's own) are activities that say nothing more."""


def statements(event: str, fields: Mapping[str, Any]) -> Iterator[tuple[str, str, str | None, str, str | None]]:
    """What an event says: (relation, subject role, subject name, object role, object name).

    The name is None for the activity and the node. Fields that are missing, empty or not text say nothing.
    """
    for relation, subject, object_ in EVENTS.get(event, ()):
        for left in _names(fields, subject):
            for right in _names(fields, object_):
                yield relation, subject, left, object_, right


def _names(fields: Mapping[str, Any], role: str) -> tuple[str | None, ...]:
    if role in (ACTIVITY, NODE):
        return (None,)
    found = fields.get(role)
    if isinstance(found, str):
        return (found,) if found else ()
    return tuple(item for item in found if isinstance(item, str) and item) if isinstance(found, list | tuple) else ()
