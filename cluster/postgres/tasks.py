"""Tasks: submits, a shard's decisions, and reads."""

from __future__ import annotations

import builtins
import json
import zlib
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any

from cluster.domain.audit.retention import Stub
from cluster.domain.base.conditions import Search
from cluster.domain.base.errors import Fenced
from cluster.domain.base.json_writing import json_writer
from cluster.domain.base.log import LogRow, caused_by_row
from cluster.domain.policies.submits import recorded
from cluster.domain.quotas.quotas import OverQuota, QuotaKind
from cluster.domain.tasks.order_key import encode
from cluster.domain.tasks.progress import ProgressReport, stored_records
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import ALL_BODIES, Body, Decided, Submitted, Task, TaskDecision, TaskHead, TaskStatus
from cluster.domain.workflows.large_values import read_payload, stored_payload
from cluster.ports.tasks import HeldLease, SearchPage, ShardFence, SubmitItem, TaskQuery
from cluster.ports.totals import EXACT_TO, Total
from cluster.postgres.budgets import entry_parts
from cluster.postgres.columns import array, numbers, texts
from cluster.postgres.large_values import filled
from cluster.postgres.log import Epoch, log_columns, log_row, log_rows, waves
from cluster.postgres.policies import violation_arguments
from cluster.postgres.pool import Pool
from cluster.postgres.queries import in_one_statement, queries
from cluster.postgres.question_rows import answer_parts, question_json, question_parts
from cluster.postgres.task_lists import matching_statements, page_statement
from cluster.postgres.task_rows import (
    PAGE_CHARS,
    WHOLE,
    WHOLE_TASKS,
    filled_tasks,
    open_head,
    page_of,
    read_page,
    rules_of,
    task_of,
    whole_page,
)
from cluster.postgres.task_search import SCANNED, search_statement, task_terms
from cluster.postgres.totals import total_of

_SQL = queries("tasks")
_WHOLE_TASKS = f"select {WHOLE} from {WHOLE_TASKS} where t.workspace || '' = $1 and t.id = any ($2)"
_dump = json_writer(allow_nan=True)
PARTITIONS = 64
#: Arguments of the statement ``submit_tasks``. That of tasks with questions has one more.
SUBMIT_ARGUMENTS = 36
OPEN_BATCH = 5000
KEYS_AT_ONCE = 5000
#: Characters of the results and errors in one call, which are up to four times as many bytes.
CALL_CHARS = 16_000_000


def partition(workspace: str) -> int:
    """The partition of a workspace's tasks, stable over processes and versions."""
    return zlib.crc32(workspace.encode()) % PARTITIONS


