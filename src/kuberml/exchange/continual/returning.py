"""What was kept out and may come in again: contents that were rolled back, authors that were removed, refused cards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest
from kuberml.exchange.continual.history import History


def kept_out(history: History) -> dict[str, Any]:
    """What `let_in` may let in, but for refused cards: authors that were removed; contents, by whom, in which slot, and why."""
    state = history.state
    closed = {(author, slot): version for author, slot, version in state.made_of.withdrawn}
    contents = []
    for content in state.barred:
        entry = history.packet(content).entry
        why = "removed with its author" if entry.author in state.removed else "rolled back"
        if entry.version <= closed.get(entry.place, -1):
            why = "taken back by its author: not to be readmitted"
        contents.append({"content": content, "author": entry.author, "slot": entry.slot, "why": why})
    return {"removed": list(state.removed), "contents": contents}


def let_in(history: History, names: Iterable[str]) -> dict[str, Any]:
    """How the state changes when what was kept out may come in again: contents, authors or cards, or how they begin; all.

    An author comes with what was barred because it went. What an author took back stays out, whoever names it.

    Raises:
        ConfigError: nothing that was kept out has such a name.
    """
    state, names = history.state, tuple(names)
    kept_out = (*state.barred, *state.removed, *state.refused)
    for name in names:
        if not name or not any(one.startswith(name) for one in kept_out):
            raise ConfigError(f"nothing that begins with {name!r} is kept out: there is nothing to readmit")
    named = {one for one in kept_out if not names or one.startswith(names)}
    back = named & {*state.removed}
    closed = {(author, slot): version for author, slot, version in state.made_of.withdrawn}

    def stays(content: Digest) -> bool:
        entry = history.packet(content).entry if history.knows(content) else None
        if entry is not None and entry.version <= closed.get(entry.place, -1):
            return True
        return content not in named and (entry is None or entry.author not in back)

    return {
        "barred": tuple(one for one in state.barred if stays(one)),
        "removed": tuple(one for one in state.removed if one not in named),
        "refused": {card: why for card, why in state.refused.items() if card not in named},
    }
