"""Numbered migrations. The first process that starts applies them, once and under a lock; there is no way back."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import asyncpg

from cluster.domain.base.errors import ControlPlaneError
from cluster.postgres.pool import CONNECT_TIMEOUT_S, translated

_NAME = re.compile(r"(\d{4})_\w+\.sql")


class MigrationError(ControlPlaneError):
    """The schema does not fit this code; the sentence says what to do."""

    default_code = "migration_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    version: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        """By which a migration that was changed after it had been applied is found."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def shipped() -> list[Migration]:
    """The migrations of this code, in order."""
    found = []
    for file in (files("cluster.postgres") / "migrations").iterdir():
        match = _NAME.fullmatch(file.name)
        if match:
            found.append(Migration(version=int(match[1]), name=file.name, sql=file.read_text()))
    return sorted(found, key=lambda migration: migration.version)


async def migrate(url: str, schema: str, migrations: list[Migration] | None = None) -> int:
    """Brings the schema to the code's version, and returns that version.

    Raises: `MigrationError` if the schema is newer than the code, or a migration is not the one that was applied;
    `StoreUnavailable` if the database does not answer."""
    target = shipped() if migrations is None else migrations
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
        try:
            async with connection.transaction():
                await connection.execute(
                    "select pg_advisory_xact_lock(hashtextextended('aragora-migrate:' || $1::text, 0))", schema
                )
                return await _apply(connection, schema, target)
        finally:
            await connection.close()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise translated(error) from error


async def _apply(connection: Any, schema: str, target: list[Migration]) -> int:
    await connection.execute(f'create schema if not exists "{schema}"')
    await connection.execute(f'set local search_path to "{schema}"')
    await connection.execute(
        "create table if not exists schema_migrations ("
        "version integer primary key, name text not null, digest text not null, "
        "applied_at timestamptz not null default now())"
    )
    rows = await connection.fetch("select version, name, digest from schema_migrations order by version")
    applied = {row["version"]: row for row in rows}
    newest = max((migration.version for migration in target), default=0)
    _check(schema, applied, target, newest)
    for migration in target:
        if migration.version not in applied:
            await connection.execute(migration.sql)
            await connection.execute(
                "insert into schema_migrations (version, name, digest) values ($1, $2, $3)",
                migration.version,
                migration.name,
                migration.digest,
            )
    return newest


def _check(schema: str, applied: dict[int, Any], target: list[Migration], newest: int) -> None:
    ahead = max(applied, default=0)
    if ahead > newest:
        raise MigrationError(
            f"Schema {schema} is at version {ahead}, this code knows {newest}: run the newer version, or restore a backup."
        )
    for migration in target:
        row = applied.get(migration.version)
        if row is not None and row["digest"] != migration.digest:
            raise MigrationError(
                f"Migration {row['name']} was applied to schema {schema} with another content: restore the file that was applied."
            )
