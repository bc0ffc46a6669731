"""The faster functions for frozen values give what the ordinary ones give."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from cluster.domain.base.compact import compact, evolve
from cluster.domain.scheduling.answers import ClaimAnswer, Done, HeartbeatAnswer, Lease
from cluster.domain.tasks.task import TaskDetail, TaskHead, TaskStatus
from cluster.rpc.exchange import ExchangeReply
from tests.support.samples import new_task


def _head() -> TaskHead:
    return new_task(required_capabilities=("a", "b"), target_agent="x").head()


def test_evolve_gives_what_replace_gives() -> None:
    changes = {"status": TaskStatus.RUNNING, "detail": TaskDetail.RUNNING, "attempt": 3, "holder": "user:x"}
    head = _head()
    assert evolve(head, **changes) == dataclasses.replace(head, **changes)
    assert evolve(head) == head
    assert head.attempt == 0
    with pytest.raises(AttributeError):
        evolve(head, no_such_field=1)


def test_messages_come_back_from_pickle_as_they_were() -> None:
    lease = Lease(head=_head(), token="t", expires_at=1.5, redelivered=False, delivery=(1, 1))
    answers = ((1, ClaimAnswer(leases=(lease, lease))), (2, HeartbeatAnswer()), (3, Done(head=lease.head)))
    reply = ExchangeReply(answers=answers)
    back = pickle.loads(pickle.dumps(reply))
    assert back == reply
    assert back.answers[0][1].leases[0].head.required == frozenset({"a", "b"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        back.answers[0][1].leases[0].head.attempt = 7


@compact
@dataclasses.dataclass(frozen=True, slots=True)
class _Sample:
    """Fields of every kind that a constructor knows."""

    first: int
    second: str = "x"
    third: list[int] = dataclasses.field(default_factory=list)
    fourth: int | None = dataclasses.field(default=None, kw_only=True)


def test_construction_takes_what_a_dataclass_takes() -> None:
    sample = _Sample(1, "y", fourth=4)
    assert (sample.first, sample.second, sample.third, sample.fourth) == (1, "y", [], 4)
    assert sample.third is not _Sample(1).third
    assert _Sample(first=1) == _Sample(1, "x", [])
    assert type(sample) is _Sample
    for arguments, names in (((), {}), ((1, "x", [], 4), {}), ((1,), {"fifth": 5})):
        with pytest.raises(TypeError):
            _Sample(*arguments, **names)
    with pytest.raises(dataclasses.FrozenInstanceError):
        sample.first = 2  # type: ignore[misc]
