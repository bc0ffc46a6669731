"""One replica of the API, from its start to its end, and the FastAPI application around it.

It reaches actors through an ``ActorResolver`` only, so that the same code runs on Ray and in a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from actors.composition.resources import ActorResolver, Resources, migrated
from actors.failing_commits import increments
from actors.roles import REGION_LEADER, SCHEDULER, TELEMETRY, Role, desired_roles
from cluster.domain.access.workspaces import Workspace, WorkspaceState
from cluster.domain.actor_memory import MIB
from cluster.domain.base.errors import Conflict, TryLater
from cluster.domain.base.log import SYSTEM, LogRow, Origin
from cluster.domain.metric_families import METRICS_COMPLETE, STORE_READABLE
from cluster.domain.metrics import Increment, Metrics
from cluster.log.access_directory import ACCESS_ROWS, AccessDirectory
from cluster.log.agent_directory import AGENT_ROWS, AgentDirectory
from cluster.log.archived_story import ArchivedStories
from cluster.log.audit import verify_part
from cluster.log.budget_directory import BUDGET_ROWS, BudgetDirectory
from cluster.log.follower import LogFollower
from cluster.log.policy_directory import POLICY_ROWS, PolicyDirectory
from cluster.log.quota_directory import QUOTA_ROWS, QuotaDirectory
from cluster.log.task_tally import TaskTally
from cluster.ports.clock import Clock
from cluster.ports.log import LogFilter
from cluster.ports.wake_ups import WakeTopic
from cluster.process.front import PROBLEM, front_tls
from cluster.process.loops import Loops, OnFatal
from cluster.process.memory import resident_bytes
from cluster.process.store_passwords import weak_store_passwords
from cluster.process.waits import AWAY_S, HAPROXY_HARD_STOP_S, HOLD_S, LONGEST_CALL_S, RESTART_S, STORE_S
from cluster.rpc.exchange import ExchangeClient, SentCall
from cluster.settings import Settings
from cluster.telemetry.exposition import OPENMETRICS, TEXT, process_exposition
from cluster.telemetry.observations import HttpObservations
from cluster.telemetry.process_figures import EVERY_S, LoopLag, ProcessFigures
from cluster.version import VERSION
from serve_app.a2a.making import serve_a2a
from serve_app.application import add_middleware, make_app
from serve_app.auth.clients import Clients
from serve_app.auth.making import (
    authentication,
    call_limits,
    denials,
    local_administrator,
    login_throttle,
    logins,
    shared_limits,
)
from serve_app.auth.socket_tickets import SocketTickets
from serve_app.best_effort_heartbeats import BestEffortHeartbeats
from serve_app.components import Components, Probe
from serve_app.front_certificates import FrontCertificates
from serve_app.gateway import Gateway
from serve_app.http.fast_path import DirectApp
from serve_app.http.forwarded import leave_forwarding_to_us
from serve_app.mcp.making import mcp_running, serve_mcp
from serve_app.memory import ReplicaMemory
from serve_app.signing import ReceiptSigner
from serve_app.streams.chunks import ChunkHub
from serve_app.streams.endings import end_when_replaced
from serve_app.streams.hub import StreamHub

_logger = logging.getLogger(__name__)

#: Least time between two reads of the log, so that rows of a busy moment are read together.
APART_S = 0.02
PUSH_S = 2.0
HOME_RETRY_S = 0.5
PROBE_TIMEOUT_S = 2.0
#: How long ``/metrics`` waits for telemetry, of that for its taking what this replica has counted, and then for the database.
#: Together they stay below ``AWAY_S``.
TELEMETRY_S = 4.0
TAKEN_S = 0.8
DATABASE_S = 0.7
CONNECTIONS = 16

#: The database's name among the components of ``/health``.
DATABASE = "Database"

#: Calls a method of a role's actor: (method, arguments, timeout_s=).
CallRole = Callable[..., Awaitable[Any]]


class Replica:
    """Opens what one replica's routes use, runs its loops, and closes both."""

    def __init__(
        self,
        settings: Settings,
        resources: Resources,
        resolve: ActorResolver,
        observations: HttpObservations,
        on_fatal: OnFatal,
        hard_stop_s: int | None = None,
        front_directory: Path | None = None,
    ) -> None:
        """``front_directory`` is that of this node's HAProxy."""
        self.settings = settings
        self._hard_stop_s = hard_stop_s
        self._front_directory = front_directory
        self.resources = resources
        self.observations = observations
        #: Observations of HTTP calls that telemetry has not taken yet, at most 50,000; ``_push`` adds and removes.
        self._unsent: list[Any] = []
        #: By role key: how to call the actor that plays the role.
        self._roles: dict[str, CallRole] = {
            role.key: resolve(role, resources.stores.names) for role in desired_roles(settings)
        }
        self._loops = Loops(on_fatal)
        self._components: Components
        self.memory = ReplicaMemory(
            bound=settings.api_memory_mb * MIB,
            resident=resident_bytes,
            leases=resources.stores.leases,
            holder=f"{socket.gethostname()}:{os.getpid()}",
            clock=resources.clock,
        )
        self._counters = [self.memory.increments]
        # What this replica says about itself: the followers of its copies, its event loop, the front's certificates, and when all
        # of that was sent last.
        self._followers: list[LogFollower] = []
        self._loop_lag = LoopLag()
        self._certificates: FrontCertificates | None = None
        self._told_at = float("-inf")

    async def start(self) -> Gateway:
        resources, settings = self.resources, self.settings
        directory = AgentDirectory(resources.stores.agents)
        cursor = await directory.load()
        follower = LogFollower(
            resources.stores.log,
            resources.doorbell,
            resources.clock,
            after=cursor,
            apply=directory.apply,
            only=AGENT_ROWS,
            topics=(WakeTopic.AGENTS,),
            apart_s=APART_S,
        )
        access, policies, budgets, quotas, access_follower = await self._access()

        self._followers = [follower, access_follower]
        tally = TaskTally(resources.stores.tally, resources.clock, wait_s=AWAY_S)
        await tally.load()
        self._components = Components(self._probes())
        hub = StreamHub(resources.stores.log, resources.doorbell, resources.clock)
        chunk_hub = ChunkHub(
            resources.stores.chunks, resources.doorbell, hub, resources.clock, has_peers=settings.has_peers
        )

        async def catch_up() -> None:
            head = await resources.stores.log.head()
            await asyncio.gather(follower.catch_up_to(head), access_follower.catch_up_to(head))

        scheduler = ExchangeClient(
            f"{socket.gethostname()}:{os.getpid()}",
            self._exchange,
            clock=resources.clock,
            hold_s=HOLD_S,
            answer_s=RESTART_S - HOLD_S,
            running_s=AWAY_S,
            max_waiting=settings.agents_per_replica * 2,
            late_reply=lambda answer: gateway.release(answer),
        )
        heartbeats = BestEffortHeartbeats(resources.heartbeats)
        gateway = Gateway(
            settings=settings,
            clock=resources.clock,
            tasks=resources.stores.tasks,
            chunks=resources.stores.chunks,
            tally=tally,
            dead_letters=resources.stores.dead_letters,
            controls=resources.stores.controls,
            schedules=resources.stores.schedules,
            workflows=resources.stores.workflows,
            hooks=resources.stores.hooks(settings.sealing_keys()),
            notifications=resources.stores.notifications,
            pushes=resources.stores.pushes(settings.sealing_keys()),
            answers=resources.stores.answers,
            agents=resources.stores.agents,
            deliberations=resources.stores.deliberations,
            outcomes=resources.stores.outcomes,
            budgets=resources.stores.budgets,
            budget_view=budgets,
            quotas=resources.stores.quotas,
            quota_view=quotas,
            policies=resources.stores.policies,
            policy_view=policies,
            credentials=resources.stores.credentials(settings.sealing_keys()),
            signing=ReceiptSigner(resources.stores.signing_keys(settings.sealing_keys()), settings.receipt_signing_key),
            heartbeats=heartbeats,
            doorbell=resources.doorbell,
            directory=directory,
            access=access,
            access_store=resources.stores.access,
            scheduler=scheduler,
            hub=hub,
            chunk_hub=chunk_hub,
            log=resources.stores.log,
            audit=resources.stores.audit,
            erasures=resources.stores.erasures,
            retention=resources.stores.retention,
            archived_stories=ArchivedStories(
                resources.stores.log, resources.stores.log_segments, resources.settings.log_archive_dir
            ),
            verify_audit=partial(verify_part, resources.stores.log, resources.stores.seals),
            sealed=resources.stores.seals.sealed,
            components=self._components,
            metrics_text=self._metrics_text,
            region_status=partial(self._roles[Role(kind=REGION_LEADER).key], "status", timeout_s=PROBE_TIMEOUT_S),
            started_at=resources.clock.now(),
            breakers=resources.stores.breakers,
            database=lambda: resources.stores.pool.breaker,
            leases=resources.stores.leases,
            submit_causes=resources.stores.tasks.submit_causes,
            catch_up=catch_up,
        )
        self._counters += [heartbeats.increments, gateway.policy_checks.take]
        self._loops.start(
            self._loop_lag.run(),
            follower.run(),
            access_follower.run(),
            tally.run(),
            hub.run(),
            chunk_hub.run(),
            gateway.attend_forever(),
            gateway.open_calls.run(),
            self.memory.run(),
            self._push_forever(),
        )
        return gateway

    async def _access(
        self,
    ) -> tuple[AccessDirectory, PolicyDirectory, BudgetDirectory, QuotaDirectory, LogFollower]:
        """The copies of access, policies, budgets and quotas, and what keeps them. The workspace of the settings
        exists from the first start on."""
        stores, home = self.resources.stores, self.settings.workspace
        access = AccessDirectory(stores.access)
        cursor = await access.load()
        if self.resources.gate is not None:
            self._loops.start(self._make_home(access))
        elif access.workspace(home) is None:
            await self._create_home()
            cursor = await access.load()
        policies = PolicyDirectory(stores.policies)
        budgets = BudgetDirectory(stores.budgets, self.resources.clock)
        quotas = QuotaDirectory(stores.quotas)
        await quotas.load()
        await budgets.load()
        await policies.load()  # after the cursor was read: what changes between the two is read again

        async def apply(rows: Sequence[LogRow]) -> None:
            others = (*POLICY_ROWS.kinds, *BUDGET_ROWS.kinds, *QUOTA_ROWS.kinds)
            about_access = [row for row in rows if row.kind not in others]
            if about_access:
                await access.apply(about_access)
            await policies.apply(rows)
            await budgets.apply(rows)
            await quotas.apply(rows)

        follower = LogFollower(
            stores.log,
            self.resources.doorbell,
            self.resources.clock,
            after=cursor,
            apply=apply,
            only=LogFilter(kinds=(*ACCESS_ROWS.kinds, *POLICY_ROWS.kinds, *BUDGET_ROWS.kinds, *QUOTA_ROWS.kinds)),
            topics=(WakeTopic.ACCESS,),
            apart_s=APART_S,
        )
        return access, policies, budgets, quotas, follower

    async def _create_home(self) -> None:
        home, now = self.settings.workspace, self.resources.clock.now()
        workspace = Workspace(id=home, name=home, state=WorkspaceState.ACTIVE, created_at=now, changed_at=now)
        with contextlib.suppress(Conflict):  # another replica starts too
            await self.resources.stores.access.create_workspace(Origin(workspace=home, principal=SYSTEM), workspace)

    async def _make_home(self, access: AccessDirectory) -> None:
        """With peers, the workspace of the settings is the primary's to create, as soon as there is one."""
        assert self.resources.gate is not None
        while access.workspace(self.settings.workspace) is None:
            await self.resources.gate.becomes_primary()
            with contextlib.suppress(TryLater):
                await self._create_home()
            await self.resources.clock.sleep(HOME_RETRY_S)

    async def _exchange(self, message: SentCall) -> Any:
        return await self._roles[Role(kind=SCHEDULER).key]("exchange", message)

    async def _metrics_text(self, openmetrics: bool) -> tuple[str, str]:
        """The region's metrics; while telemetry is away, what this replica knows of itself and of the database."""
        try:
            await self._push(TAKEN_S)
            render = self._roles[Role(kind=TELEMETRY).key]
            text = str(await render("render", openmetrics, timeout_s=TELEMETRY_S - TAKEN_S))
            return text, OPENMETRICS if openmetrics else TEXT
        except TryLater:
            found = await self._components.check(DATABASE_S)
        readable = next(component.healthy for component in found if component.name == DATABASE)
        own = Metrics()
        own.set_gauge(STORE_READABLE, {(): float(readable)})
        own.set_gauge(METRICS_COMPLETE, {(): 0.0})
        return process_exposition(own), TEXT

    def _probes(self) -> dict[str, Probe]:
        probes: dict[str, Probe] = {
            DATABASE: self.resources.stores.pool.ping,
            "Redis": self.resources.ping_redis,
            "API": self.memory.warnings,
        }
        for key, call in self._roles.items():
            probes[_component(key)] = self._actor_probe(key, call)
        if self._hard_stop_s is not None and self._hard_stop_s < LONGEST_CALL_S:
            probes["HAProxy"] = self._hard_stop
        ours = self.settings
        tls = front_tls(ours.tls_enabled, ours.tls_cert_file, ours.tls_key_file, ours.tls_ca_file)
        if tls is not None:
            kept_out = None if self._front_directory is None else self._front_directory / PROBLEM
            self._certificates = FrontCertificates(tls, kept_out, self.resources.clock)
            probes["Certificates"] = self._certificates.warnings
        return probes

    async def _hard_stop(self) -> Sequence[str]:
        return [
            f"RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S is {self._hard_stop_s}, and the longest call takes {LONGEST_CALL_S} s: calls "
            f"are cut when the number of replicas changes. Start Ray with {HAPROXY_HARD_STOP_S}."
        ]

    def _actor_probe(self, key: str, call: CallRole) -> Probe:
        async def probe() -> Sequence[str]:
            method = "alive" if key.startswith("health-monitor") else "status"
            answer = await call(method, timeout_s=PROBE_TIMEOUT_S)
            return answer.get("warnings", ()) if isinstance(answer, dict) else ()

        return probe

    async def _push_forever(self) -> None:
        while True:
            await asyncio.sleep(PUSH_S)
            with contextlib.suppress(TryLater):
                await self._push()

    async def _push(self, timeout_s: float = 5.0) -> None:
        """Sends observations to telemetry, which has ``timeout_s`` to take them. If that fails they are kept for the next call,
        the newest 50,000 of them."""
        failed = increments(self.resources.stores.pool.failed_commits.take())
        counted = [increment for increments_of in self._counters for increment in increments_of()]
        self._unsent = (self._unsent + self.observations.take() + failed + counted)[-50_000:]
        figures = await self._figures()
        if self._unsent or figures is not None:
            sending, self._unsent = self._unsent, []
            try:
                await self._roles[Role(kind=TELEMETRY).key]("push", sending, figures, timeout_s=timeout_s)
            except TryLater:
                self._unsent = sending + self._unsent
                raise

    async def _figures(self) -> ProcessFigures | None:
        """What this replica says about itself, if it is time."""
        now = self.resources.clock.now()
        if now - self._told_at < EVERY_S:
            return None
        self._told_at = now
        not_after = None if self._certificates is None else await self._certificates.not_after()
        in_use, idle, free = self.resources.stores.pool.usage()
        return ProcessFigures(
            kind="api",
            process=f"api:{socket.gethostname()}:{os.getpid()}",
            in_use=in_use,
            idle=idle,
            free=free,
            loop_lag_s=self._loop_lag.take(),
            log_lag_s=max((max(0.0, now - follower.whole_at) for follower in self._followers), default=None),
            not_after=not_after,
        )

    def count(self, increments_of: Callable[[], list[Increment]]) -> None:
        """Sends what this returns to telemetry, too."""
        self._counters.append(increments_of)

    def keep(self, loop: Coroutine[Any, Any, None]) -> None:
        """Runs one more loop until the replica ends."""
        self._loops.start(loop)

    async def stop(self) -> None:
        await self._loops.stop()
        if self.resources.gate is not None:
            await self.resources.gate.stop()
        await self.resources.doorbell.close()
        await self.resources.stores.close()
        await self.resources.redis.aclose()


