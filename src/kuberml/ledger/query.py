"""Questions to a ledger: who taught this model, what was made from that card, what was decided and why.

Recursive SQL over interned ids. A derivation that bites its own tail (a lie: content is named by its digest) does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kuberml.core.ids import Digest, NodeId
from kuberml.ledger.ledger import Event, Ledger
from kuberml.ledger.store import ENTITY
from kuberml.ledger.vocabulary import RELATIONS

DERIVED, ATTRIBUTED = RELATIONS.index("wasDerivedFrom"), RELATIONS.index("wasAttributedTo")

# One row for each thing and agent it is attributed to; what nobody claims has one row without.
_ANCESTORS = """
WITH RECURSIVE lineage (id) AS (
  SELECT id FROM nodes WHERE name = :name AND sort = :entity
  UNION SELECT edges.dst FROM lineage JOIN edges ON edges.src = lineage.id AND edges.relation = :derived
)
SELECT made.name, types.type, agents.name FROM lineage
JOIN nodes AS made ON made.id = lineage.id AND made.name <> :name
LEFT JOIN types ON types.node = made.id
LEFT JOIN edges ON edges.src = made.id AND edges.relation = :attributed
LEFT JOIN nodes AS agents ON agents.id = edges.dst
"""
# The same with the arrows turned round.
_DESCENDANTS = _ANCESTORS.replace(
    "SELECT edges.dst FROM lineage JOIN edges ON edges.src", "SELECT edges.src FROM lineage JOIN edges ON edges.dst"
)
_PARAMETERS = {"entity": ENTITY, "derived": DERIVED, "attributed": ATTRIBUTED}


class Made(msgspec.Struct, frozen=True, order=True):
    """A thing in a lineage: its digest, what it is (sorted: "card", "model", "value"), and whose (sorted nodes, authors)."""

    digest: Digest
    types: tuple[str, ...]
    by: tuple[str, ...]


class Decision(msgspec.Struct, frozen=True):
    """What became of a card at a node: the last word.

    Attributes:
        accepted: absorbed, and not forgotten since.
        verdict: of the last trial before it ("" if it was not tried).
        why: the reason given for a refusal ("" if none).
    """

    time_ns: int
    node: NodeId
    card: Digest
    accepted: bool
    verdict: str
    why: str


def ancestors(ledger: Ledger, digest: Digest) -> list[Made]:
    """Everything that a thing was derived from, transitively, sorted by digest; without itself. [] if it is unknown."""
    return _collect(ledger, _ANCESTORS, digest)


def descendants(ledger: Ledger, digest: Digest) -> list[Made]:
    """Everything that was made from a thing, transitively, sorted by digest: what must change when it is to be forgotten."""
    return _collect(ledger, _DESCENDANTS, digest)


def who_taught(ledger: Ledger, model: Digest) -> list[Made]:
    """The cards behind a model and their authors, transitively, sorted by digest."""
    return [made for made in ancestors(ledger, model) if "card" in made.types]


def history(ledger: Ledger, node: NodeId) -> Iterator[Event]:
    """What one node recorded, in order."""
    return ledger.events("nodes.name = ?", (node,))


def accepted_refused(ledger: Ledger) -> list[Decision]:
    """For each node and card the last word, in the order in which they were spoken."""
    verdicts: dict[tuple[NodeId, Digest], str] = {}
    last: dict[tuple[NodeId, Digest], Decision] = {}
    for event in ledger.events("event IN ('tried', 'absorbed', 'refused', 'forgot')"):
        card = event.fields.get("card")
        if not isinstance(card, str):
            continue
        place = (event.node, Digest(card))
        if event.event == "tried":
            verdicts[place] = str(event.fields.get("verdict", ""))
            continue
        last.pop(place, None)
        why = str(event.fields.get("why", "forgotten" if event.event == "forgot" else ""))
        last[place] = Decision(event.time_ns, *place, event.event == "absorbed", verdicts.get(place, ""), why)
    return list(last.values())


def _collect(ledger: Ledger, sql: str, digest: Digest) -> list[Made]:
    types: dict[str, set[str]] = {}
    agents: dict[str, set[str]] = {}
    for name, type_, agent in ledger.read(sql, {**_PARAMETERS, "name": digest}):
        types.setdefault(name, set()).update(() if type_ is None else (type_,))
        agents.setdefault(name, set()).update(() if agent is None else (agent,))
    return [Made(Digest(name), tuple(sorted(types[name])), tuple(sorted(agents[name]))) for name in sorted(types)]
