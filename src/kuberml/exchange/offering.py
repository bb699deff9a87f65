"""What a hub answers to a want: a shortlist of the best or, for who wants everything, page after page.

Who asks for fewer than `wire.OFFERED` wants the best of what there is, and is not interested in the rest. Who asks for so many
wants all of it: what does not go into one answer comes with the next, in the order in which it came to the hub, so that the
place up to which it was handed out is one number. Nobody's cards keep another's out of sight there, they only come before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kuberml.core import canonical
from kuberml.core.ids import Digest, NodeId
from kuberml.exchange import wire
from kuberml.exchange.broker import Outcomes, best_first, rank
from kuberml.knowledge.want import Offer
from kuberml.vault.catalog import Catalog


class Offering:
    """Over one catalog, with what is known of cards and authors (see `broker.rank`)."""

    def __init__(self, catalog: Catalog, outcomes: Callable[[Digest], Outcomes], author_ppm: Callable[[str], int]) -> None:
        self._catalog, self._outcomes, self._author_ppm = catalog, outcomes, author_ppm

    def answer(self, asker: NodeId, query: wire.Query, now_ms: int) -> wire.Offers:
        """What a node is offered; what only it holds is not offered to it."""
        newest = self._catalog.newest_number
        if query.since is None:
            return wire.Offers(tuple(self._best(asker, query, 0, now_ms)[0]))
        since = query.since if 0 <= query.since <= newest else 0  # else of a catalog that is gone
        if query.want.limit < wire.OFFERED:
            offers, is_cut = self._best(asker, query, since, now_ms)
            if not is_cut:
                return wire.Offers(tuple(offers), newest)
        return self._page(asker, query, since, now_ms, newest)

    def _best(self, asker: NodeId, query: wire.Query, since: int, now_ms: int) -> tuple[list[Offer], bool]:
        """The best, and whether something was left out though the want has room for it: a bound of ours, not of the asker."""
        want = query.want
        candidates = self._catalog.candidates(want, now_ms, limit=wire.OFFERED, since=since)
        others = [(signed, holders) for signed, holders in candidates if holders != (asker,)]
        ranked = rank(want, others, self._outcomes, self._author_ppm)
        offers = wire.with_room(ranked)
        is_bounded = len(candidates) == wire.OFFERED and len(ranked) < want.limit
        return offers, is_bounded or len(offers) < len(ranked)

    def _page(self, asker: NodeId, query: wire.Query, since: int, now_ms: int, newest: int) -> wire.Offers:
        """What came first after `since`, best first, and how far that goes."""
        page: list[Offer] = []
        room_bytes, limit, upto = wire.ROOM_BYTES, max(1, min(query.want.limit, wire.OFFERED)), since
        for number, offer in self._arrived(asker, query, since, now_ms):
            room_bytes -= len(canonical.encode(offer))
            if len(page) == limit or (page and room_bytes < 0):
                return wire.Offers(tuple(best_first(page)), upto)
            page.append(offer)
            upto = number
        return wire.Offers(tuple(best_first(page)), newest)

    def _arrived(self, asker: NodeId, query: wire.Query, since: int, now_ms: int) -> Iterator[tuple[int, Offer]]:
        """Every offer that is no dearer than the want allows, by number."""
        for number, signed, holders in self._catalog.arrived(query.want, now_ms, since=since):
            if holders != (asker,):
                for offer in rank(query.want, [(signed, holders)], self._outcomes, self._author_ppm):
                    yield number, offer
