"""Group commit, the exchange with an actor that dies, and the follower of the log: the hops that carry many calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.domain.base.errors import ActorUnavailable, Conflict, Overloaded, StoreUnavailable
from cluster.domain.base.log import LogRow
from cluster.log.follower import LogFollower
from cluster.ports.log import LogFilter, LogPage
from cluster.ports.wake_ups import WakeTopic
from cluster.process.clock import ManualClock, SystemClock
from cluster.process.group_commit import GroupCommit
from cluster.rpc.exchange import CALLS_IN_FLIGHT, ExchangeCall, ExchangeClient, ExchangeReply, ExchangeServer
from tests.support.probes import eventually

# --- group commit -----------------------------------------------------------------------------------------------------


class Flushes:
    """A flush that waits for its turn and can fail."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.failing: set[int] = set()

    async def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        await self.gate.wait()
        if self.failing & set(items):
            raise StoreUnavailable("away")
        return [item * 10 for item in items]


async def test_what_arrives_during_a_flush_goes_into_the_next_one() -> None:
    flushes = Flushes()
    lane: GroupCommit[int, int] = GroupCommit(flushes, max_batch=4)
    first = asyncio.create_task(lane.put(1))
    await eventually(lambda: flushes.batches == [[1]])
    rest = [asyncio.create_task(lane.put(n)) for n in range(2, 8)]
    await asyncio.sleep(0)
    flushes.gate.set()
    assert await asyncio.gather(first, *rest) == [10, 20, 30, 40, 50, 60, 70]
    assert flushes.batches == [[1], [2, 3, 4, 5], [6, 7]]


async def test_an_error_goes_to_its_own_batch_only() -> None:
    flushes = Flushes()
    flushes.failing = {2}
    lane: GroupCommit[int, int] = GroupCommit(flushes, max_batch=1)
    flushes.gate.set()
    one, two, three = await asyncio.gather(*(lane.put(n) for n in (1, 2, 3)), return_exceptions=True)
    assert (one, three) == (10, 30)
    assert isinstance(two, StoreUnavailable)
    await lane.drain()


async def test_a_group_stays_together_even_above_the_bound() -> None:
    flushes = Flushes()
    flushes.gate.set()
    lane: GroupCommit[int, int] = GroupCommit(flushes, max_batch=2)
    groups = await asyncio.gather(lane.put_many([1, 2, 3]), lane.put_many([4]), lane.put_many([]))
    assert [list(group) for group in groups] == [[10, 20, 30], [40], []]
    assert flushes.batches == [[1, 2, 3], [4]]


