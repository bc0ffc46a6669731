"""What a decision writes, checked when the decision is made: before memory changes, and long before the commit that it shares
with the decisions of others.

The texts of its log row's JSON are made here too, and the commit takes them as they are, so that nothing is encoded twice.
Left out is whether a result is JSON: whoever reports it has written or parsed it (`ReportRequest.checked`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import CODE, check_text
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.tasks.task import TaskDecision

#: Ranges of the columns.
SMALLINT, INTEGER = 2**15 - 1, 2**31 - 1
#: Times that a reader can write as a date.
EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC).timestamp(), datetime(9999, 12, 30, tzinfo=UTC).timestamp()
#: An agent's id is indexed, and an index takes entries of at most a third of a page (2,704 bytes).
MAX_AGENT_CHARS = 512


def row_text(value: Mapping[str, Any], what: str) -> str:
    """The canonical JSON of a part of a log row. Raises: `InvalidRequest` if the value has none."""
    try:
        return canonical_json(value)
    except (ValueError, TypeError, RecursionError):
        raise InvalidRequest(f"{what} holds a value that JSON does not have.", CODE) from None


def check_claimant(agent_id: str, claim_id: str, principal: str, cause: str) -> None:
    """Checks what a claim will write into the tasks that it is granted: they leave the queue before their decisions are made,
    perhaps much later.

    Raises: `InvalidRequest` if the store could not hold it."""
    _check_texts({"agent_id": agent_id, "claim_id": claim_id, "principal": principal, "cause": cause})
    _check_agent(agent_id)


def check_columns(decision: TaskDecision) -> None:
    """Checks that the store can hold every column. Raises: `InvalidRequest` if it could not."""
    head, record = decision.head, decision.record
    try:
        # One look at all of them: nearly always nothing is wrong. What is absent is an empty text.
        check_text("".join(filter(None, _texts(decision))), "a decision")
    except (InvalidRequest, TypeError):
        _check_texts(dict(zip((*_TEXTS, *(record.private or ())), _texts(decision), strict=True)))
    if decision.result_json is not None:
        check_text(decision.result_json, "result")
    if head.assigned_agent is not None:
        _check_agent(head.assigned_agent)
    _check_numbers(decision)


#: What ``_texts`` returns, before the words of the row.
_TEXTS = ("principal", "cause", "agent_id", "claim_id", "holder", "error", "data", "order_key")


def _texts(decision: TaskDecision) -> tuple[str | None, ...]:
    """The texts that whoever brought the event may have chosen, but the result, which may be long."""
    head, record = decision.head, decision.record
    return (
        record.principal,
        record.cause,
        head.assigned_agent,
        head.claim_id,
        head.holder,
        decision.error,
        record.data_text,
        None if head.order_key is None else head.order_key[1],
        *(() if record.private is None else record.private.values()),
    )


def _check_texts(texts: Mapping[str, str | None]) -> None:
    for what, text in texts.items():
        if text is None:
            continue
        if not isinstance(text, str):
            raise InvalidRequest(f"{what} must be a text.", CODE)
        check_text(text, what)


def _check_agent(agent_id: str) -> None:
    if len(agent_id) > MAX_AGENT_CHARS:
        raise InvalidRequest(f"agent_id must have at most {MAX_AGENT_CHARS} characters.", "invalid_id")


def _check_numbers(decision: TaskDecision) -> None:
    if _fits(decision):
        return
    head, record = decision.head, decision.record
    _check_range((head.attempt, head.retries, decision.expect_attempt), -INTEGER, INTEGER, "a count")
    _check_range((head.priority,), -SMALLINT, SMALLINT, "priority")
    ordered_at = None if head.order_key is None else head.order_key[0]
    times = (record.at, head.run_at, head.started_at, decision.completed_at, ordered_at)
    _check_range([at for at in times if at is not None], EARLIEST, LATEST, "a time")


def _fits(decision: TaskDecision) -> bool:
    """Whether all numbers are in their ranges. One expression, since it is asked of every decision; NaN is in no range."""
    head, at = decision.head, decision.completed_at
    started, key = head.started_at, head.order_key
    return (
        -INTEGER <= head.attempt <= INTEGER
        and -INTEGER <= head.retries <= INTEGER
        and -INTEGER <= decision.expect_attempt <= INTEGER
        and -SMALLINT <= head.priority <= SMALLINT
        and EARLIEST <= decision.record.at <= LATEST
        and EARLIEST <= head.run_at <= LATEST
        and (started is None or EARLIEST <= started <= LATEST)
        and (at is None or EARLIEST <= at <= LATEST)
        and (key is None or EARLIEST <= key[0] <= LATEST)
    )


def _check_range(values: Iterable[float], low: float, high: float, what: str) -> None:
    """NaN is in no range."""
    for value in values:
        if not low <= value <= high:
            raise InvalidRequest(f"{what} must be between {low:g} and {high:g}.", CODE)
