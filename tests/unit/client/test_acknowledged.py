"""What was acknowledged and is missing, or is there twice, is found and named."""

from __future__ import annotations

from cluster.client.acknowledged import judge

ACKNOWLEDGED = {"k1": {"t1"}, "k2": {"t2"}}


def test_what_is_there_once_holds() -> None:
    found = judge(ACKNOWLEDGED, [("t2", "k2"), ("t1", "k1")])
    assert found.holds
    assert (found.acknowledged, found.there) == (2, 2)
    assert (found.missing, found.doubled, found.unacknowledged) == ((), {}, ())


def test_what_is_missing_is_named() -> None:
    found = judge(ACKNOWLEDGED, [("t1", "k1")])
    assert not found.holds
    assert found.missing == ("t2",)
    assert found.doubled == {}


def test_one_submit_with_two_tasks_is_doubled() -> None:
    found = judge(ACKNOWLEDGED, [("t1", "k1"), ("t2", "k2"), ("t3", "k2")])
    assert not found.holds
    assert found.missing == ()
    assert found.doubled == {"k2": ("t2", "t3")}


def test_one_task_that_is_listed_twice_is_doubled() -> None:
    found = judge(ACKNOWLEDGED, [("t1", "k1"), ("t2", "k2"), ("t2", "k2")])
    assert found.doubled == {"k2": ("t2",)}


def test_a_repeat_that_was_answered_with_another_id_is_doubled_and_missing() -> None:
    found = judge({"k1": {"t1", "t9"}}, [("t1", "k1")])
    assert found.missing == ("t9",)
    assert found.doubled == {"k1": ("t1", "t9")}


def test_a_submit_that_nobody_was_told_of_may_be_there_once() -> None:
    found = judge(ACKNOWLEDGED, [("t1", "k1"), ("t2", "k2"), ("t3", "k3")])
    assert found.holds
    assert found.unacknowledged == ("t3",)
    assert not judge(ACKNOWLEDGED, [("t1", "k1"), ("t2", "k2"), ("t3", "k3"), ("t4", "k3")]).holds
