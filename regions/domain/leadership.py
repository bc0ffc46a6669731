"""One region's part in one zone, as a value: what it knows of the group, its candidacy, and its term as primary; with the events
and the effects of ``machine.step``.

Two clocks appear. ``now`` is the process's own, for time-outs. Trust is in the time of the region's **database**, which checks it
in every commit: the shell reads that clock before it starts a renewal, and brings the reading back with the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cluster.domain.replication.timers import RegionTimers
from regions.domain.group import RegionGroup, ZoneRecord
from regions.domain.transactions import ZoneChange


class RegionPhase(StrEnum):
    FOLLOWING = "following"
    #: The campaign key is free, and the region asks the others how far they are.
    CAMPAIGNING = "campaigning"
    #: It holds the campaign key, and its election is on the way to the group.
    ELECTING = "electing"
    #: It is elected, and its own database is told the epoch.
    OPENING = "opening"
    PRIMARY = "primary"
    #: It writes no more, and waits until its heir holds every row.
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPosition:
    """The last row of a log. The epoch decides first: a log that goes on under an older epoch is not ahead."""

    epoch: int = 0
    seq: int = 0

    def is_behind(self, other: LogPosition) -> bool:
        return (self.epoch, self.seq) < (other.epoch, other.seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionReport:
    """What a region's database says of a zone: its own epoch, the last version of the record that it was told, its last row.
    ``is_whole``: its tables are what a primary's were at that row. Who has a part of a full copy, or images that are later than
    its rows, has the log and not what it stands for."""

    epoch: int
    version: int
    position: LogPosition
    is_whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A change that is on its way to the group. ``unresolved``: its outcome is not known, so it may still happen, until the
    record is another one than that which it compares."""

    change: ZoneChange
    compared: ZoneRecord
    after: ZoneRecord
    unresolved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidacy:
    """``reports``: what each region has told since the campaign began, its own among them; ``away``: who could not be asked.
    ``won_at``: the reading of the database's clock before the campaign key was created, and ``ttl_s`` its lease's."""

    since: float
    reports: Mapping[str, RegionReport] = field(default_factory=dict)
    away: frozenset[str] = frozenset()
    asked: bool = False
    won_at: float = 0.0
    ttl_s: float = 0.0
    after: ZoneRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimaryTerm:
    """``persisted``: up to which row each region has confirmed the log *under this epoch*. ``pending``: (last row of a commit,
    when it was made) of what somebody in the group still lacks. ``answered``: the last row that may have left the region."""

    epoch: int
    head: int
    persisted: Mapping[str, int]
    pending: tuple[tuple[int, float], ...]
    renewal_at: float
    trusted_until: float
    answered: int = 0
    proposal: Proposal | None = None
    forked: frozenset[str] = frozenset()
    heir: str | None = None
    closed: bool = False
    draining_since: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Leadership:
    """``key``: the value by which this process holds the campaign key; no two processes, nor two lives of one, have the same.
    ``heard_at``, ``heard_epoch`` and ``watermark`` are what the primary last told: every member of the set holds the rows up to
    the watermark."""

    region: str
    key: str
    timers: RegionTimers
    phase: RegionPhase = RegionPhase.FOLLOWING
    group: RegionGroup | None = None
    record: ZoneRecord | None = None
    holder: str | None = None
    free_since: float | None = None
    own: RegionReport = RegionReport(epoch=0, version=0, position=LogPosition(), is_whole=False)
    heard_at: float = float("-inf")
    heard_epoch: int = 0
    watermark: int = 0
    candidacy: Candidacy | None = None
    term: PrimaryTerm | None = None


# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed; at least one per heartbeat. ``own`` is what the region's database says now."""

    own: RegionReport


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSeen:
    """A read or a watch of the group. ``holder`` is the value of the campaign key, None if there is none."""

    group: RegionGroup
    record: ZoneRecord
    holder: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportReceived:
    """What a region's database says, this region's own too; None if the region cannot be reached."""

    region: str
    report: RegionReport | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignAnswered:
    """``started``: the database's clock before the call. ``ttl_s`` is what the group granted, None if the key is another's."""

    started: float
    ttl_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalAnswered:
    """``succeeded`` is None if the outcome is not known."""

    after: ZoneRecord
    succeeded: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WritesOpened:
    epoch: int
    head: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WritesClosed:
    head: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseRefused:
    """The region's database refused this process: its epoch is older, its role another, or its trust has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """``sent_at``: the process's clock before the call, ``started``: the database's. ``ttl_s`` is None if the lease has ended."""

    sent_at: float
    started: float
    ttl_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """A commit of this region, whose last row is ``seq``."""

    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Persisted:
    """``is_whole`` as in `RegionReport`: what is in a database that is not whole cannot be taken over."""

    region: str
    epoch: int
    seq: int
    is_whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkFound:
    """A region's log goes on past the fork, so that it has to be rebuilt, outside the set."""

    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimaryHeard:
    epoch: int
    watermark: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferAsked:
    heir: str


Event = (
    Tick
    | GroupSeen
    | ReportReceived
    | CampaignAnswered
    | ProposalAnswered
    | WritesOpened
    | WritesClosed
    | DatabaseRefused
    | Renewed
    | Appended
    | Persisted
    | ForkFound
    | PrimaryHeard
    | TransferAsked
)

# --- effects ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReadGroup:
    """Read members, record and campaign key, and bring them back as `GroupSeen`."""


@dataclass(frozen=True, slots=True)
class AskReports:
    """Ask the database of every region, and this one's own."""


@dataclass(frozen=True, slots=True)
class CreateKey:
    """Read the database's clock, then create the campaign key with a lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose:
    """Swap the record, comparing it and, if ``with_key``, the campaign key's value; with ``delete_key`` the swap deletes that."""

    compared: ZoneRecord
    after: ZoneRecord
    with_key: bool
    delete_key: bool


@dataclass(frozen=True, slots=True)
class ReleaseKey:
    """Delete the campaign key if it still has this process's value, and revoke its lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWrites:
    """Make the database primary under an epoch that is greater than its own, trusted until then."""

    epoch: int
    trusted_until: float


@dataclass(frozen=True, slots=True)
class CloseWrites:
    """Fence the database, and make every process of the region forget its memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewLease:
    sent_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveTrust:
    """Only for this epoch, and never back: an answer may have been overtaken."""

    epoch: int
    trusted_until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerUpTo:
    """Whatever rests on rows up to here may leave the region."""

    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberVersion:
    """Tell the database the record's version, by which a restored store of the group is found."""

    version: int


Effect = (
    ReadGroup
    | AskReports
    | CreateKey
    | Propose
    | ReleaseKey
    | OpenWrites
    | CloseWrites
    | RenewLease
    | MoveTrust
    | AnswerUpTo
    | RememberVersion
)
Step = tuple[Leadership, tuple[Effect, ...]]
