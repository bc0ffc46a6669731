"""The exchange with an actor that may die: every request is answered once, whoever answers it in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from cluster.domain.base.errors import ActorUnavailable, Conflict, Overloaded, StoreUnavailable
from cluster.process.clock import ManualClock, SystemClock
from cluster.rpc import exchange
from cluster.rpc.exchange import (
    CALLS_IN_FLIGHT,
    ExchangeCall,
    ExchangeClient,
    ExchangeReply,
    ExchangeServer,
    _release,
)
from tests.support.probes import eventually


@pytest.fixture
def shortly_parked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call, which brings what was lost, comes when a parked one ends."""
    monkeypatch.setattr(exchange, "PARK_S", 0.05)


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
        caller, number, _ = next(call for call in self.asked if call[2] == request)
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
        return {call[2] for call in self.asked} >= set(requests)


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


async def test_open_requests_of_a_dead_actor_go_to_its_successor() -> None:
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


async def test_short_requests_fail_in_time_and_long_polls_outlive_the_actor() -> None:
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


def _ends_in(client: ExchangeClient) -> float:
    """When the first of the requests that wait is given up, in seconds from now."""
    ends = [asked.bound.when() for asked in client._waiting.values()]
    return min(end for end in ends if end is not None) - asyncio.get_running_loop().time()


async def test_an_actor_that_runs_is_waited_for_less_than_a_successor() -> None:
    """What an actor waits for may be away for long; its successor is soon there."""
    actor = Actor()
    client = ExchangeClient("c", actor.call, clock=actor.clock, hold_s=1000.0, running_s=0.05)
    with pytest.raises(ActorUnavailable, match="in time"):
        await client.request("slow")
    client._running_s = 60.0
    held = asyncio.create_task(client.request("held"))
    await eventually(lambda: actor.has("held"))
    assert _ends_in(client) < 100.0
    actor.die()
    await eventually(lambda: client._is_dead())
    later = asyncio.create_task(client.request("later"))
    await eventually(lambda: len(client._waiting) == 2)
    assert _ends_in(client) > 900.0
    actor.start()
    await eventually(lambda: actor.has("held", "later"))
    actor.answer("held", 1)
    actor.answer("later", 2)
    assert (await held, await later) == (1, 2)
    await client.close()


async def test_an_actor_without_its_state_is_waited_for_less() -> None:
    actor, clock = Actor(), ManualClock()
    began = clock.now()
    client = ExchangeClient("c", actor.call, clock=clock, hold_s=1000.0, running_s=500.0)
    asked = asyncio.create_task(client.request("x"))

    async def failed() -> bool:
        if actor.has("x"):
            actor.answer("x", ActorUnavailable("reading"))
            actor.asked.clear()
        await clock.advance(100.0)
        return asked.done()

    await eventually(failed)
    with pytest.raises(ActorUnavailable, match="reading"):
        await asked
    assert clock.now() - began < 1000.0
    await client.close()


async def test_an_answer_without_a_request_goes_to_the_late_reply_hook() -> None:
    """The lease was on its way when the client hung up: it must not lie idle."""
    actor, late_replies = Actor(), []
    client = ExchangeClient("c", actor.call, clock=actor.clock, late_reply=late_replies.append)
    hung_up = asyncio.create_task(client.request("claim", long_poll=True))
    await eventually(lambda: actor.has("claim"))
    actor.answer("claim", "lease")
    hung_up.cancel()
    await eventually(lambda: late_replies)
    assert late_replies[0] == "lease"
    await client.close()


async def test_an_answer_that_meets_a_cancelled_request_is_a_late_reply() -> None:
    """The answer has been delivered, and the asker is cancelled before it runs again."""
    actor, late_replies = Actor(), []
    client = ExchangeClient("c", actor.call, clock=actor.clock, late_reply=late_replies.append)
    hung_up = asyncio.create_task(client.request("claim", long_poll=True))
    await eventually(lambda: actor.has("claim"))
    ((number, asked),) = client._waiting.items()
    client._deliver(number, "lease")
    assert asked.future.done()
    hung_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hung_up
    assert late_replies == ["lease"]
    await client.close()


async def test_closing_waits_until_a_late_reply_has_been_returned() -> None:
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
    assert [returned.result() for returned in returns] == ["thanks"]


async def test_a_request_that_was_never_sent_is_dropped_silently() -> None:
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


async def test_a_silent_caller_is_forgotten_and_a_waiting_one_is_not() -> None:
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


@pytest.mark.usefixtures("shortly_parked")
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
    assert sum(call[2] == "first" for call in actor.asked) == 1
    actor.answer("first", 1)
    assert await first == 1
    await client.close()