class PostgresTasks:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def submit(self, items: Sequence[SubmitItem], *, all_or_none: bool = False) -> list[Submitted]:
        bounded = [item for item in items if item.within_quotas]
        if not bounded:
            return await self._submit(submit_parts(items, self._epoch, all_or_none))
        # Commits of workspaces with quotas wait for each other, and those of the others do not wait for them.
        outcomes = iter(await self._submit(_parts_within_quotas(bounded, self._epoch, all_or_none)))
        if len(bounded) == len(items):
            return list(outcomes)
        free = [item for item in items if not item.within_quotas]
        others = iter(await self._submit(submit_parts(free, self._epoch, all_or_none)))
        return [next(outcomes if item.within_quotas else others) for item in items]

    async def _submit(self, parts: Sequence[tuple[str, tuple[Any, ...]]]) -> builtins.list[Submitted]:
        statement = in_one_statement(parts, with_rows=True) if len(parts) > 1 else (parts[0][0], *parts[0][1])
        return [_submitted(row) for row in await self._pool.rows(*statement)]

    async def decide(self, fence: ShardFence, decisions: Sequence[TaskDecision]) -> list[Decided]:
        outcomes: list[Decided] = [Decided(applied=False)] * len(decisions)
        for part in waves(decisions, lambda decision: decision.head.id):
            for some in _bounded(part):
                decided = await self._decide([decision for _, decision in some], fence)
                for (index, _), outcome in zip(some, decided, strict=True):
                    outcomes[index] = outcome
        return outcomes

    async def _decide(self, decisions: Sequence[TaskDecision], fence: ShardFence) -> list[Decided]:
        heads = [decision.head for decision in decisions]
        rows = await self._pool.rows(
            _SQL["decide"],
            self._epoch.region,
            self._epoch.value,
            fence.shard,
            fence.generation,
            texts([decision.expect_status.value for decision in decisions]),
            numbers([decision.expect_attempt for decision in decisions]),
            texts([head.status.value for head in heads]),
            texts([head.detail.value for head in heads]),
            numbers([head.retries for head in heads]),
            numbers([head.priority for head in heads]),
            numbers([head.run_at for head in heads]),
            texts([head.assigned_agent for head in heads]),
            texts([head.claim_id for head in heads]),
            texts([head.holder for head in heads]),
            numbers([head.started_at for head in heads]),
            numbers([decision.completed_at for decision in decisions]),
            array([decision.result_json for decision in decisions]),
            array([decision.error for decision in decisions]),
            texts([encode(head.order_key) for head in heads]),
            *log_columns([decision.record for decision in decisions], self._epoch),
            _more(decisions),
        )
        return [Decided(applied=row["applied"], seq=row["seq"]) for row in rows]

    async def store_progress(self, fence: ShardFence, reports: Sequence[ProgressReport]) -> None:
        for part in waves(reports, lambda report: report.task_id):
            some = [report for _, report in part]
            progress = [report.progress for report in some]
            await self._pool.rows(
                _SQL["store_progress"],
                self._epoch.region,
                self._epoch.value,
                fence.shard,
                fence.generation,
                [report.task_id for report in some],
                [report.workspace for report in some],
                [report.attempt for report in some],
                [report.at for report in some],
                [report.percent for report in progress],
                [report.message for report in progress],
                [report.checkpoint_json for report in progress],
                log_rows(stored_records(some), self._epoch),
            )

    async def take_generation(self, shard: str, owner: str) -> ShardFence:
        generation = await self._pool.value(_SQL["take_generation"], self._epoch.region, shard, owner)
        return ShardFence(shard=shard, generation=generation)

    async def confirm(self, fence: ShardFence) -> None:
        of = self._epoch.region, self._epoch.value, fence.shard, fence.generation
        if not await self._pool.value(_SQL["is_owner"], *of):
            raise Fenced("The scheduler shard was taken over.", "generation_replaced")

    async def open_tasks(self, shard: str) -> tuple[int, AsyncIterator[Sequence[TaskHead]]]:
        """Reads the open tasks of all partitions: there is one shard for now, so its name selects nothing yet."""
        batches = self._open_batches()
        cursor = await anext(batches)
        assert isinstance(cursor, int)
        return cursor, _heads_only(batches)

    async def _open_batches(self) -> AsyncIterator[int | Sequence[TaskHead]]:
        async with self._pool.snapshot() as connection:
            yield int(await connection.fetchval("select coalesce(max(seq), 0) from log"))
            rows = await connection.cursor(_SQL["open_tasks"])
            while batch := await rows.fetch(OPEN_BATCH, timeout=60):
                yield [open_head(row) for row in batch]

    async def get(self, workspace: str, task_id: str) -> Task | None:
        return (await self.get_many(workspace, [task_id])).get(task_id)

    async def get_many(self, workspace: str, task_ids: Sequence[str]) -> dict[str, Task]:
        if not task_ids:
            return {}
        return await self._whole(workspace, task_ids)

    async def _whole(self, workspace: str, task_ids: Sequence[str], room: int | None = None) -> dict[str, Task]:
        """``room``: characters of the large values of payloads, None for all."""
        rows = await self._pool.rows(_WHOLE_TASKS, workspace, list(task_ids))
        tasks = await filled_tasks(self._pool, workspace, [task_of(row, row) for row in rows], room)
        return {task.id: task for task in tasks}

    async def statuses(self, workspace: str, task_ids: Sequence[str]) -> dict[str, TaskStatus]:
        rows = await self._pool.rows(_SQL["task_statuses"], workspace, list(task_ids))
        return {row["id"]: TaskStatus(row["status"]) for row in rows}

    async def rules(self, workspace: str, task_ids: Sequence[str]) -> dict[str, TaskRules | None]:
        rows = await self._pool.rows(_SQL["task_rules"], workspace, list(task_ids))
        return {row["id"]: rules_of(row["rules"]) for row in rows}

    async def subjects(self, workspace: str, task_ids: Sequence[str]) -> dict[str, str]:
        rows = await self._pool.rows(_SQL["task_subjects"], workspace, list(task_ids))
        return {row["id"]: row["subject"] for row in rows}

    async def outcomes(self, workspace: str, task_ids: Sequence[str]) -> dict[str, Task]:
        statement = page_of(_SQL["tasks_by_id"], "t.created_at, t.id", (Body.RESULT,))
        tasks = await read_page(self._pool, statement, (workspace, list(task_ids)), workspace, (Body.RESULT,))
        return {task.id: task for task in tasks}

    async def stub(self, workspace: str, task_id: str) -> Stub | None:
        rows = await self._pool.rows(_SQL["task_stub"], workspace, task_id)
        return Stub(**dict(rows[0])) if rows else None

    async def held_by(self, principal: str) -> builtins.list[HeldLease]:
        return [HeldLease(*row) for row in await self._pool.rows(_SQL["held_leases"], principal)]

    async def named(self, agents: Sequence[tuple[str, str]]) -> builtins.list[tuple[tuple[str, str], str]]:
        rows = await self._pool.rows(
            _SQL["named_tasks"], [agent[0] for agent in agents], [agent[1] for agent in agents]
        )
        return [((row["workspace"], row["target_agent"]), row["id"]) for row in rows]

    async def bodies(self, workspace: str, task_ids: Sequence[str]) -> dict[str, tuple[Any, Mapping[str, Any]]]:
        if not task_ids:
            return {}
        rows = await self._pool.rows(_SQL["task_bodies"], workspace, task_ids)
        payloads = {row["id"]: read_payload(row["payload"]) for row in rows}
        whole = await filled(self._pool, workspace, payloads)
        return {row["id"]: (whole[row["id"]], json.loads(row["metadata"])) for row in rows}

    async def submit_causes(self, task_ids: Sequence[str]) -> dict[str, str]:
        rows = await self._pool.rows(_SQL["submit_causes"], task_ids)
        return {row["entity"]: row["cause"] or caused_by_row(row["seq"]) for row in rows}

    async def list(self, query: TaskQuery) -> tuple[list[Task], Total]:
        page, matching = page_statement(query), matching_statements(query, EXACT_TO + 1)
        if page is None or matching is None:
            return [], Total(0)
        tasks = await read_page(self._pool, *page, query.workspace, query.bodies)
        return tasks, await total_of(self._pool, matching.every, *matching.arguments, first=matching.first)

    async def search(self, query: TaskQuery, search: Search) -> SearchPage:
        terms = task_terms(query.workspace, search)
        if len(terms) > 1:  # the rarest leads
            rows = await self._pool.rows(_SQL["count_task_terms"], terms, SCANNED)
            terms = [row["term"] for row in rows]
        found = search_statement(query, search, terms)
        if found is None:
            return SearchPage((), None)
        rows = await self._pool.rows(*found)
        tasks = await whole_page(
            self._pool, [row for row in rows if row["id"] is not None], query.workspace, query.bodies
        )
        if len(tasks) == query.limit:
            return SearchPage(tasks, (tasks[-1].created_at, tasks[-1].id))
        end = rows[0]
        return SearchPage(tasks, None if end["end_id"] is None else (end["end_at"], end["end_id"]))

    async def oldest(
        self, workspace: str, status: TaskStatus, limit: int, bodies: Collection[Body] = ALL_BODIES
    ) -> builtins.list[Task]:
        statement = page_of(_SQL["oldest_tasks"], "t.created_at, t.id", bodies)
        return await read_page(self._pool, statement, (workspace, status.value, limit), workspace, bodies)

    async def open_questions(
        self, workspace: str, limit: int, before: tuple[float, str] | None = None
    ) -> tuple[builtins.list[Task], Total]:
        rows = await self._pool.rows(_SQL["open_questions"], workspace, *(before or (None, None)), limit)
        ids = [row["id"] for row in rows]
        found = await self._whole(workspace, ids, PAGE_CHARS)
        total = await self._pool.value(_SQL["count_open_questions"], workspace)
        return [found[task_id] for task_id in ids if task_id in found], Total(int(total))

    async def waiting(self) -> Mapping[int, int]:
        return {row["priority"]: row["tasks"] for row in await self._pool.rows(_SQL["waiting_tasks"])}

    async def events(self, workspace: str, task_id: str, after: int, limit: int) -> tuple[builtins.list[LogRow], int]:
        total = await self._pool.value(_SQL["count_task_events"], workspace, task_id)
        rows = await self._pool.rows(_SQL["task_events"], workspace, task_id, after, limit)
        return [log_row(row) for row in rows], int(total)

    async def forget_keys(self, before: float) -> None:
        """Deletes keys in steps, so that no statement blocks others for long."""
        while await self._pool.value(_SQL["forget_keys"], before, KEYS_AT_ONCE) == KEYS_AT_ONCE:
            pass


