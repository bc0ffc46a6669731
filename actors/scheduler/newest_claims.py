"""Which claim under one id is answered: the newest. A client that repeats a claim under its id has given up the earlier call,
whose connection may be dead without anybody having noticed."""

from __future__ import annotations

from cluster.domain.base.errors import Conflict
from cluster.domain.scheduling.requests import ClaimRequest

ClaimAsker = tuple[str, int]
"""(caller, correlation number)"""


def superseded(request: ClaimRequest) -> Conflict:
    """The error for a claim that a newer one has replaced."""
    return Conflict(
        f"A newer claim under claim_id {request.claim_id} has replaced this one; read the newer one's answer.",
        "superseded",
    )


class NewestClaims:
    """The unanswered claims under ids that clients chose. All of it is memory: after a restart the askers send them again."""

    def __init__(self) -> None:
        # (workspace, agent, claim id) → the newest claim under it and its asker. ``arrives`` adds and replaces, ``answered``
        # removes.
        self._newest: dict[tuple[str, str, str], tuple[ClaimAsker, ClaimRequest]] = {}
        # ClaimAsker → the key of its claim in ``_newest``. Added and removed together with it.
        self._keys: dict[ClaimAsker, tuple[str, str, str]] = {}
        # Askers that were told that a newer claim replaced theirs, and whose former answer is still being committed.
        # ``overtake`` adds, ``answered`` removes.
        self._overtaken: set[ClaimAsker] = set()

    def arrives(self, asker: ClaimAsker, request: ClaimRequest) -> ClaimAsker | None:
        """Notes a claim, and returns the asker of the older one that it replaces.

        Raises: `Conflict` (``superseded``) if a newer one is unanswered. A claim that is sent again, because a call was lost or
        the shard has started anew, may come after the one that replaced it."""
        if not request.client_claim_id:
            return None
        key = (request.workspace, request.agent_id, request.claim_id)
        known = self._newest.get(key)
        older = None if known is None or known[0] == asker else known[0]
        if known is not None and older is not None:
            if _is_older(asker, request, *known):
                raise superseded(request)
            del self._keys[older]
        self._newest[key] = (asker, request)
        self._keys[asker] = key
        return older

    def overtake(self, asker: ClaimAsker) -> None:
        """Notes that the answer which is being committed for this asker must not be given: it has been told another."""
        self._overtaken.add(asker)

    def answered(self, asker: ClaimAsker) -> bool:
        """Forgets an asker's claim, for which there is an answer now. True if the answer must not be given."""
        key = self._keys.pop(asker, None)
        if key is not None:
            del self._newest[key]
        if asker in self._overtaken:
            self._overtaken.discard(asker)
            return True
        return False


def _is_older(asker: ClaimAsker, request: ClaimRequest, than: ClaimAsker, newest: ClaimRequest) -> bool:
    """Whether a claim was asked before the newest one, by the clocks of their replicas; of one replica's claims, those with the
    higher number come later."""
    if request.asked_at != newest.asked_at:
        return request.asked_at < newest.asked_at
    return asker[0] == than[0] and asker[1] < than[1]
