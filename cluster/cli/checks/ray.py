"""Ray's authentication and ports, and HAProxy's bound on the calls that it cuts."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import psutil

from aragora_worker.reasons import reason
from cluster.cli.checks.findings import OK, WARNING, Finding, fine, problem
from cluster.embedded.layout import Layout
from cluster.embedded.run_file import RunFile, read_run_file
from cluster.process.stopgap import CURRENT, pid_in
from cluster.process.waits import HAPROXY_HARD_STOP_S, LONGEST_CALL_S
from cluster.settings import Settings

HARD_STOP: Final = "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"


async def check_ray(ours: Settings) -> list[Finding]:
    """Checks Ray's authentication and ports: whoever reaches Ray without a token can run code on its nodes."""
    running = read_run_file(Layout.of(ours.data_dir))
    if running is None:
        return [
            problem("Ray", "not started from this data directory", "Run doctor where `aragora-cp up` runs.", WARNING)
        ]
    if not running.dashboard_url:
        return [fine("Ray", "API and actors run without it (up --without-ray)")]
    try:
        token = _token(running)
    except OSError as error:
        words = f"the file of its token, {running.ray_token_path}, cannot be read: {reason(error)}"
        return [problem("Ray authentication", words, "Run `aragora-cp down`, `up`.")]
    path = "/api/v0/actors"
    async with httpx.AsyncClient(
        base_url=running.dashboard_url,
        timeout=3.0,
        trust_env=False,
        verify=False,  # nosec B501
    ) as http:
        try:
            without = (await http.get(path)).status_code
            with_it = None
            if token is not None:
                with_it = (await http.get(path, headers={"Authorization": f"Bearer {token}"})).status_code
        except (httpx.HTTPError, OSError) as error:
            words = f"its dashboard does not answer ({type(error).__name__})"
            return [problem("Ray", words, "Run `aragora-cp down`, `up`.")]
    port = urlsplit(running.dashboard_url).port
    return [_authentication(without, with_it), await check_ports(port, await _own_addresses())]


def _token(running: RunFile) -> str | None:
    return Path(running.ray_token_path).read_text().strip() if running.ray_token_path else None


def _authentication(without: int, with_it: int | None) -> Finding:
    """``with_it`` None: no token is known here."""
    if without not in (401, 403):
        return problem(
            "Ray authentication", f"answers {without} without a token", "Start Ray with RAY_AUTH_MODE=token."
        )
    if with_it not in (200, None):
        return problem("Ray authentication", f"answers {with_it} with its token", "Run `aragora-cp down`, `up`.")
    return fine("Ray authentication", "refuses calls without the token")


async def check_ports(port: int | None, addresses: Sequence[str]) -> Finding:
    """Whether nobody can reach the dashboard at these addresses, which other machines can reach."""
    for address in addresses:
        if port is not None and await _connects(address, port):
            return problem("Ray ports", f"the dashboard can be reached at {address}:{port}", "Bind it to 127.0.0.1.")
    return fine("Ray ports", "the dashboard listens on loopback only")


async def _own_addresses() -> list[str]:
    """Addresses at which other machines reach this one."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(socket.gethostname(), None, family=socket.AF_INET, type=socket.SOCK_STREAM)
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


async def check_hard_stop(ours: Settings, environment: Mapping[str, str]) -> list[Finding]:
    """Checks that an HAProxy that was replaced lets its calls end: ``environment`` is that of this process, which is Ray's
    where Ray runs in a container."""
    bounds = _of_running_haproxies(ours) or _of_environment(environment)
    if not bounds:
        return [fine("hard stop", f"{HARD_STOP} is not known here; the API warns if it is too small")]
    least = min(bounds)
    detail = f"{HARD_STOP} is {least:g}, and the longest call takes {LONGEST_CALL_S} s"
    if least < LONGEST_CALL_S:
        advice = f"Start Ray with {HARD_STOP}={HAPROXY_HARD_STOP_S}: calls are cut when the number of replicas changes."
        return [problem("hard stop", detail, advice)]
    return [Finding(check="hard stop", level=OK, detail=detail)]


def _of_running_haproxies(ours: Settings) -> list[float]:
    """From the configurations with which Ray has started those that run."""
    found = []
    for file in (Layout.of(ours.data_dir).sockets / "h").glob(f"*/{CURRENT}"):
        pid = pid_in(file)
        if pid is not None and psutil.pid_exists(pid):
            with contextlib.suppress(OSError):
                text = file.with_name("haproxy.cfg").read_text()
                found += [float(bound) for bound in re.findall(r"(?m)^ *hard-stop-after (\d+)s", text)]
    return found


def _of_environment(environment: Mapping[str, str]) -> list[float]:
    with contextlib.suppress(ValueError):
        return [float(environment[HARD_STOP])] if HARD_STOP in environment else []
    return []
