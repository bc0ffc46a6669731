"""The Postgres adapters against a real server: what each write promises, and what each read shows."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from cluster.domain.agents.agent import AgentStatus, Dedicated, Intent, Liveness
from cluster.domain.base.errors import Conflict, Fenced, StoreUnavailable
from cluster.domain.base.log import record_for
from cluster.domain.deliberation.stored import JournalAppend, JournalEvent, NewDeliberation
from cluster.domain.tasks.events import Claim, Complete, Reporter
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import IdempotencyKey, TaskHead, TaskStatus
from cluster.ports.actor_names import ActorName
from cluster.ports.agents import AgentChange, DedicatedAgent
from cluster.ports.tasks import HeldLease, ShardFence, SubmitItem, TaskQuery
from cluster.ports.telemetry import AgentCounters
from cluster.postgres.migrate import Migration, MigrationError, migrate, shipped
from cluster.postgres.pool import connect, translated
from cluster.postgres.stores import Stores
from tests.support.samples import ASKER, NOW, new_task, registration
from tests.support.stores import StoreUrls, fresh_name

POLICY = RetryPolicy()


def _key(key: str, body: bytes = b"body", route: str = "tasks") -> IdempotencyKey:
    return IdempotencyKey(route=route, key=key, body_digest=body)


async def _open(stores: Stores) -> list[TaskHead]:
    _, batches = await stores.tasks.open_tasks("s")
    return [task async for batch in batches for task in batch]


async def _claimed(stores: Stores, fence: ShardFence, head: TaskHead) -> TaskHead:
    claim = Claim(agent_id="a1", claim_id="c1", principal=ASKER.principal)
    transition = step(head, claim, NOW + 1, POLICY)
    assert transition.decision is not None
    (decided,) = await stores.tasks.decide(fence, [transition.decision])
    assert decided.applied
    return transition.head


async def test_a_submitted_task_is_there_with_everything_it_was_given(stores: Stores) -> None:
    task = new_task(
        payload={"deep": [1, {"ä": None}]},
        metadata={"name": "n"},
        required_capabilities=("b", "a"),
        target_agent="a1",
        max_retries=1,
        timeout_s=12.5,
        run_at=NOW + 60,
    )
    (submitted,) = await stores.tasks.submit([SubmitItem(task=task)])
    assert (submitted.task_id, submitted.seq, submitted.replayed) == (task.id, 1, False)
    stored = await stores.tasks.get("w", task.id)
    assert stored is not None
    assert stored.head() == task.head()
    assert (stored.payload, stored.metadata, stored.principal) == (task.payload, task.metadata, "user:tester")
    assert await stores.tasks.get("another-workspace", task.id) is None
    (row,) = await stores.log.read(0, 10)
    assert (row.kind, row.entity, row.workspace) == ("task.submitted", task.id, "w")
    assert TaskHead.from_log(row.entity, row.workspace, row.at, row.data) == task.head()
    assert row.verifies()


async def test_one_idempotency_key_is_one_task_also_in_one_batch_and_over_racing_batches(stores: Stores) -> None:
    def item() -> SubmitItem:
        return SubmitItem(task=new_task(), idempotency=_key("k"))

    batches = await asyncio.gather(*(stores.tasks.submit([item(), item()]) for _ in range(4)))
    outcomes = [one for batch in batches for one in batch]
    assert len({one.task_id for one in outcomes}) == 1
    assert [one.replayed for one in outcomes].count(False) == 1
    assert (await stores.tasks.list(TaskQuery(workspace="w")))[1] == 1
    assert await stores.log.head() == 1


async def test_another_body_under_a_key_changes_nothing(stores: Stores) -> None:
    first = new_task()
    await stores.tasks.submit([SubmitItem(task=first, idempotency=_key("k"))])
    other = SubmitItem(task=new_task(), idempotency=_key("k", b"other"))
    (refused, fine) = await stores.tasks.submit([other, SubmitItem(task=new_task())])
    assert refused.conflict
    assert not fine.conflict
    with pytest.raises(Conflict):
        await stores.tasks.submit([other, SubmitItem(task=new_task())], all_or_none=True)
    assert (await stores.tasks.list(TaskQuery(workspace="w")))[1] == 2


async def test_a_key_belongs_to_its_workspace_and_route_and_is_forgotten(stores: Stores) -> None:
    await stores.tasks.submit([SubmitItem(task=new_task(), idempotency=_key("k"))])
    elsewhere = new_task(origin=replace(ASKER, workspace="x"))
    for item in (
        SubmitItem(task=elsewhere, idempotency=_key("k")),
        SubmitItem(task=new_task(), idempotency=_key("k", route="tasks/batch")),
    ):
        assert not (await stores.tasks.submit([item]))[0].replayed
    await stores.tasks.forget_keys(NOW + 1)
    assert not (await stores.tasks.submit([SubmitItem(task=new_task(), idempotency=_key("k", b"new"))]))[0].conflict


async def test_a_decision_applies_once_and_only_to_what_it_expected(stores: Stores) -> None:
    fence = await stores.tasks.take_generation("s", "test")
    task = new_task(payload={"p": 1})
    await stores.tasks.submit([SubmitItem(task=task)])
    claim = step(task.head(), Claim(agent_id="a1", claim_id="c", principal="p", want_body=True), NOW + 1, POLICY)
    assert claim.decision is not None
    first, again = await stores.tasks.decide(fence, [claim.decision, claim.decision])
    assert (first.applied, first.payload) == (True, {"p": 1})
    assert not again.applied
    report = Reporter(principal="p", agent_id="a1", attempt=1)
    done = step(claim.head, Complete(by=report, result_json='{"r": 2}'), NOW + 3, POLICY)
    assert done.decision is not None
    assert (await stores.tasks.decide(fence, [done.decision]))[0].applied
    assert not (await stores.tasks.decide(fence, [done.decision]))[0].applied
    stored = await stores.tasks.get("w", task.id)
    assert stored is not None
    assert (stored.status, stored.result, stored.completed_at) == (TaskStatus.COMPLETED, {"r": 2}, NOW + 3)
    assert [row.kind for row in await stores.log.read(0, 10)] == ["task.submitted", "task.claimed", "task.completed"]


async def test_an_older_generation_writes_nothing(stores: Stores) -> None:
    old = await stores.tasks.take_generation("s", "old")
    task = new_task()
    await stores.tasks.submit([SubmitItem(task=task)])
    new = await stores.tasks.take_generation("s", "new")
    assert new.generation > old.generation
    with pytest.raises(Fenced):
        await _claimed(stores, old, task.head())
    assert (await stores.tasks.get("w", task.id)).status is TaskStatus.PENDING  # type: ignore[union-attr]
    assert await stores.log.head() == 1
    await _claimed(stores, new, task.head())


async def test_a_shard_reads_open_tasks_and_the_cursor_of_one_moment(stores: Stores) -> None:
    fence = await stores.tasks.take_generation("s", "test")
    tasks = [new_task(created_at=NOW + index) for index in range(3)]
    await stores.tasks.submit([SubmitItem(task=task) for task in tasks])
    running = await _claimed(stores, fence, tasks[0].head())
    cursor, _ = await stores.tasks.open_tasks("s")
    assert cursor == 4
    assert await _open(stores) == [running, tasks[1].head(), tasks[2].head()]


async def test_lists_count_truly_and_page_by_keyset(stores: Stores) -> None:
    tasks = [new_task(created_at=NOW + index, task_type="ab"[index % 2]) for index in range(5)]
    await stores.tasks.submit([SubmitItem(task=task) for task in tasks])
    page, total = await stores.tasks.list(TaskQuery(workspace="w", task_type="a", limit=2))
    assert ([task.id for task in page], total) == ([tasks[4].id, tasks[2].id], 3)
    rest, _ = await stores.tasks.list(
        TaskQuery(workspace="w", task_type="a", limit=2, before=(page[-1].created_at, page[-1].id))
    )
    assert [task.id for task in rest] == [tasks[0].id]
    counts = await stores.tasks.counts("w")
    assert counts == {
        "by_status": {"pending": 5},
        "by_priority": {"normal": 5},
        "by_type": {"a": 3, "b": 2},
        "total": 5,
    }
    metrics = await stores.tasks.queue_metrics("w", NOW + 10)
    assert metrics["pending"] == 5


async def test_registering_again_keeps_counters_and_intent_and_revives(stores: Stores) -> None:
    (first,) = await stores.agents.register([registration("a1", capabilities=("x",), max_concurrency=2)])
    assert (first.created, first.agent.status) == (True, AgentStatus.READY)
    record = record_for(ASKER, NOW, "agent.status_changed", "a1")
    change = AgentChange(workspace="w", agent_id="a1", record=record, intent=Intent.PAUSED, liveness=Liveness.OFFLINE)
    nobody = replace(change, agent_id="nobody", record=replace(record, entity="nobody"))
    assert await stores.agents.change([change, change, nobody]) == [True, True, False]
    counted = AgentCounters(workspace="w", agent_id="a1", completed=2, failed=1, latency_ms_sum=30.0)
    assert await stores.telemetry.save("m", 1, {}, [counted])
    assert not await stores.telemetry.save("m", 1, {}, [counted])
    (again,) = await stores.agents.register([registration("a1", capabilities=("y",), at=NOW + 9)])
    agent = again.agent
    assert (again.created, agent.capabilities, agent.intent, agent.liveness) == (
        False,
        ("y",),
        Intent.PAUSED,
        Liveness.ALIVE,
    )
    assert (agent.tasks_completed, agent.tasks_failed, agent.avg_latency_ms) == (2, 1, 15.0)
    assert agent.registered_at == NOW
    kinds = [row.kind for row in await stores.log.read(0, 10)]
    assert kinds == ["agent.registered", "agent.status_changed", "agent.registered"]


async def test_what_an_agents_own_actor_declares_is_stored_with_it_until_it_registers_without(stores: Stores) -> None:
    needs = Dedicated(num_cpus=0.5, num_gpus=1, memory=2**33, resources={"licence": 2.0})
    (first,) = await stores.agents.register([registration("a1", dedicated=needs)])
    await stores.agents.register([registration("a2")])
    assert first.agent.dedicated == needs
    found = await stores.agents.list("w")
    assert [agent.dedicated for agent in found] == [needs, None]
    assert (await stores.agents.get("w", "a1")) == found[0]
    assert await stores.agents.dedicated() == [DedicatedAgent(workspace="w", agent_id="a1", needs=needs)]
    assert (await stores.agents.load())[1] == found
    await stores.agents.register([registration("a1")])
    assert await stores.agents.dedicated() == []


async def test_an_agent_shows_its_leases_and_is_removed_once(stores: Stores) -> None:
    await stores.agents.register([registration("a1"), registration("a2")])
    fence = await stores.tasks.take_generation("s", "test")
    task = new_task()
    await stores.tasks.submit([SubmitItem(task=task)])
    await _claimed(stores, fence, task.head())
    agents = {agent.agent_id: agent for agent in await stores.agents.list("w")}
    assert agents["a1"].running_task_ids == (task.id,)
    assert (agents["a1"].status, agents["a2"].status) == (AgentStatus.BUSY, AgentStatus.READY)
    assert (await stores.agents.get("w", "a1")) == agents["a1"]
    removal = record_for(ASKER, NOW, "agent.unregistered", "a2")
    assert await stores.agents.remove([removal]) == [True]
    assert await stores.agents.remove([removal]) == [False]
    _, everybody = await stores.agents.load()
    assert [agent.agent_id for agent in everybody] == ["a1"]


async def test_leases_are_found_by_who_claimed_them_and_open_tasks_by_whom_they_name(stores: Stores) -> None:
    await stores.agents.register([registration("a1"), registration("a2")])
    fence = await stores.tasks.take_generation("s", "test")
    held, *waiting = [new_task(target_agent=name) for name in ("a1", "a1", "a2", "a1", None)]
    await stores.tasks.submit([SubmitItem(task=one) for one in (held, *waiting)])
    await _claimed(stores, fence, held.head())
    lease = HeldLease(workspace="w", agent_id="a1", task_id=held.id, claim_id="c1")
    assert await stores.tasks.held_by(ASKER.principal) == [lease]
    assert await stores.tasks.held_by("somebody-else") == []
    named = await stores.tasks.named([("w", "a1"), ("w", "a3")])
    assert sorted(named) == sorted((("w", "a1"), one.id) for one in (held, waiting[0], waiting[2]))
    assert await stores.tasks.named([("elsewhere", "a1")]) == []


def _admission(request_id: str, digest: bytes = b"d", key: IdempotencyKey | None = None) -> NewDeliberation:
    return NewDeliberation(
        request_id=request_id,
        task_id=f"task-{request_id}",
        origin=ASKER,
        admitted_at=NOW,
        deadline_at=NOW + 60,
        contract={"question": "q"},
        contract_digest=digest,
        mode="async",
        idempotency=key,
    )


async def test_one_request_id_is_one_deliberation(stores: Stores) -> None:
    (first,) = await stores.deliberations.admit([_admission("r1")])
    (again, other) = await stores.deliberations.admit([_admission("r1"), _admission("r1", b"x")])
    assert (first.replayed, again.replayed, again.conflict) == (False, True, False)
    assert other.conflict
    key = _key("k", route="deliberations")
    (one, two) = await stores.deliberations.admit([_admission("r2", key=key), _admission("r3", key=key)])
    assert (one.request_id, two.request_id, two.replayed) == ("r2", "r2", True)
    assert [row.entity for row in await stores.log.read(0, 10)] == ["r1", "r2"]


async def test_a_journal_grows_only_under_its_newest_fence_and_without_gaps(stores: Stores) -> None:
    await stores.deliberations.admit([_admission("r1")])
    (first,) = await stores.deliberations.take(["r1"], "worker-old")
    (second, nobody) = await stores.deliberations.take(["r1", "unknown"], "worker-new")
    assert first is not None
    assert second is not None
    assert nobody is None
    old, new = first.deliberation.fence, second.deliberation.fence
    event = JournalEvent(n=1, at=NOW, kind="scheduled", data={"agents": ["a"]})
    append = JournalAppend(
        request_id="r1",
        workspace="w",
        fence=new,
        events=(event,),
        log=((0, "deliberation.started", {"agents": ["a"]}, {"task_preview": "Which?"}),),
        state="PROPOSE",
    )
    assert await stores.deliberations.append([replace(append, fence=old)]) == [False]
    assert await stores.deliberations.append([append]) == [True]
    assert await stores.deliberations.append([append]) == [False]
    (third,) = await stores.deliberations.take(["r1"], "worker-new")
    assert third is not None
    assert third.journal == (event,)
    append = replace(append, fence=third.deliberation.fence)
    gap = replace(append, events=(replace(event, n=3),))
    assert await stores.deliberations.append([gap]) == [False]
    end = replace(
        append,
        events=(replace(event, n=2, kind="ended"),),
        state="DECIDED",
        terminal="DECIDED",
        result={"answer": "a"},
        completed_at=NOW + 5,
    )
    assert await stores.deliberations.append([end]) == [True]
    assert [one.n for one in await stores.deliberations.journal("r1")] == [1, 2]
    record = await stores.deliberations.get("w", "r1")
    assert record is not None
    assert (record.state, record.terminal, record.result, record.events) == ("DECIDED", "DECIDED", {"answer": "a"}, 2)
    assert await stores.deliberations.take(["r1"], "late") == [None]
    assert await stores.deliberations.open() == []
    assert not await stores.deliberations.cancel(
        "w", "r1", record_for(ASKER, NOW, "deliberation.cancel_requested", "r1")
    )


async def test_cancelling_a_deliberation_is_asked_once(stores: Stores) -> None:
    await stores.deliberations.admit([_admission("r1")])
    record = record_for(ASKER, NOW, "deliberation.cancel_requested", "r1")
    assert await stores.deliberations.cancel("w", "r1", record)
    assert await stores.deliberations.cancel("w", "r1", record)
    assert not await stores.deliberations.cancel("x", "r1", record)
    assert (await stores.deliberations.get_any("r1")).cancel_requested  # type: ignore[union-attr]
    kinds = [row.kind for row in await stores.log.read(0, 10)]
    assert kinds == ["deliberation.admitted", "deliberation.cancel_requested"]


async def test_a_lease_has_one_holder_and_its_fence_grows_with_every_change_of_hands(stores: Stores) -> None:
    first = await stores.leases.acquire("l", "one", 30.0)
    assert first is not None
    assert await stores.leases.acquire("l", "one", 30.0) == first
    assert await stores.leases.acquire("l", "two", 30.0) is None
    await stores.leases.release("l", "two")
    assert await stores.leases.acquire("l", "two", 30.0) is None
    await stores.leases.release("l", "one")
    second = await stores.leases.acquire("l", "two", 30.0)
    assert second is not None
    assert second > first
    await stores.leases.acquire("short", "one", 0.0)
    assert await stores.leases.acquire("short", "two", 1.0) is not None


async def test_a_lease_that_was_not_renewed_is_ended_by_whoever_finds_out(stores: Stores) -> None:
    await stores.leases.acquire("h:1", "one", 30.0)
    await stores.leases.acquire("h:2", "two", 5.0)
    assert [await stores.leases.end_unrenewed(name, 20.0) for name in ("h:1", "h:2", "h:2", "h:3")] == [
        False,
        True,
        False,
        False,
    ]
    assert await stores.leases.held("h:") == ["h:1"]
    await stores.leases.forget("h:", 60.0)
    await stores.leases.forget("other", 0.0)
    assert (await stores.pool.value("select count(*) from leases where name like 'h:%'")) == 2
    await stores.leases.forget("h:", 0.0)
    assert (await stores.pool.value("select count(*) from leases where name like 'h:%'")) == 1
    assert await stores.leases.held("h:") == ["h:1"]


async def test_the_published_name_of_a_role_is_the_last_one(stores: Stores) -> None:
    assert await stores.names.current("scheduler-0") is None
    for name in ("a", "b"):
        await stores.names.publish(ActorName(role="scheduler-0", name=name, fingerprint="f"))
    assert (await stores.names.current("scheduler-0")).name == "b"  # type: ignore[union-attr]


async def test_migrations_run_once_together_and_never_backwards(store_urls: StoreUrls) -> None:
    schema = fresh_name()
    versions = await asyncio.gather(*(migrate(store_urls.database, schema) for _ in range(3)))
    assert len(set(versions)) == 1
    future = Migration(version=9999, name="9999_future.sql", sql="create table later (id int)")
    assert await migrate(store_urls.database, schema, [*shipped(), future]) == 9999
    with pytest.raises(MigrationError, match="9999"):
        await migrate(store_urls.database, schema)
    edited = replace(shipped()[0], sql="select 1")
    with pytest.raises(MigrationError, match="another content"):
        await migrate(store_urls.database, schema, [edited, future])


async def test_an_older_schema_is_brought_up_to_date(store_urls: StoreUrls) -> None:
    schema = fresh_name()
    for newest in range(1, len(shipped()) + 1):
        assert await migrate(store_urls.database, schema, shipped()[:newest]) == newest
    assert await migrate(store_urls.database, schema) == len(shipped())


async def test_a_failed_migration_leaves_nothing_behind(store_urls: StoreUrls) -> None:
    schema = fresh_name()
    broken = Migration(version=9998, name="9998_broken.sql", sql="create table half (id int); select nonsense")
    with pytest.raises(Exception, match="nonsense"):
        await migrate(store_urls.database, schema, [*shipped(), broken])
    pool = await connect(store_urls.database, schema)
    assert await pool.value("select count(*) from information_schema.tables where table_schema = $1", schema) == 0
    await pool.close()


async def test_a_database_that_is_away_is_named() -> None:
    with pytest.raises(StoreUnavailable):
        await connect("postgresql://nobody@/none?host=/nonexistent", "s")


async def test_a_repeated_removal_spares_who_has_come_back(stores: Stores) -> None:
    removal = record_for(ASKER, NOW, "agent.unregistered", "a1")
    key = _key("k", route="agents/a1")
    assert await stores.agents.remove([removal], [key]) == [False]
    await stores.agents.register([registration("a1")])
    assert await stores.agents.remove([removal], [key]) == [True]
    assert await stores.agents.remove([removal], [key]) == [True]
    await stores.agents.register([registration("a1")])
    assert await stores.agents.remove([removal], [key]) == [True]
    assert await stores.agents.get("w", "a1") is not None
    kinds = [row.kind for row in await stores.log.read(0, 10)]
    assert kinds == ["agent.registered", "agent.unregistered", "agent.registered"]


@pytest.mark.parametrize(
    "broken",
    [
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        ConnectionResetError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_server_that_breaks_off_is_a_store_that_is_away(broken: Exception) -> None:
    assert isinstance(translated(broken), StoreUnavailable)
