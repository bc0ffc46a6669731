"""The API's view of the store of signs of life, which may be away without anybody's call failing for it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cluster.domain.base.errors import TryLater
from cluster.ports.presence import HeartbeatRecord, HeartbeatStore

_logger = logging.getLogger("serve_app")


class BestEffortHeartbeats:
    """Redis may cost latency and nothing else. A sign that cannot be written renews its leases all the same, because
    the shard is told of it too, and the health monitor judges nobody by a silence during which the store was away.
    Readers have the signs that were written behind to Postgres. Readiness says that the store is missing."""

    def __init__(self, heartbeats: HeartbeatStore) -> None:
        self._heartbeats = heartbeats

    async def record_activity(self, heartbeats: Sequence[HeartbeatRecord]) -> None:
        try:
            await self._heartbeats.record_activity(heartbeats)
        except TryLater as error:
            _logger.warning("%d signs of life were not kept: %s", len(heartbeats), error)

    async def last(self, workspace: str, agent_ids: Sequence[str]) -> dict[str, float]:
        try:
            return await self._heartbeats.last(workspace, agent_ids)
        except TryLater:
            return {}

    async def last_activity(self, workspace: str, agent_ids: Sequence[str]) -> dict[str, float]:
        try:
            return await self._heartbeats.last_activity(workspace, agent_ids)
        except TryLater:
            return {}

    async def forget(self, agents: Sequence[tuple[str, str]]) -> None:
        """One that is not forgotten belongs to no agent any more and is never asked for."""
        try:
            await self._heartbeats.forget(agents)
        except TryLater as error:
            _logger.warning("%d signs of life were not dropped: %s", len(agents), error)

    async def silent(self, before: float) -> list[tuple[str, str]]:
        return await self._heartbeats.silent(before)

    async def life(self) -> str:
        return await self._heartbeats.life()
