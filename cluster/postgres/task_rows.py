"""Rows of tasks: their columns, and the bodies of a page of them up to a bound.

A body is a payload, metadata or a result: what people and agents wrote, up to megabytes each. A list must cost by its rows and
not by what somebody wrote into some of them, so a page has at most ``PAGE_CHARS`` of large bodies, and says of every other task
what it leaves out. The statement of a page brings small bodies along, which are nearly all; it only weighs the others, and those
are read after it, a slice at a time, until the bound is reached.

Rejected: to sum up the lengths within the statement. ``length(payload::text)`` reads and decompresses the whole body, which is
most of what it costs to send it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from cluster.domain.deliberation.numbers import exact_float
from cluster.domain.tasks.children import Parked
from cluster.domain.tasks.order_key import decode
from cluster.domain.tasks.progress import TaskProgress
from cluster.domain.tasks.questions import Asking, Question, TaskQuestion, Verdict
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import Body, Task, TaskDetail, TaskHead, TaskStatus
from cluster.domain.workflows.large_values import Referring, read_payload
from cluster.postgres.large_values import filled
from cluster.postgres.pool import Pool

#: Characters of bodies on one page. The largest answer of an agent fits, so the first task of a page is always whole.
PAGE_CHARS = 4_000_000
#: Bytes up to which the bodies of a task come with its row, unless they are compressed: few bytes may be a long text then.
SMALL = 4_096
#: Weight up to which bodies are read at once. A compressed byte weighs ``_COMPRESSED``: what people write shrinks to a third or a
#: quarter, while a text of nothing but spaces shrinks to a ninetieth.
_SLICE = 2_000_000
_COMPRESSED = 8

#: Everything of a task but its bodies.
HEADS = """
    t.id, t.workspace, t.task_type, t.priority, t.status, t.status_detail, t.created_at, t.run_at, t.started_at, t.completed_at,
    t.assigned_agent, t.claim_id, t.holder, t.attempt, t.retries, t.max_retries, t.timeout_s, t.error, t.queue, t.target_agent,
    t.target_region, t.region_routing_mode, t.origin_region, t.principal, t.replayed_as, t.purged_at, t.erased_at, t.place,
    t.fallback_regions::text as fallback_regions_text, t.required_capabilities::text as required_text,
    t.rules::text as rules_text,
    case when t.status_detail = 'input_required' then
        (select max(o.asked_at) from task_questions o where o.task_id = t.id)
    end as asks_since"""
#: Of a task alone, with what its holders have reported, the last question, and what it waited for last: a list has no room
#: for checkpoints.
_PROGRESS = """,
    p.attempt as progress_attempt, p.at as progress_at, p.percent, p.message, p.checkpoint::text as checkpoint_text"""
_QUESTION = """,
    q.attempt as asked_attempt, q.asked_at, q.asked_by, q.answerers::text as answerers_text, q.time_limit_s, q.words::text as
    words_text, q.verdict, q.answered_at, q.answered_by, q.answer::text as answer_text, q.reason"""
_PARKED = ", k.attempt as parked_attempt, k.at as parked_at, k.children::text as children_text"
WHOLE = HEADS + "".join(f", t.{body}::text as {body}_text" for body in Body) + _PROGRESS + _QUESTION + _PARKED
WHOLE_TASKS = """tasks t left join task_progress p on p.task_id = t.id
    left join lateral (select * from task_questions o where o.task_id = t.id order by o.attempt desc limit 1) q on true
    left join lateral (select * from task_parks o where o.task_id = t.id order by o.attempt desc limit 1) k on true"""


def page_of(rows: str, order: str, bodies: Iterable[Body]) -> str:
    """A statement for the tasks of ``rows``, a statement that selects their ids, with bodies as far as they are small."""
    asked_for = [body.value for body in Body if body in bodies]
    stored = " + ".join(f"coalesce(pg_column_size(t.{name}), 0)" for name in asked_for) or "0"
    compressed = " or ".join(f"pg_column_compression(t.{name}) is not null" for name in asked_for) or "false"
    small = f"w.stored <= {SMALL} and not w.compressed"
    texts = "".join(
        f", case when {small} then t.{body} end::text as {body}_text"
        if body.value in asked_for
        else f", null as {body}_text"
        for body in Body
    )
    return (
        f"select {HEADS}, {small} as small, w.stored * case when w.compressed then {_COMPRESSED} else 1 end as weight{texts} "
        f"from ({rows}) as page join tasks t using (id) "
        f"cross join lateral (select {stored} as stored, {compressed} as compressed) as w order by {order}"
    )


async def read_page(
    pool: Pool, statement: str, arguments: Sequence[Any], workspace: str, bodies: Iterable[Body]
) -> list[Task]:
    """The tasks of a page (`page_of`), with the bodies that they were asked with, as far as they fit."""
    return await whole_page(pool, await pool.rows(statement, *arguments), workspace, bodies)


async def whole_page(pool: Pool, rows: Sequence[Any], workspace: str, bodies: Iterable[Body]) -> list[Task]:
    """The tasks of the rows of such a statement."""
    asked_for = [body for body in Body if body in bodies]
    large = await _large_bodies(pool, workspace, [row for row in rows if not row["small"]], asked_for)
    tasks = []
    for row in rows:
        texts = row if row["small"] else large.get(row["id"])
        tasks.append(task_of(row, texts) if texts is not None else replace(task_of(row, {}), left_out=tuple(asked_for)))
    return await filled_tasks(pool, workspace, tasks, PAGE_CHARS)


async def filled_tasks(pool: Pool, workspace: str, tasks: list[Task], room: int | None = None) -> list[Task]:
    """The tasks with the values to which their payloads refer, as far as there is room for them."""
    lacking = {task.id: task.payload for task in tasks if isinstance(task.payload, Referring)}
    if not lacking:
        return tasks
    found = await filled(pool, workspace, lacking, room)
    return [_filled(task, found) if task.id in lacking else task for task in tasks]


def _filled(task: Task, found: Mapping[str, Any]) -> Task:
    if task.id in found:
        return replace(task, payload=found[task.id])
    return replace(task, payload=None, left_out=(*task.left_out, Body.PAYLOAD))


async def _large_bodies(pool: Pool, workspace: str, rows: Sequence[Any], asked_for: Sequence[Body]) -> dict[str, Any]:
    """Bodies by task, in the order of the page, until the next ones would exceed ``PAGE_CHARS``."""
    columns = "".join(f", {body}::text as {body}_text" for body in asked_for)
    # ``workspace || ''`` keeps the planner from an index that begins with the workspace; the tasks are found by their ids.
    statement = f"select id{columns} from tasks where workspace || '' = $1 and id = any ($2)"
    found: dict[str, Any] = {}
    chars = 0
    for ids in _slices(rows):
        read = {row["id"]: row for row in await pool.rows(statement, workspace, ids)}
        for task_id in ids:
            texts = read.get(task_id, {})
            chars += sum(len(text) for text in texts.values() if text is not None)
            if found and chars > PAGE_CHARS:
                return found
            found[task_id] = texts
    return found


def _slices(rows: Iterable[Any]) -> Iterator[list[str]]:
    ids: list[str] = []
    weight = 0
    for row in rows:
        if ids and weight + row["weight"] > _SLICE:
            yield ids
            ids, weight = [], 0
        ids.append(row["id"])
        weight += row["weight"]
    if ids:
        yield ids


def task_of(row: Any, texts: Any) -> Task:
    """A task, from a row with ``HEADS`` and a mapping with the texts of its bodies; those that are not there are empty. Its
    payload may lack values (`filled_tasks`).

    ``texts`` may have been read after the row: a task that had not ended has no result."""
    payload, metadata = texts.get("payload_text"), texts.get("metadata_text")
    result = texts.get("result_text") if row["completed_at"] is not None else None
    return Task(
        id=row["id"],
        workspace=row["workspace"],
        task_type=row["task_type"],
        payload=None if payload is None else read_payload(payload),
        metadata={} if metadata is None else json.loads(metadata),
        required_capabilities=tuple(json.loads(row["required_text"])),
        priority=row["priority"],
        status=TaskStatus(row["status"]),
        status_detail=TaskDetail(row["status_detail"]),
        created_at=row["created_at"],
        run_at=row["run_at"],
        assigned_at=row["started_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        assigned_agent=row["assigned_agent"],
        claim_id=row["claim_id"],
        holder=row["holder"],
        attempt=row["attempt"],
        retries=row["retries"],
        max_retries=row["max_retries"],
        timeout_s=row["timeout_s"],
        # Digits are kept: a panel member without an endpoint answers by a result, and what it answers is decided and signed.
        result=None if result is None else json.loads(result, parse_float=exact_float),
        error=row["error"],
        queue=row["queue"],
        target_agent=row["target_agent"],
        target_region=row["target_region"],
        fallback_regions=tuple(json.loads(row["fallback_regions_text"])),
        region_routing_mode=row["region_routing_mode"],
        origin_region=row["origin_region"],
        principal=row["principal"],
        rules=rules_of(row["rules_text"]),
        replayed_as=row["replayed_as"],
        purged_at=row["purged_at"],
        erased_at=row["erased_at"],
        asks_since=row["asks_since"],
        order_key=decode(row["place"]),
        progress=_progress(texts),
        question=_question(texts),
        parked=_parked(texts),
    )


def _progress(row: Any) -> TaskProgress | None:
    """What a row of ``WHOLE`` has of the reports of holders."""
    if row.get("progress_attempt") is None:
        return None
    checkpoint = row["checkpoint_text"]
    return TaskProgress(
        attempt=row["progress_attempt"],
        at=row["progress_at"],
        percent=row["percent"],
        message=row["message"],
        checkpoint=None if checkpoint is None else json.loads(checkpoint),
    )


def _question(row: Any) -> TaskQuestion | None:
    """What a row of ``WHOLE`` has of the last question."""
    if row.get("asked_attempt") is None:
        return None
    words, answer = json.loads(row["words_text"]), row["answer_text"]
    question = Question(
        text=words["text"],
        schema=words["schema"],
        answerers=tuple(json.loads(row["answerers_text"])),
        time_limit_s=row["time_limit_s"],
        default_json=json.dumps(words["default"], ensure_ascii=False) if "default" in words else None,
    )
    return TaskQuestion(
        attempt=row["asked_attempt"],
        asked_at=row["asked_at"],
        asked_by=row["asked_by"],
        question=question,
        verdict=None if row["verdict"] is None else Verdict(row["verdict"]),
        answer=None if answer is None else json.loads(answer),
        reason=row["reason"],
        answered_at=row["answered_at"],
        answered_by=row["answered_by"],
    )


def _parked(row: Any) -> Parked | None:
    """What a row of ``WHOLE`` has of the children that the task waits for."""
    if row.get("parked_attempt") is None:
        return None
    return Parked(attempt=row["parked_attempt"], at=row["parked_at"], children=tuple(json.loads(row["children_text"])))


def open_head(row: Any) -> TaskHead:
    """The head of an open task, from a row of the statement that a shard builds its index of."""
    return TaskHead(
        id=row["id"],
        workspace=row["workspace"],
        task_type=row["task_type"],
        priority=row["priority"],
        required=_required(row["required_capabilities"]),
        target_agent=row["target_agent"],
        queue=row["queue"],
        created_at=row["created_at"],
        run_at=row["run_at"],
        timeout_s=row["timeout_s"],
        max_retries=row["max_retries"],
        status=TaskStatus(row["status"]),
        detail=TaskDetail(row["status_detail"]),
        attempt=row["attempt"],
        retries=row["retries"],
        assigned_agent=row["assigned_agent"],
        claim_id=row["claim_id"],
        holder=row["holder"],
        started_at=row["started_at"],
        rules=rules_of(row["rules"]),
        order_key=decode(row["place"]),
        asking=None if row["asking"] is None else Asking.from_json(json.loads(row["asking"])),
        children=() if row["children"] is None else tuple(json.loads(row["children"])),
        lost=row["lost"],
    )


def rules_of(text: str | None) -> TaskRules | None:
    return None if text is None else TaskRules.from_json(json.loads(text))


@lru_cache(10_000)
def _required(text: str) -> frozenset[str]:
    return frozenset(json.loads(text))
