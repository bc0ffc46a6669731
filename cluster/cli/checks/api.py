"""What the API knows: its components, breakers, waiting tasks, and whether repeated calls are one."""

from __future__ import annotations

import time
import uuid
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from aragora_worker.api import ControlPlaneClient
from aragora_worker.tls import ClientTls
from cluster.cli.checks.findings import GROUP_S, NOT_TRIED, WARNING, Finding, fine, problem
from cluster.domain.base.errors import TryLater

#: How much clocks may differ: leases and deadlines are compared between machines.
MAX_SKEW_S: Final = 2.0
SLOW_ADVICE = "Look into its log; report what it says if it lasts."


async def check_api(api: ControlPlaneClient) -> list[Finding]:
    """The API's own report: every component by name."""
    try:
        report = await api.request("GET", "//health/detailed", timeout_s=GROUP_S)
    except TryLater as error:
        return [problem("API", str(error), "Start it with `aragora-cp up`, or set ARAGORA_API_URL.")]
    found = [fine("API", f"version {report['version']}, up {report['uptime_seconds']} s")]
    for component in report["components"]:
        name = f"component {component['name']}"
        if component["status"] == "healthy":
            found.append(fine(name, f"{component['latency_ms']} ms"))
            found += [problem(name, warning, SLOW_ADVICE, WARNING) for warning in component.get("warnings", ())]
        else:
            advice = "Look into its log; actors restart by themselves, stores do not."
            found.append(problem(name, str(component.get("error")), advice))
    return found


def skew(told: tuple[float, float], here: tuple[float, float]) -> float:
    """Seconds by which a clock is ahead of ours at least (negative: behind). It showed a time within ``told`` at a moment
    within ``here``; 0 if both may have been equal."""
    least, most = told[0] - here[1], told[1] - here[0]
    return max(least, min(most, 0.0))


def clock(name: str, skew_s: float) -> Finding:
    detail = f"its clock differs from this machine's by {abs(skew_s):.1f} s"
    if abs(skew_s) > MAX_SKEW_S:
        return problem(f"{name} clock", detail, "Run NTP (chrony, systemd-timesyncd) on both machines.")
    return fine(name, detail)


async def check_api_clock(url: str, tls: ClientTls) -> list[Finding]:
    # Reading what this machine trusts takes long on a busy one, and plain HTTP needs none of it.
    secure = tls.context() if url.startswith("https:") else False
    async with httpx.AsyncClient(timeout=GROUP_S, trust_env=False, verify=secure) as http:
        try:
            asked_at = time.time()
            date = (await http.get(f"{url}/health/live")).headers.get("date")
        except httpx.HTTPError as error:
            return [problem("API clock", type(error).__name__, "The API has to answer first.")]
    if date is None:
        return [fine("API clock", "the server sends no Date header")]
    told = parsedate_to_datetime(date).timestamp()  # whole seconds
    return [clock("API", skew((told, told + 1.0), (asked_at, time.time())))]


async def check_retries(api: ControlPlaneClient) -> list[Finding]:
    """Checks that two submits under one key are one task, because proxies and clients repeat requests."""
    key = f"doctor-{uuid.uuid4().hex}"
    body = {"task_type": "doctor.probe", "delay_seconds": 86_400, "required_capabilities": [key]}
    first = await api.post("/tasks", body, idempotency_key=key)
    again = await api.post("/tasks", body, idempotency_key=key)
    for task_id in {first["task_id"], again["task_id"]}:
        await api.post(f"/tasks/{task_id}/cancel")
    if first["task_id"] != again["task_id"]:
        return [problem("retries", "a repeated submit made two tasks", "Check that all replicas use one database.")]
    return [fine("retries", "a repeated submit is one task")]


async def check_waiting(api: ControlPlaneClient) -> list[Finding]:
    """Looks for tasks that no available agent can take."""
    waiting = (await api.get("/tasks", status="pending", limit=100))["tasks"]
    due = [task for task in waiting if task["run_at"] <= time.time() and task["target_agent"] is None]
    sets = [set(agent["capabilities"]) for agent in (await api.get("/agents"))["agents"]]
    needs = {frozenset(task["required_capabilities"]) for task in due}
    missing = {", ".join(sorted(need)) or "any agent" for need in needs if not any(need <= has for has in sets)}
    if missing:
        detail = f"tasks wait for what no available agent has: {'; '.join(sorted(missing))}"
        return [problem("waiting tasks", detail, "Register or resume agents: `aragora-cp agents list`.", WARNING)]
    return [fine("waiting tasks", f"{len(due)} looked at, all can be taken")]


async def check_breakers(api: ControlPlaneClient) -> list[Finding]:
    """Looks for breakers that are not closed: what is behind them gets no calls, or one now and then."""
    answer: dict[str, Any] = await api.get("/breakers")
    stale = answer.get("stale", False)
    # The database's own is the cause that makes the others stale, which its row has.
    bad = [
        breaker
        for breaker in answer["breakers"]
        if breaker["state"] != "closed" and not (stale and breaker["name"] == "database")
    ]
    if not bad:  # a replica that has not read them yet lists none
        return [problem("breakers", NOT_TRIED, "", WARNING) if stale else fine("breakers", "none is open")]
    old = " (as they were last read: the database does not answer)" if stale else ""
    advice = "Mend what is behind it; it gets a call now and then, and the breaker closes if that succeeds."
    return [
        problem(
            "breakers",
            f"{breaker['name']} is {breaker['state']} after {breaker['failure_count']} failures{old}",
            advice,
            WARNING,
        )
        for breaker in bad
    ]
