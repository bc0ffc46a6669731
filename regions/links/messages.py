"""What the two ends say to each other, as bytes: JSON that is compressed, and of which one byte says what it is.

Fields that a reader does not know are left out, so that a later release may add some. Columns of tables may not differ: databases
with different migrations refuse each other.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from cluster.domain.replication.batch import (
    Batch,
    CopyBeginning,
    CopyPiece,
    CopyProgress,
    Follower,
    LogRange,
    LogSums,
    PeerReport,
)

#: The versions of these messages that this release speaks. Two ends speak the greatest that both do.
OLDEST_PROTOCOL: Final = 1
NEWEST_PROTOCOL: Final = 1
#: Fast, and most of what travels is JSON: it comes to a fifth.
_LEVEL: Final = 1


class MessageKind(IntEnum):
    """Numbers on the wire; they never change."""

    GREETING = 1
    REFUSED = 2
    ASK_BATCH = 3
    BATCH = 4
    ASK_TAIL = 5
    TAIL = 6
    ASK_PIECE = 7
    PIECE = 8
    ASK_REPORT = 9
    REPORT = 10
    ASK_SUMS = 11
    SUMS = 12
    ASK_ZONE = 13
    ZONE = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """The first message in each direction. Its form is the same in all releases: it decides whether there is a second one.
    ``release`` is for the sentence of a refusal."""

    region: str
    zone: str
    release: str
    oldest: int
    newest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedAnswer:
    """``code`` is that of the error at the other end, ``message`` its sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """A question without arguments, or an answer that says yes."""


Message = (
    Greeting
    | RefusedAnswer
    | Batch
    | CopyBeginning
    | CopyPiece
    | CopyProgress
    | Follower
    | PeerReport
    | LogRange
    | LogSums
    | Nothing
)

_FORMS: Final[dict[MessageKind, TypeAdapter[Any]]] = {
    MessageKind.GREETING: TypeAdapter(Greeting),
    MessageKind.REFUSED: TypeAdapter(RefusedAnswer),
    MessageKind.ASK_BATCH: TypeAdapter(Follower),
    MessageKind.BATCH: TypeAdapter(Batch),
    MessageKind.ASK_TAIL: TypeAdapter(Nothing),
    MessageKind.TAIL: TypeAdapter(CopyBeginning),
    MessageKind.ASK_PIECE: TypeAdapter(CopyProgress),
    MessageKind.PIECE: TypeAdapter(CopyPiece),
    MessageKind.ASK_REPORT: TypeAdapter(Nothing),
    MessageKind.REPORT: TypeAdapter(PeerReport),
    MessageKind.ASK_SUMS: TypeAdapter(LogRange),
    MessageKind.SUMS: TypeAdapter(LogSums),
    MessageKind.ASK_ZONE: TypeAdapter(Nothing),
    MessageKind.ZONE: TypeAdapter(Nothing),
}


def packed(kind: MessageKind, message: Message) -> bytes:
    """The message's body."""
    return zlib.compress(_FORMS[kind].dump_json(message), _LEVEL)


def unpacked(kind: MessageKind, body: bytes, most_bytes: int) -> Any:
    """The message of a body that has at most ``most_bytes`` once it is not compressed any more.

    Raises: `ValueError` if it is none."""
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(body, most_bytes)
    except zlib.error as error:
        raise ValueError("a body that is not compressed") from error
    if not stream.eof or stream.unused_data:
        raise ValueError("a body that is longer than it may be, or not whole")
    try:
        return _FORMS[kind].validate_json(text, strict=True)
    except ValidationError as error:
        # What it holds may be somebody's payload, so the error does not show it.
        raise ValueError(f"a message that is no {kind.name.lower()}") from error


def spoken(mine: Greeting, theirs: Greeting) -> int | None:
    """The version that both ends speak; None if there is none."""
    newest = min(mine.newest, theirs.newest)
    return newest if newest >= max(mine.oldest, theirs.oldest) else None


def why_not_spoken(mine: Greeting, theirs: Greeting) -> str:
    """The sentence for two ends that have no version in common; it names the older one."""
    older, newer = (mine, theirs) if mine.newest < theirs.newest else (theirs, mine)
    return (
        f"Region {older.region} runs release {older.release}, which replicates by version {older.newest} at most, and region "
        f"{newer.region} by {newer.oldest} at least; upgrade {older.region}."
    )
