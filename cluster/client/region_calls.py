"""A plain client of several regions: it knows where their APIs are, repeats a call under the same key until it is answered, and
goes to the region that an answer names as the primary."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx

from aragora_worker.api import API
from aragora_worker.errors import ApiError

#: By it a region that does not write for the zone names the primary's API.
PRIMARY_HEADER: Final = "x-aragora-primary"
#: Longer than any answer of a region that lives.
ANSWER_S = 8.0
CONNECT_S = 1.0
RETRY_S = 0.1


class RegionCalls:
    """``urls``: where the API of each region is."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._at = 0
        # Regions of one machine answer plain HTTP; reading the authorities that the machine trusts would take 80 ms.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._http = httpx.AsyncClient(
            verify=context, trust_env=False, timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def submit(self, key: str, body: Mapping[str, Any]) -> str:
        """Submits one task under an idempotency key, as often as it takes; returns its id.

        Raises: `ApiError` if a region refuses the task itself."""
        found = await self._answered("POST", "/tasks", body, {"Idempotency-Key": key})
        return str(found["task_id"])

    async def tasks(self, url: str) -> list[dict[str, Any]]:
        """All tasks that one region shows, page by page; waits while it cannot answer.

        Raises: `ApiError` if it refuses the call."""
        rows: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = await self._answered("GET", f"/tasks?limit=500{cursor}", only=url)
            rows += page["tasks"]
            if page["next_cursor"] is None:
                return rows
            cursor = f"&cursor={page['next_cursor']}"

    async def _answered(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        only: str | None = None,
    ) -> Any:
        """The first answer that is none of a region that cannot serve now. ``only``: asks nobody else."""
        while True:
            url = only or self._urls[self._at]
            try:
                response = await self._http.request(method, url + API + path, json=body, headers=headers)
            except httpx.HTTPError:
                self._turn(url, None)
            else:
                if response.is_success:
                    return response.json()
                if response.status_code != 429 and response.status_code < 500:
                    found = response.json()
                    raise ApiError(str(found["error"]), found.get("code"), response.status_code)
                self._turn(url, response.headers.get(PRIMARY_HEADER))
            await asyncio.sleep(RETRY_S)

    def _turn(self, asked: str, primary: str | None) -> None:
        """Goes on at the primary that was named, else at the next region. One that is lost may still be named by others: then
        all are asked in turn, until somebody names another one."""
        if asked != self._urls[self._at]:
            return  # another call has gone on already
        if primary is not None and primary in self._urls and primary != asked:
            self._at = self._urls.index(primary)
        else:
            self._at = (self._at + 1) % len(self._urls)