def _more(decisions: Sequence[TaskDecision]) -> str | None:
    """What only few decisions have, as the statement ``decide`` reads it."""
    found: list[dict[str, Any]] = []
    for n, each in enumerate(decisions, 1):
        if (each.question, each.answer, each.entry, each.children) == (None, None, None, ()):
            continue
        parts: dict[str, Any] = {"n": n}
        if each.question is not None:
            parts["question"] = question_parts(each.question)
        if each.answer is not None:
            parts["answer"] = answer_parts(each.answer)
        if each.entry is not None:
            parts["entry"] = entry_parts(each.entry)
        if each.children:
            parts["children"] = each.children
        found.append(parts)
    return _dump(found) if found else None


def _submit_statement(
    items: Sequence[SubmitItem], epoch: Epoch, all_or_none: bool = False
) -> tuple[str, tuple[Any, ...]]:
    """The statement that stores new tasks, and its arguments. Few tasks ask people, and the others do not pay for that."""
    arguments = _submit_arguments(items, epoch, all_or_none)
    questions = [question_json(item.task.question) for item in items]
    if not any(questions):
        return _SQL["submit_tasks"], arguments
    return _SQL["submit_asking_tasks"], (*arguments, questions)


def submit_parts(
    items: Sequence[SubmitItem], epoch: Epoch, all_or_none: bool = False
) -> list[tuple[str, tuple[Any, ...]]]:
    """The statements of a submit with their arguments: that of the tasks, and one of violations if there are any."""
    parts = [_submit_statement(items, epoch, all_or_none)]
    warned = [item for item in items if item.violations]
    if warned:
        violations = [violation for item in warned for violation in item.violations]
        records = [record for item in warned for record in recorded(item.violations, item.task)]
        parts.append((queries("policies")["record_violations"], violation_arguments(violations, records, epoch)))
    return parts


