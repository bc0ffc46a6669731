"""Pushes in the database. Their secrets are sealed, each bound to its push."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

from cluster.domain.access.sealing import NONCE_BYTES, NoSealingKey, Sealer, Unsealable
from cluster.domain.base.errors import Conflict
from cluster.domain.base.log import LogRecord
from cluster.domain.deliberation.wire import A2A_CONTEXT
from cluster.domain.notifications.delivery import DeliveryStatus
from cluster.domain.notifications.pushes import (
    ENDS,
    MOST_OF_TASK,
    MOST_PUSHES,
    STATES,
    KnownPush,
    NewPush,
    Push,
    PushSecret,
    StateChange,
)
from cluster.postgres.log import Epoch, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("pushes")
_KINDS = list(STATES)


class PostgresPushes:
    """``keys`` seal; without any no push can have a token or credentials."""

    def __init__(self, pool: Pool, epoch: Epoch, keys: Sequence[bytes]) -> None:
        self._pool = pool
        self._epoch = epoch
        self._keys = keys

    async def put(self, push: NewPush, record: LogRecord) -> None:
        row = {
            "push_id": push.push_id,
            "workspace": push.workspace,
            "task_id": push.task_id,
            "id": push.id,
            "principal": push.principal,
            "created_at": push.created_at,
            "url": push.url,
            "origin": push.origin,
            "in_context": push.in_context,
            "status": "idle",
            "attempts": 0,
        }
        bounds = (MOST_PUSHES, MOST_OF_TASK)
        outcome = await self._commit(
            "put_push", *bounds, json.dumps(row), self._sealed(push), log_rows([record], self._epoch)
        )
        if outcome == "too_many":
            raise Conflict(f"The workspace has {MOST_PUSHES:,} pushes; delete some first.", "too_many_pushes")
        if outcome == "too_many_of_task":
            raise Conflict(f"The task has {MOST_OF_TASK} pushes; delete one first.", "too_many_pushes")

    async def remove(self, record: LogRecord) -> bool:
        return bool(await self._commit("remove_push", log_rows([record], self._epoch)))

    async def of_task(self, workspace: str, task_id: str) -> list[KnownPush]:
        rows = await self._pool.rows(_SQL["list_pushes"], workspace, task_id)
        return [KnownPush(id=row["id"], url=row["url"]) for row in rows]

    async def tell(self, workspace: str, push_id: str, state: tuple[str, float], now: float) -> None:
        await self._pool.execute(_SQL["tell_push"], workspace, push_id, *state, now)

    async def changes(self, after: int, until: int) -> list[StateChange]:
        return _changes(await self._pool.rows(_SQL["changed_rows"], after, until, _KINDS))

    async def missed(self, until: int) -> list[StateChange]:
        return _changes(await self._pool.rows(_SQL["missed_rows"], until, _KINDS))

    async def claim(self, now: float, until: float, limit: int, busy: Sequence[tuple[str, str]]) -> list[Push]:
        receivers = ([workspace for workspace, _ in busy], [origin for _, origin in busy])
        ids = await self._commit("claim_pushes", now, until, limit, *receivers)
        rows = await self._pool.rows(_SQL["get_pushes"], ids, A2A_CONTEXT) if ids else []
        return [self._push(row) for row in rows]

    async def settle(self, pushes: Sequence[Push]) -> Sequence[None]:
        rows = [
            {
                "push_id": push.push_id,
                "seq": push.seq,
                "attempts": push.attempts,
                "status": push.status.value,
                "next_at": push.next_at,
                "ended_at": push.ended_at,
                "error": push.error,
            }
            for push in pushes
        ]
        await self._pool.execute(_SQL["settle_pushes"], json.dumps(rows), list(ENDS))
        return [None] * len(pushes)

    async def forget(self, silent_since: float, limit: int) -> int:
        return int(await self._pool.value(_SQL["forget_pushes"], silent_since, limit))

    def _sealed(self, push: NewPush) -> bytes | None:
        """Raises: `NoSealingKey`."""
        if push.secret.is_empty:
            return None
        if not self._keys:
            raise NoSealingKey(
                "The token and the credentials of a push are stored sealed, and ARAGORA_SECRETS_KEY is not set where the control "
                "plane runs; set it (`aragora-cp secrets generate` makes one), or leave them out."
            )
        return Sealer(self._keys).seal(push.push_id, push.secret.document(), os.urandom(NONCE_BYTES))

    def _push(self, row: Any) -> Push:
        secret, problem = PushSecret(), None
        if row["sealed"] is not None:
            try:
                secret = PushSecret.of_document(Sealer(self._keys).open(row["push_id"], bytes(row["sealed"])))
            except Unsealable as error:
                problem = error.message
        return Push(
            push_id=row["push_id"],
            workspace=row["workspace"],
            task_id=row["task_id"],
            context_id=row["context_id"],
            url=row["url"],
            origin=row["origin"],
            seq=row["seq"],
            state=row["state"],
            at=row["at"],
            status=DeliveryStatus.PENDING,
            attempts=row["attempts"],
            next_at=row["next_at"],
            error=row["error"],
            secret=secret,
            problem=problem,
        )

    async def _commit(self, statement: str, *arguments: Any) -> Any:
        return await self._pool.value(_SQL[statement], self._epoch.region, self._epoch.value, *arguments)


def _changes(rows: Iterable[Any]) -> list[StateChange]:
    return [
        StateChange(
            workspace=row["workspace"], task_id=row["entity"], seq=row["seq"], state=STATES[row["kind"]], at=row["at"]
        )
        for row in rows
    ]
