"""What every receiver did with every offer: absorbed, refused, left untested, or never chosen; and why."""

from __future__ import annotations

from typing import Any

from kuberml.core.units import NS
from kuberml.scenario.played import Played
from kuberml.scenario.run_summary import Decision, Outcome

_OUTCOMES: dict[str, Outcome] = {"tested": "tested", "credit": "on credit"}


def decisions(play: Played) -> tuple[Decision, ...]:
    """One per receiver and package that it was offered, honest receivers only, in time order."""
    names = {actor.keys.public: node for node, (_, actor) in play.cast.items()}
    cards = {note.fields["card"]: note for note in play.notes.of("published")}
    honest = {actor.node for actor in play.stage.honest}
    found: dict[tuple[str, str], Decision] = {}
    for note in play.notes.all:
        if note.node not in honest:
            continue
        if note.event == "found":
            for card in note.fields["offers"]:
                found.setdefault(
                    (note.node, card),
                    _decision(note.node, note.time_ns, cards.get(card), "not chosen", "left by the broker or over budget"),
                )
        elif note.event == "fetched" and (note.node, note.fields["card"]) in found:
            card = note.fields["card"]
            found[note.node, card] = _decision(
                note.node, note.time_ns, cards.get(card), "untested", "no evidence for a wanted label"
            )
        elif note.event in ("absorbed", "refused"):
            card = note.fields["card"]
            outcome: Outcome = _OUTCOMES[note.fields["verdict"]] if note.event == "absorbed" else "refused"
            found[note.node, card] = _decision(note.node, note.time_ns, cards.get(card), outcome, note.fields["why"])
    shared = [one for one in found.values() if one.kind not in ("extractor", "probe") and one.author in names.values()]
    return tuple(sorted(shared, key=lambda one: (one.at_s, one.receiver, one.author)))


def _decision(receiver: str, time_ns: int, published: Any, outcome: Outcome, why: str) -> Decision:
    fields = published.fields if published is not None else {}
    return Decision(
        at_s=time_ns / NS,
        receiver=receiver,
        author=published.node if published is not None else "",
        outcome=outcome,
        why=why,
        kind=fields.get("kind", ""),
        labels=tuple(sorted(fields.get("labels", {}))),
        size_bytes=fields.get("size_bytes", 0),
    )
