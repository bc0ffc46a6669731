"""``aragora-cp doctor``: what is wrong with a control plane, and what to do about it."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from typing import Annotated
from urllib.parse import urlsplit

import httpx
import typer

from cluster.cli.connection import api_url, client, settings
from cluster.cli.exit_codes import UNREACHABLE
from cluster.cli.output import listing
from cluster.client.api import ControlPlaneClient
from cluster.domain.base.errors import ControlPlaneError, StoreUnavailable, TryLater
from cluster.embedded.layout import Layout
from cluster.embedded.run_file import read_run_file
from cluster.settings import Settings, load_settings

#: How much clocks may differ: leases and deadlines are compared between machines.
MAX_SKEW_S = 2.0
SLOW_ADVICE = "Look into its log; report what it says if it lasts."
OK, WARNING, PROBLEM = "ok", "warning", "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    check: str
    level: str
    detail: str
    advice: str = ""


def _problem(check: str, detail: str, advice: str, level: str = PROBLEM) -> Finding:
    return Finding(check=check, level=level, detail=detail, advice=advice)


def _fine(check: str, detail: str) -> Finding:
    return Finding(check=check, level=OK, detail=detail)


def _stores_settings(ours: Settings) -> Settings:
    """The settings, with the URLs of the embedded stores if those are used."""
    config = Layout.of(ours.data_dir).config_file
    if ours.database_url is None and config.exists():
        return load_settings({"ARAGORA_CONFIG_FILE": str(config)})
    return ours


async def check_api(api: ControlPlaneClient) -> list[Finding]:
    """The API's own report: every component by name."""
    try:
        report = await api.get("//health/detailed")
    except TryLater as error:
        return [_problem("API", str(error), "Start it with `aragora-cp up`, or set ARAGORA_API_URL.")]
    found = [_fine("API", f"version {report['version']}, up {report['uptime_seconds']} s")]
    for component in report["components"]:
        name = f"component {component['name']}"
        if component["status"] == "healthy":
            found.append(_fine(name, f"{component['latency_ms']} ms"))
            found += [_problem(name, warning, SLOW_ADVICE, WARNING) for warning in component.get("warnings", ())]
        else:
            advice = "Look into its log; actors restart by themselves, stores do not."
            found.append(_problem(name, str(component.get("error")), advice))
    return found


async def check_database(ours: Settings) -> Finding:
    """Checks that the database can be reached from here and that its clock agrees with ours."""
    from cluster.postgres.pool import connect as connect_postgres  # the other commands load no driver

    url = _stores_settings(ours).database_url
    if url is None:
        return _problem("database", "not known here", "Set ARAGORA_DATABASE_URL to have it checked.", WARNING)
    try:
        pool = await connect_postgres(url.get_secret_value(), ours.database_schema, max_size=1)
    except StoreUnavailable as error:
        return _problem("database", str(error), "Check ARAGORA_DATABASE_URL, and that PostgreSQL runs.")
    asked_at = time.time()
    try:
        told = float(await pool.value("select extract(epoch from clock_timestamp())"))
        here = (asked_at, time.time())
    finally:
        await pool.close()
    return _clock("database", skew((told, told), here))


def skew(told: tuple[float, float], here: tuple[float, float]) -> float:
    """Seconds by which a clock is ahead of ours at least (negative: behind). It showed a time within ``told`` at a moment
    within ``here``; 0 if both may have been equal."""
    least, most = told[0] - here[1], told[1] - here[0]
    return max(least, min(most, 0.0))


def _clock(name: str, skew_s: float) -> Finding:
    detail = f"its clock differs from this machine's by {abs(skew_s):.1f} s"
    if abs(skew_s) > MAX_SKEW_S:
        return _problem(f"{name} clock", detail, "Run NTP (chrony, systemd-timesyncd) on both machines.")
    return _fine(name, detail)


async def check_redis(ours: Settings) -> Finding:
    from cluster.redis.pool import connect as connect_redis
    from cluster.redis.pool import ping

    url = _stores_settings(ours).redis_url
    if url is None:
        return _problem("redis", "not known here", "Set ARAGORA_REDIS_URL to have it checked.", WARNING)
    redis = connect_redis(url.get_secret_value())
    try:
        await ping(redis)
        return _fine("redis", "answers")
    except StoreUnavailable as error:
        return _problem("redis", str(error), "Check ARAGORA_REDIS_URL, and that Redis or Valkey runs.")
    finally:
        await redis.aclose()


async def check_api_clock(url: str) -> Finding:
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as http:
        try:
            asked_at = time.time()
            date = (await http.get(f"{url}/health/live")).headers.get("date")
        except httpx.HTTPError as error:
            return _problem("API clock", type(error).__name__, "The API has to answer first.")
    if date is None:
        return _fine("API clock", "the server sends no Date header")
    told = parsedate_to_datetime(date).timestamp()  # whole seconds
    return _clock("API", skew((told, told + 1.0), (asked_at, time.time())))


