"""Random runs of the real commit functions, and the replicated tables of a database as texts."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from actors.schedules import change_of
from cluster.domain.access.roles import CustomRole
from cluster.domain.access.workspaces import WorkspaceState
from cluster.domain.agents.agent import Health, Intent
from cluster.domain.audit import log_retention
from cluster.domain.audit.erasure import OF_RULES, OF_VIOLATIONS
from cluster.domain.audit.retention import DELIBERATIONS_REMOVED, RULE_SET, RUNS_REMOVED, TASKS_REMOVED, removal
from cluster.domain.base.errors import Conflict, NotFound
from cluster.domain.base.log import Origin, record_for
from cluster.domain.budgets.accounts import Account, Accounts
from cluster.domain.budgets.budget import CREATED as BUDGET_CREATED
from cluster.domain.budgets.budget import DELETED as BUDGET_DELETED
from cluster.domain.budgets.budget import UPDATED as BUDGET_UPDATED
from cluster.domain.budgets.budget import Mode
from cluster.domain.budgets.entries import folding, forgetting, forgetting_levels
from cluster.domain.budgets.levels import LevelReached
from cluster.domain.consensus.learning import StoredOutcome, fit
from cluster.domain.deliberation.stored import JournalAppend, JournalEvent, NewDeliberation
from cluster.domain.hooks.hook import Secret
from cluster.domain.notifications.quiet import QuietHours
from cluster.domain.policies.policy import CREATED, DELETED, UPDATED, removing_versions
from cluster.domain.policies.violations import CHANGED, RECORDED, ViolationStatus, removing
from cluster.domain.quotas.quotas import QuotaKind
from cluster.domain.replication.batch import TextRow
from cluster.domain.replication.tables import TABLES
from cluster.domain.schedules.machine import Due
from cluster.domain.schedules.machine import step as step_schedule
from cluster.domain.schedules.schedule import Overlap
from cluster.domain.scheduling.limits import Control, ControlKind
from cluster.domain.scheduling.spending import with_entry
from cluster.domain.tasks.events import Answered, Asked, Claim, Complete, Event, Fail, ParkAsked, Reporter, Unblocked
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.progress import Progress, ProgressReport
from cluster.domain.tasks.questions import Answer, Question, Verdict
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import IdempotencyKey, TaskDetail, TaskHead, TaskStatus
from cluster.domain.tasks.template import task_template
from cluster.ports.access import Revocation
from cluster.ports.agents import AgentChange, RegisterItem
from cluster.ports.operations import Replay
from cluster.ports.tasks import ShardFence, SubmitItem
from cluster.postgres.log import log_rows
from cluster.postgres.stores import Stores
from tests.support.access import a_binding, a_key, a_workspace
from tests.support.budgets import a_budget
from tests.support.hooks import a_hook
from tests.support.log_segments import an_archive
from tests.support.notifications import KEY, SEALING, new_channel, new_rule, put_channel, put_rule
from tests.support.outcomes import AGENTS as OUTCOME_AGENTS
from tests.support.outcomes import history
from tests.support.policies import a_policy, a_violation
from tests.support.samples import NOW, new_task, registration
from tests.support.schedules import new_schedule
from tests.support.workflows import apply as apply_workflow
from tests.support.workflows import settle, workflow_keeper
from tests.support.workflows import start as start_run

WORKSPACES = ("w", "eu-w")
#: What random changes make resident is in this zone; a region of it gets all of that.
RESIDENCY = "eu"
AGENTS = ("a1", "a2", "a3")
POLICY = RetryPolicy()
#: JSON that a store which parses it would change or refuse.
ODD = {"z": 1.0, "a": [1e300, "é\x7f\u2028", "\\u0000", {}], "money": 0.1}


_ENDED = {
    TASKS_REMOVED: "select id from tasks where workspace = $1 and status not in ('pending', 'running') order by id limit 1",
    DELIBERATIONS_REMOVED: (
        "select request_id as id from deliberations where workspace = $1 and terminal is not null order by 1 limit 1"
    ),
    RUNS_REMOVED: "select id from workflow_runs where workspace = $1 and ended_at is not null order by id limit 1",
}


def secret_of(workspace: str) -> str:
    """Words that a client of a workspace wrote."""
    return f"secret of {workspace}"


def _secret(workspace: str) -> dict[str, str]:
    return {"text": secret_of(workspace)}


def _question(workspace: str) -> Question:
    words = secret_of(workspace)
    return Question(text=words, schema={"title": words}, answerers=("role:admin",), default_json=f'{{"a": "{words}"}}')


async def tables_of(stores: Stores) -> dict[str, list[TextRow]]:
    """Every replicated table, whole: what each region keeps for itself is left out."""
    found = {}
    for table in TABLES.values():
        columns = ", ".join(f"{name}::text" for name in table.columns)
        keys = ", ".join(f"{table.name}.{name}" for name in table.key)  # the columns, not their texts
        rows = await stores.pool.rows(f"select {columns} from {table.name} order by {keys}")
        found[table.name] = [tuple(row) for row in rows]
    return found


class RandomChanges:
    """Calls of the stores, in an order that a seed decides. ``change_something`` makes one call; its name is returned.
    ``after``: the number after which ids are given, where another one has changed the same tables before."""

    def __init__(self, stores: Stores, seed: int, *, after: int = 0) -> None:
        self.stores = stores
        self._chance = random.Random(seed)
        self._n = after
        self._heads: dict[str, TaskHead] = {}
        self._dead: list[str] = []
        self._fence: ShardFence | None = None
        self._appended: dict[str, int] = {}
        #: Attempts of one workspace have entries.
        self._accounts = Accounts()
        self._accounts.put(a_budget(workspace=WORKSPACES[0], mode=Mode.SOFT), NOW)
        self.calls: tuple[Callable[[], Awaitable[None]], ...] = (
            *(self.submit, self.submit, self.decide, self.decide, self.decide, self.replay, self.purge, self.control),
            *(self.register, self.change, self.remove, self.admit, self.append, self.append, self.cancel),
            *(self.outcome, self.workspace, self.bind, self.unbind, self.role, self.key, self.revoke, self.publish),
            *(self.schedule, self.schedule, self.workflow, self.workflow, self.retain, self.retain),
            *(self.policy, self.violate, self.budget, self.quota),
            *(self.notification, self.notification, self.hook, self.erase_rules, self.archive),
        )

    async def begin(self) -> None:
        for workspace in WORKSPACES:
            await self.stores.access.create_workspace(self._origin(), a_workspace(workspace))

    async def change_something(self) -> str:
        call = self._chance.choice(self.calls)
        self._n += 1
        with suppress(Conflict, NotFound):  # a refusal changes nothing, and that is part of what is compared
            await call()
        return call.__name__

    @property
    def _now(self) -> float:
        return NOW + self._n / 8 + 0.1

    def _origin(self) -> Origin:
        return Origin(workspace=self._chance.choice(WORKSPACES), principal="user:tester", cause=f"trace-{self._n}")

    def _key(self, route: str) -> IdempotencyKey | None:
        if self._chance.random() < 0.4:
            return None
        return IdempotencyKey(route=route, key=f"k{self._chance.randrange(12)}", body_digest=b"body")

    async def submit(self) -> None:
        items = []
        for n in range(self._chance.randint(1, 4)):
            origin = self._origin()
            task = new_task(
                id=f"task_{self._n:05d}_{n}",
                origin=origin,
                created_at=self._now + n / 1000,
                payload={**ODD, **_secret(origin.workspace)},
                metadata=_secret(origin.workspace),
                question=_question(origin.workspace) if self._chance.random() < 0.2 else None,
            )
            items.append(SubmitItem(task=task, idempotency=self._key("tasks")))
        for item, done in zip(items, await self.stores.tasks.submit(items), strict=True):
            if done.task_id == item.task.id:
                self._heads[item.task.id] = item.task.head()

    async def decide(self) -> None:
        if not self._heads:
            return
        if self._fence is None:
            self._fence = await self.stores.tasks.take_generation("main", "test")
        decisions, after = [], {}
        chosen = [
            self._heads[task_id] for task_id in self._chance.sample(sorted(self._heads), min(len(self._heads), 3))
        ]
        await self._report_progress(self._fence, chosen)
        for head in chosen:
            transition = step(head, self._event(head), self._now, POLICY)
            decision = with_entry(self._accounts, head, transition, self._n % 3 or None)
            if decision is not None:
                decisions.append(decision)
                after[head.id] = transition.head
        await self.stores.tasks.decide(self._fence, decisions)
        for task_id, head in after.items():
            self._heads[task_id] = head
            if head.status not in (TaskStatus.PENDING, TaskStatus.RUNNING):
                del self._heads[task_id]
                if head.status is TaskStatus.FAILED:
                    self._dead.append(task_id)

    def _event(self, head: TaskHead) -> Event:
        if head.detail is TaskDetail.INPUT_REQUIRED:
            return Answered(attempt=head.attempt, answer=self._answer(head))
        if head.detail is TaskDetail.WAITING_CHILDREN:
            return Unblocked()
        if head.status is TaskStatus.PENDING:
            return Claim(agent_id=self._chance.choice(AGENTS), claim_id=f"c{self._n}", principal="user:tester")
        reporter = Reporter(principal="user:tester", agent_id=head.assigned_agent or "", attempt=head.attempt)
        if self._chance.random() < 0.2:
            return Asked(by=reporter, question=_question(head.workspace))
        if self._chance.random() < 0.2:
            return ParkAsked(by=reporter, children=(f"{head.id}.1", f"{head.id}.2"))
        if self._chance.random() < 0.5:
            return Complete(by=reporter, result_json=f'{{"b": 1,  "a": "{secret_of(head.workspace)}"}}')
        return Fail(by=reporter, error=secret_of(head.workspace), requeue=self._chance.random() < 0.3)

    def _answer(self, head: TaskHead) -> Answer:
        verdict, words = self._chance.choice(list(Verdict)), secret_of(head.workspace)
        if verdict is Verdict.REJECTED:
            return Answer(verdict=verdict, principal="user:tester", reason=words)
        value_json = None if verdict is Verdict.DEFAULT else f'{{"b": 1,  "a": "{words}"}}'
        return Answer(verdict=verdict, principal="user:tester", value_json=value_json)

    async def _report_progress(self, fence: ShardFence, heads: Sequence[TaskHead]) -> None:
        """What those of the tasks that run are reported to have done."""
        reports = [
            ProgressReport(
                workspace=head.workspace,
                task_id=head.id,
                attempt=head.attempt,
                at=self._now,
                progress=Progress(
                    percent=None if self._n % 2 else 0.1,
                    message=secret_of(head.workspace),
                    checkpoint_json=f'{{"b": 1.0,  "a": "{secret_of(head.workspace)}"}}',
                ),
            )
            for head in heads
            if head.status is TaskStatus.RUNNING
        ]
        if reports:
            await self.stores.tasks.store_progress(fence, reports)

    async def replay(self) -> None:
        if self._dead:
            old = await self._task(self._chance.choice(self._dead))
            origin = Origin(workspace=old.workspace)
            task = new_task(id=f"task_{self._n:05d}_r", origin=origin, created_at=self._now)
            record = record_for(origin, self._now, "task.replayed", old.id, {"replayed_as": task.id})
            await self.stores.dead_letters.replay([Replay(of=old.id, task=task, new_payload=False, record=record)])

    async def purge(self) -> None:
        if self._dead:
            old = await self._task(self._chance.choice(self._dead))
            if self._n % 2:
                record = record_for(Origin(workspace=old.workspace), self._now, "task.purged", old.id)
                await self.stores.dead_letters.purge(old.workspace, [old.id], [record])
            else:
                await self._erase(old.workspace, old.id)

    async def _erase(self, workspace: str, task_id: str) -> None:
        """A task that has ended, and now and then the words of the newest rows of its workspace."""
        erasures, origin, erasure = self.stores.erasures, Origin(workspace=workspace), {"erasure": "erasure_1"}
        record = record_for(origin, self._now, "task.erased", task_id, erasure)
        await erasures.erase_tasks(workspace, [record])
        if self._n % 4 == 0:
            through, _ = await erasures.log_end(workspace)
            reach = {"after": max(through - 50, 0), "through": through}
            record = record_for(origin, self._now, "erasure.words", workspace, erasure | reach)
            await erasures.erase_log_words(workspace, reach["after"], through, record)

    async def _task(self, task_id: str) -> TaskHead:
        for workspace in WORKSPACES:
            found = await self.stores.tasks.get(workspace, task_id)
            if found is not None:
                return found.head()
        raise AssertionError(task_id)

    async def control(self) -> None:
        origin = self._origin()
        control = Control(
            workspace=origin.workspace,
            kind=ControlKind.QUEUE,
            name=self._chance.choice("xyz"),
            paused=self._chance.random() < 0.5,
        )
        record = record_for(origin, self._now, "control.changed", control.entity, control.to_log())
        await self.stores.controls.put(control, record)

    async def schedule(self) -> None:
        """Makes one, lets one run whose time has come, or deletes one."""
        origin, store = self._origin(), self.stores.schedules
        found, _ = await store.list(origin.workspace, 1, 0)
        if not found:
            template = task_template(new_task(origin=origin, payload=_secret(origin.workspace)))
            schedule = new_schedule(f"sched_{self._n:05d}", template, overlap=Overlap.ALLOW)
            schedule = replace(schedule, workspace=origin.workspace)
            record = record_for(origin, self._now, "schedule.created", schedule.id, {"schedule_id": schedule.id})
            await store.create(schedule, record, self._key("schedules/create"))
            return
        (schedule,) = found
        after, effects = step_schedule(schedule, Due(), (schedule.next_due or 0) + 1.0)
        await store.change([change_of(after, effects, origin, origin, self._now)])
        if after.fired > 3:
            record = record_for(origin, self._now, "schedule.deleted", schedule.id, {"schedule_id": schedule.id})
            await store.remove(origin.workspace, [record])

    async def workflow(self) -> None:
        """Applies one, starts a run of it, or lets runs go on; then deletes what can be."""
        origin, store = self._origin(), self.stores.workflows
        name = f"flow-{origin.workspace}"
        found = await store.get(origin.workspace, name)
        if found is None or self._chance.random() < 0.2:
            # Runs of half of the versions fail at once, so that retention has some to remove.
            path = {"path": "/none"} if self._chance.random() < 0.5 else {}
            step = {"id": "a", "task": {"input": {"x": {"from": "input", **path}, **_secret(origin.workspace)}}}
            await apply_workflow(self.stores, step, name=name, origin=origin)
        elif self._chance.random() < 0.5:
            run_id = f"wfrun_{self._n:05d}"
            await start_run(self.stores, found, _secret(origin.workspace), run_id, self._key("workflows/runs"))
        else:
            await settle(workflow_keeper(self.stores))
            runs, _ = await store.list_runs(origin.workspace, None, None, 1, 0)
            records = [
                record_for(origin, self._now, "workflow.run_deleted", run.id, {"run_id": run.id}) for run in runs
            ]
            await store.remove([*records, record_for(origin, self._now, "workflow.deleted", name, {"workflow": name})])

    async def notification(self) -> None:
        """Makes a channel and a rule, or deletes both."""
        origin, store = self._origin(), self.stores.notifications
        if await store.rules(origin.workspace):
            for kind, remove in (("rule", store.remove_rule), ("channel", store.remove_channel)):
                await remove(record_for(origin, self._now, f"notification.{kind}_deleted", kind, {kind: kind}))
            return
        url = f"http://127.0.0.1/{_secret(origin.workspace)}"
        await put_channel(self.stores, new_channel("channel", workspace=origin.workspace, url=url))
        await put_rule(
            self.stores,
            new_rule("rule", "channel", workspace=origin.workspace, digest_s=60.0, quiet=QuietHours(start=0, end=60)),
        )

    async def hook(self) -> None:
        """Makes a hook, changes it, or deletes it. Its secrets stay in the region."""
        origin, store = self._origin(), self.stores.hooks(SEALING)
        found = await store.get(origin.workspace, "reviews")
        starts = task_template(new_task(origin=origin, payload=_secret(origin.workspace)))
        record = record_for(origin, self._now, "hook.changed", "reviews", {"hook": "reviews"})
        if found is None:
            new = a_hook(id=f"hook_{self._n}", workspace=origin.workspace, starts=starts, secrets_id=f"s{self._n}")
            await store.put(new, record, [Secret(key=KEY)])
        elif self._chance.random() < 0.9:
            await store.put(found.changed(origin.principal, self._now, paused=not found.paused), record)
        else:
            await store.remove(origin.workspace, [record])

    async def retain(self) -> None:
        """Sets a rule, or removes a task and a deliberation that have ended, if there are any."""
        origin, store = self._origin(), self.stores.retention
        if self._chance.random() < 0.2:
            rule = {"task_days": self._n}
            await store.set_rule(
                origin.workspace, rule, record_for(origin, self._now, RULE_SET, origin.workspace, rule)
            )
        for kind, query in _ENDED.items():
            ids = [row["id"] for row in await self.stores.pool.rows(query, origin.workspace)]
            if ids:
                await store.remove(kind, removal(origin.workspace, kind, ids, self._now, ""))
                self._dead = [task_id for task_id in self._dead if task_id not in ids]

    async def budget(self) -> None:
        """Makes a budget, or changes or deletes one that there is, or tells of a level; tasks are claimed with entries."""
        origin, store = self._origin(), self.stores.budgets
        found = await store.list(origin.workspace)
        if not found or self._chance.random() < 0.3:
            made = a_budget(id=f"budget_{self._n}", workspace=origin.workspace, name=secret_of(origin.workspace))
            await store.create(made, made.record(origin, self._now, BUDGET_CREATED), self._key("budgets/create"))
        elif self._chance.random() < 0.3:
            after = found[0].changed({"limit_nanos": 10 + self._n}, origin.principal, self._now)
            await store.change(after, after.record(origin, self._now, BUDGET_UPDATED))
        elif self._chance.random() < 0.5:
            await self._settle()
        elif self._chance.random() < 0.7:
            account = Account.new(found[0], self._now)
            account.spent = found[0].limit_nanos // 2
            await store.tell([LevelReached.of(account, self._now)])
        else:
            await store.remove(found[0], found[0].record(origin, self._now, BUDGET_DELETED))

    async def _settle(self) -> None:
        """Adds entries to their days, and deletes days."""
        store = self.stores.budgets
        for entry in await store.settled(self._now + 1, 3):
            await store.fold([entry], folding(entry.workspace, [entry], self._now))
        for workspace in await store.with_days():
            if self._chance.random() < 0.3:
                days = await store.old_days(workspace, "9999", 1)
                await store.forget_days(days, forgetting(workspace, days, self._now))
        for workspace in await store.with_levels():
            if self._chance.random() < 0.3:
                old = await store.old_levels(workspace, self._now + 1, 1)
                await store.forget_levels(old, self._now + 1, forgetting_levels(workspace, old, self._now))

    async def quota(self) -> None:
        """Sets quotas, and removes one."""
        origin, store = self._origin(), self.stores.quotas
        fields = {QuotaKind.RUNNING_TASKS: self._n, QuotaKind.AGENTS: self._chance.choice([None, 1000])}
        after = (await store.get(origin.workspace)).changed(fields, origin.principal, self._now)
        await store.put(after, after.record(origin))

    async def policy(self) -> None:
        """Makes a policy, or changes or deletes one that there is, which its versions outlive."""
        origin, store = self._origin(), self.stores.policies
        found = [policy for policy in await store.list(origin.workspace) if policy.id != f"policy_{self._n}"]
        words = secret_of(origin.workspace)
        if not found or self._chance.random() < 0.3:
            made = a_policy(id=f"policy_{self._n}", workspace=origin.workspace, description=words)
            await store.create(made, made.record(origin, self._now, CREATED), self._key("policies/create"))
        elif self._chance.random() < 0.6:
            after = found[0].of_version(found[0].content() | {"priority": self._n}, origin.principal, self._now)
            await store.change(after, after.record(origin, self._now, UPDATED))
        else:
            await store.remove(found[0], found[0].record(origin, self._now, DELETED))
        if self._chance.random() < 0.3 and (old := await store.old_versions(origin.workspace, self._now + 1, 2)):
            await store.remove_versions(old, removing_versions(origin.workspace, old, self._now))

    async def violate(self) -> None:
        """Stores a violation, and sometimes what people made of one."""
        origin, store = self._origin(), self.stores.policies
        words = secret_of(origin.workspace)
        new = a_violation(id=f"violation_{self._n}", workspace=origin.workspace, description=words, policy_name=words)
        await store.record([new], [new.record(origin, RECORDED, self._now)])
        if self._chance.random() < 0.2:
            await store.remove_violations([new.id], removing(origin.workspace, [new.id], self._now))
        elif self._chance.random() < 0.5:
            after = new.changed(ViolationStatus.RESOLVED, words, origin.principal, self._now)
            await store.change_violation(after, after.record(origin, CHANGED, self._now))

    async def erase_rules(self) -> None:
        """Now and then a policy, a rule or a channel of notifications, and violations, as an erasure of a workspace takes all."""
        origin, store = self._origin(), self.stores.erasures
        if self._chance.random() < 0.8:
            return
        for kind, entity in (await store.rules(origin.workspace, 100))[-1:]:
            data = {OF_RULES[kind][0]: entity, "erasure": "erasure_1"}
            await store.erase_rules(origin.workspace, [record_for(origin, self._now, kind, entity, data)])
        window = await store.violations(origin.workspace, (0.0, ""), 20)
        listed = {"violation_ids": list(window.ids), "erasure": "erasure_1"}
        await store.erase_violations(
            origin.workspace, record_for(origin, self._now, OF_VIOLATIONS, origin.workspace, listed)
        )

    async def register(self) -> None:
        items: list[RegisterItem] = []
        for agent_id in self._chance.sample(AGENTS, 2):
            origin, at = self._origin(), self._now + len(items) / 1000
            item = registration(agent_id, origin=origin, at=at, metadata=_secret(origin.workspace))
            items.append(replace(item, idempotency=self._key("agents")))
        await self.stores.agents.register(items)

    async def change(self) -> None:
        origin, agent_id = self._origin(), self._chance.choice(AGENTS)
        record = record_for(origin, self._now, "agent.status_changed", agent_id)
        intent, health = self._chance.choice(list(Intent)), self._chance.choice(list(Health))
        change = AgentChange(workspace=origin.workspace, agent_id=agent_id, record=record, intent=intent, health=health)
        await self.stores.agents.change([change])

    async def remove(self) -> None:
        record = record_for(self._origin(), self._now, "agent.unregistered", self._chance.choice(AGENTS))
        await self.stores.agents.remove([record], [self._key("remove")])

    async def admit(self) -> None:
        items = []
        for n in range(2):
            request_id, origin = f"r{self._chance.randrange(30)}", self._origin()
            items.append(
                NewDeliberation(
                    request_id=request_id,
                    task_id=f"task-{request_id}",
                    origin=origin,
                    admitted_at=self._now + n / 1000,
                    deadline_at=self._now + 60,
                    contract=_secret(origin.workspace),
                    contract_digest=b"d",
                    mode="async",
                    idempotency=self._key("deliberations"),
                )
            )
        for admitted in await self.stores.deliberations.admit(items):
            self._appended.setdefault(admitted.request_id, 0)

    async def append(self) -> None:
        if not self._appended:
            return
        request_id = self._chance.choice(sorted(self._appended))
        (taken,) = await self.stores.deliberations.take([request_id], f"worker-{self._n}")
        if taken is None:
            return
        secret = _secret(taken.deliberation.workspace)
        last, is_end = taken.deliberation.events, self._chance.random() < 0.1
        events = tuple(
            JournalEvent(n=last + n, at=self._now, kind="answered", data=secret)
            for n in range(1, self._chance.randint(2, 4))
        )
        row = (0, "deliberation.vote", {"agent": "a1"}, secret)
        item = JournalAppend(
            request_id=request_id,
            workspace=taken.deliberation.workspace,
            fence=taken.deliberation.fence,
            events=events,
            log=(row,) if self._chance.random() < 0.5 else (),
            state="PROPOSE",
            terminal="DECIDED" if is_end else None,
            result=secret if is_end else None,
            completed_at=self._now if is_end else None,
        )
        await self.stores.deliberations.append([item])

    async def cancel(self) -> None:
        origin, request_id = self._origin(), f"r{self._chance.randrange(30)}"
        record = record_for(origin, self._now, "deliberation.cancel_requested", request_id)
        await self.stores.deliberations.cancel(origin.workspace, request_id, record)

    async def outcome(self) -> None:
        items = [
            replace(item, outcome=replace(item.outcome, kind=secret_of(item.origin.workspace)))
            for item in history(2, start=self._chance.randrange(20))
        ]
        await self.stores.outcomes.record(items)
        stored = [StoredOutcome(n=self._n + n, outcome=item.outcome) for n, item in enumerate(items)]
        await self.stores.outcomes.save([fit("w", self._now, OUTCOME_AGENTS, stored, {}, None)])

    async def archive(self) -> None:
        """What the commit that removes a segment writes, without the removal: the other region keeps its rows."""
        archive = an_archive(1000 + self._n, 1000 + self._n)
        await self.stores.pool.execute(
            "with stored as (insert into log_archives values ($1, $2, $3, $4, '\\x01', '\\x02', '[[1, 2]]', false)) "
            "select log_append($5, $6, array[true], $7)",
            *(
                archive.first_seq,
                archive.last_seq,
                self._now,
                archive.name,
                self.stores.epoch.region,
                self.stores.epoch.value,
            ),
            log_rows([log_retention.removal(archive, self._now)], self.stores.epoch),
        )

    async def workspace(self) -> None:
        found = a_workspace(self._chance.choice(WORKSPACES), changed_at=self._now)
        found = replace(found, name=secret_of(found.id))
        state = self._chance.choice((WorkspaceState.ACTIVE, WorkspaceState.SUSPENDED))
        await self.stores.access.put_workspace(self._origin(), replace(found, state=state))
        ended = a_workspace(f"ended-{self._n}", changed_at=self._now, zone=RESIDENCY)
        await self.stores.access.create_workspace(self._origin(), ended)
        await self.stores.access.put_workspace(self._origin(), replace(ended, state=WorkspaceState.DELETED))

    async def bind(self) -> None:
        subject = self._chance.choice(("user:a", "user:b"))
        await self.stores.access.put_binding(self._origin(), a_binding(subject, self._role()))

    async def unbind(self) -> None:
        subject = self._chance.choice(("user:a", "user:b"))
        await self.stores.access.remove_binding(self._origin(), "w", subject, self._role())

    def _role(self) -> str:
        return self._chance.choice(("viewer", "operator"))

    async def role(self) -> None:
        name = self._chance.choice(("reader", "writer"))
        if self._chance.random() < 0.4:
            await self.stores.access.remove_role(self._origin(), "w", name)
        permissions = ("control_plane:tasks:read",) if self._chance.random() < 0.5 else ()
        await self.stores.access.put_role(self._origin(), CustomRole(workspace="w", name=name, permissions=permissions))

    async def key(self) -> None:
        key_id = f"key{self._chance.randrange(4)}"
        agents = ("a", "b") if key_id in ("key1", "key3") else None
        key = a_key(id=key_id, created_at=self._now, workspaces=("*",), agents=agents)
        if not await self.stores.access.create_key(self._origin(), key):
            await self.stores.access.put_key(self._origin(), replace(key, revoked_at=self._now))

    async def revoke(self) -> None:
        until = self._chance.choice((1.0, 9e9))
        revocation = Revocation(subject=f"user:{self._n % 3}", not_before=self._now, until=until)
        await self.stores.access.revoke(self._origin(), revocation)

    async def publish(self) -> None:
        call = self.stores.signing_keys(())
        await (call.own(bytes(32)) if self._chance.random() < 0.3 else call.publish(bytes([self._n % 3] * 32)))