async def test_too_many_waiting_are_refused_and_a_cancelled_caller_still_writes() -> None:
    flushes = Flushes()
    lane: GroupCommit[int, int] = GroupCommit(flushes, max_batch=1, max_waiting=2)
    tasks = [asyncio.create_task(lane.put(1))]
    await eventually(lambda: flushes.batches == [[1]])
    tasks += [asyncio.create_task(lane.put(n)) for n in (2, 3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await lane.put(4)
    tasks[1].cancel()
    flushes.gate.set()
    assert await tasks[2] == 30
    assert flushes.batches == [[1], [2], [3]]


@settings(max_examples=50, deadline=None)
@given(groups=st.lists(st.lists(st.integers(), max_size=5), max_size=20), most=st.integers(1, 6))
def test_every_item_is_flushed_once_in_order(groups: list[list[int]], most: int) -> None:
    async def run() -> None:
        flushes = Flushes()
        flushes.gate.set()
        lane: GroupCommit[int, int] = GroupCommit(flushes, max_batch=most)
        answers = await asyncio.gather(*(lane.put_many(group) for group in groups))
        assert [list(answer) for answer in answers] == [[n * 10 for n in group] for group in groups]
        assert [n for batch in flushes.batches for n in batch] == [n for group in groups for n in group]
        assert all(len(batch) <= max(most, 5) for batch in flushes.batches)

    asyncio.run(run())


# --- exchange ---------------------------------------------------------------------------------------------------------


class Actor:
    """Answers what it is told to, when it is told to; can die and be replaced."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.start()

    def start(self) -> None:
        self.asked: list[tuple[str, int, Any]] = []
        self.withdrawn: list[int] = []
        self.calls = 0
        self.died = asyncio.Event()
        self.server: ExchangeServer | None = ExchangeServer(self._handle, self._withdraw, self.clock)

    def die(self) -> None:
        self.server = None
        self.died.set()

    def _handle(self, caller: str, requests: Sequence[tuple[int, Any]]) -> None:
        self.asked += [(caller, number, request) for number, request in requests]

    def _withdraw(self, caller: str, number: int) -> None:
        self.withdrawn.append(number)
        assert self.server is not None
        self.server.answer(caller, number, "withdrawn")

    def answer(self, request: Any, answer: Any) -> None:
        caller, number, _ = next(one for one in self.asked if one[2] == request)
        assert self.server is not None
        self.server.answer(caller, number, answer)

    async def call(self, call: ExchangeCall) -> ExchangeReply:
        if self.server is None:
            raise ActorUnavailable("down")
        self.calls += 1
        answer = asyncio.ensure_future(self.server.call(call))
        died = asyncio.ensure_future(self.died.wait())
        await asyncio.wait({answer, died}, return_when=asyncio.FIRST_COMPLETED)
        died.cancel()
        if not answer.done():
            answer.cancel()
            raise ActorUnavailable("died")
        return answer.result()

    def has(self, *requests: Any) -> bool:
        return {one[2] for one in self.asked} >= set(requests)


async def test_many_requests_share_few_calls_and_answers_come_in_any_order() -> None:
    actor = Actor()
    client = ExchangeClient("c", actor.call, clock=actor.clock)
    asked = [asyncio.create_task(client.request(n)) for n in range(500)]
    await eventually(lambda: actor.has(*range(500)))
    for n in reversed(range(500)):
        actor.answer(n, n + 1)
    assert await asyncio.gather(*asked) == list(range(1, 501))
    assert actor.calls <= 500 // 100 + CALLS_IN_FLIGHT
    await client.close()


async def test_an_answer_that_is_an_error_is_raised_at_its_asker() -> None:
    actor = Actor()
    client = ExchangeClient("c", actor.call, clock=actor.clock)
    bad, good = asyncio.create_task(client.request("bad")), asyncio.create_task(client.request("good"))
    await eventually(lambda: actor.has("bad", "good"))
    actor.answer("bad", Conflict("no", "code"))
    actor.answer("good", 1)
    with pytest.raises(Conflict, match="no"):
        await bad
    assert await good == 1
    await client.close()


async def test_what_a_dead_actor_left_unanswered_is_asked_of_its_successor() -> None:
    actor = Actor()
    client = ExchangeClient("c", actor.call, clock=actor.clock)
    asked = [asyncio.create_task(client.request(n)) for n in ("answered", "lost")]
    await eventually(lambda: actor.has("answered", "lost"))
    actor.answer("answered", 1)
    assert await asked[0] == 1
    actor.die()
    later = asyncio.create_task(client.request("later"))
    actor.start()
    await eventually(lambda: actor.has("lost", "later"))
    assert not actor.has("answered")
    actor.answer("lost", 2)
    actor.answer("later", 3)
    assert (await asked[1], await later) == (2, 3)
    await client.close()


async def test_an_actor_that_lost_its_state_is_asked_again_without_being_replaced() -> None:
    actor = Actor()
    client = ExchangeClient("c", actor.call, clock=actor.clock)
    asked = asyncio.create_task(client.request("x"))
    await eventually(lambda: actor.has("x"))
    actor.answer("x", ActorUnavailable("reading"))
    actor.asked.clear()
    await eventually(lambda: actor.has("x"))
    actor.answer("x", 1)
    assert await asked == 1
    await client.close()


async def test_impatient_requests_fail_after_a_while_and_patient_ones_outlive_the_actor() -> None:
    actor = Actor()
    actor.die()
    clock = ManualClock()
    client = ExchangeClient("c", actor.call, clock=clock, hold_s=5.0)
    impatient = asyncio.create_task(client.request("i"))
    long_poll = asyncio.create_task(client.request("p", long_poll=True))

    async def failed() -> bool:
        await clock.advance(1.0)
        return impatient.done()

    await eventually(failed)
    with pytest.raises(ActorUnavailable):
        await impatient
    with pytest.raises(ActorUnavailable):
        await client.request("at once")
    assert not long_poll.done()
    actor.start()

    async def asked() -> bool:
        await clock.advance(1.0)
        return actor.has("p")

    await eventually(asked)
    actor.answer("p", 1)
    assert await long_poll == 1
    assert not actor.has("i")
    await client.close()


async def test_an_answer_without_an_asker_goes_to_the_orphanage() -> None:
    """The lease was on its way when the client hung up: it must not lie idle."""
    actor, orphans = Actor(), []
    client = ExchangeClient("c", actor.call, clock=actor.clock, late_reply=orphans.append)
    hung_up = asyncio.create_task(client.request("claim", long_poll=True))
    await eventually(lambda: actor.has("claim"))
    actor.answer("claim", "lease")
    hung_up.cancel()
    await eventually(lambda: orphans)
    assert orphans[0] == "lease"
    await client.close()


async def test_an_answer_that_comes_as_its_asker_goes_is_an_orphan_too() -> None:
    """The answer has been delivered, and the asker is cancelled before it runs again."""
    actor, orphans = Actor(), []
    client = ExchangeClient("c", actor.call, clock=actor.clock, late_reply=orphans.append)
    hung_up = asyncio.create_task(client.request("claim", long_poll=True))
    await eventually(lambda: actor.has("claim"))
    ((number, (_, future, _)),) = client._waiting.items()
    client._deliver(number, "lease")
    assert future.done()
    hung_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hung_up
    assert orphans == ["lease"]
    await client.close()


async def test_closing_waits_until_an_orphan_has_been_given_back() -> None:
    actor = Actor()
    returns: list[asyncio.Task[Any]] = []

    def late_reply(answer: Any) -> None:
        returns.append(asyncio.create_task(client.request(("back", answer))))

    client = ExchangeClient("c", actor.call, clock=actor.clock, late_reply=late_reply)
    hung_up = asyncio.create_task(client.request("claim", long_poll=True))
    await eventually(lambda: actor.has("claim"))
    hung_up.cancel()
    closing = asyncio.create_task(client.close())
    await eventually(lambda: actor.has(("back", "withdrawn")))
    actor.answer(("back", "withdrawn"), "thanks")
    await closing
    assert [one.result() for one in returns] == ["thanks"]


async def test_a_request_that_was_never_sent_is_dropped_without_a_word() -> None:
    actor = Actor()
    actor.die()
    client = ExchangeClient("c", actor.call, clock=actor.clock, hold_s=100.0)
    hung_up = asyncio.create_task(client.request("gone", long_poll=True))
    await asyncio.sleep(0.01)
    hung_up.cancel()
    await asyncio.gather(hung_up, return_exceptions=True)
    actor.start()
    asked = asyncio.create_task(client.request("here"))
    await eventually(lambda: actor.has("here"))
    actor.answer("here", 1)
    await asked
    assert not actor.has("gone")
    await client.close()


async def test_waiting_is_bounded_and_a_closed_client_refuses() -> None:
    actor = Actor()
    client = ExchangeClient("c", actor.call, clock=actor.clock, max_waiting=2)
    waiting = [asyncio.create_task(client.request(n, long_poll=True)) for n in range(2)]
    await eventually(lambda: actor.has(0, 1))
    with pytest.raises(Overloaded):
        await client.request("third")
    await client.close()
    assert all(
        isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*waiting, return_exceptions=True)
    )
    with pytest.raises(Overloaded):
        await client.request("late")


async def test_a_silent_caller_is_forgotten_and_a_parked_one_is_not() -> None:
    clock = ManualClock()
    server = ExchangeServer(lambda caller, requests: None, lambda caller, number: None, clock)
    parked = asyncio.create_task(server.call(ExchangeCall(caller="parked")))
    hung_up = asyncio.create_task(server.call(ExchangeCall(caller="gone", requests=((1, "x"),))))
    await asyncio.sleep(0)
    hung_up.cancel()
    await asyncio.gather(hung_up, return_exceptions=True)
    await clock.advance(31.0)
    assert server.expired(30.0) == ["gone"]
    server.answer("gone", 1, "late")
    parked.cancel()
    await asyncio.gather(parked, return_exceptions=True)


# --- follower ---------------------------------------------------------------------------------------------------------


class Rows:
    """A log of numbered rows that can be away."""

    def __init__(self) -> None:
        self.count = 0
        self.away = False

    async def read(self, after: int, limit: int, only: LogFilter | None = None) -> list[LogRow]:
        if self.away:
            raise StoreUnavailable("away")
        return [_row(seq) for seq in range(after + 1, min(after + limit, self.count) + 1)]

    async def page(self, after: int, limit: int, only: LogFilter | None = None) -> LogPage:
        rows = await self.read(after, limit, only)
        return LogPage(rows=rows, cursor=rows[-1].seq if rows else after)


def _row(seq: int) -> LogRow:
    return LogRow(
        seq=seq, at=0.0, workspace="w", kind="k", entity="e", attempt=None, principal="p", data={}, digest=b""
    )  # fmt: skip


class Bell:
    def __init__(self) -> None:
        self.rung = asyncio.Event()

    async def notify(self, *topics: WakeTopic) -> None:
        self.rung.set()

    async def wait(self, timeout_s: float, topics: Sequence[WakeTopic] = ()) -> bool:
        await self.rung.wait()
        self.rung.clear()
        return True


async def test_a_follower_applies_every_row_once_in_order_over_an_absent_store() -> None:
    rows, bell, clock, applied = Rows(), Bell(), ManualClock(), []

    async def apply(batch: Sequence[LogRow]) -> None:
        applied.extend(row.seq for row in batch)

    follower = LogFollower(rows, bell, clock, after=2, apply=apply, batch=3)  # type: ignore[arg-type]
    running = asyncio.create_task(follower.run())
    reached = asyncio.create_task(follower.reached(20))
    rows.count = 12
    await bell.notify()
    await eventually(lambda: follower.cursor == 12)
    rows.away = True
    rows.count = 20
    await bell.notify()
    await asyncio.sleep(0)
    assert not reached.done()
    rows.away = False

    async def caught_up() -> bool:
        await clock.advance(1.0)
        return reached.done()

    await eventually(caught_up)
    rows.count = 23
    await follower.catch_up_to(23)
    assert applied == list(range(3, 24))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_follower_that_need_not_know_at_once_reads_the_first_row_and_lets_others_gather() -> None:
    rows, bell, clock, applied = Rows(), Bell(), ManualClock(), []

    async def apply(batch: Sequence[LogRow]) -> None:
        applied.append([row.seq for row in batch])

    follower = LogFollower(rows, bell, clock, after=0, apply=apply, apart_s=3600.0)  # type: ignore[arg-type]
    rows.count = 1
    running = asyncio.create_task(follower.run())
    await eventually(lambda: applied == [[1]])
    for rows.count in range(2, 6):
        await bell.notify()
        await asyncio.sleep(0)
    assert applied == [[1]]
    await follower.catch_up_to(5)
    assert applied == [[1], [2, 3, 4, 5]], "whoever must know now reads at once"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_apply_raises_ends_the_follower_and_moves_no_cursor() -> None:
    rows = Rows()
    rows.count = 1

    async def apply(batch: Sequence[LogRow]) -> None:
        raise ValueError("broken")

    follower = LogFollower(rows, Bell(), ManualClock(), after=0, apply=apply)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="broken"):
        await follower.run()
    assert follower.cursor == 0


async def test_a_caller_that_was_forgotten_while_it_lived_asks_again() -> None:
    actor = Actor()
    client = ExchangeClient("c", actor.call, clock=actor.clock)
    first = asyncio.create_task(client.request("first", long_poll=True))
    await eventually(lambda: actor.has("first"))
    assert actor.server is not None
    actor.server._callers.clear()
    actor.asked.clear()
    second = asyncio.create_task(client.request("second"))
    await eventually(lambda: actor.has("second"))
    actor.answer("second", 2)
    assert await second == 2
    await eventually(lambda: actor.has("first"))
    assert sum(one[2] == "first" for one in actor.asked) == 1
    actor.answer("first", 1)
    assert await first == 1
    await client.close()


async def test_only_so_many_calls_are_held_while_the_actor_is_away() -> None:
    actor = Actor()
    actor.die()
    client = ExchangeClient("c", actor.call, clock=actor.clock, hold_s=100.0, max_held=2)
    poll = asyncio.create_task(client.request("poll", long_poll=True))
    await eventually(lambda: client._away_since is not None)
    held = [asyncio.create_task(client.request(n)) for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ActorUnavailable):
        await client.request("one too many")
    actor.start()
    await eventually(lambda: actor.has("poll", 0, 1))
    for request in ("poll", 0, 1):
        actor.answer(request, request)
    assert await asyncio.gather(poll, *held) == ["poll", 0, 1]
    await client.close()


async def test_a_withdrawal_that_was_lost_with_its_call_is_made_again() -> None:
    """The connection broke and the actor did not: it still waits for whoever has gone."""
    actor = Actor()
    breaks = False

    async def call(call: ExchangeCall) -> ExchangeReply:
        nonlocal breaks
        if breaks and call.withdrawn:
            breaks = False
            raise ActorUnavailable("the connection was lost")
        return await actor.call(call)

    client = ExchangeClient("c", call, clock=actor.clock)
    hung_up = asyncio.create_task(client.request("gone", long_poll=True))
    await eventually(lambda: actor.has("gone"))
    breaks = True
    hung_up.cancel()
    await eventually(lambda: actor.withdrawn)
    assert not breaks
    await client.close()


async def test_a_second_answer_to_one_request_reaches_nobody_and_is_an_orphan() -> None:
    actor, orphans = Actor(), []
    client = ExchangeClient("c", actor.call, clock=actor.clock, late_reply=orphans.append)
    asked = asyncio.create_task(client.request("claim", long_poll=True))
    await eventually(lambda: actor.has("claim"))
    actor.answer("claim", "first")
    actor.answer("claim", "second")
    assert await asked == "first"
    await eventually(lambda: orphans == ["second"])
    await client.close()


async def test_what_a_forgotten_caller_has_not_taken_is_handed_back() -> None:
    clock, lost = ManualClock(), []
    server = ExchangeServer(lambda caller, requests: None, lambda caller, number: None, clock, lost.append)
    call = asyncio.create_task(server.call(ExchangeCall(caller="gone", requests=((1, "x"), (2, "y")))))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    server.answer("gone", 1, "in its outbox")
    await asyncio.sleep(0)
    await clock.advance(31.0)
    assert server.expired(30.0) == ["gone"]
    server.answer("gone", 2, "too late")
    assert lost == ["in its outbox", "too late"]


async def test_an_answer_is_fetched_also_when_its_asker_was_the_last_who_waited() -> None:
    """The withdrawal comes too late, its own call ends without the answer, and nobody else calls."""
    actor, orphans = Actor(), []
    client = ExchangeClient("c", actor.call, clock=actor.clock, late_reply=orphans.append)
    actor._withdraw = lambda caller, number: None  # type: ignore[method-assign]  # the lease is being committed
    actor.start()
    hung_up = asyncio.create_task(client.request("claim", long_poll=True))
    await eventually(lambda: actor.has("claim"))
    hung_up.cancel()
    assert actor.server is not None
    parked = actor.server._callers["c"].parked
    await eventually(lambda: len(parked) == 2)
    while parked:
        parked.popleft().set_result(None)
    await eventually(lambda: parked)
    actor.answer("claim", "lease")
    await eventually(lambda: orphans == ["lease"])
    await client.close()
