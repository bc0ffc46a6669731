"""The keys of another issuer (JWKS), fetched over checked connections and kept for a bounded time.

A token can make us fetch at most once per cool-down, no call waits longer than ``FETCH_S``, and keys that could not be fetched
again in time no longer count: an issuer that is away lets nobody in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aragora_worker.reasons import reason
from cluster.domain.access.token_keys import Algorithm, KeySet, TokenKey, read_keys
from cluster.domain.base.errors import ControlPlaneError, StoreUnavailable
from cluster.domain.base.urls import safe_url
from cluster.http.connections import ConnectionPool
from cluster.http.sending import BROKEN, TIMED_OUT, send

_logger = logging.getLogger(__name__)

FETCH_S = 3.0
#: Between two fetches that unknown keys or failures cause.
COOL_DOWN_S = 30.0
#: Keys of this age are fetched again, beside the calls that use them.
RENEW_S = 300.0
#: Keys of this age do not count any more: what an issuer has withdrawn is refused after this time at the latest.
KEEP_S = 900.0

#: Returns the document, and raises an error of ours if it cannot be had.
Fetch = Callable[[], Awaitable[bytes]]


def fetch_from(url: str, connections: ConnectionPool) -> Fetch:
    """The function that fetches a document from ``url``."""

    async def fetch() -> bytes:
        """Raises: `StoreUnavailable` if there is no answer 200 in time, and `PeerError` if its address is forbidden or its
        answer is too long or not HTTP."""
        try:
            answer = await send(connections, FETCH_S, "GET", url, {}, None)
        except (TIMED_OUT, *BROKEN) as error:
            raise StoreUnavailable(f"{safe_url(url)} does not answer: {reason(error)}.") from error
        if answer.status != 200:
            raise StoreUnavailable(f"{safe_url(url)} answers {answer.status}.")
        return answer.content

    return fetch


class IssuerKeys:
    """One issuer's keys. ``monotonic`` gives seconds."""

    def __init__(self, fetch: Fetch, monotonic: Callable[[], float]) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._keys = KeySet({})
        #: When the keys were fetched, and when it was last tried. ``_renew`` sets both.
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        #: The fetch that is under way; calls share it.
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, algorithm: Algorithm, kid: str | None) -> TokenKey | None:
        """The key of a token; None if the issuer has none that fits.

        Raises: `StoreUnavailable` if the keys are not known now."""
        if self._age() > KEEP_S:
            await self._renewed()
            if self._age() > KEEP_S:
                raise StoreUnavailable("The keys of the tokens' issuer cannot be fetched now; try again in a minute.")
        key = self._keys.find(algorithm, kid)
        if key is None:
            await self._renewed()
            return self._keys.find(algorithm, kid)
        if self._age() > RENEW_S:
            self._begin()
        return key

    def _age(self) -> float:
        return self._monotonic() - self._fetched_at

    async def _renewed(self) -> None:
        """Waits for a fetch, if one is under way or may begin. It is bounded by itself; a caller that leaves does not end it."""
        fetching = self._begin()
        if fetching is not None:
            await asyncio.wait({fetching})

    def _begin(self) -> asyncio.Task[None] | None:
        if self._fetching is None and self._monotonic() - self._tried_at >= COOL_DOWN_S:
            self._tried_at = self._monotonic()
            self._fetching = asyncio.get_running_loop().create_task(self._renew())
        return self._fetching

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(FETCH_S):
                self._keys = read_keys(await self._fetch())
            self._fetched_at = self._monotonic()
        except (ControlPlaneError, TimeoutError) as error:
            reason = str(error) if isinstance(error, ControlPlaneError) else f"no answer within {FETCH_S:g} s"
            _logger.warning("the keys of the tokens' issuer could not be fetched: %s", reason)
        finally:
            self._fetching = None

    async def close(self) -> None:
        """Ends a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
