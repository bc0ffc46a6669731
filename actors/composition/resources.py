"""What the process of any role has: settings, stores, and how it reaches other actors."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors.roles import Role
from cluster.domain.base.errors import TryLater
from cluster.ports.actor_names import ActorNames
from cluster.ports.clock import Clock
from cluster.postgres.migrate import migrate
from cluster.postgres.pool import LONGEST_ANSWER_S
from cluster.postgres.stores import Stores, open_stores
from cluster.process.clock import SystemClock
from cluster.process.loops import OnFatal
from cluster.redis.pool import connect, ping
from cluster.redis.presence import RedisHeartbeats
from cluster.redis.rate_limits import RedisRateLimits
from cluster.redis.tickets import RedisTickets
from cluster.redis.wake_ups import RedisDoorbell
from cluster.rpc.exchange import SentCall
from cluster.settings import Settings, load_settings
from cluster.telemetry.log_files import ACTORS, begin_logging
from cluster.telemetry.tracing import begin_tracing

if TYPE_CHECKING:
    from cluster.agent_transports.chat import HttpTransports
    from cluster.log.replication_gate import ReplicationGate

_logger = logging.getLogger(__name__)

START_RETRY_S = 0.5
LIMITS_CONNECTIONS = 4
LOOPBACK = ("127.0.0.0/8", "::1/128")

#: Makes the function that calls the actor of a role, found by the published names. The runtime provides it, so that
#: nothing here knows Ray.
ActorResolver = Callable[[Role, ActorNames], Callable[..., Awaitable[Any]]]


def urls(settings: Settings) -> tuple[str, str]:
    assert settings.database_url is not None, "checked by load_process_settings"
    assert settings.redis_url is not None
    return settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()


def allowed_networks(settings: Settings) -> tuple[str, ...]:
    """Networks in which agents may be although their addresses are not public."""
    return (*settings.allowed_networks, *(LOOPBACK if settings.embedded else ()))


def load_process_settings(process: str | None = None, log: str = ACTORS) -> Settings:
    """Settings of this process. With its name, it logs from now on, to ``log`` if there are files of logs, and makes spans if
    OpenTelemetry's variables say so.

    Raises: ``RuntimeError`` if a store is not named."""
    settings = load_settings()
    missing = [
        name
        for name, value in (("ARAGORA_DATABASE_URL", settings.database_url), ("ARAGORA_REDIS_URL", settings.redis_url))
        if value is None
    ]
    if missing:
        raise RuntimeError(f"{' and '.join(missing)} must be set; `aragora-cp up` does it for one machine.")
    if process is not None:
        begin_logging(
            process,
            log,
            settings.log_level,
            directory=settings.log_dir,
            most_bytes=settings.log_max_bytes,
            secrets=settings.secrets(),
        )
        begin_tracing(process)
    return settings


async def migrated(settings: Settings) -> None:
    """Migrates the database, and waits for it if it is away. What ``migrate`` raises about a schema that does not fit is
    raised on, which ends the process with that sentence."""
    while True:
        try:
            await migrate(urls(settings)[0], settings.database_schema)
            return
        except TryLater as error:
            _logger.warning("waiting for the database: %s", error)
            await asyncio.sleep(START_RETRY_S)


class Resources:
    """What every actor process has. Connections are opened when they are used first, except those to Postgres."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self.settings = settings
        self.stores = stores
        self.clock: Clock = SystemClock()
        self.redis = connect(urls(settings)[1], max_connections=settings.pool_max_connections)
        self.doorbell = RedisDoorbell(self.redis, settings.redis_prefix)
        self.heartbeats = RedisHeartbeats(self.redis, settings.redis_prefix)
        self.tickets = RedisTickets(self.redis, settings.redis_prefix)
        #: What holds back whatever leaves this process until it is replicated; None in a region alone.
        self.gate: ReplicationGate | None = None

    @classmethod
    async def open(
        cls, settings: Settings, application: str, connections: int, answer_s: float = LONGEST_ANSWER_S
    ) -> Resources:
        """Opens the stores. A call of theirs waits up to ``answer_s`` for the database.

        Raises: `StoreUnavailable` if the database cannot be reached."""
        stores = await open_stores(
            urls(settings)[0],
            settings.database_schema,
            settings.zone,
            max_connections=connections,
            application=application[:60],
            answer_s=answer_s,
            alone=not settings.has_peers,
        )
        return cls(settings, stores)

    async def open_gate(self, on_fatal: OnFatal, on_epoch: Callable[[int], None] | None = None) -> None:
        """With peers: what leaves this process waits from now on until it is replicated. To be called before anything is read
        that the process remembers.

        Raises: `StoreUnavailable`."""
        if not self.settings.has_peers:
            return
        from cluster.log.replication_gate import ReplicationGate
        from cluster.postgres.replication_statuses import PostgresReplicationStatuses

        settings = self.settings
        self.gate = ReplicationGate(
            PostgresReplicationStatuses(self.stores.pool, settings.zone),
            self.doorbell,
            self.clock,
            heartbeat_s=settings.region_heartbeat,
            stale_s=settings.stale_leader_threshold,
            urls=settings.urls_of_regions(),
            on_epoch=on_epoch,
            on_fatal=on_fatal,
        )
        await self.gate.start()

    def state_epoch(self, epoch: int) -> None:
        """From now on writes of this process state this epoch. For a process that remembers nothing but what the log tells it:
        one that decides from memory reads that anew first."""
        self.stores.epoch.value = epoch

    def rate_limits(self, replica: str) -> RedisRateLimits:
        """Limits that all replicas share, over connections of their own, which ``close`` closes."""
        client = connect(urls(self.settings)[1], max_connections=LIMITS_CONNECTIONS, idempotent=False)
        return RedisRateLimits(client, self.settings.redis_prefix, replica, at_once=LIMITS_CONNECTIONS)

    async def ping_redis(self) -> None:
        """Raises: ``StoreUnavailable`` if Redis does not answer."""
        await ping(self.redis)

    @functools.cached_property
    def transports(self) -> HttpTransports:
        """HTTP to agents, made only in the actors that call some."""
        from actors.endpoint_probes import PROBES_AT_ONCE
        from cluster.agent_transports.chat import HttpTransports, Provider
        from cluster.agent_transports.credentials import AgentCredentials

        settings = self.settings
        providers = []
        if settings.openai_api_key is not None:
            bearer = {"Authorization": f"Bearer {settings.openai_api_key.get_secret_value()}"}
            providers.append(Provider(base_url=settings.openai_base_url, headers=bearer))
        if settings.anthropic_api_key is not None:
            key = {"x-api-key": settings.anthropic_api_key.get_secret_value()}
            providers.append(Provider(base_url=settings.anthropic_base_url, headers=key))
        return HttpTransports(
            allowed_networks=allowed_networks(settings),
            pool_size=settings.http_pool_size,
            timeout_s=settings.http_timeout,
            providers=providers,
            probe_connections=PROBES_AT_ONCE,
            credentials=AgentCredentials(self.stores.credentials(settings.sealing_keys()).read),
        )


#: Whether the actor that asks is published for its role, or no actor is.
IsPublished = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Context:
    """What an actor is made from. ``owner``: names its process in leases and exchanges."""

    resources: Resources
    role: Role
    owner: str
    is_published: IsPublished
    on_fatal: OnFatal
    resolve: ActorResolver


def exchange_with(call: Callable[..., Awaitable[Any]]) -> Callable[[SentCall], Awaitable[Any]]:
    """The exchange with an actor, over the function that calls it."""

    async def exchange(message: SentCall) -> Any:
        return await call("exchange", message)

    return exchange
