"""Hooks in the database; their secrets are in the table of sealed secrets."""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from cluster.domain.access.sealing import NONCE_BYTES, NoSealingKey, Sealer, Unsealable
from cluster.domain.base.errors import Conflict
from cluster.domain.base.json_writing import json_writer
from cluster.domain.base.log import LogRecord
from cluster.domain.hooks.hook import MOST_HOOKS, Hook, Secret, sealed_text, secrets_of
from cluster.ports.tasks import SubmitItem
from cluster.postgres.log import Epoch, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import in_one_statement, queries
from cluster.postgres.tasks import submit_parts

_SQL = queries("hooks")
_dump = json_writer(allow_nan=True)
#: What is a column of its own, as it is.
_PLAIN = tuple(
    item.name for item in fields(Hook) if item.name not in ("starts", "input", "secrets_until", "has_secrets")
)


def _stored(secrets_id: str) -> str:
    """The name in the table, which sealed secrets are bound to."""
    return f"hook/{secrets_id}"


class PostgresHooks:
    """``keys`` seal; without any no secret can be read or stored."""

    def __init__(self, pool: Pool, epoch: Epoch, keys: Sequence[bytes]) -> None:
        self._pool = pool
        self._epoch = epoch
        self._keys = keys

    async def get(self, workspace: str, name: str) -> Hook | None:
        rows = await self._pool.rows(_SQL["get_hook"], workspace, name)
        return _hook(rows[0]) if rows else None

    async def secrets(self, workspace: str, name: str) -> tuple[Hook, tuple[Secret, ...]] | None:
        rows = await self._pool.rows(_SQL["get_hook"], workspace, name)
        if not rows:
            return None
        hook = _hook(rows[0])
        if not hook.has_secrets:
            return hook, ()
        try:
            opened = self._sealer().open(_stored(hook.secrets_id), bytes(rows[0]["sealed"]))
        except Unsealable as error:  # a setting has to change, and nothing is wrong with the code
            raise Conflict(error.message, error.code) from None
        return hook, secrets_of(opened, hook.secrets_until)

    async def list(self, workspace: str) -> builtins.list[Hook]:
        return [_hook(row) for row in await self._pool.rows(_SQL["list_hooks"], workspace)]

    async def put(self, hook: Hook, record: LogRecord, secrets: Sequence[Secret] | None = None) -> bool:
        sealed = None
        if secrets is not None:
            sealed = self._sealer().seal(_stored(hook.secrets_id), sealed_text(secrets), os.urandom(NONCE_BYTES))
        outcome = await self._pool.value(
            _SQL["put_hook"],
            self._epoch.region,
            self._epoch.value,
            MOST_HOOKS,
            _dump(_row(hook)),
            sealed,
            log_rows([record], self._epoch),
        )
        if outcome == "too_many":
            raise Conflict(f"The workspace has {MOST_HOOKS:,} hooks; delete one first.", "too_many_hooks")
        return bool(outcome == "done")

    async def submit(self, item: SubmitItem) -> None:
        once = (_SQL["start_once"], (self._epoch.region, item.task.id))
        await self._pool.rows(*in_one_statement([once, *submit_parts([item], self._epoch)]))

    async def remove(self, workspace: str, records: Sequence[LogRecord]) -> builtins.list[str]:
        rows = log_rows(records, self._epoch)
        return list(await self._pool.value(_SQL["remove_hooks"], self._epoch.region, self._epoch.value, rows))

    async def of_subject(self, workspace: str, subject: str | None, limit: int) -> builtins.list[str]:
        return [row["name"] for row in await self._pool.rows(_SQL["hooks_of_subject"], workspace, subject, limit)]

    def _sealer(self) -> Sealer:
        if not self._keys:
            raise NoSealingKey(
                "Secrets of hooks are stored sealed, and ARAGORA_SECRETS_KEY is not set where the control plane runs; set it "
                "(`aragora-cp secrets generate` makes one)."
            )
        return Sealer(self._keys)


def _row(hook: Hook) -> dict[str, Any]:
    """The columns, as JSON."""
    json_columns = {"starts": hook.starts, "input": hook.input, "secrets_until": hook.secrets_until}
    return {**{name: getattr(hook, name) for name in _PLAIN}, **json_columns}


def _hook(row: Any) -> Hook:
    return Hook(
        **{name: row[name] for name in _PLAIN},
        starts=json.loads(row["starts_text"]),
        input=json.loads(row["input_text"]),
        secrets_until=tuple(json.loads(row["until_text"])),
        has_secrets=row["sealed"] is not None,
    )
