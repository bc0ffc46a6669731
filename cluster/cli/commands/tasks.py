"""``aragora-cp tasks``: submit, wait for, show, list, explain and cancel tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any

import typer

from cluster.cli.calls import Json, Words, call, given, json_option, path_segment, print_json, split
from cluster.cli.connection import client, settings
from cluster.cli.exit_codes import TASK_CANCELLED, TASK_FAILED, TASK_TIMED_OUT
from cluster.cli.numbers import amount
from cluster.cli.output import console, errors, listing, on_one_line, plain, total_words
from cluster.domain.tasks.task import TaskDetail, TaskStatus

app = typer.Typer(no_args_is_help=True, help="Tasks.")


@app.command()
def submit(
    task_type: str,
    payload: Annotated[str, typer.Option(help="JSON.")] = "{}",
    capabilities: Words = None,
    priority: str = "normal",
    key: Annotated[str | None, typer.Option(help="Idempotency key.")] = None,
    queue: str | None = None,
    tenant: Annotated[str | None, typer.Option(help="The tenant whose share of the dispatches it uses.")] = None,
    after: Annotated[str | None, typer.Option(help="Ids of tasks that must end first, separated by commas.")] = None,
    run_anyway: Annotated[bool, typer.Option("--run-anyway", help="Run also if one of --after fails.")] = False,
    delay: Annotated[float | None, amount("Seconds until it may start.")] = None,
    timeout: Annotated[float | None, amount("Seconds that one attempt may run.")] = None,
    queue_timeout: Annotated[float | None, amount("Seconds that it may wait for an agent.")] = None,
    total_timeout: Annotated[float | None, amount("Seconds from submit to end.")] = None,
    max_retries: Annotated[int | None, typer.Option(min=0)] = None,
    concurrency_key: str | None = None,
    concurrency_limit: Annotated[int | None, typer.Option(min=1, help="Tasks of the key that may run at once.")] = None,
    target_agent: str | None = None,
    exclude: Annotated[str | None, typer.Option(help="Agents that must not have it, separated by commas.")] = None,
    worker_version: Annotated[
        str | None, typer.Option(help="Versions its worker may have, such as '>=1.4,<2'.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end, and print its result.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --wait: print the whole task as JSON.")] = False,
) -> None:
    """Submit a task and print its id; with --wait its result."""
    edges = [{"id": task_id, "when_failed": "run_anyway" if run_anyway else "fail"} for task_id in split(after)]
    body = {
        "task_type": task_type,
        "payload": json_option(payload, "--payload"),
        "required_capabilities": split(capabilities),
        "priority": priority,
    } | given(
        idempotency_key=key,
        queue=queue,
        tenant=tenant,
        after=edges,
        delay_seconds=delay,
        timeout_seconds=timeout,
        queue_timeout_seconds=queue_timeout,
        total_timeout_seconds=total_timeout,
        max_retries=max_retries,
        concurrency_key=concurrency_key,
        concurrency_limit=concurrency_limit,
        target_agent=target_agent,
        excluded_agents=split(exclude),
        worker_version=worker_version,
    )
    task_id = str(call("POST", "/tasks", body)["task_id"])
    if not wait:
        typer.echo(task_id)
        return
    errors.print(plain(task_id))
    _print_end(task_id, as_json)


@app.command("wait")
def wait_(task_id: str, as_json: Json = False) -> None:
    """Wait for the end of a task, and print its result as JSON."""
    _print_end(task_id, as_json)


def _print_end(task_id: str, as_json: bool) -> None:
    """Prints the task's states on stderr until it has ended, then its result on stdout. The exit code says how it ended."""
    path_segment(task_id)  # what is no id is an error of usage
    task = asyncio.run(_end_of(task_id))
    if as_json:
        print_json(task)
    elif task["status"] == TaskStatus.COMPLETED:
        print_json(task.get("result"))
    raise typer.Exit(_ENDS[task["status"]])


_ENDS = {
    TaskStatus.COMPLETED: 0,
    TaskStatus.FAILED: TASK_FAILED,
    TaskStatus.CANCELLED: TASK_CANCELLED,
    TaskStatus.TIMEOUT: TASK_TIMED_OUT,
}
#: How late a change of a task that is waited for is shown; its end is shown at once.
LOOK_S = 2.0


