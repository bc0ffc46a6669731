"""Retention over HTTP and by the command: what was removed answers with how it ended, and what comes after it goes on."""

from __future__ import annotations

import time
from typing import Any

from typer.testing import CliRunner

from cluster.cli.main import app as cli
from cluster.domain.audit.retention import DAY_S
from tests.support.api import Api, in_thread
from tests.support.probes import eventually
from tests.support.retention import Hurried, retention_keeper
from tests.support.system import clean_environment
from tests.support.task_api import TaskApi


async def _a_hundred_days_later(api: Api) -> None:
    await retention_keeper(api.stores, clock=Hurried(time.time() + 100 * DAY_S)).look()


async def _ended(tasks: TaskApi, *, fails: bool = False) -> dict[str, Any]:
    await tasks.submit(max_retries=0)
    lease: dict[str, Any] = await tasks.claim_one("worker")
    await (tasks.fail(lease) if fails else tasks.complete(lease))
    return lease


async def test_whoever_names_a_removed_task_is_told_how_it_ended(api: Api) -> None:
    tasks = TaskApi(api)
    await tasks.agent("worker")
    lease = await _ended(tasks, fails=True)
    failed, stats = lease["id"], await api.get("/stats")
    await _a_hundred_days_later(api)
    token = {"lease_token": lease["lease_token"]}
    calls: list[tuple[str, str, Any]] = [
        ("GET", f"/tasks/{failed}", None),
        ("GET", f"/tasks/{failed}?wait=5", None),
        ("GET", f"/tasks/{failed}/explain", None),
        ("GET", f"/tasks/{failed}/chunks", None),
        ("POST", f"/tasks/{failed}/cancel", None),
        ("POST", f"/tasks/{failed}/complete", token),
        ("POST", f"/tasks/{failed}/fail", {"error": "no", **token}),
        ("POST", f"/tasks/{failed}/extend", token),
        ("GET", f"/dead-letter/{failed}", None),
        ("POST", f"/dead-letter/{failed}/replay", {}),
        ("POST", "/queue/prioritize", {"task_id": failed, "priority": "high"}),
        ("POST", "/erasures", {"task_id": failed}),
    ]
    for method, path, body in calls:
        answer = await api.call(method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (410, "task_removed"), f"{method} {path}: {answer.text}"
        assert "ended as failed" in answer.json()["error"]
    assert (await api.get(f"/tasks/{failed}/events"))["total"] > 0, "the log still has them"
    assert (await api.get("/tasks"))["total"] == 0
    assert (await api.get("/stats"))["scheduler"]["by_status"] == stats["scheduler"]["by_status"]
    assert stats["scheduler"]["by_status"]["failed"] == 1
    heir = await tasks.submit(after=[failed])
    await eventually(lambda: tasks.is_detail(heir, "failed"), what="it counts as it ended")


async def test_a_removed_deliberation_does_not_begin_anew(api: Api) -> None:
    question = {"content": "Tea or coffee?", "async": True, "request_id": "mine"}
    request_id = (await api.post("/deliberations", question))["request_id"]
    await api.post(f"/deliberations/{request_id}/cancel")

    async def ended() -> bool:
        return (await api.get(f"/deliberations/{request_id}"))["terminal"] is not None

    await eventually(ended)
    await _a_hundred_days_later(api)
    for method, path, body in (
        ("GET", f"/deliberations/{request_id}", None),
        ("GET", f"/deliberations/{request_id}/receipt", None),
        ("POST", "/deliberations", question),
        ("POST", "/erasures", {"task_id": request_id}),
    ):
        answer = await api.call(method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (410, "deliberation_removed"), f"{method} {path}"
    assert (await api.get("/deliberations"))["total"] == 0


async def test_the_command_shows_sets_counts_and_needs_a_yes(api: Api) -> None:
    tasks = TaskApi(api)
    await tasks.agent("worker")
    await _ended(tasks)
    environment = clean_environment(ARAGORA_API_URL=api.url)

    async def said(*words: str, stdin: str = "") -> tuple[int, str]:
        ran = await in_thread(CliRunner().invoke, cli, ["retention", *words], input=stdin, env=environment)
        return ran.exit_code, " ".join(ran.output.split())

    code, shown = await said("show")
    assert (code, "30 days" in shown, "at most 1000000" in shown, "default" in shown) == (0, True, True, True), shown
    code, shown = await said("set", "--task-days", "0.001", "--deliberation-count", "0")
    assert (code, "0.001 days" in shown, "90 days after their end, any number" in shown) == (0, True, True), shown
    assert (await said("set"))[0] == 2
    await api.stores.pool.execute("update tasks set created_at = created_at - 1e6, completed_at = completed_at - 1e6")
    code, shown = await said("run", "--dry-run")
    assert (code, "1 task, 0 deliberations" in shown) == (0, True), shown
    assert (await said("run", stdin="y\n"))[0] == 2  # nobody is asked in a pipe
    assert not (await api.get("/retention"))["run_requested"]
    assert (await said("run", "--yes"))[0] == 0
    keeper = retention_keeper(api.stores, clock=Hurried(time.time()))
    await keeper.look()
    found = await api.get("/retention")
    assert (found["run_requested"], found["last_run"]["tasks"], found["is_default"]) == (False, 1, False)


async def test_a_rule_that_cannot_be_meant_is_refused(api: Api) -> None:
    bodies: list[Any] = [
        {},
        {"task_days": -1},
        {"task_days": "NaN"},
        {"task_count": 1.5},
        {"days": 3},
        {"task_days": 1e9},
    ]
    for body in bodies:
        answer = await api.call("PUT", "/retention", body)
        assert (answer.status_code, bool(answer.json()["error"])) == (400, True), f"{body}: {answer.text}"
    assert (await api.get("/retention"))["is_default"]


async def test_a_rule_holds_only_what_was_named_so_later_defaults_count(api: Api) -> None:
    shown = await api.get("/retention")
    for body in ({"task_days": 7}, {"workflow_run_count": 5}, {"task_days": 8, "deliberation_count": 6}):
        assert (await api.call("PUT", "/retention", body)).status_code == 200
    named = {"task_days": 8, "workflow_run_count": 5, "deliberation_count": 6}
    state = await api.stores.retention.state("default")
    assert state.rule == named
    assert await api.get("/retention") == {**shown, **named, "is_default": False}
