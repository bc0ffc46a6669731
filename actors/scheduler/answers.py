"""Answers on their way to askers, and the claims among what they wait for: one may be withdrawn, or replaced by a newer one under
its id, wherever it is on its way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from actors.scheduler.newest_claims import NewestClaims, superseded
from actors.scheduler.state import Asker, ShardState
from cluster.domain.scheduling.answers import ClaimAnswer, undelivered
from cluster.domain.scheduling.requests import ClaimRequest, ReleaseRequest
from cluster.ports.clock import Clock
from cluster.rpc.exchange import ExchangeServer


class Answers:
    """It outlives the states. ``handle`` starts the requests of a caller, ``present`` is the state that claims wait in now, and
    ``release`` gives up leases in an answer that reached nobody."""

    def __init__(
        self,
        clock: Clock,
        *,
        handle: Callable[[str, Sequence[tuple[int, Any]]], None],
        present: Callable[[], ShardState | None],
        release: Callable[[Sequence[ReleaseRequest]], None],
    ) -> None:
        # The requests of all callers and the answers on their way to them.
        self.exchange = ExchangeServer(handle, self._withdrawn, clock, self._undeliverable)
        self._present = present
        self._release = release
        # Askers of claims that wait until the newest rows of the log are read, since memory contradicts them. ``are_behind``
        # adds; ``catch_up`` and ``_stops_waiting`` remove, and whichever is first answers the claim.
        self.behind: set[Asker] = set()
        # The newest unanswered claim under each id that a client chose, whatever it waits for. ``replace_older`` notes it,
        # ``tell`` removes it.
        self._claims = NewestClaims()

    def are_behind(self, askers: Iterable[Asker]) -> None:
        """Notes claims that wait for the newest rows."""
        self.behind.update(askers)

    def catch_up(self, askers: Collection[Asker]) -> Collection[Asker]:
        """Those of the askers whose claims still wait for the newest rows. They do no more."""
        caught_up = self.behind.intersection(askers)
        self.behind -= caught_up
        return caught_up

    def replace_older(self, newest: Asker, request: ClaimRequest) -> None:
        """Tells the asker of an older claim under the same id at once that this one replaces it, wherever that one is on its way.
        Leases in an answer that is being committed for it go over to this one, which gets them again.

        Raises: `Conflict` (``superseded``) if this claim is itself the older one."""
        asker = self._claims.arrives(newest, request)
        if asker is None:
            return
        if not self._stops_waiting(asker):
            self._claims.overtake(asker)
        self.exchange.answer(*asker, superseded(request))

    def tell(self, asker: Asker, answer: Any) -> None:
        """Gives an answer, unless a newer claim has replaced the asker's: then leases in it have reached nobody."""
        if self._claims.answered(asker):
            self._undeliverable(answer)
        else:
            self.exchange.answer(*asker, answer)

    def expire(self, silent_s: float) -> None:
        """Withdraws the claims of callers that have been silent for so long."""
        for caller in self.exchange.expired(silent_s):
            state = self._present()
            claims = [*self.behind, *(state.by_caller if state else ())]
            for _, number in [asker for asker in claims if asker[0] == caller]:
                self._withdrawn(caller, number)

    def _withdrawn(self, caller: str, number: int) -> None:
        """Answers a withdrawn claim, with no leases. If it is being answered already, that answer stands, and the asker releases
        the leases in it."""
        if self._stops_waiting((caller, number)):
            self.tell((caller, number), ClaimAnswer())

    def _stops_waiting(self, asker: Asker) -> bool:
        """Removes a claim from where it waits; False if its answer is on its way."""
        if asker in self.behind:
            self.behind.discard(asker)
            return True
        state = self._present()
        return state is not None and state.withdraw(asker)

    def _undeliverable(self, answer: Any) -> None:
        """Releases the leases of an answer that its asker does not take: it has expired, or was told another."""
        requests = list(undelivered(answer))
        if requests:
            self._release(requests)
