"""What reads and claims cost in a system that has grown old: with 10^4 and 5·10^6 tasks that have ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from bench.harness import Goal, Row, against, bench
from bench.stand import Part, Stand
from bench.system import Running, alone

API = "/api/control-plane"
#: What probes, dashboards and people ask for again and again.
PATHS = (
    f"{API}/health",
    "/metrics",
    f"{API}/stats",
    f"{API}/queue/metrics",
    f"{API}/tasks?limit=50",
    f"{API}/tasks?status=failed&limit=50",
)
CLAIM = "submit to agent has it, over HTTP long poll"

#: Completed tasks, and one in a hundred that failed, so that also the young system fills a page of them. They are slim: a long
#: payload lies outside of the table's pages.
_FILL = """
insert into tasks (
    id, workspace, shard, queue, task_type, priority, status, status_detail, attempt, retries, max_retries, timeout_s,
    created_at, run_at, started_at, completed_at, assigned_agent, principal, region_routing_mode, origin_region,
    fallback_regions, required_capabilities, payload, metadata, result)
select 'task_' || lpad(n::text, 26, '0'), 'default', 1, 'default', 'type-' || n % 20, 50,
       case when n % 100 = 0 then 'failed' else 'completed' end, case when n % 100 = 0 then 'failed' else 'completed' end,
       1, 0, 3, 300, 1.7e9 + n, 1.7e9 + n, 1.7e9 + n, 1.7e9 + n, 'agent-' || n % 50, 'user:bench', 'any', 'bench', '[]', '[]',
       '{"n": 1}', '{}', '{"ok": true}'
from generate_series($1::bigint, $2::bigint) n
"""
STEP = 250_000


def _fill(running: Running, first: int, last: int) -> None:
    for begin in range(first, last + 1, STEP):
        running.rows(_FILL, begin, min(begin + STEP - 1, last))
    running.rows("vacuum analyze tasks")
    running.rows(
        "checkpoint"
    )  # else what was just written reaches the disk while it is measured, which is no matter of age


def _measured(stand: Stand, client: Part) -> dict[str, list[float]]:
    """p99 in ms by what was asked, a value per run. One run more warms up."""
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(stand.runs + 1):
        for path, p99 in client.ask(op="reads", paths=PATHS, times=stand.size(200, 5)).items():
            found[path].append(p99)
        rate, seconds = stand.size(100, 20), stand.size(5, 1)
        found[CLAIM].append(client.ask(op="submit", rate=rate, seconds=seconds, capability="age")["p99"])
    return {what: runs[1:] for what, runs in found.items()}


@bench("age.reads", "what is asked often, and claims, with 10^4 and with 5·10^6 ended tasks", ray=True)
def reads(stand: Stand) -> Iterator[Row]:
    young, old = stand.size(10_000, 100), stand.size(5_000_000, 1_000)
    with alone(stand) as running, stand.part("bench.parts.http", running.api_url, stand.name()) as client:
        client.ask(op="wait", agents=stand.size(16, 4), capability="age")
        _fill(running, 1, young)
        before = _measured(stand, client)
        _fill(running, young + 1, old)
        after = _measured(stand, client)
        client.ask(op="leave")
    for what in (*PATHS, CLAIM):
        first = Row(name=f"{what}, {young:,} tasks, p99", unit="ms", runs=tuple(before[what]))
        then = Row(name=f"{what}, {old:,} tasks, p99", unit="ms", runs=tuple(after[what]), note="the log is not filled")
        yield first
        yield against(then, first, Goal(bound=1.5, at_most=True))
