"""The pool of connections: every wait is bounded, a breaker watches the server, and errors are the domain's."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from cluster.domain.agents.breaker import Breaker, BreakerState, CallOutcome, admit, step
from cluster.domain.base.errors import Conflict, ControlPlaneError, Fenced, StoreUnavailable, Unstorable
from cluster.postgres.failed_commits import FailedCommits
from cluster.process import spans

_logger = logging.getLogger(__name__)

#: The breaker's name on the wire.
DATABASE = "database"
#: More than one failure, since one broken connection says little. A short reset, since everything waits for the database.
BREAKER_THRESHOLD = 5
BREAKER_RESET_S = 1.0
LOCK_TIMEOUT_MS = 10_000
STATEMENT_TIMEOUT_MS = 30_000
IDLE_IN_TRANSACTION_MS = 30_000
CONNECT_TIMEOUT_S = 5.0
#: How long a process that nobody waits for lets the server take over a statement. It is longer than the server's own bounds,
#: which word the error better; it ends the wait for a server that is stopped, or behind a network that swallows packets.
LONGEST_ANSWER_S = STATEMENT_TIMEOUT_MS / 1000 + 5.0
#: How long a connection may take to go back: the server has to confirm that it cancelled a statement or rolled back.
RELEASE_S = 0.5

_FENCED = {
    "AG001": ("This region's epoch was raised.", "epoch_replaced"),
    "AG002": ("The scheduler shard was taken over.", "generation_replaced"),
    "AG005": ("This region is not the primary any more.", "not_primary"),
}
_CONFLICTS = {
    "AG003": ("This idempotency key was used with another body; use a new key.", "idempotency_conflict"),
    "AG004": ("Nobody could administer access afterwards; make another administrator first.", "last_admin"),
    "AG006": ("The workspace has as many schedules as it may have; delete one first.", "too_many_schedules"),
    "AG007": ("The schedule was changed or ran meanwhile; read it and try again.", "schedule_changed"),
    "AG008": ("The workspace has as many workflows as it may have; delete one first.", "too_many_workflows"),
    "AG010": ("The webhook has started its task before.", "already_started"),
    "AG011": (
        "A view or something else of yours reads the oldest segment of the log; make it read log.",
        "segment_used",
    ),
    "AG009": ("The run was deleted or signalled meanwhile.", "run_changed"),
}
#: What asyncpg and the network raise. InternalClientError: the server ended an idle connection before it was used.
#: UnicodeError: a text that has no UTF-8 form does not even leave this process.
_FAILURES = (
    *(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
    *(OSError, TimeoutError, UnicodeError),
)
#: SQLSTATE classes of data that the store does not take: data exception, integrity constraint violation, and a limit that it
#: exceeds (an entry of an index, an array, nesting).
_DATA = ("22", "23", "54")
#: SQLSTATE classes in which the same call may succeed later.
_TRY_AGAIN = ("08", "53", "57", "40", "55", "58")
#: SQLSTATE classes of a server that is away: no connection, shutting down or starting up.
_AWAY = ("08", "57P")


def translated(error: Exception) -> Exception:
    """Returns the domain's error for an error of asyncpg or of the network. Errors that are our own fault stay as they are."""
    state: str | None = getattr(error, "sqlstate", None)
    if state in _FENCED:
        message, code = _FENCED[state]
        return Fenced(message + " Try again in a moment.", code)
    if state in _CONFLICTS:
        return Conflict(*_CONFLICTS[state])
    # asyncpg says by both types at once that it cannot send a value as its column's type; it does not export the class.
    unsendable = isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)
    if unsendable or isinstance(error, UnicodeError) or (state is not None and state.startswith(_DATA)):
        return Unstorable(f"The database refuses the data: {error}")
    ours = error
    if isinstance(error, asyncpg.PostgresError) and state is not None and not state.startswith(_TRY_AGAIN):
        return ours
    if isinstance(error, asyncpg.InterfaceError) and "closed" not in str(error) and "closing" not in str(error):
        return ours
    return _unavailable()


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable("The database does not answer; try again in a moment.")


