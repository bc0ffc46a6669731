"""What clients of one run saw: every call with its times, and the log and the tasks as read when it was over.

Times are seconds of one monotonic clock of the harness, so "before" means before. A call that was tried again is
several calls and one operation: the operation is known once one of its tries was answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Answer(StrEnum):
    """How one try of a call ended."""

    OK = "ok"
    REFUSED = "refused"  # a 4xx that the API promises, such as 409 lease_lost
    TRY_LATER = "try_later"  # 503 with Retry-After
    BROKEN = "broken"  # any other 5xx, or a 503 without Retry-After
    CUT = "cut"  # no answer: the connection was refused, cut, or silent for too long


FAILED = (Answer.TRY_LATER, Answer.BROKEN, Answer.CUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One try. ``name`` is the operation's, ``detail`` what was wrong with it."""

    name: str
    sent: float
    ended: float
    answer: Answer
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """``task_id`` None: never answered, so that the task may exist or not."""

    key: str
    group: str
    sent: float
    answered: float | None = None
    task_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    task_id: str
    attempt: int
    token: str
    redelivered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """An answered claim that brought leases."""

    agent: str
    claim_id: str
    sent: float
    answered: float
    leases: Sequence[Leased]


class Outcome(StrEnum):
    OK = "ok"
    LEASE_LOST = "lease_lost"
    UNKNOWN = "unknown"


class ReportKind(StrEnum):
    COMPLETE = "complete"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """``sent`` is when its last try was sent: the one that was answered."""

    kind: ReportKind
    task_id: str
    attempt: int
    agent: str
    sent: float
    answered: float | None
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    agent: str
    sent: float
    answered: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``healed``: when what was taken away was seen to serve again."""

    name: str
    began: float
    healed: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnd:
    """How a worker process ended. ``told``: it ended after it was told to. ``code``: its exit code."""

    agent: str
    told: bool
    code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """A row of the log. ``agent`` is the holder that it names."""

    seq: int
    kind: str
    entity: str
    attempt: int | None = None
    agent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalTask:
    """A task as listed at the end; ``key`` and ``group`` come back from its metadata."""

    id: str
    status: str
    attempt: int
    key: str
    group: str


@dataclass(slots=True, kw_only=True)
class History:
    """``log`` is what a stream from cursor 0 brings at the end; ``followed`` the sequence numbers that a client saw
    which followed the stream during the run and resumed where it was cut; ``other_seqs`` the log's rows of other
    workspaces, which a client does not see and which have places in the same sequence. ``expected_shares`` are the
    fractions that groups of equal demand should get; ``fleet`` the agents that were left at the end."""

    calls: list[Call] = field(default_factory=list)
    submits: list[Submit] = field(default_factory=list)
    claims: list[Claimed] = field(default_factory=list)
    reports: list[Reported] = field(default_factory=list)
    beats: list[Beat] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    log: list[LogEvent] = field(default_factory=list)
    followed: list[int] = field(default_factory=list)
    other_seqs: list[int] = field(default_factory=list)
    tasks: list[FinalTask] = field(default_factory=list)
    worker_ends: list[WorkerEnd] = field(default_factory=list)
    fleet: set[str] = field(default_factory=set)
    ordered_group: str = "order"
    expected_shares: Mapping[str, float] = field(default_factory=dict)
