"""The group of several regions: etcd, over its JSON gateway (version 3.4 or later).

int64 are texts there, and fields that are zero or false are absent: the loser of a swap lacks ``succeeded``, and the renewal of a
lease that has ended is a success without ``TTL``.
"""

from __future__ import annotations

import base64
import json
import math
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

import httpx

from cluster.domain.base.errors import InternalError, StoreUnavailable
from cluster.ports.clock import Clock
from cluster.ports.consensus_group import GroupEntry, GroupLease, GroupView, KeyCompare, KeyPut

#: How long one endpoint may take. A member that lost its quorum does not answer, and does not refuse either.
CALL_S = 1.0
#: A watch reads at least this often: a connection that is half open brings nothing, and does not end.
RECHECK_S = 5.0
#: How long a watch waits after an error.
PAUSE_S = 0.5
#: Codes of gRPC in the answers.
_NOT_FOUND, _UNAUTHENTICATED = 5, 16
#: The outcome is known: the request did not leave.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
#: With TLS 1.3 a server refuses a client's certificate after the handshake, and httpx hands that error on as it is.
_FAILED = (httpx.HTTPError, ssl.SSLError)


class _EtcdError(Exception):
    def __init__(self, code: int, message: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class _LeaseNotFound(Exception):
    """The lease has ended."""


class EtcdGroup:
    """``endpoints``: a URL of each member; all are tried, first the one that answered last. ``tls``: a context with the client's
    certificate. ``user`` and ``password``: etcd's own authentication. Close it with ``close``."""

    def __init__(
        self,
        endpoints: Sequence[str],
        clock: Clock,
        *,
        tls: ssl.SSLContext | None = None,
        user: str | None = None,
        password: str | None = None,
        call_s: float = CALL_S,
    ) -> None:
        self._endpoints = [endpoint.rstrip("/") for endpoint in endpoints]
        self._clock = clock
        self._user = user
        self._password = password
        self._token: str | None = None
        # No proxy of the environment stands between regions.
        self._http = httpx.AsyncClient(verify=tls or True, timeout=call_s, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def read(self, prefix: str) -> GroupView:
        found = await self._call("kv/range", _range(prefix))
        entries = {_text(pair["key"]): _entry(pair) for pair in found.get("kvs", [])}
        return GroupView(entries=entries, revision=int(found["header"]["revision"]))

    async def swap(
        self, compares: Sequence[KeyCompare], puts: Sequence[KeyPut] = (), deletes: Sequence[str] = ()
    ) -> bool:
        changes = [{"request_put": _put(put)} for put in puts]
        changes += [{"request_delete_range": {"key": _bytes(key)}} for key in deletes]
        conditions = [condition for compare in compares for condition in _conditions(compare)]
        try:
            found = await self._call("kv/txn", {"compare": conditions, "success": changes}, once=True)
        except _LeaseNotFound:
            return False
        return bool(found.get("succeeded", False))

    async def grant(self, ttl_s: float) -> GroupLease:
        found = await self._call("lease/grant", {"TTL": str(math.ceil(ttl_s))})
        return GroupLease(id=found["ID"], ttl_s=float(found["TTL"]))

    async def renew(self, lease: str) -> float | None:
        found = await self._call("lease/keepalive", {"ID": lease})
        ttl_s = float(found["result"].get("TTL", 0))
        return ttl_s if ttl_s > 0 else None

    async def revoke(self, lease: str) -> None:
        with suppress(_LeaseNotFound):
            await self._call("lease/revoke", {"ID": lease})

    async def watch(self, prefix: str) -> AsyncGenerator[GroupView, None]:
        """An event of etcd's watch is only a reason to read: watches end with errors and are not resumed, and what happened
        meanwhile is in the entries."""
        last: Mapping[str, GroupEntry] | None = None
        while True:
            try:
                async with aclosing(self._reasons(prefix)) as reasons:
                    async for _ in reasons:
                        view = await self.read(prefix)
                        if view.entries != last:
                            last = view.entries
                            yield view
            except (StoreUnavailable, *_FAILED, _EtcdError):
                self._next_endpoint()
                await self._clock.sleep(PAUSE_S)

    async def _reasons(self, prefix: str) -> AsyncGenerator[None, None]:
        """Once when the watch stands, and after each event, until nothing came for ``RECHECK_S``."""
        body = {"create_request": _range(prefix)}
        timeout = httpx.Timeout(CALL_S, read=RECHECK_S)
        try:
            async with self._http.stream(
                "POST", f"{self._endpoints[0]}/v3/watch", json=body, headers=await self._headers(), timeout=timeout
            ) as response:
                if response.status_code != httpx.codes.OK:
                    self._token = None
                    raise StoreUnavailable("The watch of etcd was refused; it is tried again.")
                async for line in response.aiter_lines():
                    if "error" in json.loads(line):
                        return
                    yield None
        except httpx.ReadTimeout:
            return

    def _next_endpoint(self) -> None:
        self._endpoints.append(self._endpoints.pop(0))

    async def _headers(self) -> dict[str, str]:
        if self._user is None:
            return {}
        if self._token is None:
            found = await self._post(
                self._endpoints[0], "auth/authenticate", {"name": self._user, "password": self._password}, {}
            )
            self._token = str(found["token"])
        return {"Authorization": self._token}

    async def _call(self, path: str, body: Mapping[str, Any], *, once: bool = False) -> dict[str, Any]:
        """``once``: the call changes something, so it goes to another endpoint only if it did not leave."""
        for _ in range(len(self._endpoints)):
            try:
                return await self._authenticated(path, body)
            except _NOT_SENT:
                self._next_endpoint()
            except _FAILED as error:
                self._next_endpoint()
                if once:
                    raise _unavailable() from error
            except _EtcdError as error:
                if error.code == _NOT_FOUND:
                    raise _LeaseNotFound from error
                if error.status < httpx.codes.INTERNAL_SERVER_ERROR:
                    raise InternalError(f"etcd refuses a call: {error}") from error
                self._next_endpoint()
                if once:
                    raise _unavailable() from error
        raise _unavailable()

    async def _authenticated(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self._post(self._endpoints[0], path, body, await self._headers())
        except _EtcdError as error:
            if error.code != _UNAUTHENTICATED or self._token is None:
                raise
            self._token = None  # it has expired, or the member started anew
            return await self._post(self._endpoints[0], path, body, await self._headers())

    async def _post(
        self, endpoint: str, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> dict[str, Any]:
        response = await self._http.post(f"{endpoint}/v3/{path}", json=body, headers=headers)
        try:
            found = response.json()
        except ValueError as error:
            raise _EtcdError(0, "an answer that is not JSON", httpx.codes.BAD_GATEWAY) from error
        if response.status_code != httpx.codes.OK or "error" in found:
            raise _EtcdError(int(found.get("code", 0)), str(found.get("message", "")), response.status_code)
        return dict(found)


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable("The group of regions does not answer; try again in a moment.")


def _bytes(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()


def _range(prefix: str) -> dict[str, str]:
    """All keys with a prefix; etcd writes all keys as the range from NUL to NUL."""
    if not prefix:
        return {"key": _bytes("\0"), "range_end": _bytes("\0")}
    return {"key": _bytes(prefix), "range_end": _bytes(prefix[:-1] + chr(ord(prefix[-1]) + 1))}


def _entry(pair: Mapping[str, Any]) -> GroupEntry:
    return GroupEntry(value=_text(pair.get("value", "")), revision=int(pair["mod_revision"]), lease=pair.get("lease"))


def _put(put: KeyPut) -> dict[str, str]:
    found = {"key": _bytes(put.key), "value": _bytes(put.value)}
    return found if put.lease is None else {**found, "lease": put.lease}


def _conditions(compare: KeyCompare) -> list[dict[str, str]]:
    key = _bytes(compare.key)
    if compare.value is None:
        found = [{"key": key, "target": "CREATE", "create_revision": "0"}]
    else:
        found = [{"key": key, "target": "VALUE", "value": _bytes(compare.value)}]
    if compare.revision is not None:
        found.append({"key": key, "target": "MOD", "mod_revision": str(compare.revision)})
    return found
