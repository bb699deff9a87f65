"""Export as PROV-JSON (W3C Member Submission of 24 April 2013), of a whole ledger or of one lineage.

Names: `entity:<digest>`, `node:<id>`, `author:<public key>`, `event:<event>-<seq>`; characters that a qualified name cannot
hold are percent-encoded. Simulated time counts from 1970, where PROV has no other; `kuberml:time_ns` is exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from kuberml.core.errors import ConfigError
from kuberml.ledger.ledger import Event, Ledger
from kuberml.ledger.store import AGENT, ENTITY
from kuberml.ledger.vocabulary import AGENTS, NODE, RELATIONS

PREFIXES = {
    "kuberml": "urn:kuberml:term:",
    "entity": "urn:kuberml:entity:",
    "node": "urn:kuberml:node:",
    "author": "urn:kuberml:author:",
    "event": "urn:kuberml:event:",
}

ROLES = {
    "used": ("prov:activity", "prov:entity"),
    "wasGeneratedBy": ("prov:entity", "prov:activity"),
    "wasAssociatedWith": ("prov:activity", "prov:agent"),
    "wasDerivedFrom": ("prov:generatedEntity", "prov:usedEntity"),
    "wasAttributedTo": ("prov:entity", "prov:agent"),
    "wasInvalidatedBy": ("prov:entity", "prov:activity"),
}
"""What PROV-JSON calls the two ends of each relation: the later, the earlier."""

# All edges point back in time, so what is behind a thing is whatever can be reached from it.
_BEHIND = """
WITH RECURSIVE behind (id) AS (
  SELECT id FROM nodes WHERE name = :name AND sort = :entity
  UNION SELECT edges.dst FROM behind JOIN edges ON edges.src = behind.id
)
SELECT id FROM behind
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def document(ledger: Ledger, about: str | None = None) -> dict[str, Any]:
    """The PROV-JSON document, plain data.

    Args:
        ledger: what to export.
        about: name of an entity (a model's or a card's digest): only its lineage. None: everything.

    Raises:
        ConfigError: the ledger does not know `about`.
    """
    wanted = None if about is None else {row[0] for row in ledger.read(_BEHIND, {"name": about, "entity": ENTITY})}
    if wanted is not None and not wanted:
        raise ConfigError(f"the ledger knows no entity {about!r}; give the digest of a card or a model that is in it")
    activities = {-event.seq: event for event in ledger.events() if wanted is None or -event.seq in wanted}
    edges = [edge for edge in ledger.read("SELECT src, relation, dst FROM edges") if wanted is None or edge[0] in wanted]
    names = _names(ledger)
    agents = {name: node for node, name in names.items() if name.startswith("node:")}
    edges += [
        (activity, RELATIONS.index("wasAssociatedWith"), agents[_name("node", event.node)])
        for activity, event in activities.items()
    ]
    if wanted is not None:
        wanted.update(dst for _, _, dst in edges)
    named = {node: name for node, name in names.items() if wanted is None or node in wanted}
    return {
        "prefix": PREFIXES,
        **_things(ledger, named),
        "activity": {_activity(event): _attributes(event) for event in activities.values()},
        **_relations(edges, {**named, **{node: _activity(event) for node, event in activities.items()}}),
    }


def export(ledger: Ledger, path: Path, about: str | None = None) -> None:
    """Write the document to a file. Arguments and errors are `document`'s; OSError: the file cannot be written."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document(ledger, about)), indent=1))


def _names(ledger: Ledger) -> dict[int, str]:
    nodes = {row[0] for row in ledger.read("SELECT node FROM types WHERE type = ?", (AGENTS[NODE],))}
    return {
        node: _name(("node" if node in nodes else "author") if sort == AGENT else "entity", name)
        for node, sort, name in ledger.read("SELECT id, sort, name FROM nodes")
    }


def _name(prefix: str, name: str) -> str:
    return f"{prefix}:{quote(name, safe='')}"


def _activity(event: Event) -> str:
    return _name("event", f"{event.event}-{event.seq}")


def _things(ledger: Ledger, named: dict[int, str]) -> dict[str, dict[str, Any]]:
    """The sections "entity" and "agent"."""
    types: dict[int, list[str]] = {}
    for node, type_ in ledger.read("SELECT node, type FROM types ORDER BY node, type"):
        types.setdefault(node, []).append(type_)
    found: dict[str, dict[str, Any]] = {"entity": {}, "agent": {}}
    for node, name in named.items():
        section = "entity" if name.startswith("entity:") else "agent"
        found[section][name] = {"prov:type": [_qualified(f"kuberml:{type_}") for type_ in types.get(node, [])]}
    return found


def _attributes(event: Event) -> dict[str, Any]:
    fields = {f"kuberml:{quote(name, safe='')}": _literal(field) for name, field in event.fields.items() if field is not None}
    return {
        "prov:startTime": _time(event, "started_ns"),
        "prov:endTime": _time(event, "ended_ns"),
        "prov:type": _qualified(f"kuberml:{quote(event.event, safe='')}"),
        **fields,
        "kuberml:time_ns": event.time_ns,
    }


def _literal(field: Any) -> Any:
    return field if isinstance(field, bool | int | float | str) else msgspec.json.encode(field).decode()


def _qualified(name: str) -> dict[str, str]:
    return {"$": name, "type": "prov:QUALIFIED_NAME"}


def _time(event: Event, field: str) -> str:
    time_ns = event.fields.get(field)
    if not isinstance(time_ns, int) or not 0 <= time_ns < 2**63:
        time_ns = event.time_ns
    return (_EPOCH + timedelta(microseconds=time_ns // 1000)).isoformat()


def _relations(edges: Iterable[tuple[int, int, int]], names: dict[int, str]) -> dict[str, dict[str, Any]]:
    """A section for each relation that occurs; PROV gives statements without an identifier names that begin with `_:`."""
    found: dict[str, dict[str, Any]] = {}
    for number, (src, relation, dst) in enumerate(edges):
        kind = RELATIONS[relation]
        left, right = ROLES[kind]
        found.setdefault(kind, {})[f"_:{number}"] = {left: names[src], right: names[dst]}
    return found
