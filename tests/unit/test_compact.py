"""The faster ways with frozen values give what the ordinary ones give."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from actors.messages import BeatAnswer, ClaimAnswer, Done, Lease
from cluster.domain.tasks import TaskDetail, TaskHead, TaskStatus
from cluster.domain.values import evolve
from cluster.exchange import ExchangeReply
from tests.support.samples import new_task


def _head() -> TaskHead:
    return new_task(required_capabilities=("a", "b"), target_agent="x").head()


def test_evolve_is_replace() -> None:
    changes = {"status": TaskStatus.RUNNING, "detail": TaskDetail.RUNNING, "attempt": 3, "holder": "user:x"}
    head = _head()
    assert evolve(head, **changes) == dataclasses.replace(head, **changes)
    assert evolve(head) == head
    assert head.attempt == 0
    with pytest.raises(KeyError):
        evolve(head, no_such_field=1)


def test_messages_come_back_from_pickle_as_they_were() -> None:
    lease = Lease(head=_head(), token="t", expires_at=1.5, redelivered=False)
    answers = ((1, ClaimAnswer(leases=(lease, lease))), (2, BeatAnswer()), (3, Done(head=lease.head)))
    reply = ExchangeReply(answers=answers)
    back = pickle.loads(pickle.dumps(reply))
    assert back == reply
    assert back.answers[0][1].leases[0].head.required == frozenset({"a", "b"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        back.answers[0][1].leases[0].head.attempt = 7
