"""Calls that stay open (streams, WebSockets, long polls) end when their caller has no access any more.

Each is registered while it is open. The replica's copy of access counts its changes, so all of them are looked at again when that
number differs, and otherwise only those whose key or token has run out: an event that is sent costs nothing. To ask for each
event was rejected for that cost, and because a stream without events would never end.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import HTTPConnection

from cluster.domain.access.permissions import Permission
from cluster.domain.access.principal import Principal, allows
from cluster.domain.base.errors import ControlPlaneError, Forbidden, Unauthenticated
from cluster.log.access_directory import AccessDirectory
from cluster.ports.clock import Clock
from serve_app.auth.bearer import Proof
from serve_app.auth.suspension import check_starts

#: How late an open call ends after its key or token has run out.
LOOK_S = 0.5
#: Between two looks at all calls, so that a burst of changes costs one.
APART_S = 0.1
#: Calls that are looked at before the event loop may do something else.
AT_ONCE = 200
_ENDED = "The key, token or certificate of this call has expired or was revoked; call again with another one."


@dataclass(eq=False, slots=True, kw_only=True)
class OpenCall:
    """``ended`` is set when the call has to end. ``refusal`` says why; None: its caller may make it again, and would see more or
    less than before. ``principal``: the caller when the call was admitted; ``now``: at the last look. ``state``: of the request,
    from which its answer takes what the caller may see."""

    permission: Permission
    principal: Principal
    now: Principal
    state: dict[str, Any]
    proof: Proof | None
    exact: bool
    starts_work: bool
    #: Up to which generation of access it was looked at.
    generation: int
    #: When its key or token runs out. It is not worked out before the first look, since most calls are shorter.
    ends_at: float = -math.inf
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: ControlPlaneError | None = None


class OpenCalls:
    """The open calls of one replica. ``run`` ends those whose caller has lost access."""

    def __init__(self, access: AccessDirectory, clock: Clock) -> None:
        self._access = access
        self._clock = clock
        self._calls: set[OpenCall] = set()

    def __len__(self) -> int:
        return len(self._calls)

    @contextlib.contextmanager
    def of(
        self, connection: HTTPConnection, permission: Permission, *, exact: bool = False, starts_work: bool = False
    ) -> Iterator[OpenCall]:
        """Registers an admitted call while the block runs. ``exact``: it also ends if its caller keeps the permission and gets
        or loses others, since what it shows was decided by them. ``starts_work``: it also ends if its workspace is suspended."""
        state = connection.scope["state"]
        proof: Proof | None = state.get("proof")
        generation = self._access.generation if proof is None else proof.generation
        call = OpenCall(
            permission=permission,
            principal=state["principal"],
            now=state["principal"],
            state=state,
            proof=proof,
            exact=exact,
            starts_work=starts_work,
            generation=generation,
        )
        if proof is None:  # authentication is off: there is nothing that could end
            yield call
            return
        self._look_if_changed(call)
        self._calls.add(call)
        try:
            yield call
        finally:
            self._calls.discard(call)

    async def run(self) -> None:
        while True:
            looked_at = self._access.generation
            await self.look(everything=True)
            await self._clock.sleep(APART_S)
            while self._access.generation == looked_at:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._access.changed_since(looked_at)
                await self.look(everything=False)

    async def look(self, *, everything: bool) -> None:
        """Ends the calls whose caller has lost access; without ``everything`` those whose key or token has run out."""
        now = self._clock.now()
        due = [call for call in self._calls if everything or call.ends_at <= now]
        for at, call in enumerate(due, 1):
            self._look(call)
            if at % AT_ONCE == 0:
                await self._clock.sleep(0)

    def check(self, call: OpenCall) -> Principal:
        """The caller as of now, if it still has access. What a call has waited for is given to nobody before this, and with what
        the caller may see by now: it may have lost the permission to read words while it waited.

        Raises: `Unauthenticated`, `Forbidden`, `InvalidRequest`: what the caller would be refused with now."""
        self._look_if_changed(call)
        if call.refusal is not None:
            raise call.refusal
        call.state["principal"] = call.now
        return call.now

    def _look_if_changed(self, call: OpenCall) -> None:
        if call.proof is not None and call.generation != self._access.generation:
            self._look(call)

    def _look(self, call: OpenCall) -> None:
        assert call.proof is not None, "only calls with a proof are looked at"
        call.generation = self._access.generation
        try:
            if not call.proof.holds():
                raise Unauthenticated(_ENDED)
            principal = call.proof.principal()
            if principal.workspace != call.principal.workspace or not allows(principal, call.permission):
                raise Forbidden(
                    f"This call needs the permission {call.permission} in the workspace {call.principal.workspace}, which you "
                    "do not have any more; ask an administrator for it."
                )
            if call.starts_work:
                check_starts(self._access, principal.workspace)
        except ControlPlaneError as refusal:
            call.refusal = refusal
            call.ended.set()
            return
        call.now = principal
        call.ends_at = call.proof.ends_at()
        if call.exact and principal != call.principal:
            call.ended.set()
