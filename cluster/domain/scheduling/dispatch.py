"""Who gets which task: claims, those that wait, and what they are offered.

It shares the tables of the core, whose part it is, and brings every change of a task about by ``OpenTasks``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cluster.domain.base.errors import NotFound
from cluster.domain.base.ids import process_of
from cluster.domain.budgets.budget import Budget, BudgetScope
from cluster.domain.quotas.quotas import Quotas
from cluster.domain.scheduling.answers import Grant
from cluster.domain.scheduling.eligibility import Profile
from cluster.domain.scheduling.last_claims import leaves_out
from cluster.domain.scheduling.limits import Control, ControlKind
from cluster.domain.scheduling.open_tasks import OpenTasks
from cluster.domain.scheduling.requests import AgentKey, ClaimRequest
from cluster.domain.scheduling.tables import Tables
from cluster.domain.scheduling.timers import QueuesOpen
from cluster.domain.scheduling.waiting_claims import Waiting
from cluster.domain.tasks.events import Claim
from cluster.domain.tasks.task import TaskDetail, TaskHead


class Dispatch:
    """It reads which tasks are open, and changes the queue, the leases and what waits."""

    def __init__(self, tables: Tables, tasks: OpenTasks) -> None:
        self._tasks = tasks
        # What each of them holds is in ``Tables``. They are fields of this object too, since every claim reads them.
        self._open: Mapping[str, TaskHead] = tables.open
        self._queue = tables.queue
        self._leases = tables.leases
        self._cancellations = tables.cancellations
        self._waiting = tables.waiting
        self._last_claims = tables.last_claims
        self._preferred = tables.preferred
        self._sticky = tables.sticky
        self._timers = tables.timers
        # Workspace → when the timer is due that waits for a rate's next token or a budget's next period there, so that claims
        # that find nothing do not each arm one. ``_wait_until_open`` adds, the workspace's next ``QueuesOpen`` timer removes.
        self._opens_at: dict[str, float] = {}

    # --- claims -------------------------------------------------------------------------------------------------

    def claim(self, request: ClaimRequest, ticket: int | None, now: float) -> tuple[Grant, ...] | None:
        """Leases for an agent; None if there are none and the claim now waits under ``ticket``.

        A claim without a ticket does not wait: it gets an empty tuple. So does one whose agent has to be told to stop a task.

        Raises: `NotFound` if the agent was deregistered.
        """
        agent = request.agent
        if self._leases.is_deregistered(agent):
            raise NotFound(f"Agent {request.agent_id} is not registered; register it first.", "agent_not_registered")
        self._leases.renew(agent, now, process_of(request.claim_id))
        profile = request.profile
        self._last_claims.note(agent, profile)
        self._preferred.note(agent, profile, now)
        if profile.task_types is not None:
            self._give_own(profile.workspace, profile.task_types)
        grants = self._redelivered(request, profile, now) or self._grant(request, profile, now)
        if grants or ticket is None or self._has_news(agent):
            return grants
        self._waiting.add(ticket, request, profile)
        return None

    def can_satisfy(self, request: ClaimRequest) -> bool:
        """Whether memory certainly has as many tasks as a claim may get."""
        most = min(self._slots(request), request.max_tasks or 1)
        return self._queue.has_for(request.profile, request.agent_id, most)

    def _redelivered(self, request: ClaimRequest, profile: Profile, now: float) -> tuple[Grant, ...]:
        """Leases that the agent holds and may not know of, because an answer was lost.

        These are the ones with the claim's id. The released client chooses no claim ids, so with all its slots leased it gets
        its oldest lease again: it would not ask for more if it knew of all of them."""
        held = [self._open[task_id] for task_id in self._leases.leases(request.agent)]
        again = [head for head in held if head.claim_id == request.claim_id]
        released_client = request.max_tasks is None and not request.client_claim_id
        if not again and released_client and len(held) >= request.max_concurrency:
            again = [head for head in held if not leaves_out(head, profile)][:1]
        for head in again:
            if head.detail is TaskDetail.CANCELLING:
                self._tasks.tell(head, now)
        return tuple(self._granted(head, redelivered=True) for head in again)

    def _granted(self, head: TaskHead, *, redelivered: bool = False) -> Grant:
        expires_at, delivery = self._leases.shown_expiry(head), self._leases.deliver(head.id)
        return Grant(head=head, expires_at=expires_at, delivery=delivery, redelivered=redelivered)

    def _grant(self, request: ClaimRequest, profile: Profile, now: float) -> tuple[Grant, ...]:
        """New leases, as many as the claim asks for and the agent has slots; empty if there is nothing for it."""
        if self._is_unschedulable(request):
            return ()
        self._sticky.note(request, profile)
        grants = []
        for _ in range(min(self._slots(request), request.max_tasks or 1)):
            task_id = self._queue.take(profile, request.agent_id, now)
            if task_id is None:
                self._wait_until_open(request.workspace, now)
                break
            event = Claim(
                agent_id=request.agent_id, claim_id=request.claim_id, principal=request.principal, cause=request.cause
            )
            grants.append(self._granted(self._tasks.happens(self._open[task_id], event, now)))
        if grants:
            self._sticky.note(request, profile)  # again, since it may hold its first key only now
        return tuple(grants)

    def _is_unschedulable(self, request: ClaimRequest) -> bool:
        return request.unschedulable or self._leases.is_unschedulable(request.agent)

    def _slots(self, request: ClaimRequest) -> int:
        """How many slots of the agent are free."""
        return request.max_concurrency - len(self._leases.leases(request.agent))

    def _has_news(self, key: AgentKey) -> bool:
        """Whether the agent has a task to stop that it has not been told about."""
        return any(not self._cancellations.is_told(self._open[task_id]) for task_id in self._cancellations.of(key))

    # --- queues -------------------------------------------------------------------------------------------------

    def _wait_until_open(self, workspace: str, now: float) -> None:
        """Arms a timer for the next token of a rate in the workspace, or the next period of a budget that is used up, unless one
        is armed that is due no later."""
        queue, planned = self._queue, self._opens_at.get(workspace)
        at = queue.gates.next_token(workspace, now) if queue.limits.has_rates else None
        period = queue.accounts.opens_at(workspace, now)
        if period is not None and (at is None or period < at):
            at = period
        if at is not None and at > now and (planned is None or at < planned):
            self._opens_at[workspace] = at
            self._timers.arm(at, QueuesOpen, workspace)

    def opens(self, workspace: str) -> None:
        """Something in the workspace may start again, for which ``QueuesOpen`` was armed."""
        self._opens_at.pop(workspace, None)
        self.wake(workspace)

    def wake(self, workspace: str) -> None:
        """Offers every sub-queue of the workspace to all waiting claims that may have its tasks."""
        for sub_queue in self._queue.sub_queues_of(workspace):
            self._waiting.became_ready(sub_queue)

    def offer_preferring(self, workspace: str) -> None:
        """Offers what prefers some regions to everybody: the last agent there may be away."""
        for sub_queue in self._queue.sub_queues_of(workspace):
            if sub_queue.prefers:
                self._waiting.became_ready(sub_queue)

    def control(self, control: Control, now: float) -> None:
        """Puts a control in force. At the first control of a task type, its waiting tasks move to sub-queues of their own, which
        can be paused alone."""
        own_sub_queue = control.kind is ControlKind.TASK_TYPE and not self._queue.limits.has_type(
            control.workspace, control.name
        )
        if not self._queue.gates.put_control(control, now):
            return
        if own_sub_queue:
            self._move(control.workspace, (control.name,))
        self.wake(control.workspace)

    def budget(self, budget: Budget, now: float) -> None:
        """Puts a budget in force. The waiting tasks of its task type move to sub-queues of their own."""
        if not self._queue.gates.put_budget(budget, now):
            return
        if budget.scope is BudgetScope.TASK_TYPE and budget.version == 1:
            self._move(budget.workspace, (budget.subject,))
        self.wake(budget.workspace)

    def quotas(self, quotas: Quotas) -> None:
        """Puts a workspace's quotas in force."""
        if self._queue.gates.put_quotas(quotas):
            self.wake(quotas.workspace)

    def remove_budget(self, workspace: str, budget_id: str) -> None:
        """Takes a budget out of force."""
        if self._queue.gates.remove_budget(workspace, budget_id):
            self.wake(workspace)

    def _give_own(self, workspace: str, task_types: frozenset[str]) -> None:
        """Gives the task types that a claim names sub-queues of their own if they have none."""
        moved = self._queue.give_own(workspace, task_types, lambda: self._waiting.task_types(workspace))
        if moved:
            self._move(workspace, moved)

    def _move(self, workspace: str, task_types: Collection[str]) -> None:
        """Moves the waiting tasks of types that have sub-queues of their own now into these."""
        for head in self._open.values():
            if head.task_type in task_types and head.workspace == workspace and head.id in self._queue:
                self._queue.push(head, self._sticky.agent_of(head.id))

    # --- claims that wait ---------------------------------------------------------------------------------------

    def offer_again(self, key: AgentKey, now: float) -> None:
        """Offers work to an agent that may work (again). A waiting claim that was made while it might not says so in its request
        and would never be served: it is answered empty, and the agent asks again."""
        for waiting in [claim for claim in self._waiting.of_agent(key) if claim.request.unschedulable]:
            self._tasks.answer(waiting, (), now)
        self._waiting.may_ask(key)

    def serve(self, now: float) -> None:
        """Offers what became ready to waiting claims, also what becomes ready by that: an agent that takes a task may have no
        room for another one that waits for it."""
        for sub_queue in self._queue.readmitted():
            self._waiting.became_ready(sub_queue)
        for workspace in (*self._queue.accounts.take_free(), *self._queue.running.take_free()):
            self.wake(workspace)
        while self._waiting.has_offers:
            self._waiting.serve(lambda waiting: self._offer(waiting, now), self._has_room)

    def _has_room(self, waiting: Waiting) -> bool:
        return self._slots(waiting.request) > 0 and not self._is_unschedulable(waiting.request)

    def _offer(self, waiting: Waiting, now: float) -> bool:
        """Answers a waiting claim if there is something for it; True if there is."""
        grants = self._grant(waiting.request, waiting.profile, now)
        if grants:
            self._tasks.answer(waiting, grants, now)
        return bool(grants)
