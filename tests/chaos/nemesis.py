"""Faults, drawn from a seed: what is taken away, for how long, and how it is known to serve again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import asyncpg
import httpx
from pydantic import SecretStr

from actors.composition.making import make
from actors.composition.resources import Resources
from actors.roles import KINDS, SCHEDULER, Role
from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.processes import ProcessId, end, session_members
from cluster.embedded.redis import EmbeddedRedis
from cluster.ports.actor_names import ActorNames
from cluster.process.loops import unwatched
from cluster.redis.pool import connect
from cluster.settings import Settings
from tests.chaos.history import Fault
from tests.chaos.target import Target
from tests.support.hanging import stopped
from tests.support.rollouts import deploy_environment, deploy_replicas, replica_states

HEAL_S = 90.0
LOOK_S = 0.3
#: A store hangs for longer than the API waits for it.
HANG_S = 6.0

#: One deal of the deck: what is dealt more often is where most can go wrong.
DECK = (
    *("kill-scheduler",) * 5,
    *("postgres-kill",) * 3,
    *("postgres-hang", "redis-hang"),
    *("freeze-scheduler",) * 2,
    *("two-generations",) * 2,
    *("redis-flush", "redis-kill", "kill-api", "kill-supervisor"),
    *("change-replicas", "new-version"),
    *(f"kill-{kind}" for kind in KINDS if kind != SCHEDULER),
)

#: What a kill's victim is called among Ray's named actors.
_VICTIMS = {"kill-api": "aragora#Api#", "kill-supervisor": "aragora#Supervisor#"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """``wait_s`` before it begins; ``hold_s`` is how long it lasts, where it lasts."""

    name: str
    wait_s: float
    hold_s: float


def plan(seed: int, count: int, names: Sequence[str] = DECK) -> list[Planned]:
    """The same for the same seed. Every name comes up before any is dealt anew."""
    rng = random.Random(f"{seed}/nemesis")
    dealt: list[str] = []
    while len(dealt) < count:
        once, rest = list(dict.fromkeys(names)), list(names)
        for name in once:
            rest.remove(name)
        rng.shuffle(once)
        rng.shuffle(rest)
        dealt += once + rest
    return [Planned(name=n, wait_s=rng.uniform(0.5, 3.0), hold_s=rng.uniform(0.3, 1.5)) for n in dealt[:count]]


@dataclass(frozen=True, slots=True)
class StoreFaults:
    """What can happen to the stores; each answers what it did, and returns when the store is there again."""

    postgres: EmbeddedPostgres
    redis: EmbeddedRedis

    async def kill_postgres(self, hold_s: float) -> str:
        """kill -9 of the postmaster and of every backend, as a machine that loses power would."""
        store = self.postgres
        assert store.process is not None
        await asyncio.to_thread(end, session_members(store.process), first=signal.SIGKILL)
        await asyncio.sleep(hold_s)
        await asyncio.to_thread(store.start)
        return f"away for {hold_s:.1f} s and its recovery"

    async def hang_postgres(self, hold_s: float) -> str:
        """Every process stops and no connection ends, as on a machine that swaps, or behind a network that loses packets."""
        assert self.postgres.process is not None
        return await self._hang(self.postgres.process, hold_s)

    async def hang_redis(self, hold_s: float) -> str:
        assert self.redis.process is not None
        return await self._hang(self.redis.process, hold_s)

    async def _hang(self, server: ProcessId, hold_s: float) -> str:
        hung_s = HANG_S + hold_s
        with stopped(server):
            await asyncio.sleep(hung_s)
        return f"for {hung_s:.1f} s"

    async def kill_redis(self, hold_s: float) -> str:
        store = self.redis
        assert store.process is not None
        await asyncio.to_thread(end, [store.process], first=signal.SIGKILL)
        await asyncio.sleep(hold_s)
        await asyncio.to_thread(store.start)
        return f"away for {hold_s:.1f} s"

    async def flush_redis(self, hold_s: float) -> str:
        client = connect(self.redis.url)
        try:
            await client.flushall()
        finally:
            await client.aclose()
        return ""


class Nemesis:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._stores = StoreFaults(target.postgres, target.redis)
        self._versions = 0

    async def strike(self, planned: Planned) -> Fault:
        """Waits, strikes, and returns when what it took away serves again."""
        await asyncio.sleep(planned.wait_s)
        act: Callable[[float], Awaitable[str]] | None = {
            "postgres-kill": self._stores.kill_postgres,
            "postgres-hang": self._stores.hang_postgres,
            "postgres-outage": self._stores.kill_postgres,
            "redis-kill": self._stores.kill_redis,
            "redis-hang": self._stores.hang_redis,
            "redis-flush": self._stores.flush_redis,
            "freeze-scheduler": self._freeze_scheduler,
            "two-generations": self._two_generations,
            "change-replicas": self._change_replicas,
            "new-version": self._new_version,
        }.get(planned.name)
        if act is None:
            victim = _VICTIMS.get(planned.name, f"-{planned.name.removeprefix('kill-')}-")
            return await self._kill_actor(planned.name, victim)
        began = time.monotonic()
        detail = await act(planned.hold_s)
        await self._healthy()
        return Fault(name=planned.name, began=began, healed=time.monotonic(), detail=detail)

    # --- actors --------------------------------------------------------------------------------------------------

    async def _actors(self, victim: str) -> dict[str, int]:
        with contextlib.suppress(httpx.HTTPError):
            found = await asyncio.to_thread(self._target.system.actors)
            return {name: pid for name, pid in found.items() if victim in name}
        return {}

    async def _living(self, victim: str, dead: int = 0) -> ProcessId:
        """The one process that plays the part, another than ``dead``."""
        async with asyncio.timeout(HEAL_S):
            while True:
                for pid in (await self._actors(victim)).values():
                    found = ProcessId.of(pid)
                    if found is not None and pid != dead:
                        return found
                await asyncio.sleep(LOOK_S)

    async def _kill_actor(self, name: str, victim: str) -> Fault:
        process = await self._living(victim)
        began = time.monotonic()
        process.signal(signal.SIGKILL)
        successor = await self._living(victim, process.pid)
        await self._healthy()
        return Fault(
            name=name, began=began, healed=time.monotonic(), detail=f"{victim} {process.pid} then {successor.pid}"
        )

    async def _freeze_scheduler(self, hold_s: float) -> str:
        """Beyond the leases that it grants: it wakes up with all of them overdue."""
        process = await self._living(f"-{SCHEDULER}-")
        process.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(self._target.heartbeat_timeout_s + hold_s)
        finally:
            process.signal(signal.SIGCONT)
        return f"{process.pid}"

    async def _two_generations(self, hold_s: float) -> str:
        """A second shard on the same stores, as in a rolling upgrade. It is never published; the first one is fenced by
        its next decision and must take the shard back."""
        async with self._second_shard() as generation:
            await asyncio.sleep(hold_s)
        async with asyncio.timeout(HEAL_S):
            after = await self._generation()
            while after <= generation:
                await asyncio.sleep(0.05)
                after = await self._generation()
        return f"generation {generation}, then {after}"

    async def _generation(self) -> int:
        connection = await asyncpg.connect(self._target.postgres.url)
        try:
            table = f'"{self._target.target.schema}".shards'
            return int(await connection.fetchval(f"select max(generation) from {table}"))
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def _second_shard(self) -> AsyncIterator[int]:
        settings = Settings(
            database_url=SecretStr(self._target.postgres.url),
            redis_url=SecretStr(self._target.redis.url),
            heartbeat_timeout=self._target.heartbeat_timeout_s,
        )
        resources = await Resources.open(settings, "chaos-second-shard", connections=4)
        shard = make(
            resources, Role(kind=SCHEDULER), "chaos", is_published=_never, on_fatal=unwatched, resolve=_resolve_nobody
        )
        try:
            await shard.start()
            yield int((await shard.status())["generation"])
        finally:
            await shard.stop()
            await resources.doorbell.close()
            await resources.stores.close()
            await resources.redis.aclose()

    # --- deployments ---------------------------------------------------------------------------------------------

    async def _change_replicas(self, hold_s: float) -> str:
        """One replica more, and one less again."""
        system = self._target.system
        for replicas in (2, 1):
            await asyncio.to_thread(deploy_replicas, system, replicas)
            await self._until(lambda: self._serve_alone(replicas))  # noqa: B023
            await asyncio.sleep(hold_s)
        return "2, then 1"

    async def _serve_alone(self, replicas: int) -> bool:
        states = await asyncio.to_thread(replica_states, self._target.system)
        return [*states.values()] == ["RUNNING"] * replicas

    async def _new_version(self, hold_s: float) -> str:
        """Another environment: every replica and every actor is replaced."""
        system, self._versions = self._target.system, self._versions + 1
        replicas, actors = replica_states(system).keys(), (await self._actors("aragora-")).keys()
        await asyncio.to_thread(deploy_environment, system, ARAGORA_HTTP_TIMEOUT=str(60 + self._versions))

        async def replaced() -> bool:
            states, now = await asyncio.to_thread(replica_states, system), (await self._actors("aragora-")).keys()
            return bool(states) and not states.keys() & replicas and not now & actors and len(now) >= len(actors)

        await self._until(replaced)
        return f"version {self._versions}"

    async def _until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(2 * HEAL_S):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if await condition():
                        return
                await asyncio.sleep(LOOK_S)

    # --- the end of a fault ------------------------------------------------------------------------------------------

    async def _healthy(self) -> None:
        async with httpx.AsyncClient() as http, asyncio.timeout(HEAL_S):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    answer = await http.get(f"{self._target.system.api_url}/health", timeout=5)
                    if answer.status_code == 200 and answer.json()["status"] == "ok":
                        return
                await asyncio.sleep(0.05)


async def _never() -> bool:
    return False


def _resolve_nobody(role: Role, names: ActorNames) -> Callable[..., Awaitable[object]]:
    async def call(*args: object, **options: object) -> object:
        raise AssertionError(f"a scheduler shard calls nobody, not {role.key}")

    return call
