"""``aragora-cp doctor``: what is wrong with a control plane, and what to do about it."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Final

import typer

from cluster.cli.checks.api import check_api, check_api_clock, check_breakers, check_retries, check_waiting
from cluster.cli.checks.encryption import check_encryption, check_passwords
from cluster.cli.checks.findings import GROUP_S, NOT_TRIED, OK, PROBLEM, WARNING, Check, Finding, problem, run_all
from cluster.cli.checks.ray import check_hard_stop, check_ray
from cluster.cli.checks.stores import check_audit_key, check_database, check_growth, check_redis
from cluster.cli.connection import api_tls, api_url, client, client_settings, running_system
from cluster.cli.exit_codes import UNREACHABLE
from cluster.cli.output import listing
from cluster.embedded.layout import EmbeddedError
from cluster.settings import Settings

#: For all checks together; each group of them has a bound of its own, which is met before.
ALL_S: Final = 8.5
#: For the calls of the API if it has no database: what is still asked may wait for it.
WITHOUT_DATABASE_S: Final = 2.0
#: Checks that would find only that the database is away, as seen from here and as seen by the API.
_OF_THE_DATABASE: Final = ("tables",)
_OF_THE_APIS_DATABASE: Final = ("retries", "waiting tasks")
#: Checks that may find something without the database: what the API has read before.
_MAYBE_OF_THE_APIS_DATABASE: Final = ("breakers",)


async def examine(ours: Settings, within_s: float = GROUP_S) -> list[Finding]:
    """Runs every check, in two groups of ``within_s``. A check that raises or hangs becomes a finding, and the others still
    run."""
    from cluster.cli.checks.certificates import check_certificates
    from cluster.cli.checks.etcd import check_etcd
    from cluster.cli.checks.peers import check_peers

    async with client(ours) as api:
        findings = await run_all(
            {
                "API": lambda: check_api(api),
                "database": lambda: check_database(ours),
                "redis": lambda: check_redis(ours),
                "encryption": lambda: check_encryption(ours),
                "passwords": lambda: check_passwords(ours),
                "tables": lambda: check_growth(ours),
                "audit key": lambda: check_audit_key(ours),
                "certificates": lambda: check_certificates(ours, api),
                "etcd": lambda: check_etcd(ours),
                "regions": lambda: check_peers(ours),
                "Ray": lambda: check_ray(ours),
                "hard stop": lambda: check_hard_stop(ours, os.environ),  # noqa: TID251 - Serve's own names
            },
            within_s,
        )
        if _is_away(findings, "database"):
            findings = [_not_tried(found.check) if found.check in _OF_THE_DATABASE else found for found in findings]
        idle = _not_started(ours) if findings[0].level == PROBLEM else None
        if idle is not None:
            return [idle]
        if findings[0].level == OK:
            away = _is_away(findings, "component Database")
            checks: dict[str, Check] = {
                "API clock": lambda: check_api_clock(api_url(ours), api_tls(ours)),
                "breakers": lambda: check_breakers(api),
                "retries": lambda: check_retries(api),
                "waiting tasks": lambda: check_waiting(api),
            }
            skipped = _OF_THE_APIS_DATABASE if away else ()
            tried = {name: check for name, check in checks.items() if name not in skipped}
            found = await run_all(tried, WITHOUT_DATABASE_S if away else within_s)
            if away:
                found = [_not_tried(finding.check) if _is_vain(finding) else finding for finding in found]
            findings += [*found, *(_not_tried(name) for name in skipped)]
    return findings


def _is_away(findings: Sequence[Finding], check: str) -> bool:
    return any(finding.check == check and finding.level == PROBLEM for finding in findings)


def _is_vain(finding: Finding) -> bool:
    """Whether a check without the database has found only that it is away."""
    return finding.check in _MAYBE_OF_THE_APIS_DATABASE and finding.level == PROBLEM


def _not_tried(check: str) -> Finding:
    """One cause is said once: the row of the database has it."""
    return Finding(check=check, level=WARNING, detail=NOT_TRIED)


def _not_started(ours: Settings) -> Finding | None:
    """The one finding if nothing runs on the data directory and no setting names another system: what the checks advise about
    settings would then mislead."""
    if any((ours.api_url, ours.database_url, ours.redis_url)):
        return None
    try:
        running_system(ours)
    except EmbeddedError:
        return problem("control plane", f"nothing runs on {ours.data_dir}", "Start it with `aragora-cp up`.")
    return None


def _examined(ours: Settings) -> tuple[list[Finding], bool]:
    """The findings, and whether something still hangs: a host name that is being looked up cannot be interrupted."""
    # Before the bounds begin: on a busy machine the drivers take seconds to load. The other commands load none.
    import cluster.cli.checks.certificates
    import cluster.postgres.growth
    import cluster.redis.pool  # noqa: F401

    found: queue.SimpleQueue[list[Finding] | Exception] = queue.SimpleQueue()

    async def put() -> None:
        try:
            found.put(await examine(ours))
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
            found.put(error)

    thread = threading.Thread(target=lambda: asyncio.run(put()), daemon=True)
    thread.start()
    try:
        result = found.get(timeout=ALL_S)
    except queue.Empty:
        result = [problem("doctor", f"the checks did not end within {ALL_S:g} s", "Check host names and the network.")]
    if isinstance(result, Exception):
        raise result
    thread.join(0.5)
    return result, thread.is_alive()


def _sentences(finding: Finding) -> str:
    return f"{finding.detail.removesuffix('.')}. {finding.advice}" if finding.advice else finding.detail


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Test stores, actors, breakers, certificates, regions, etcd, Ray, clocks and retries; say what to do. Exits 4 on a problem.

    \f
    Raises: `Exit` if there is a problem.
    """
    findings, hangs = _examined(client_settings())
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        # In one column: a long sentence would push the next column out of sight.
        rows = ((finding.check, finding.level, _sentences(finding)) for finding in findings)
        listing(("check", "", "found, and what to do"), rows)
    failed = any(finding.level == PROBLEM for finding in findings)
    if hangs:
        sys.stdout.flush()
        os._exit(UNREACHABLE if failed else 0)  # else the interpreter would wait for the thread
    if failed:
        raise typer.Exit(UNREACHABLE)