def _parts_within_quotas(
    items: Sequence[SubmitItem], epoch: Epoch, all_or_none: bool
) -> list[tuple[str, tuple[Any, ...]]]:
    """The same of items that quotas bound. Violations are recorded only if the tasks are stored, all of them."""
    (_, arguments), *violations = submit_parts(items, epoch, all_or_none)
    assert all_or_none or not violations, "what policies warn about is submitted alone"
    questions = [question_json(item.task.question) for item in items]
    return [
        (_SQL["submit_within_quotas"], (*arguments[:SUBMIT_ARGUMENTS], questions)),
        *((f"{text} where not exists (select from p0 where most is not null)", own) for text, own in violations),
    ]


def _submitted(row: Any) -> Submitted:
    over = None
    if row.get("most") is not None:
        over = OverQuota(QuotaKind.QUEUED_TASKS, row["most"], row["waiting"])
    return Submitted(
        task_id=row["task_id"],
        seq=row["seq"],
        replayed=bool(row["replayed"]),
        conflict=bool(row["conflict"]),
        over=over,
    )


def _submit_arguments(items: Sequence[SubmitItem], epoch: Epoch, all_or_none: bool) -> tuple[Any, ...]:
    tasks = [item.task for item in items]
    keys = [item.idempotency for item in items]
    heads = [task.head() for task in tasks]
    new = [task.record(head) for task, head in zip(tasks, heads, strict=True)]
    return (
        epoch.region,
        epoch.value,
        tasks[0].created_at,
        all_or_none,
        numbers([partition(task.origin.workspace) for task in tasks]),
        texts([task.queue for task in tasks]),
        texts([task.task_type for task in tasks]),
        numbers([int(task.priority) for task in tasks]),
        texts([head.detail.value for head in heads]),
        numbers([task.max_retries for task in tasks]),
        numbers([task.timeout_s for task in tasks]),
        numbers([head.run_at for head in heads]),
        texts([task.target_agent for task in tasks]),
        texts([task.target_region for task in tasks]),
        texts([task.region_routing_mode for task in tasks]),
        texts([task.origin_region for task in tasks]),
        texts([_dump(task.fallback_regions) for task in tasks]),
        texts([_dump(task.required_capabilities) for task in tasks]),
        [_dump(stored_payload(task.payload)) for task in tasks],
        [_dump(task.metadata) for task in tasks],
        texts([rules_json(task.rules) for task in tasks]),
        texts([key.route if key else None for key in keys]),
        texts([key.key if key else None for key in keys]),
        array([key and key.body_digest for key in keys]),
        *log_columns(new, epoch),
    )


async def _heads_only(batches: AsyncIterator[int | Sequence[TaskHead]]) -> AsyncIterator[Sequence[TaskHead]]:
    async for batch in batches:
        assert not isinstance(batch, int)
        yield batch


def _bounded(part: Sequence[tuple[int, TaskDecision]]) -> Iterator[Sequence[tuple[int, TaskDecision]]]:
    """Splits decisions into calls of at most ``CALL_CHARS`` of results, and one decision with more. The server ends a connection
    that sends a gigabyte at once, which would look as if it were away."""
    start = chars = 0
    for n, (_, decision) in enumerate(part):
        size = len(decision.result_json or "") + len(decision.error or "")
        if chars + size > CALL_CHARS and n > start:
            yield part[start:n]
            start, chars = n, 0
        chars += size
    yield part[start:]


def rules_json(rules: TaskRules | None) -> str | None:
    """A task's rules as they are stored."""
    return None if rules is None else _dump(rules.to_json())
