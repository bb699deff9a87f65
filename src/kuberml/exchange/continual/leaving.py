"""What leaves the model: an author that the operator removes, what its author takes back, and all that came after a version."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any, cast

import msgspec

from kuberml.core.errors import ConfigError, RemoteError, Unreachable
from kuberml.exchange import wire
from kuberml.exchange.continual.history import Entry, History
from kuberml.exchange.node import Node
from kuberml.knowledge.contributions import Contributions
from kuberml.knowledge.withdrawal import SignedWithdrawal, Withdrawal, check_withdrawal

HEARD = "cloud.heard"
"""In memory: up to where the hub's withdrawals were heard, as (era, number)."""
PAGES_MAX = 256
"""Of withdrawals, in one go."""
HUB_TIMEOUT_S = 30.0


async def withdrawals(node: Node) -> AsyncIterator[Withdrawal]:
    """What authors take back of this node's task, as the hub passes it on, for ever; each is its author's own word."""
    async with aclosing(cast(Any, node.place.transport.subscribe(f"withdrawn/{node.task}"))) as heard:
        async for _, body in heard:
            try:
                said = wire.read(body, SignedWithdrawal)
            except RemoteError as error:
                node.record("ignored", why=str(error))
                continue
            for word in believed(node, (said,)):
                yield word


async def missed(node: Node) -> AsyncIterator[list[Withdrawal]]:
    """What authors took back while it was not heard here, by pages, oldest first, until the hub knows of nothing more.

    A page counts as heard when the next one is asked for: a crash in between repeats it, which changes nothing.
    """
    if node.place.hub is None:
        return
    era, number = node.memory.get(HEARD, ("", 0))
    for _ in range(PAGES_MAX):
        try:
            body = wire.write(wire.Since(node.task, era, number))
            answer = await node.place.transport.ask(node.place.hub, "withdrawn", body, timeout_s=HUB_TIMEOUT_S)
            page = wire.read(answer, wire.Said)
        except (RemoteError, Unreachable) as error:
            node.record("hub", asked="withdrawn", why=str(error))
            return
        if not page.words or (page.era, page.number) == (era, number):
            return
        yield believed(node, page.words)
        era, number = page.era, page.number
        node.memory.update(**{HEARD: (era, number)})


def believed(node: Node, said: Iterable[SignedWithdrawal]) -> list[Withdrawal]:
    """Words about this node's task that are their authors' own, whoever passes them on."""
    found = []
    for signed in said:
        try:
            found.append(check_withdrawal(signed).withdrawal)
        except RemoteError as error:
            node.record("ignored", why=str(error))
    return [word for word in found if word.task == node.task]


def author_of(history: History, start: str) -> str:
    """The public key of the one author in the model whose key begins so. Raises ConfigError: none does, or several do."""
    if not start:
        raise ConfigError("name an author: its public key, as /v1/origin tells it, or how that begins")
    found = {entry.author for entry in history.state.made_of.entries if entry.author.startswith(start)}
    if len(found) > 1:
        raise ConfigError(f"{len(found)} authors' keys begin with {start!r}: give more of it")
    if not found:
        raise ConfigError(f"nothing of {start!r} is in what is served: there is nothing to remove")
    return next(iter(found))


def without_author(history: History, author: str) -> dict[str, Any]:
    """How the state changes when an author is removed: nothing that it brought stays, whoever signed a copy.

    Raises:
        ConfigError: nothing else is in the model.
    """
    state = history.state
    own = {e.content for e in state.made_of.entries if e.author == author}
    brought = {content for content in own if history.packet(content).entry.author == author}
    kept = tuple(e for e in state.made_of.entries if e.author != author and e.content not in brought)
    if not kept:
        raise ConfigError(f"{author[:12]}... is the only contributor: without it nothing is left to serve")
    return {
        "made_of": msgspec.structs.replace(state.made_of, entries=kept),
        "barred": tuple(sorted({*state.barred, *brought})),
        "removed": tuple(sorted({*state.removed, author})),
    }


def without_withdrawn(history: History, word: Withdrawal) -> dict[str, Any] | None:
    """The same for what an author takes back; None: the model holds nothing of that.

    Raises:
        ConfigError: the model holds nothing else.
    """
    state, place = history.state, (word.author, word.slot)
    own = {e.content for e in state.made_of.entries if e.place == place and e.version <= word.version}
    if not own:
        return None
    brought = {content for content in own if history.packet(content).entry.author == word.author}
    kept = tuple(e for e in state.made_of.entries if not (e.content in brought or (e.place == place and e.content in own)))
    if not kept:
        raise ConfigError(f"{word.author[:12]}... takes back all that the model is made of: nothing else is left to serve")
    closed = {(author, slot): version for author, slot, version in state.made_of.withdrawn}
    closed[place] = max(word.version, closed.get(place, word.version))
    withdrawn = tuple(sorted((author, slot, version) for (author, slot), version in closed.items()))
    made_of: Contributions = msgspec.structs.replace(state.made_of, entries=kept, withdrawn=withdrawn)
    return {"made_of": made_of, "barred": tuple(sorted({*state.barred, *brought}))}


def back_to(history: History, entry: Entry) -> dict[str, Any]:
    """How the state changes when an earlier version is served again: what it is not made of is barred.

    Raises:
        ConfigError: something in it was removed, or taken back by its author, since.
    """
    state, contents = history.state, history.contents(entry.number)
    entries = [history.packet(content).entry for content in sorted(contents)]
    closed = {(author, slot): version for author, slot, version in state.made_of.withdrawn}
    for one in entries:
        if one.author in state.removed:
            raise ConfigError(
                f"version {entry.number} holds packets of {one.author[:12]}..., who was removed since: readmit that one first"
            )
        if one.content in state.barred and one.version <= closed.get(one.place, -1):
            raise ConfigError(f"version {entry.number} holds {one.slot!r} of {one.author[:12]}..., who took it back since")
    made_of = msgspec.structs.replace(state.made_of, entries=tuple(sorted(entries, key=lambda each: each.place)))
    return {"made_of": made_of, "barred": tuple(sorted(({*state.barred} | state.made_of.contents) - contents))}