async def check_ray(ours: Settings) -> AsyncIterator[Finding]:
    """Checks Ray's authentication and ports: whoever reaches Ray without a token can run code on its nodes."""
    running = read_run_file(Layout.of(ours.data_dir))
    if running is None:
        yield _problem("Ray", "not started from this data directory", "Run doctor where `aragora-cp up` runs.", WARNING)
        return
    path = "/api/v0/actors"
    async with httpx.AsyncClient(base_url=running.dashboard_url, timeout=5.0, trust_env=False) as http:
        try:
            without = (await http.get(path)).status_code
            token = Layout.of(ours.data_dir).ray_token.read_text().strip()
            with_it = (await http.get(path, headers={"Authorization": f"Bearer {token}"})).status_code
        except (httpx.HTTPError, OSError) as error:
            yield _problem(
                "Ray", f"its dashboard does not answer ({type(error).__name__})", "Run `aragora-cp down`, `up`."
            )
            return
    if without not in (401, 403):
        yield _problem(
            "Ray authentication", f"answers {without} without a token", "Start Ray with RAY_AUTH_MODE=token."
        )
    elif with_it != 200:
        yield _problem("Ray authentication", f"answers {with_it} with its token", "Run `aragora-cp down`, `up`.")
    else:
        yield _fine("Ray authentication", "refuses calls without the token")
    port = urlsplit(running.dashboard_url).port
    for address in _own_addresses():
        if port is not None and await _connects(address, port):
            yield _problem("Ray ports", f"the dashboard can be reached at {address}:{port}", "Bind it to 127.0.0.1.")
            return
    yield _fine("Ray ports", "the dashboard listens on loopback only")


def _own_addresses() -> list[str]:
    """Addresses at which other machines reach this one."""
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(entry[4][0]) for entry in found if not str(entry[4][0]).startswith("127.")})


async def _connects(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(2.0):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def check_retries(api: ControlPlaneClient) -> Finding:
    """Checks that two submits under one key are one task, because proxies and clients repeat requests."""
    key = f"doctor-{uuid.uuid4().hex}"
    body = {"task_type": "doctor.probe", "delay_seconds": 86_400, "required_capabilities": [key]}
    first = await api.post("/tasks", body, idempotency_key=key)
    again = await api.post("/tasks", body, idempotency_key=key)
    for task_id in {first["task_id"], again["task_id"]}:
        await api.post(f"/tasks/{task_id}/cancel")
    if first["task_id"] != again["task_id"]:
        return _problem("retries", "a repeated submit made two tasks", "Check that all replicas use one database.")
    return _fine("retries", "a repeated submit is one task")


async def check_waiting(api: ControlPlaneClient) -> Finding:
    """Looks for tasks that no available agent can take."""
    waiting = (await api.get("/tasks", status="pending", limit=100))["tasks"]
    due = [task for task in waiting if task["run_at"] <= time.time() and task["target_agent"] is None]
    sets = [set(agent["capabilities"]) for agent in (await api.get("/agents"))["agents"]]
    needs = {frozenset(task["required_capabilities"]) for task in due}
    missing = {", ".join(sorted(need)) or "any agent" for need in needs if not any(need <= has for has in sets)}
    if missing:
        detail = f"tasks wait for what no available agent has: {'; '.join(sorted(missing))}"
        return _problem("waiting tasks", detail, "Register or resume agents: `aragora-cp agents list`.", WARNING)
    return _fine("waiting tasks", f"{len(due)} looked at, all can be taken")


async def examine(ours: Settings) -> list[Finding]:
    """Runs every check. A check that raises becomes a finding, and the others still run."""
    url = api_url(ours)
    findings: list[Finding] = []
    async with client(ours) as api:
        findings += await check_api(api)
        reachable = findings[0].level == OK

        async def run(name: str, check: Callable[[], Awaitable[Finding]]) -> None:
            try:
                findings.append(await check())
            except (ControlPlaneError, httpx.HTTPError, OSError) as error:
                findings.append(_problem(name, str(error), "See the log of the API."))

        await run("database", lambda: check_database(ours))
        await run("redis", lambda: check_redis(ours))
        findings += [finding async for finding in check_ray(ours)]
        if reachable:
            await run("API clock", lambda: check_api_clock(url))
            await run("retries", lambda: check_retries(api))
            await run("waiting tasks", lambda: check_waiting(api))
    return findings


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Test stores, actors, Ray's authentication and ports, clocks and retries; say what to do. Exits 4 on a problem.

    \f
    Raises: `Exit` if there is a problem.
    """
    findings = asyncio.run(examine(settings()))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        rows = ((finding.check, finding.level, finding.detail, finding.advice) for finding in findings)
        listing(("check", "", "found", "what to do"), rows)
    if any(finding.level == PROBLEM for finding in findings):
        raise typer.Exit(UNREACHABLE)