def _component(key: str) -> str:
    return {"scheduler-0": "Scheduler", "region-leader-0": "Coordinator"}.get(key, key)


def make_ingress(
    settings: Settings,
    resolve: ActorResolver,
    on_fatal: OnFatal,
    clock: Clock | None = None,
    replaced: Path | None = None,
    hard_stop_s: int | None = None,
    front_proof: str | None = None,
) -> FastAPI:
    """The application, which starts and stops its replica in its lifespan: pools belong to the event loop they were made
    in. ``replaced`` is the mark of the HAProxy of this node, ``hard_stop_s`` the bound on the calls that it cuts, and
    ``front_proof`` what it shows to be believed.

    Raises: `AuthenticationOff` if authentication is off where others than this machine can call, `McpMissing` or
    `A2AMissing` if /mcp or /a2a is to be served and cannot be."""
    leave_forwarding_to_us()
    observations = HttpObservations()
    clients = Clients(settings.trusted_proxies, front_proof, serves_tls=settings.tls_enabled)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        closing = contextlib.AsyncExitStack()
        await migrated(settings)
        resources = await Resources.open(settings, "aragora-api", connections=CONNECTIONS, answer_s=STORE_S)
        resources.clock = clock or resources.clock
        await resources.open_gate(on_fatal, on_epoch=resources.state_epoch)
        app.state.replication_gate = resources.gate
        if settings.has_peers:
            from serve_app.http.to_primary import to_primary  # only a region of several loads it

            app.state.to_primary = to_primary(settings, clients)
            closing.push_async_callback(app.state.to_primary.close)
        front = None if replaced is None else replaced.parent
        replica = Replica(settings, resources, resolve, observations, on_fatal, hard_stop_s, front)
        gate = await replica.start()
        if replaced is not None:
            gate.spawn(end_when_replaced(gate.endings, replaced))
        app.state.gateway = gate
        app.state.memory = replica.memory
        limits = app.state.shared_limits = shared_limits(settings, resources)
        closing.push_async_callback(limits.close)
        if settings.auth_enabled:
            known = await authentication(settings, resources, gate.access, gate.access_store, front_proof)
            app.state.resolver = known.resolver
            replica.keep(known.uses.run())
            app.state.sessions = known.sessions
            cookies = None if known.sessions is None else known.sessions.cookies
            throttle = app.state.throttle = login_throttle(settings, resources, limits, gate.access, clients, cookies)
            if settings.oauth_enabled:
                app.state.logins, provider = logins(settings, resources, gate.access)
                closing.push_async_callback(provider.close)
            app.state.tickets = SocketTickets(tickets=resources.tickets, cookies=cookies, clock=resources.clock)
            replica.keep(throttle.run())
            closing.push_async_callback(throttle.write)
            denied = app.state.denials = denials(settings, resources, clients)
            replica.keep(denied.run())
            replica.count(denied.increments)
            closing.push_async_callback(denied.write)
            closing.push_async_callback(known.close)
        app.state.limits = call_limits(settings, limits)
        if app.state.limits is not None:
            closing.push_async_callback(app.state.limits.close)
        await closing.enter_async_context(mcp_running(app))
        for detail, advice in weak_store_passwords(settings.database_url, settings.redis_url):
            _logger.warning("%s. %s", detail, advice)
        _logger.info("version %s serves", VERSION)
        yield
        _logger.info("it ends, as it was told to")
        app.state.gateway.draining = True
        await app.state.gateway.close()
        with contextlib.suppress(TryLater):
            await closing.aclose()
        await replica.stop()

    app = make_app(settings.public_url)
    if not settings.auth_enabled:
        app.state.resolver = local_administrator(settings)
    app.router.lifespan_context = lifespan
    _add_region_layers(app, settings)
    serve_mcp(app, settings)
    serve_a2a(app, settings)
    add_middleware(
        app,
        max_body_bytes=settings.max_body_bytes,
        cors_origins=settings.cors_origins,
        observations=observations,
        clients=clients,
    )
    return app


def _add_region_layers(app: DirectApp, settings: Settings) -> None:
    """The layers of one region of several, and of one in a zone. Others load neither."""
    if settings.has_peers:
        from serve_app.http.replicated import ReplicatedAnswers

        app.around(
            lambda inner: ReplicatedAnswers(
                inner,
                lambda: app.state.replication_gate,
                lambda: app.state.to_primary,
                lambda: app.state.gateway.catch_up(),
            )
        )
    zones = settings.zones()
    if zones.zones:
        from serve_app.http.zones import ResidentCalls

        app.around(
            lambda inner: ResidentCalls(
                inner,
                app,
                zones,
                settings.urls_of_regions(),
                lambda: app.state.replication_gate,
                lambda: app.state.gateway.access,
                lambda: app.state.gateway.catch_up(),
            )
        )
