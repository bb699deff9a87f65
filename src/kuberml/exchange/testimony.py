"""What others testified, as the verdict board at the hub tells it: by pages, and nothing that is not its witness's own word."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest
from kuberml.core.seam import Recorder
from kuberml.exchange import wire
from kuberml.exchange.talk import Talk
from kuberml.knowledge.verdict import SignedVerdict, check_verdict

ASKED_ABOUT = 16_384
"""Cards in one question to the verdict board: about 1 MiB, a quarter of what a message may hold."""


class Testimony:
    """As one node hears it."""

    def __init__(self, talk: Talk, recorder: Recorder) -> None:
        self._talk, self._recorder = talk, recorder

    async def heard(self, cards: Iterable[Digest], since_ms: int) -> tuple[list[SignedVerdict], int]:
        """See `Node.verdicts`."""
        asked, found, as_of_ms = sorted(cards), list[SignedVerdict](), list[int]()
        for start in range(0, len(asked) or 1, ASKED_ABOUT):
            page = tuple(asked[start : start + ASKED_ABOUT])
            board = await self._board(page, since_ms)
            if board is None:
                return found, since_ms
            here = frozenset(page)
            found += [one for one in board.verdicts if self._is_testimony(one, here)]
            as_of_ms.append(board.as_of_ms)
        return found, min(as_of_ms)  # a page may not have come to its end

    async def _board(self, cards: tuple[Digest, ...], since_ms: int) -> wire.Board | None:
        board = await self._talk.consult("verdicts", wire.write(wire.About(cards, since_ms)), wire.Board)
        if board is not None and board.as_of_ms < since_ms:  # the hub's clock was ahead, and has been put right
            board = await self._talk.consult("verdicts", wire.write(wire.About(cards)), wire.Board)
        return board

    def _is_testimony(self, signed: SignedVerdict, cards: Collection[Digest]) -> bool:
        """Whether a verdict is on one of the cards asked for, and its witness's own."""
        try:
            return check_verdict(signed).verdict.card in cards
        except RemoteError as error:
            self._recorder.record("ignored", card=signed.verdict.card, why=str(error))
            return False