def _too_slow() -> StoreUnavailable:
    return StoreUnavailable(
        "The database answers, but took too long over this call; ask for less at once, or try again in a moment."
    )


def _away(error: Exception) -> bool:
    """Whether an error shows that the server is away. An error that the server itself reports is an answer."""
    if isinstance(error, asyncpg.PostgresError):
        return str(getattr(error, "sqlstate", "")).startswith(_AWAY)
    return isinstance(translated(error), StoreUnavailable)


class Pool:
    """Connections to the database, and a ``breaker`` that spares callers the wait while the server is away.

    The breaker is not stored, since the server that would store it is the one that is away. Each process notices within
    ``BREAKER_RESET_S`` that it is back. All methods raise the domain's errors: `StoreUnavailable`, `Fenced`, `Conflict`."""

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        now: Callable[[], float] = time.time,
        answer_s: float = LONGEST_ANSWER_S,
    ) -> None:
        self._pool = pool
        self._now = now
        self._answer_s = answer_s
        self.breaker = Breaker(name=DATABASE, threshold=BREAKER_THRESHOLD, reset_s=BREAKER_RESET_S)
        self.failed_commits = FailedCommits()
        #: When the server last answered a call of this process, by the monotonic clock.
        self._answered_at = -math.inf

    @asynccontextmanager
    async def _connection(self, sql: str = "") -> AsyncIterator[tuple[Any, float]]:
        """A connection for a statement, and how long the server may still take over it."""
        self.breaker, admitted = admit(self.breaker, self._now())
        if not admitted:
            raise _unavailable()
        alive = False
        started = time.monotonic()
        try:
            connect_s = min(CONNECT_TIMEOUT_S, self._answer_s)
            try:
                async with asyncio.timeout(connect_s):  # asyncpg's own bound makes a task for each
                    connection = await self._pool.acquire()
            except TimeoutError:
                alive = self._answered_at > started  # other calls had the connections, and were answered
                raise
            cut = False
            try:
                yield connection, max(self._answer_s - (time.monotonic() - started), RELEASE_S)
            except (asyncio.CancelledError, TimeoutError):
                cut = True
                raise
            finally:
                alive = await self._release(connection, cut=cut)
        except _FAILURES as error:
            self.failed_commits.count(sql, error)
            self._learned(CallOutcome.FAILURE if _away(error) and not alive else CallOutcome.SUCCESS)
            raise _too_slow() if alive and isinstance(error, TimeoutError) else translated(error) from error
        except asyncio.CancelledError:
            self._learned(CallOutcome.WITHDRAWN)
            raise
        self._learned(CallOutcome.SUCCESS)

    async def _release(self, connection: Any, *, cut: bool) -> bool:
        """``cut``: the statement ended before its answer was read. Returns whether the server has answered since."""
        try:
            return cut and await _end_implicit_transaction(connection)
        finally:
            # After the time-out asyncpg has closed the connection. Raising it would hide a cancellation of the caller.
            with suppress(TimeoutError):
                await self._pool.release(connection, timeout=RELEASE_S)

    def _learned(self, outcome: CallOutcome) -> None:
        before = self.breaker
        if outcome is CallOutcome.SUCCESS:
            self._answered_at = time.monotonic()
        if outcome is CallOutcome.SUCCESS and before.state is BreakerState.CLOSED and before.failures == 0:
            return  # as nearly always
        self.breaker = step(before, outcome, self._now())
        if self.breaker.state is not before.state:
            _logger.warning("the breaker of the database is %s", self.breaker.state.value)

    async def rows(self, sql: str, *args: Any) -> Sequence[Any]:
        """Runs a statement and returns its rows."""
        async with self._connection(sql) as (connection, left_s):
            result: Sequence[Any] = await connection.fetch(sql, *args, timeout=left_s)
            return result

    async def value(self, sql: str, *args: Any) -> Any:
        """Runs a statement and returns the first column of its first row, or None."""
        async with self._connection(sql) as (connection, left_s):
            return await connection.fetchval(sql, *args, timeout=left_s)

    async def execute(self, sql: str, *args: Any) -> None:
        """Runs a statement that returns nothing."""
        async with self._connection(sql) as (connection, left_s):
            await connection.execute(sql, *args, timeout=left_s)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Any]:
        """A connection whose statements all see the same state of the database. Each may take ``LONGEST_ANSWER_S``.

        After an error the release rolls back, because it is bounded; the transaction's own end would wait for a server that
        hangs."""
        async with self._connection() as (connection, _):
            transaction = connection.transaction(isolation="repeatable_read", readonly=True)
            await transaction.start()
            try:
                yield connection
            except ControlPlaneError:  # what was found is refused; the server answers
                await transaction.rollback()
                raise
            await transaction.commit()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """A connection whose statements are one transaction, which is rolled back after an error as in ``snapshot``."""
        async with self._connection() as (connection, _):
            transaction = connection.transaction()
            await transaction.start()
            try:
                yield connection
            except ControlPlaneError:
                await transaction.rollback()
                raise
            await transaction.commit()

    def usage(self) -> tuple[int, int, int]:
        """Connections in use, idle ones, and how many more may be opened."""
        size, idle = self._pool.get_size(), self._pool.get_idle_size()
        return size - idle, idle, self._pool.get_max_size() - size

    async def ping(self) -> None:
        """Returns if the server answers."""
        await self.value("select 1")

    async def close(self) -> None:
        """Closes all connections, after 5 s also those in use."""
        try:
            async with asyncio.timeout(5.0):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


