"""``aragora-cp tasks``: submit, wait for, show, list, explain and cancel tasks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any

import typer

from cluster.cli.calls import (
    Json,
    Words,
    call,
    given,
    json_fields,
    json_option,
    path_segment,
    post_under,
    print_json,
    split,
)
from cluster.cli.connection import client, client_settings
from cluster.cli.exit_codes import TASK_CANCELLED, TASK_FAILED, TASK_TIMED_OUT
from cluster.cli.lines import Lines, send_lines
from cluster.cli.listings import WHERE, listed
from cluster.cli.numbers import amount
from cluster.cli.output import console, errors, listing, on_one_line, plain, printable, progress_words, total_words
from cluster.cli.uniform import answered
from cluster.domain.tasks.task import TaskDetail, TaskStatus

app = typer.Typer(no_args_is_help=True, help="Tasks.")


@app.command()
def submit(
    task_type: str,
    payload: Annotated[str, typer.Option(help="JSON.")] = "{}",
    metadata: Annotated[
        str | None, typer.Option(help="A JSON object to find it by later (list --where), such as its tags.")
    ] = None,
    capabilities: Words = None,
    priority: str = "normal",
    key: Annotated[str | None, typer.Option(help="Idempotency key.")] = None,
    queue: str | None = None,
    tenant: Annotated[str | None, typer.Option(help="The tenant whose share of the dispatches it uses.")] = None,
    parent: Annotated[str | None, typer.Option(help="The id of the task whose child it is.")] = None,
    lease_token: Annotated[
        str | None,
        typer.Option(help="Of the lease on --parent, which its holder has: then it takes no permission to submit."),
    ] = None,
    after: Annotated[str | None, typer.Option(help="Ids of tasks that must end first, separated by commas.")] = None,
    run_anyway: Annotated[bool, typer.Option("--run-anyway", help="Run also if one of --after fails.")] = False,
    delay: Annotated[float | None, amount("Seconds until it may start.")] = None,
    timeout: Annotated[float | None, amount("Seconds that one attempt may run.")] = None,
    queue_timeout: Annotated[float | None, amount("Seconds that it may wait for an agent.")] = None,
    total_timeout: Annotated[float | None, amount("Seconds from submit to end.")] = None,
    max_retries: Annotated[int | None, typer.Option(min=0)] = None,
    attempts: Annotated[int | None, typer.Option(min=1, help="Attempts that may end badly in all.")] = None,
    retry_initial: Annotated[float | None, amount("Seconds before the second attempt.")] = None,
    retry_factor: Annotated[float | None, amount("By what each later wait is longer.")] = None,
    retry_cap: Annotated[float | None, amount("Seconds of the longest wait.")] = None,
    non_retryable: Annotated[
        str | None, typer.Option(help="Codes of failures that end it, separated by commas.")
    ] = None,
    calls: Annotated[int | None, typer.Option(min=1, help="Calls that one attempt may make of its agent.")] = None,
    concurrency_key: str | None = None,
    concurrency_limit: Annotated[int | None, typer.Option(min=1, help="Tasks of the key that may run at once.")] = None,
    target_agent: str | None = None,
    exclude: Annotated[str | None, typer.Option(help="Agents that must not have it, separated by commas.")] = None,
    worker_version: Annotated[
        str | None, typer.Option(help="Versions its worker may have, such as '>=1.4,<2'.")
    ] = None,
    sticky_key: Annotated[
        str | None, typer.Option(help="Prefer the agent that took the last task of this key.")
    ] = None,
    override: Annotated[
        str | None,
        typer.Option(help="Why it is submitted although soft policies refuse it, for who may override them."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end, and print its result.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: with --wait the whole task.")] = False,
) -> None:
    """Submit a task and print its id; with --wait its result."""
    retry = given(
        attempts=attempts,
        initial_seconds=retry_initial,
        factor=retry_factor,
        cap_seconds=retry_cap,
        non_retryable=split(non_retryable),
        calls=calls,
    )
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
        retry=retry or None,
        concurrency_key=concurrency_key,
        concurrency_limit=concurrency_limit,
        target_agent=target_agent,
        excluded_agents=split(exclude),
        worker_version=worker_version,
        sticky_key=sticky_key,
    )
    body |= json_fields(metadata=("--metadata", metadata))
    if override is not None:
        body["policy_override"] = {"reason": override}
    task_id = _submitted(body, parent, lease_token)
    if not wait and as_json:
        print_json({"task_id": task_id})
        return
    if not wait:
        typer.echo(task_id)
        return
    errors.print(plain(task_id))
    _print_end(task_id, as_json)


def _submitted(body: dict[str, Any], parent: str | None, lease_token: str | None) -> str:
    if lease_token is None:
        return str(call("POST", "/tasks", body | given(parent_task_id=parent))["task_id"])
    if parent is None:
        raise typer.BadParameter("--lease-token needs the task that it is of: give --parent too.")
    key = body.pop("idempotency_key", None)
    path = f"/tasks/{path_segment(parent)}/children"
    answer = post_under(key, path, {"lease_token": lease_token, "tasks": [body]})
    return str(answer["task_ids"][0])


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


@app.command()
def follow(
    task_id: str,
    after: Annotated[str | None, typer.Option(help="Go on after this chunk: ATTEMPT.N.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as one line of JSON.")] = False,
) -> None:
    """Print what a task tells while it runs: texts as they arrive, other values as lines of JSON. The exit code says how it
    ended."""
    path_segment(task_id)  # what is no id is an error of usage
    raise typer.Exit(_ENDS[TaskStatus(asyncio.run(_followed(task_id, after, as_json)))])


async def _followed(task_id: str, after: str | None, as_json: bool) -> str:
    status, line_begun = "", False
    async with client(client_settings()) as api, aclosing(api.output(task_id, after=after)) as output:
        async for event in output:
            status = str(event.data.get("status", ""))
            if as_json:
                typer.echo(json.dumps({"type": event.type, "timestamp": event.at, "data": dict(event.data)}))
            elif event.type == "task_chunk" and isinstance(event.content, str):
                typer.echo(printable(event.content), nl=False)
                line_begun = not event.content.endswith("\n")
            elif event.type == "task_chunk":
                typer.echo(("\n" if line_begun else "") + json.dumps(event.content, ensure_ascii=False))
                line_begun = False
            else:
                if line_begun:
                    typer.echo()
                    line_begun = False
                errors.print(plain(_told(event.type, event.data)))
    return status


def _told(kind: str, data: Mapping[str, Any]) -> str:
    if kind == "task_attempt":
        return f"attempt {data['attempt']}"
    if kind == "task_chunks_missing":
        return f"chunks {data['first']} to {data['last']} of attempt {data['attempt']} are missing"
    if kind == "task_chunks_elsewhere":
        return "chunks from before a failover are not in this region"
    return str(data.get("status"))


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
    async with client(client_settings()) as api, aclosing(api.task_states(task_id, look_s=LOOK_S)) as states:
        async for task in states:
            agent = f" at {task['assigned_agent']}" if task.get("assigned_agent") else ""
            error = f": {task['error']}" if task.get("error") else ""
            progress = task.get("progress") or {}
            done = progress_words(progress) if progress.get("attempt") == task.get("attempt") else ""
            line = f"{task.get('status_detail')}{agent}, attempt {task.get('attempt')}{done and f', {done}'}{error}"
            errors.print(plain(on_one_line(line)))
    return task


@app.command("get")
@app.command()
def show(task_id: str) -> None:
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
    where: Annotated[list[str] | None, typer.Option(help=WHERE)] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    cursor: Annotated[str | None, typer.Option(help="The cursor that the page before printed.")] = None,
    as_json: Json = False,
) -> None:
    """List tasks, newest first. Conditions with --where all hold for what is listed."""
    if detail is None and status in set(TaskDetail) - set(TaskStatus):
        status, detail = None, status  # what the list itself shows as the status
    filters = given(status=status, status_detail=detail, task_type=task_type, agent_id=agent, queue=queue)
    found = listed("/tasks", "tasks", limit, cursor, where, filters)
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
def history(
    status: Annotated[str | None, typer.Option(help="completed, failed, cancelled or timeout.")] = None,
    task_type: Annotated[str | None, typer.Option("--type")] = None,
    agent: str | None = None,
    queue: str | None = None,
    where: Annotated[list[str] | None, typer.Option(help=WHERE)] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    cursor: Annotated[str | None, typer.Option(help="The cursor that the page before printed.")] = None,
    as_json: Json = False,
) -> None:
    """List tasks that have ended, newest first, with their durations."""
    filters = given(status=status, task_type=task_type, agent_id=agent, queue=queue)
    found = listed("/tasks/history", "history", limit, cursor, where, filters)
    if as_json:
        print_json(found)
        return
    rows = (
        (
            *(task[name] for name in ("id", "status", "type", "assigned_agent", "completed_at")),
            "" if task["duration_ms"] is None else round(task["duration_ms"]),
            task.get("error"),
        )
        for task in found["history"]
    )
    listing(("task", "status", "type", "agent", "ended", "ms", "error"), rows)
    console.print(f"{len(found['history'])} of {total_words(found)}")
    if found["next_cursor"]:
        console.print(f"Read on with --cursor {found['next_cursor']}")


@app.command("import")
def import_(
    file: Lines,
    run: Annotated[str, typer.Option(help="Another name submits the same lines again.")] = "",
) -> None:
    """Submit tasks from a file, in batches of 1,000 that are taken as a whole: each line is a body of POST /tasks. Print their
    ids. The same file again submits nothing twice, so that one that broke off goes on."""
    total: list[str] = []
    for answer in send_lines(file, "/tasks/batch", "tasks", run):
        total += answer["task_ids"]
        answered({"task_ids": total, "total": len(total)})
        for task_id in answer["task_ids"]:
            console.print(plain(task_id))


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


_SHOWN = ("agent_id", "reason", "error", "error_class", "error_code", "delay_seconds", "replayed_as", "after", "fenced")


@app.command()
def cancel(task_id: str) -> None:
    """Cancel a task: a waiting one ends at once, the agent of a running one is asked to stop it."""
    call("POST", f"/tasks/{path_segment(task_id)}/cancel")
    console.print("Cancelled, or its agent has been asked to stop.")


def _time(at: Any) -> str:
    return datetime.fromtimestamp(float(at)).astimezone().isoformat(timespec="milliseconds")
