"""What both adapters of `ReplicationLink` share: a question is a message, and what comes back is its answer or a refusal."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from cluster.domain.base.errors import ControlPlaneError
from cluster.domain.replication.batch import (
    Batch,
    CopyBeginning,
    CopyPiece,
    CopyProgress,
    Follower,
    LogRange,
    LogSums,
    PeerReport,
    Refusal,
    ReplicationRefused,
)
from cluster.ports.replication import LinkLost, LinkRefused, ReplicationEnd
from regions.links.messages import Message, MessageKind, Nothing, RefusedAnswer

_logger = logging.getLogger(__name__)
_REFUSALS = {refusal.value: refusal for refusal in Refusal}
#: Refusals of the two ends, before anything is asked.
LINK_CODES = frozenset({"protocol_mismatch", "wrong_region", "wrong_zone", "unknown_region"})


class Asks(Protocol):
    """Sends a question, and returns the answer of the given kind."""

    async def __call__(self, kind: MessageKind, question: Message, expected: MessageKind) -> Any: ...


class AskingLink:
    """A `ReplicationLink` on something that asks."""

    def __init__(self, ask: Asks) -> None:
        self._ask = ask

    async def batch(self, follower: Follower) -> Batch:
        """Raises: `LinkLost`, `LinkRefused`, `ReplicationRefused`."""
        found: Batch = await self._ask(MessageKind.ASK_BATCH, follower, MessageKind.BATCH)
        return found

    async def tail(self) -> CopyBeginning:
        """Raises: `LinkLost`, `LinkRefused`, `ReplicationRefused`."""
        found: CopyBeginning = await self._ask(MessageKind.ASK_TAIL, Nothing(), MessageKind.TAIL)
        return found

    async def piece(self, progress: CopyProgress) -> CopyPiece:
        """Raises: `LinkLost`, `LinkRefused`, `ReplicationRefused`."""
        found: CopyPiece = await self._ask(MessageKind.ASK_PIECE, progress, MessageKind.PIECE)
        return found

    async def report(self) -> PeerReport:
        """Raises: `LinkLost`, `LinkRefused`."""
        found: PeerReport = await self._ask(MessageKind.ASK_REPORT, Nothing(), MessageKind.REPORT)
        return found

    async def sums(self, of: LogRange) -> LogSums:
        """Raises: `LinkLost`, `LinkRefused`."""
        found: LogSums = await self._ask(MessageKind.ASK_SUMS, of, MessageKind.SUMS)
        return found

    async def hand_over(self) -> None:
        """Raises: `LinkLost`, `LinkRefused`, `ReplicationRefused`."""
        await self._ask(MessageKind.ASK_ZONE, Nothing(), MessageKind.ZONE)


async def answer(end: ReplicationEnd, peer: str, kind: MessageKind, question: Any) -> tuple[MessageKind, Message]:
    """What ``end`` answers to a question of ``peer``; an error of it is an answer too."""
    try:
        if kind is MessageKind.ASK_BATCH:
            return MessageKind.BATCH, await end.batch(peer, question)
        if kind is MessageKind.ASK_TAIL:
            return MessageKind.TAIL, await end.tail(peer)
        if kind is MessageKind.ASK_PIECE:
            return MessageKind.PIECE, await end.piece(peer, question)
        if kind is MessageKind.ASK_REPORT:
            return MessageKind.REPORT, await end.report(peer)
        if kind is MessageKind.ASK_SUMS:
            return MessageKind.SUMS, await end.sums(peer, question)
        if kind is MessageKind.ASK_ZONE:
            await end.hand_over(peer)
            return MessageKind.ZONE, Nothing()
    except ControlPlaneError as error:
        return MessageKind.REFUSED, RefusedAnswer(code=error.code, message=error.message)
    except Exception:
        _logger.exception("a question of region %s met an error", peer)
        sentence = "The other region met an error of its own; its log says more."
        return MessageKind.REFUSED, RefusedAnswer(code="internal_error", message=sentence)
    sentence = f"This end answers no {kind.name.lower()}."
    return MessageKind.REFUSED, RefusedAnswer(code="invalid_request", message=sentence)


def error_of(refused: RefusedAnswer) -> ControlPlaneError:
    """The error that a refusal stands for."""
    if refused.code in _REFUSALS:
        return ReplicationRefused(_REFUSALS[refused.code])
    if refused.code in LINK_CODES:
        return LinkRefused(refused.message, refused.code)
    return LinkLost(refused.message, refused.code)