async def _end_implicit_transaction(connection: Any) -> bool:
    """Ends the transaction of a statement that was cancelled when its preparation was answered and its execution not yet sent.

    asyncpg (0.32) ends the preparation with Flush, not Sync, so the server has begun a transaction. A cancellation that comes
    while it waits for the answer makes it send the Sync; one that comes between the answer and the next step does not, and
    asyncpg takes the connection for idle. Locks and snapshot would last until the connection's next statement, which would
    see the old ``now()``, or fail if it begins a transaction with an isolation level. Any statement ends it; an empty one
    breaks asyncpg, and ROLLBACK would log a warning where there is nothing to end.

    Returns whether the server answered it: a statement that took too long then says nothing about the server."""
    ended = False
    try:
        await connection.execute("select", timeout=RELEASE_S)
        ended = True
    except _FAILURES:
        pass  # the caller's error is the one to raise
    finally:
        if not ended:
            with suppress(asyncpg.InterfaceError):  # it is closed, and so no longer the pool's
                connection.terminate()
    return ended


async def _as_it_is(connection: Any) -> None:
    """Resets nothing when a connection goes back to the pool: nothing ever sets session state, so asyncpg's default would
    spend a round trip for nothing. asyncpg has rolled back before this what it knows of; what it does not know of,
    `_end_implicit_transaction` has ended."""


async def connect(
    url: str, schema: str, *, max_size: int = 8, application: str = "aragora", answer_s: float = LONGEST_ANSWER_S
) -> Pool:
    """Opens a pool whose calls wait up to ``answer_s`` for the server. Raises: `StoreUnavailable` if the database cannot be
    reached."""
    settings = {
        "search_path": schema,
        "application_name": application,
        "lock_timeout": str(LOCK_TIMEOUT_MS),
        "statement_timeout": str(STATEMENT_TIMEOUT_MS),
        "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
        # Queues live in memory and on solid state: at the default of 4, batches of look-ups by key become table scans.
        "random_page_cost": "1.1",
    }
    try:
        pool = await asyncpg.create_pool(
            url,
            # One connection shows that the database is there. None is kept for its own sake: asyncpg (0.32) would try to open it
            # again as long as the database is away, and log a traceback each time.
            init_size=1,
            min_size=0,
            max_size=max_size,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=LONGEST_ANSWER_S,
            server_settings=settings,
            reset=_as_it_is,
        )
    except _FAILURES as error:
        raise StoreUnavailable(f"The database cannot be reached: {error}.") from error
    if spans.tracer is not None:
        from cluster.postgres.traced_pool import TracedPool

        return TracedPool(pool, answer_s=answer_s)
    return Pool(pool, answer_s=answer_s)