async def _end_of(task_id: str) -> Mapping[str, Any]:
    task: Mapping[str, Any] = {}
    async with client(settings()) as api, aclosing(api.task_states(task_id, look_s=LOOK_S)) as states:
        async for task in states:
            agent = f" at {task['assigned_agent']}" if task.get("assigned_agent") else ""
            error = f": {task['error']}" if task.get("error") else ""
            errors.print(
                plain(on_one_line(f"{task.get('status_detail')}{agent}, attempt {task.get('attempt')}{error}"))
            )
    return task


@app.command()
def get(task_id: str) -> None:
    """Print one task as JSON."""
    print_json(call("GET", f"/tasks/{path_segment(task_id)}"))


@app.command("list")
def list_(
    status: Annotated[
        str | None, typer.Option(help="pending, running, completed, failed, cancelled, timeout; or a detail.")
    ] = None,
    detail: Annotated[str | None, typer.Option(help="queued, delayed, retrying, blocked, ...")] = None,
    task_type: Annotated[str | None, typer.Option("--type")] = None,
    agent: str | None = None,
    queue: str | None = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    cursor: Annotated[str | None, typer.Option(help="The cursor that the page before printed.")] = None,
    as_json: Json = False,
) -> None:
    """List tasks, newest first."""
    if detail is None and status in set(TaskDetail) - set(TaskStatus):
        status, detail = None, status  # what the list itself shows as the status
    filters = given(status=status, status_detail=detail, task_type=task_type, agent_id=agent, queue=queue)
    found = call("GET", "/tasks", limit=limit, cursor=cursor, **filters)
    if as_json:
        print_json(found)
        return
    names = ("id", "status_detail", "priority", "attempt", "task_type", "assigned_agent")
    rows = ([task[name] for name in names] for task in found["tasks"])
    listing(("task", "status", "priority", "attempt", "type", "agent"), rows)
    console.print(f"{len(found['tasks'])} of {total_words(found)}")
    if found["next_cursor"]:
        console.print(f"Read on with --cursor {found['next_cursor']}")


@app.command()
def explain(task_id: str, as_json: Json = False) -> None:
    """Show why a task is not running, and what would change that."""
    found = call("GET", f"/tasks/{path_segment(task_id)}/explain")
    if as_json:
        print_json(found)
        return
    console.print(f"[bold]{plain(task_id)}[/] is {found['status_detail']}. {plain(found['summary'])}")
    for reason in found["reasons"]:
        at = "" if reason["at"] is None else f" (at {_time(reason['at'])})"
        console.print(f"- {plain(reason['message'])}\n  What would change it: {plain(reason['unblock'])}{at}")
    if "position" in found:
        console.print(
            f"Position {found['position']} of its queue, served as {found['effective_priority']}; "
            f"tenant {plain(found['tenant'])} has {found['fairness_share']:.0%} of the dispatches."
        )
    if found["able_agents"]:
        console.print(f"Agents that may have it: {plain(', '.join(found['able_agents']))}")


@app.command()
def events(
    task_id: str,
    after: Annotated[int, typer.Option(min=0)] = 0,
    limit: Annotated[int, typer.Option(min=1)] = 100,
    as_json: Json = False,
) -> None:
    """List the events of a task, oldest first."""
    found = call("GET", f"/tasks/{path_segment(task_id)}/events", after=after, limit=limit)
    if as_json:
        print_json(found)
        return
    rows = (
        (event["n"], _time(event["timestamp"]), event["type"], event["attempt"], event["principal"], _what(event))
        for event in found["events"]
    )
    listing(("n", "time", "event", "attempt", "by", "what"), rows)


def _what(event: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in event["data"].items() if name in _SHOWN)


_SHOWN = ("agent_id", "reason", "error", "error_class", "delay_seconds", "replayed_as", "after", "fenced")


@app.command()
def cancel(task_id: str) -> None:
    """Cancel a task: a waiting one ends at once, the agent of a running one is asked to stop it."""
    call("POST", f"/tasks/{path_segment(task_id)}/cancel")
    console.print("Cancelled, or its agent has been asked to stop.")


def _time(at: Any) -> str:
    return datetime.fromtimestamp(float(at)).astimezone().isoformat(timespec="milliseconds")
