"""The group of several regions: etcd, over its JSON gateway (version 3.4 or later).

int64 are texts there, and fields that are zero or false are absent: the loser of a swap lacks ``succeeded``, and the renewal of a
lease that has ended is a success without ``TTL``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import ssl
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import httpx

from cluster.domain.base.errors import InternalError, StoreUnavailable
from cluster.http.etcd_tls import EtcdTls
from cluster.ports.clock import Clock
from cluster.ports.consensus_group import GroupEntry, GroupLease, GroupMembers, GroupView, KeyCompare, KeyPut

#: How long one endpoint may take. A member that lost its quorum does not answer, and does not refuse either.
CALL_S = 1.0
#: A watch reads at least this often: a connection that is half open brings nothing, and does not end.
RECHECK_S = 5.0
#: How long a watch waits after an error.
PAUSE_S = 0.5
#: Of an answer that is not JSON, in a message.
_MOST_WORDS = 200
#: Codes of gRPC in the answers.
_INVALID, _NOT_FOUND, _FORBIDDEN, _UNAUTHENTICATED = 3, 5, 7, 16
#: What etcd says to a client without a user; the code is that of any call that cannot be understood.
_NO_USER = "user name is empty"
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


@dataclass(frozen=True, slots=True)
class _MemberStatus:
    """What a member says of itself, and of who leads; ``leader`` is "0" if nobody does."""

    endpoint: str
    member: str
    leader: str
    term: int
    index: int
    learns: bool

    @classmethod
    def of(cls, endpoint: str, found: Mapping[str, Any]) -> _MemberStatus:
        leader, learns = str(found.get("leader", "0")), bool(found.get("isLearner"))
        term, index = int(found.get("raftTerm", 0)), int(found.get("raftIndex", 0))
        return cls(endpoint, str(found["header"]["member_id"]), leader, term, index, learns)


class EtcdGroup:
    """``endpoints``: a URL of each member; all are tried, first the one that answered last. ``tls``: what is shown and
    trusted. ``user`` and ``password``: etcd's own authentication; the password is read for each new token, so that a changed one
    counts at once. Close it with ``close``."""

    def __init__(
        self,
        endpoints: Sequence[str],
        clock: Clock,
        *,
        tls: EtcdTls | None = None,
        user: str | None = None,
        password: Callable[[], str] | None = None,
        call_s: float = CALL_S,
    ) -> None:
        self._endpoints = [endpoint.rstrip("/") for endpoint in endpoints]
        self._clock = clock
        self._user = user
        self._password = password
        self._token: str | None = None
        self._tls = tls
        # No proxy of the environment stands between regions.
        self._http = httpx.AsyncClient(verify=True if tls is None else tls.context, timeout=call_s, trust_env=False)

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

    async def members(self) -> GroupMembers:
        names, statuses = await self._names(), await self._statuses()
        return GroupMembers(names=frozenset(names.values()), leader=names.get(_leader(statuses)))

    async def move_leader(self, name: str, avoid: Collection[str] = ()) -> None:
        """Only the leader itself takes the request. Its heir is a member that answers: who asks for one that is away stops the
        group for an election's time."""
        names, statuses = await self._names(), await self._statuses()
        leader = _leader(statuses)
        if names.get(leader) != name:
            return
        asked = next((status for status in statuses if status.member == leader), None)
        heirs = [status for status in statuses if status.leader == leader != status.member and not status.learns]
        if asked is None or not heirs:
            raise StoreUnavailable(f"etcd's leader {name}, or each other member, does not answer at the endpoints.")
        heirs = [status for status in heirs if names.get(status.member) not in avoid]
        if not heirs:
            return
        heir = max(heirs, key=lambda status: (status.index, names.get(status.member, "")))
        try:
            await self._authenticated(asked.endpoint, "maintenance/transfer-leadership", {"targetID": heir.member})
        except (*_FAILED, _EtcdError) as error:
            raise StoreUnavailable(f"etcd's leader {name} does not hand over: {_reason(error)}.") from error

    async def _names(self) -> dict[str, str]:
        found = await self._call("cluster/member/list", {})
        return {member["ID"]: member.get("name", "") for member in found["members"]}

    async def _statuses(self) -> list[_MemberStatus]:
        """Of the members that answer at the endpoints: a status is of the member that is asked."""

        async def asked(endpoint: str) -> _MemberStatus | httpx.HTTPError | ssl.SSLError | _EtcdError:
            try:
                return _MemberStatus.of(endpoint, await self._authenticated(endpoint, "maintenance/status", {}))
            except (*_FAILED, _EtcdError) as error:
                return error

        found = await asyncio.gather(*map(asked, self._endpoints))
        statuses = [status for status in found if isinstance(status, _MemberStatus)]
        if not statuses:
            raise StoreUnavailable(f"No member of etcd says who leads it: {_reason(found[0])}.")
        return statuses

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
                await self._clock.sleep(PAUSE_S)

    async def _reasons(self, prefix: str) -> AsyncGenerator[None, None]:
        """Once when the watch stands, and after each event, until nothing came for ``RECHECK_S``."""
        body, endpoint = {"create_request": _range(prefix)}, self._endpoints[0]
        timeout = httpx.Timeout(CALL_S, read=RECHECK_S)
        try:
            headers = await self._headers(endpoint)
            self._follow_files()
            async with self._http.stream(
                "POST", f"{endpoint}/v3/watch", json=body, headers=headers, timeout=timeout
            ) as response:
                if response.status_code != httpx.codes.OK:
                    raise _EtcdError(0, "the watch was refused", response.status_code)
                async for line in response.aiter_lines():
                    if "error" in json.loads(line):
                        raise _EtcdError(0, "the watch ended", httpx.codes.BAD_GATEWAY)
                    yield None
        except httpx.ReadTimeout:
            return
        except (*_FAILED, _EtcdError):
            self._token = None  # it may have expired
            self._turn_from(endpoint)
            raise

    def _follow_files(self) -> None:
        if self._tls is not None:
            self._tls.follow()

    def _turn_from(self, endpoint: str) -> None:
        """Of the calls that fail at an endpoint at the same time, one turns to the next: else they would come back to it."""
        if self._endpoints[0] == endpoint:
            self._endpoints.append(self._endpoints.pop(0))

    async def _headers(self, endpoint: str) -> dict[str, str]:
        if self._user is None:
            return {}
        if self._token is None:
            self._token = await self._new_token(endpoint, self._user)
        return {"Authorization": self._token}

    async def _new_token(self, endpoint: str, user: str) -> str:
        try:
            password = "" if self._password is None else self._password()
        except OSError as error:
            raise StoreUnavailable(f"ARAGORA_ETCD_PASSWORD_FILE cannot be read; mend it: {error}.") from error
        try:
            found = await self._post(endpoint, "auth/authenticate", {"name": user, "password": password}, {})
        except _EtcdError as error:
            if error.code != _INVALID:
                raise
            raise StoreUnavailable(
                f"etcd refuses user {user} or its password; correct ARAGORA_ETCD_USER, or the file that "
                "ARAGORA_ETCD_PASSWORD_FILE names, which is read anew."
            ) from error
        return str(found["token"])

    async def _call(self, path: str, body: Mapping[str, Any], *, once: bool = False) -> dict[str, Any]:
        """``once``: the call changes something, so it goes to another endpoint only if it did not leave."""
        last: Exception | None = None
        for _ in range(len(self._endpoints)):
            endpoint = self._endpoints[0]
            try:
                return await self._authenticated(endpoint, path, body)
            except _NOT_SENT as error:
                last = error
                self._turn_from(endpoint)
            except _FAILED as error:
                last = error
                self._turn_from(endpoint)
                if once:
                    raise _unavailable(error) from error
            except _EtcdError as error:
                if error.code == _NOT_FOUND:
                    raise _LeaseNotFound from error
                if error.status < httpx.codes.INTERNAL_SERVER_ERROR:
                    raise _refused(error, self._user) from error
                last = error
                self._turn_from(endpoint)
                if once:
                    raise _unavailable(error) from error
        raise _unavailable(last) from last

    async def _authenticated(self, endpoint: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self._post(endpoint, path, body, await self._headers(endpoint))
        except _EtcdError as error:
            if error.code != _UNAUTHENTICATED or self._token is None:
                raise
            self._token = None  # it has expired, or the member started anew
            return await self._post(endpoint, path, body, await self._headers(endpoint))

    async def _post(
        self, endpoint: str, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> dict[str, Any]:
        self._follow_files()
        response = await self._http.post(f"{endpoint}/v3/{path}", json=body, headers=headers)
        try:
            found = response.json()
        except ValueError as error:
            # etcd's gateway refuses a client by plain text, and so does whatever answers in its place.
            words = " ".join(response.text[:_MOST_WORDS].split())
            raise _EtcdError(0, f"status {response.status_code}, {words}", httpx.codes.BAD_GATEWAY) from error
        if response.status_code != httpx.codes.OK or "error" in found:
            raise _EtcdError(int(found.get("code", 0)), str(found.get("message", "")), response.status_code)
        return dict(found)


def _leader(statuses: Sequence[_MemberStatus]) -> str:
    """Whom the members call their leader. One that is cut off from the others calls an older one so, of an earlier term."""
    return max(statuses, key=lambda status: status.term).leader


def _reason(error: object) -> str:
    """An error that may have no words."""
    return str(error) or type(error).__name__


def _unavailable(error: Exception | None) -> StoreUnavailable:
    return StoreUnavailable(f"The group of regions does not answer ({_reason(error)}); try again in a moment.")


def _refused(error: _EtcdError, user: str | None) -> StoreUnavailable | InternalError:
    """The error of a call that etcd takes from others, or understands from nobody, which is our bug."""
    if _NO_USER in str(error):
        return StoreUnavailable("etcd asks who calls; set ARAGORA_ETCD_USER and ARAGORA_ETCD_PASSWORD_FILE.")
    if error.code == _FORBIDDEN:
        return StoreUnavailable(f"etcd's user {user} may not do this; grant its role to read and write all keys.")
    return InternalError(f"etcd refuses a call: {error}")


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
