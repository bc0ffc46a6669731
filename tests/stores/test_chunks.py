"""The store of chunks does what a list per attempt does, whatever is repeated, left out, too much or too late."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cluster.domain.base.errors import Conflict, Fenced, InvalidRequest, NotFound, RateLimited, TooLarge
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.base.log import Origin, record_for
from cluster.domain.tasks.chunks import (
    CHUNK_BYTES,
    START,
    ChunkBounds,
    ChunkCursor,
    NewChunks,
    Verdict,
    Written,
    cursor_of,
    next_number,
    written_contents,
)
from cluster.domain.tasks.events import Claim, Complete, Fail, Reporter
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import LeaseToken, TaskHead
from cluster.ports.tasks import ShardFence, SubmitItem
from cluster.postgres.chunks import PostgresChunks
from cluster.postgres.stores import Stores, open_stores
from tests.support.samples import NOW, new_task
from tests.support.stores import StoreUrls

POLICY = RetryPolicy()
#: Few, so that histories reach them. A chunk "aaaa" is six bytes long.
BOUNDS = ChunkBounds(chunks=9, bytes=70, per_s=2.0, bytes_per_s=20.0, burst_s=2.0)
_numbers = itertools.count(1)


def _token(task_id: str, attempt: int = 1, agent_id: str = "a1") -> LeaseToken:
    return LeaseToken(task_id=task_id, attempt=attempt, agent_id=agent_id)


@dataclass
class Model:
    """What was taken, as a dumb writer would keep it: nothing is counted but by going through all of it."""

    chunks: dict[ChunkCursor, tuple[float, str]] = field(default_factory=dict)
    paid_until: float = 0.0

    def last(self, attempt: int) -> int:
        return max((cursor.n for cursor in self.chunks if cursor.attempt == attempt), default=0)

    def write(self, new: NewChunks, held: tuple[str, int, str] | None) -> Written:
        attempt = new.token.attempt
        if held != ("running", attempt, new.token.agent_id):
            return Written(verdict=Verdict.LOST)
        last = self.last(attempt)
        cursors = [ChunkCursor(attempt, new.first + i) for i in range(len(new.contents))]
        for cursor, content in zip(cursors, new.contents, strict=True):
            if cursor.n <= last and self.chunks.get(cursor, (0.0, None))[1] != content:
                return Written(verdict=Verdict.CHANGED, next=cursor.n)
        fresh = [pair for pair in zip(cursors, new.contents, strict=True) if pair[0].n > last]
        if not fresh:
            return Written(verdict=Verdict.WRITTEN, next=last + 1)
        if fresh[0][0].n > last + 1 and not new.skip:
            return Written(verdict=Verdict.GAP, next=last + 1)
        size = sum(len(content) for _, content in fresh)
        had = sum(len(content) for _, content in self.chunks.values())
        if len(self.chunks) + len(fresh) > BOUNDS.chunks or had + size > BOUNDS.bytes:
            return Written(verdict=Verdict.FULL)
        cost = max(len(fresh) / BOUNDS.per_s, size / BOUNDS.bytes_per_s)
        paid = min(max(self.paid_until, new.at), new.at + BOUNDS.burst_s) + cost
        if paid - new.at - BOUNDS.burst_s > 0.001:
            return Written(verdict=Verdict.FAST, wait_s=paid - new.at - BOUNDS.burst_s)
        self.paid_until = paid
        self.chunks |= {cursor: (new.at, content) for cursor, content in fresh}
        return Written(verdict=Verdict.WRITTEN, next=fresh[-1][0].n + 1)


@dataclass
class History:
    """Tasks that come and go beside the chunks of each."""

    stores: Stores
    chunks: PostgresChunks
    fence: ShardFence
    workspace: str = ""
    now: float = NOW
    heads: list[TaskHead] = field(default_factory=list)
    models: list[Model] = field(default_factory=list)

    async def begin(self) -> None:
        self.workspace = f"w{next(_numbers)}"
        for _ in range(2):
            task = new_task(
                id=f"chunked_{next(_numbers)}", origin=Origin(workspace=self.workspace, principal="p"), max_retries=9,
                created_at=self.now,
            )  # fmt: skip
            await self.stores.tasks.submit([SubmitItem(task=task)])
            self.heads.append(task.head())
            self.models.append(Model())
            await self.run(len(self.heads) - 1)

    async def run(self, which: int) -> None:
        """The next attempt begins, if the task waits for one."""
        if self.heads[which].status == "pending":
            await self._decide(which, Claim(agent_id="a1", claim_id="c", principal="p"))

    async def fail(self, which: int) -> None:
        if self.heads[which].status == "running":
            by = Reporter(principal="p", agent_id="a1", attempt=self.heads[which].attempt)
            await self._decide(which, Fail(by=by, error="no"))
            self.now = max(self.now, self.heads[which].run_at)

    async def complete(self, which: int) -> None:
        if self.heads[which].status == "running":
            by = Reporter(principal="p", agent_id="a1", attempt=self.heads[which].attempt)
            await self._decide(which, Complete(by=by))

    async def _decide(self, which: int, event: Any) -> None:
        done = step(self.heads[which], event, self.now, POLICY)
        assert done.decision is not None
        assert (await self.stores.tasks.decide(self.fence, [done.decision]))[0].applied
        self.heads[which] = done.head

    async def tick(self, seconds: float) -> None:
        self.now += seconds

    async def write(self, calls: list[tuple[int, int, int, list[str], bool, str]]) -> None:
        """One commit of several calls: of which task, how far from the next number and from the present attempt, what, whether it
        skips, and by whom."""
        news = []
        for which, off, late, contents, skip, agent in calls:
            head, model = self.heads[which], self.models[which]
            attempt = max(0, head.attempt - late)
            new = NewChunks(
                workspace=self.workspace, token=_token(head.id, attempt, agent), at=self.now, skip=skip,
                first=max(1, model.last(attempt) + 1 + off), contents=[canonical_json(text) for text in contents],
            )  # fmt: skip
            news.append((which, new))
        outcomes = await self.chunks.write([new for _, new in news])
        for (which, new), outcome in zip(news, outcomes, strict=True):
            head = self.heads[which]
            expected = self.models[which].write(new, (head.status.value, head.attempt, head.assigned_agent or ""))
            assert (outcome.verdict, outcome.next) == (expected.verdict, expected.next)
            assert math.isclose(outcome.wait_s, expected.wait_s, abs_tol=1e-3)

    async def check(self, limit: int) -> None:
        for head, model in zip(self.heads, self.models, strict=True):
            found, cursor, more = [], START, True
            while more:
                page = await self.chunks.read(self.workspace, head.id, cursor, limit)
                assert page is not None
                assert (page.status, page.attempt, page.elsewhere) == (head.status, head.attempt, False)
                found += [(chunk.cursor, (chunk.at, canonical_json(chunk.content))) for chunk in page.chunks]
                cursor = page.chunks[-1].cursor if page.chunks else cursor
                more = len(page.chunks) == limit
                assert more or page.last == max(model.chunks, default=START)
            assert found == sorted(model.chunks.items())
        assert await self.chunks.read("another", self.heads[0].id, START, limit) is None


_WHICH = st.integers(0, 1)
_CALL = st.tuples(
    _WHICH,
    st.sampled_from([0, 0, 0, 0, -1, -2, 1, 3]),
    st.sampled_from([0, 0, 0, 0, 1]),
    st.lists(st.sampled_from(["a", "aaaa", "b" * 20]), min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from(["a1", "a1", "a1", "a2"]),
)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(_CALL, min_size=1, max_size=3)),
        st.tuples(st.just("write"), st.lists(_CALL, min_size=1, max_size=3)),
        st.tuples(st.just("tick"), st.sampled_from([0.3, 1.0, 5.0])),
        st.tuples(st.sampled_from(["fail", "run", "run", "complete"]), _WHICH),
        st.tuples(st.just("check"), st.sampled_from([1, 2, 50])),
    ),
    min_size=3,
    max_size=25,
)


@pytest.fixture
async def history(store_urls: StoreUrls, schema: str) -> Any:
    stores = await open_stores(store_urls.database, schema, "test-region")
    fence = await stores.tasks.take_generation("0", "test")
    yield lambda: History(stores, PostgresChunks(stores.pool, stores.epoch, BOUNDS), fence)
    await stores.close()


@settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=_STEPS)
async def test_chunks_are_taken_as_a_list_per_attempt_takes_them(history: Callable[[], History], steps: Any) -> None:
    told = history()
    await told.begin()
    for name, argument in steps:
        await getattr(told, name)(argument)
    await told.check(3)


async def _running(stores: Stores) -> LeaseToken:
    fence = await stores.tasks.take_generation("0", "test")
    task = new_task()
    await stores.tasks.submit([SubmitItem(task=task)])
    done = step(task.head(), Claim(agent_id="a1", claim_id="c", principal="p"), NOW, POLICY)
    assert done.decision is not None
    await stores.tasks.decide(fence, [done.decision])
    return _token(task.id)


def _new(token: LeaseToken, *contents: str, first: int = 1) -> NewChunks:
    return NewChunks(workspace="w", token=token, first=first, contents=[canonical_json(c) for c in contents], at=NOW)


async def test_a_page_ends_by_its_bytes_and_the_next_goes_on(stores: Stores) -> None:
    token = await _running(stores)
    for n in range(1, 41):
        new = NewChunks(
            workspace="w", token=token, first=n, contents=[canonical_json("x" * (CHUNK_BYTES - 2))], at=NOW + n
        )
        assert (await stores.chunks.write([new]))[0].verdict is Verdict.WRITTEN
    sizes, cursor = [], START
    for _ in range(3):
        page = await stores.chunks.read("w", token.task_id, cursor, 100)
        assert page is not None
        sizes.append(len(page.chunks))
        cursor = page.chunks[-1].cursor
    assert sizes == [16, 16, 8]
    assert cursor == page.last


async def test_a_mark_changes_with_chunks_and_with_the_task(stores: Stores) -> None:
    token = await _running(stores)
    key = ("w", token.task_id)
    first = await stores.chunks.marks([key, ("other", token.task_id)])
    await stores.chunks.write([_new(token, "a")])
    second = await stores.chunks.marks([key])
    await stores.chunks.write([_new(token, "a")])
    assert list(first) == [key]
    assert first[key] != second[key] == (await stores.chunks.marks([key]))[key]


async def test_a_region_that_was_replaced_takes_no_chunks(stores: Stores) -> None:
    token = await _running(stores)
    await stores.region.raise_epoch("another")
    stores.epoch.value -= 1
    with pytest.raises(Fenced):
        await stores.chunks.write([_new(token, "a")])


async def test_erasing_a_task_takes_its_chunks_with_it(stores: Stores) -> None:
    token = await _running(stores)
    await stores.chunks.write([_new(token, "words")])
    fence = await stores.tasks.take_generation("0", "test")
    task = await stores.tasks.get("w", token.task_id)
    assert task is not None
    done = step(task.head(), Complete(by=Reporter(principal="p", agent_id="a1", attempt=1)), NOW, POLICY)
    assert done.decision is not None
    await stores.tasks.decide(fence, [done.decision])
    record = record_for(Origin(workspace="w", principal="p"), NOW, "task.erased", token.task_id)
    assert await stores.erasures.erase_tasks("w", [record]) == 1
    left = "select (select count(*) from task_chunks) + (select count(*) from task_chunk_totals)"
    assert await stores.pool.value(left) == 0


async def test_what_another_region_erased_takes_its_chunks_along(stores: Stores) -> None:
    token = await _running(stores)
    await stores.chunks.write([_new(token, "words")])
    head = await stores.log.head()
    record = record_for(Origin(workspace="w", principal="p"), NOW, "task.erased", token.task_id)
    await stores.log.append([record])
    await stores.pool.execute("select follow_erasures($1)", head)
    page = await stores.chunks.read("w", token.task_id, START, 10)
    assert page is not None
    assert (page.chunks, page.last) == ([], START)


async def test_an_attempt_under_an_earlier_epoch_may_have_chunks_elsewhere(stores: Stores) -> None:
    token = await _running(stores)

    async def elsewhere() -> bool:
        page = await stores.chunks.read("w", token.task_id, START, 10, has_peers=True)
        assert page is not None
        return page.elsewhere

    assert not await elsewhere()
    await stores.region.raise_epoch("another")
    assert await elsewhere()


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "1.2.3", "-1.2", "1.x", "1234567890.1"])
def test_a_place_has_two_numbers(text: str) -> None:
    with pytest.raises(InvalidRequest):
        cursor_of(text)
    assert cursor_of(ChunkCursor(3, 7).encode()) == ChunkCursor(3, 7)


@pytest.mark.parametrize(
    ("chunks", "error"),
    [
        ([], InvalidRequest),
        (["a"] * 101, InvalidRequest),
        ([float("nan")], InvalidRequest),
        (["\x00"], InvalidRequest),
        (["x" * (CHUNK_BYTES - 1)], TooLarge),
        (["x" * (CHUNK_BYTES - 2)] * 17, TooLarge),
    ],
    ids=["none", "many", "nan", "nul", "large", "large together"],
)
def test_a_call_is_bounded(chunks: list[Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        written_contents(chunks)


def test_each_verdict_has_a_sentence() -> None:
    new = _new(_token("t"), "a")
    expected = {
        Verdict.UNKNOWN: NotFound, Verdict.LOST: Conflict, Verdict.GAP: Conflict, Verdict.CHANGED: Conflict,
        Verdict.FULL: TooLarge, Verdict.FAST: RateLimited,
    }  # fmt: skip
    for verdict, error in expected.items():
        with pytest.raises(error):
            next_number(new, Written(verdict=verdict, next=3, wait_s=0.2))
    assert next_number(new, Written(verdict=Verdict.WRITTEN, next=2)) == 2
