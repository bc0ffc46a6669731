"""The results of steps, and payloads that refer to them, for whoever reads a task."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cluster.domain.deliberation.stored import Deliberation
from cluster.domain.deliberation.wire import result_wire
from cluster.domain.workflows.large_values import Origin, Referring
from cluster.domain.workflows.stored import task_id
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("workflows")
#: Of results that were small enough for the payload when it was made, which they are for ever.
_ANY_CHARS = 2**40


async def filled(pool: Pool, workspace: str, payloads: Mapping[str, Any], room: int | None = None) -> dict[str, Any]:
    """The payloads by task, with the values that they refer to. Those for which there is no room beside the ones before, of
    ``room`` characters in all, are left out, but for the first one."""
    whole = {id_: payload for id_, payload in payloads.items() if not isinstance(payload, Referring)}
    referring = {id_: payload for id_, payload in payloads.items() if isinstance(payload, Referring)}
    if room is not None:
        referring = _fitting(referring, room)
    if referring:
        origins = {value.origin for payload in referring.values() for value in payload.values}
        found = await _values(pool, workspace, origins)
        whole |= {id_: payload.filled(found) for id_, payload in referring.items()}
    return whole


def _fitting(payloads: Mapping[str, Referring], room: int) -> dict[str, Referring]:
    fitting: dict[str, Referring] = {}
    for id_, payload in payloads.items():
        if fitting and payload.chars > room:
            break
        room -= payload.chars
        fitting[id_] = payload
    return fitting


async def _values(pool: Pool, workspace: str, origins: Collection[Origin]) -> dict[Origin, Any]:
    """What there is of the values; what was erased is not."""
    found: dict[Origin, Any] = {}
    for origin in origins:
        if origin.step is None:
            text = await pool.value(_SQL["run_input"], workspace, origin.run)
            if text is not None:
                found[origin] = json.loads(text)
            continue
        failed = frozenset(origin.failed)
        ids = [None if n in failed else task_id(origin.run, origin.step, n) for n in range(origin.total)]
        results, _ = await read_results(pool, workspace, [[id_ for id_ in ids if id_ is not None]], _ANY_CHARS)
        values = [None if id_ is None else results.get(id_) for id_ in ids]
        found[origin] = values if origin.fan_out else values[0]
    return found


async def read_results(
    pool: Pool, workspace: str, steps: Sequence[Sequence[str]], most_chars: int
) -> tuple[dict[str, Any], list[int]]:
    """As `WorkspaceWorkflows.results`."""
    ids = [id_ for of_step in steps for id_ in of_step]
    numbers = [n for n, of_step in enumerate(steps, 1) for _ in of_step]
    rows = await pool.rows(_SQL["step_results"], workspace, ids, numbers, len(steps), most_chars)
    chars = {row["step"]: int(row["chars"]) for row in rows}
    found = {row["id"]: _result(row, workspace) for row in rows if row["id"] is not None}
    return found, [chars[n] for n in range(1, len(steps) + 1)]


def _result(row: Any, workspace: str) -> Any:
    result = None if row["result"] is None else json.loads(row["result"])
    if row["terminal"] is None:
        return result
    ended = Deliberation(
        request_id=row["id"],
        task_id=row["id"],
        workspace=workspace,
        principal="",
        admitted_at=row["admitted_at"],
        deadline_at=row["admitted_at"],
        contract={"rounds": int(row["rounds"]), "mode": row["mode"]},
        contract_digest=b"",
        mode="async",
        state=row["terminal"],
        terminal=row["terminal"],
        result=result,
        completed_at=row["completed_at"],
        owner=None,
        fence=0,
        events=0,
    )
    return result_wire(ended)
