"""Every error that crosses a room, named by whose fault it is and whether a retry helps.

    ControlPlaneError
    ├── CallerError                the request is wrong; repeating it changes nothing (4xx)
    │   ├── InvalidRequest         400  a field is missing or has a value that is not accepted
    │   ├── Unauthenticated        401  the caller does not say who it is, or cannot prove it
    │   ├── Forbidden              403  the caller is known and lacks the permission
    │   ├── NotFound               404  the named thing does not exist in this workspace
    │   ├── Conflict               409  the thing exists but its state does not allow this
    │   └── TooLarge               413  the body or batch is over its bound
    ├── TryLater                   the request is fine, we cannot serve it now (503, Retry-After)
    │   ├── StoreUnavailable       Postgres or Redis does not answer
    │   ├── ActorUnavailable       an actor is restarting
    │   ├── Misrouted              another host than the one that was asked owns the agent
    │   ├── Overloaded             429  a bound on waiting work is reached
    │   │   └── RateLimited        429  this caller has called too often; carries ``retry_after_s``
    │   └── Fenced                 this process acts under an epoch, generation or fence that was replaced
    ├── PeerError                  an agent or its endpoint is at fault
    │   ├── AgentTimeout           no answer before the deadline
    │   ├── AgentUnavailable       connect error, 502, 503 or 504; may carry ``retry_after_s``
    │   │   ├── AgentLimited       429: it answers, and wants to be called later
    │   │   └── AgentNotCalled     it was not called: its breaker is open, or it wants to be called later
    │   ├── AgentFailed            it answered that it could not do this request; may carry ``retry_after_s``
    │   ├── AgentMalformed         an answer that does not fit the contract
    │   ├── AgentRefused           the endpoint answered 4xx, or the model declined
    │   └── EndpointForbidden      the address is not one that agents may have
    └── InternalError              500  our bug; the log of the process that met it says more
        ├── Unstorable             the store refuses the data of a write
        └── ImpossibleTransition   a state machine was given an event its state does not know

Positional arguments only, so that every error pickles through Ray unchanged.
"""

from __future__ import annotations

from aragora_worker.base.errors import CallerError, ControlPlaneError, InvalidRequest, NotFound, TooLarge, TryLater

#: Those that clients raise too: they are defined where a client needs nothing else of ours.
__all__ = ["CallerError", "ControlPlaneError", "InvalidRequest", "NotFound", "TooLarge", "TryLater"]

# Between processes they are pickled under these names: those of an earlier version, which talk to these during a rollout, know
# no others, and `cluster.rpc.channel` reads nothing but our own rooms' values.
for _error in (CallerError, ControlPlaneError, InvalidRequest, NotFound, TooLarge, TryLater):
    _error.__module__ = __name__


class Unauthenticated(CallerError):
    status = 401
    default_code = "unauthenticated"


class Forbidden(CallerError):
    status = 403
    default_code = "forbidden"


class Removed(NotFound):
    """It was there, and retention has removed it. Whoever copes with what is not there copes with this."""

    status = 410
    default_code = "removed"


class CursorLost(Removed):
    """The rows of the log after a cursor are not kept any more."""

    default_code = "cursor_lost"


class Conflict(CallerError):
    status = 409
    default_code = "conflict"


class StoreUnavailable(TryLater):
    default_code = "store_unavailable"


class ActorUnavailable(TryLater):
    default_code = "actor_unavailable"


class Misrouted(TryLater):
    default_code = "misrouted"


class Overloaded(TryLater):
    status = 429
    default_code = "overloaded"


class RateLimited(Overloaded):
    default_code = "rate_limited"

    def __init__(self, message: str, code: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(message, code)
        self.args = (message, code, retry_after_s)  # what pickle calls the class with
        self.retry_after_s = retry_after_s


class Fenced(TryLater):
    default_code = "fenced"


class PeerError(ControlPlaneError):
    status = 502
    default_code = "agent_error"
    #: The ``kind`` of an AgentFault on the wire (timeout, http, malformed, refusal, ...).
    fault = "http"


class AgentTimeout(PeerError):
    default_code = "agent_timeout"
    fault = "timeout"


class AgentUnavailable(PeerError):
    default_code = "agent_unavailable"
    fault = "http"

    def __init__(self, message: str, code: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, code)
        self.args = (message, code, retry_after_s)  # what pickle calls the class with
        self.retry_after_s = retry_after_s


class AgentLimited(AgentUnavailable):
    """The agent is there and takes no more calls for now, so its breaker does not move."""

    default_code = "agent_rate_limited"


class AgentNotCalled(AgentUnavailable):
    """The call was not made, so it is no attempt. ``retry_after_s`` is when it may be."""

    default_code = "agent_not_called"


class AgentFailed(PeerError):
    """The error is the request's and not the agent's, so the breaker does not move."""

    default_code = "agent_failed"
    fault = "http"

    def __init__(self, message: str, code: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, code)
        self.args = (message, code, retry_after_s)
        self.retry_after_s = retry_after_s


class AgentMalformed(PeerError):
    default_code = "agent_malformed"
    fault = "malformed"


class AgentRefused(PeerError):
    default_code = "agent_refused"
    fault = "refusal"


class EndpointForbidden(PeerError):
    status = 400
    default_code = "endpoint_forbidden"
    fault = "http"


class InternalError(ControlPlaneError):
    status = 500
    default_code = "internal_error"


class Unstorable(InternalError):
    """The store refuses the data of a write. Whatever let the data in should have refused it."""

    default_code = "unstorable"


class ImpossibleTransition(InternalError):
    default_code = "impossible_transition"


def is_bug(error: BaseException) -> bool:
    """Whether an error is a fault of our own code, so that repeating the call would not help."""
    return isinstance(error, InternalError) or not isinstance(error, ControlPlaneError)