async def test_a_successor_is_sent_what_its_living_predecessor_keeps() -> None:
    """As when a role moves to a new process: new calls reach the successor, while the predecessor lives on and has the request.
    When it answers, no call is left that could bring that."""
    before, after = Actor(), Actor()
    calls = before.call
    client = ExchangeClient("c", lambda call: calls(call), clock=before.clock)
    asker = asyncio.create_task(client.request("first", long_poll=True))
    await eventually(lambda: before.has("first"))
    calls = after.call
    assert before.server is not None
    _release(before.server._callers["c"].parked.popleft())  # as after PARK_S
    await eventually(lambda: after.has("first"))
    before.answer("first", "in vain")
    after.answer("first", 1)
    assert await asker == 1
    await client.close()


@pytest.mark.parametrize("error", [StoreUnavailable("no names"), OSError("no socket")])
async def test_a_call_that_cannot_be_made_loses_no_request(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    actor, failures = Actor(), [error, error]

    async def call(call: ExchangeCall) -> ExchangeReply:
        if failures:
            raise failures.pop()
        return await actor.call(call)

    client = ExchangeClient("c", call, clock=actor.clock)
    askers = [asyncio.create_task(client.request(name, long_poll=name == "poll")) for name in ("poll", "short")]
    await eventually(lambda: actor.has("poll", "short"))
    for name in ("poll", "short"):
        actor.answer(name, name)
    assert await asyncio.gather(*askers) == ["poll", "short"]
    await client.close()
    assert bool(caplog.records) == isinstance(error, OSError)


async def left_alone_while_away(actor: Actor, clock: ManualClock) -> ExchangeClient:
    """A client whose requests all failed while the actor was away. So it does not find out that the actor is back."""
    actor.die()
    client = ExchangeClient("c", actor.call, clock=clock, hold_s=5.0)
    asker = asyncio.create_task(client.request("fails"))

    async def failed() -> bool:
        await clock.advance(1.0)
        return asker.done() and not client._in_flight

    await eventually(failed)
    with pytest.raises(ActorUnavailable):
        await asker
    await clock.advance(60.0)
    return client


async def test_a_request_after_an_outage_that_nobody_watched_is_answered() -> None:
    actor, clock = Actor(), ManualClock()
    client = await left_alone_while_away(actor, clock)
    actor.start()
    asked = asyncio.create_task(client.request("x"))
    await eventually(lambda: actor.has("x") or asked.done())
    actor.answer("x", 1)
    assert await asked == 1
    await client.close()


async def test_a_request_beside_a_call_that_the_actor_keeps_is_answered() -> None:
    actor, clock = Actor(), ManualClock()
    client = await left_alone_while_away(actor, clock)
    actor.start()
    poll = asyncio.create_task(client.request("poll", long_poll=True))
    await eventually(lambda: actor.has("poll"))
    asked = asyncio.create_task(client.request("x"))
    await eventually(lambda: actor.has("x") or asked.done())
    actor.answer("x", 1)
    assert await asked == 1
    actor.answer("poll", 2)
    assert await poll == 2
    await client.close()


async def test_an_outage_that_nobody_watched_does_not_shorten_the_next() -> None:
    actor, clock = Actor(), ManualClock()
    client = await left_alone_while_away(actor, clock)
    asked = asyncio.create_task(client.request("x"))
    await eventually(lambda: client.away or asked.done())
    await clock.advance(1.0)
    actor.start()

    async def arrived() -> bool:
        await clock.advance(0.1)
        return actor.has("x") or asked.done()

    await eventually(arrived)
    actor.answer("x", 1)
    assert await asked == 1
    await client.close()


async def test_held_calls_are_bounded_while_the_actor_is_away() -> None:
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


@pytest.mark.usefixtures("shortly_parked")
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


async def test_a_second_answer_to_one_request_is_a_late_reply() -> None:
    actor, late_replies = Actor(), []
    client = ExchangeClient("c", actor.call, clock=actor.clock, late_reply=late_replies.append)
    asked = asyncio.create_task(client.request("claim", long_poll=True))
    await eventually(lambda: actor.has("claim"))
    actor.answer("claim", "first")
    actor.answer("claim", "second")
    assert await asked == "first"
    await eventually(lambda: late_replies == ["second"])
    await client.close()


async def test_answers_that_a_forgotten_caller_did_not_fetch_are_returned() -> None:
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


async def test_the_answer_of_the_last_waiting_request_is_fetched() -> None:
    """The withdrawal comes too late, its own call ends without the answer, and nobody else calls."""
    actor, late_replies = Actor(), []
    client = ExchangeClient("c", actor.call, clock=actor.clock, late_reply=late_replies.append)
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
    await eventually(lambda: late_replies == ["lease"])
    await client.close()
