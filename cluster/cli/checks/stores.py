"""PostgreSQL and Redis: whether they answer, PostgreSQL's clock, tables that grow, and the key of the audit in one of them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cluster.cli.checks.api import clock, skew
from cluster.cli.checks.findings import WARNING, Finding, fine, problem
from cluster.domain.base.errors import InvalidRequest, StoreUnavailable
from cluster.domain.base.json_values import parse_json
from cluster.embedded.layout import Layout
from cluster.settings import Settings, load_settings

DAY_H: Final = 24.0
#: A disk that is full sooner is a problem, and one that is full within two weeks a warning.
SOON_H: Final = 2 * DAY_H
LATER_H: Final = 14 * DAY_H
#: A disk with less free is as good as full: PostgreSQL writes its log in pieces of 16 MiB, and stops without room.
LEAST_FREE: Final = 256 * 1024 * 1024
#: A table with more dead rows than this, and more than living ones, grows by rows that nobody reads.
DEAD_ROWS: Final = 100_000
LARGEST: Final = 4

_RETENTION = (
    "Ended tasks, deliberations and runs go by the rules of retention (aragora-cp retention show), old rows of the log go "
    "into archives (aragora-cp retention log)"
)


def stores_settings(ours: Settings) -> Settings:
    """The settings, with the URLs of the embedded stores if those are used."""
    config = Layout.of(ours.data_dir).config_file
    if ours.database_url is None and config.exists():
        return load_settings({"ARAGORA_CONFIG_FILE": str(config)})
    return ours


async def check_database(ours: Settings) -> list[Finding]:
    """Checks that the database can be reached from here and that its clock agrees with ours."""
    from cluster.postgres.growth import looking  # the other commands load no driver

    url = stores_settings(ours).database_url
    if url is None:
        return [problem("database", "not known here", "Set ARAGORA_DATABASE_URL to have it checked.", WARNING)]
    try:
        async with looking(url.get_secret_value(), ours.database_schema) as looker:
            asked_at = time.time()
            told = await looker.clock()
            here = (asked_at, time.time())
    except StoreUnavailable as error:
        return [problem("database", str(error), "Check ARAGORA_DATABASE_URL, and that PostgreSQL runs.")]
    return [clock("database", skew((told, told), here))]


async def check_redis(ours: Settings) -> list[Finding]:
    from cluster.redis.pool import connect as connect_redis
    from cluster.redis.pool import ping

    url = stores_settings(ours).redis_url
    if url is None:
        return [problem("redis", "not known here", "Set ARAGORA_REDIS_URL to have it checked.", WARNING)]
    redis = connect_redis(url.get_secret_value())
    try:
        await ping(redis)
        return [fine("redis", "answers")]
    except StoreUnavailable as error:
        return [problem("redis", str(error), "Check ARAGORA_REDIS_URL, and that Redis or Valkey runs.")]
    finally:
        await redis.aclose()


async def check_growth(ours: Settings, free_bytes: Callable[[Path], int] | None = None) -> list[Finding]:
    """How large the tables are, how fast they grow, and when the disk is full at that rate. ``free_bytes``: the room on the
    disk of a directory."""
    from cluster.postgres.growth import looking

    url = stores_settings(ours).database_url
    if url is None:
        return []  # said by `check_database`
    try:
        async with looking(url.get_secret_value(), ours.database_schema) as looker:
            growth = await looker.growth()
    except StoreUnavailable as error:
        return [problem("tables", str(error), "Check ARAGORA_DATABASE_URL, and that PostgreSQL runs.")]
    data = Layout.of(ours.data_dir).postgres
    here = ours.database_url is None and data.exists()
    free = (free_bytes or _free)(data) if here or free_bytes else None
    return [_room(growth, free), *(_dead(table) for table in growth.tables if _is_mostly_dead(table))]


async def check_audit_key(ours: Settings) -> list[Finding]:
    """A warning if a given database keeps the key that signs the checkpoints which guard it. Under embedded stores there is no
    other place."""
    from cluster.postgres.growth import looking

    if ours.database_url is None:
        return []
    try:
        async with looking(ours.database_url.get_secret_value(), ours.database_schema) as looker:
            head = parse_json((await looker.last_head() or "{}").encode(), "A checkpoint")
    except (StoreUnavailable, InvalidRequest):
        return []  # said by `check_database`, and by `aragora-cp audit verify`
    if not isinstance(head, dict) or head.get("self_signed") is not True:
        return []
    words = "the key that signs the audit's checkpoints is kept in the database that they guard"
    return [problem("audit key", words, "Set ARAGORA_AUDIT_SIGNING_KEY (docs/audit.md).", WARNING)]


def _free(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def _room(growth: Any, free: int | None) -> Finding:
    sizes = ", ".join(f"{table.name} {_size(table.size)}" for table in growth.tables[:LARGEST])
    detail = f"{_size(growth.size)} ({sizes}), {_size(growth.hourly)} more in the last hour"
    if free is None:
        return fine("tables", f"{detail}; the disk of the database is not known here. {_RETENTION}.")
    hours = max(free - LEAST_FREE, 0) / growth.hourly if growth.hourly else float("inf")
    detail = f"{detail}; {_size(free)} are free"
    if hours >= LATER_H and free >= LEAST_FREE:
        return fine("tables", f"{detail}. {_RETENTION}.")
    when = "now" if free < LEAST_FREE else f"in {_span(hours)} at that rate"
    advice = f"Make room or a larger disk. {_RETENTION}."
    found = f"{detail}: the disk is full {when}"
    return problem("tables", found, advice) if hours < SOON_H else problem("tables", found, advice, WARNING)


def _is_mostly_dead(table: Any) -> bool:
    return bool(table.dead > DEAD_ROWS and table.dead > table.living)


def _dead(table: Any) -> Finding:
    detail = f"{table.name} has {table.dead} dead rows and {table.living} living ones, in {_size(table.size)}"
    advice = "Look for a transaction that stays open (a backup, a replication slot), and that autovacuum is on."
    return problem("tables", detail, advice, WARNING)


def _size(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.1f} {unit}"


def _span(hours: float) -> str:
    return f"{hours:.0f} hours" if hours < 2 * DAY_H else f"{hours / DAY_H:.0f} days"
