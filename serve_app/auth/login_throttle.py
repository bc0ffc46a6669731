"""Failed logins are few: whoever tries keys and tokens that do not count is soon told to wait.

Two counts, over all replicas (`serve_app.auth.shared_limits`). Of an address: once it has failed too often, a key or token that
has not counted before is not even looked at. One that has counted at this replica still is, so that a worker with a key that
ended does not shut out its neighbours. Of a key: once its secret was wrong too often, from however many addresses, a wrong one is
answered 429 instead of 401; the right one counts always, or anybody could shut out the key's owner.

The log gets a row of each client's failures for each window, and not of each try, or whoever tries could fill it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from starlette.requests import HTTPConnection

from cluster.domain.access.api_key import MARK, parse_token
from cluster.domain.access.principal import Principal
from cluster.domain.access.rate_limits import Rate, whole_seconds
from cluster.domain.access.rows import failed_logins_record
from cluster.domain.base.errors import CallerError, RateLimited, TryLater, Unauthenticated
from cluster.domain.base.log import Origin
from cluster.ports.clock import Clock
from cluster.ports.log import Log
from serve_app.auth.access_view import AccessView
from serve_app.auth.bearer import has_token, sent_token
from serve_app.auth.clients import Clients
from serve_app.auth.resolver import PrincipalResolver
from serve_app.auth.session_cookie import Cookies
from serve_app.auth.shared_limits import SharedLimits

T = TypeVar("T")

#: Failures of an address, and of a key: so many at once, and one more each few seconds.
RATE: Final = Rate(interval_s=3.0, burst=20)
WINDOW_S: Final = 30.0
#: Logins with the OIDC provider that an address may begin or ask about, since each is a call of the provider.
LOGINS: Final = Rate(interval_s=1.0, burst=60)
#: Rows of a window. What is beyond is counted in a last one.
MAX_ROWS: Final = 100
#: Keys and tokens that have counted, of which a number is kept and not the text.
MAX_KEPT: Final = 50_000
#: Addresses without room that are kept, so that they cost no question.
MAX_REFUSED: Final = 20_000
_TOO_MANY: Final = "Too many keys and tokens from here did not count; send one that does after the time in Retry-After."
_TOO_MANY_LOGINS: Final = "Too many logins were begun from here; try again after the time in Retry-After."
_OTHERS: Final = "others"


class LoginThrottle:
    """The failed logins of one replica. ``origin`` is whose the rows are; ``now``: seconds by a clock that nobody sets.
    ``cookies`` are those of sessions, if people can log in."""

    def __init__(
        self,
        *,
        limits: SharedLimits,
        clients: Clients,
        view: AccessView,
        log: Log,
        origin: Origin,
        clock: Clock,
        now: Callable[[], float],
        cookies: Cookies | None = None,
    ) -> None:
        self._limits = limits
        self._clients = clients
        self._view = view
        self._log = log
        self._origin = origin
        self._clock = clock
        self._now = now
        self._cookies = cookies
        #: Address → until when nothing is asked about it, since it had no room. Who tries on costs no call of Redis.
        self._refused_until: dict[str, float] = {}
        #: A hash of each key or token that has counted. It needs no more bits: what passes here is checked after that.
        self._proven: dict[int, None] = {}
        #: (address, key) → failures and those of them that were not looked at, which are not in the log yet.
        self._failures: dict[tuple[str, str | None], list[int]] = {}

    async def resolve(self, resolver: PrincipalResolver, connection: HTTPConnection) -> Principal:
        """Who calls, as ``resolver`` says. A call without a key, token or session is no login.

        Raises: `RateLimited` if too many logins have failed; else as the resolver."""
        text = self._sent(connection)
        if text is None:
            return await resolver.resolve(connection)
        return await self.guarded(connection, text, lambda: resolver.resolve(connection))

    async def guarded(self, connection: HTTPConnection, text: str, prove: Callable[[], Awaitable[T]]) -> T:
        """What ``prove`` finds out about the key, token or session ``text``.

        Raises: `RateLimited` if too many logins have failed; else as ``prove``."""
        login = hash(text)
        if login not in self._proven:
            await self._check_address(connection)
        try:
            found = await prove()
        except Unauthenticated:
            self._proven.pop(login, None)
            await self._count(connection, text)
            raise
        except CallerError:  # it counts, but not for this call
            self._prove(login)
            raise
        self._prove(login)
        return found

    def _sent(self, connection: HTTPConnection) -> str | None:
        if has_token(connection):
            return sent_token(connection)
        return None if self._cookies is None else self._cookies.session(connection)

    async def begin(self, connection: HTTPConnection) -> None:
        """Returns if a login with the OIDC provider may begin or go on.

        Raises: `RateLimited` if too many have failed or were begun from this address."""
        await self._check_address(connection)
        address = self._clients.group(connection.scope)
        grant = await self._limits.take(f"logins of address {address}", LOGINS, 1)
        if not grant.granted:
            raise RateLimited(_TOO_MANY_LOGINS, "too_many_logins", whole_seconds(grant.retry_after_s))

    async def fail(self, connection: HTTPConnection) -> None:
        """Counts a login with the OIDC provider that has failed."""
        address = self._clients.group(connection.scope)
        self._note(address, None, is_throttled=False)
        await self._limits.take(_of_address(address), RATE, 1)

    def address(self, connection: HTTPConnection) -> str:
        """From where a call comes, as the log has it."""
        return self._clients.address(connection.scope)

    def _prove(self, login: int) -> None:
        if login not in self._proven:
            if len(self._proven) >= MAX_KEPT:
                del self._proven[next(iter(self._proven))]
            self._proven[login] = None

    async def _check_address(self, connection: HTTPConnection) -> None:
        """Raises: `RateLimited` if the address has failed too often."""
        address = self._clients.group(connection.scope)
        wait_s = self._refused_until.get(address, 0.0) - self._now()
        if wait_s <= 0:
            wait_s = (await self._limits.take(_of_address(address), RATE, 0)).retry_after_s
            self._refused_until.pop(address, None)
            if wait_s > 0:
                if len(self._refused_until) >= MAX_REFUSED:
                    del self._refused_until[next(iter(self._refused_until))]
                self._refused_until[address] = self._now() + wait_s
        if wait_s > 0:
            self._note(address, None, is_throttled=True)
            raise RateLimited(_TOO_MANY, "too_many_failures", whole_seconds(wait_s))

    async def _count(self, connection: HTTPConnection, text: str) -> None:
        """Raises: `RateLimited` if the secret of this key was wrong too often."""
        address, key_id = self._clients.group(connection.scope), self._key_of(text)
        self._note(address, key_id, is_throttled=False)
        await self._limits.take(_of_address(address), RATE, 1)
        if key_id is not None:
            grant = await self._limits.take(f"failed key {key_id}", RATE, 1)
            if not grant.granted:
                raise RateLimited(_TOO_MANY, "too_many_failures", whole_seconds(grant.retry_after_s)) from None

    def _key_of(self, text: str) -> str | None:
        """The id of a key that exists. Others may be any words, which have no business in the log."""
        id = (parse_token(text) or ("",))[0] if text.startswith(MARK) else ""
        return id if self._view.key(id) is not None else None

    def _note(self, address: str, key_id: str | None, *, is_throttled: bool) -> None:
        who = (address, key_id)
        if who not in self._failures and len(self._failures) >= MAX_ROWS:
            who = (_OTHERS, None)
        counts = self._failures.setdefault(who, [0, 0])
        counts[0] += 1
        counts[1] += is_throttled

    async def run(self) -> None:
        while True:
            await self._clock.sleep(WINDOW_S)
            with contextlib.suppress(TryLater):
                await self.write()

    async def write(self) -> None:
        """Writes a row for each client that has failed since the last time. They stay noted if that fails.

        Raises: `TryLater` if the store does not answer."""
        failures, self._failures = self._failures, {}
        if not failures:
            return
        at = self._clock.now()
        records = [
            failed_logins_record(self._origin, at, address, key_id, failures=tried, throttled=throttled)
            for (address, key_id), (tried, throttled) in failures.items()
        ]
        try:
            await self._log.append(records)
        except TryLater:
            for who, (tried, throttled) in failures.items():
                counts = self._failures.setdefault(who, [0, 0])
                counts[0] += tried
                counts[1] += throttled
            raise


def _of_address(address: str) -> str:
    return f"failed address {address}"
