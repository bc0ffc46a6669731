"""Routes of logins with an OIDC provider. They need no principal, since they are how one comes to be; what they may do is
checked here: by the cookie that binds a login to its browser, and by the session itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import Query, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from cluster.domain.access.permissions import Permission
from cluster.domain.access.sessions import MARK, Session, SessionKind, csrf_token
from cluster.domain.base.errors import CallerError, ControlPlaneError, InvalidRequest, NotFound, Unauthenticated
from cluster.domain.base.log import Origin
from cluster.ports.access import AccessNames
from serve_app.auth.admission import requires
from serve_app.auth.bearer import has_token, sent_token
from serve_app.auth.login_throttle import LoginThrottle
from serve_app.auth.routing import GuardedRouter
from serve_app.auth.sessions import Sessions
from serve_app.gateway import gateway
from serve_app.http.refusal_pages import refusal_page, wants_page
from serve_app.routes.access import changed
from serve_app.schemas.login import DeviceLogin

if TYPE_CHECKING:
    from serve_app.auth.logins import Logins

T = TypeVar("T")

router = GuardedRouter(tags=["login"])

#: What an answer that a browser brings can say; what else providers add is not read.
_ANSWER = ("state", "iss", "code", "error")
#: A device login that was not confirmed yet has not failed.
_PENDING = ("authorization_pending", "slow_down")


@router.get("/auth/login", status_code=303, response_model=None)
@requires(Permission.PUBLIC)
async def begin_login(
    request: Request,
    next: Annotated[str | None, Query(description="Path of this host to which the login leads.")] = None,
) -> Response:
    """Leads a browser to the OIDC provider (303). 404 (`NotFound`) if logins are off, 400 (`InvalidRequest`) if ``next`` is
    no path of this host, 503 if the provider does not answer. Whoever asks for HTML gets an error as a page."""
    return await _for_people(request, lambda: _begun(request, next))


async def _begun(request: Request, next: str | None) -> Response:
    sessions, logins = _enabled(request)
    await _throttle(request).begin(request)
    begun = await logins.begin(next)
    answer = RedirectResponse(begun.location, status_code=303)
    sessions.cookies.keep_login(answer, begun.secret, _login_s())
    return answer


def _login_s() -> float:
    from serve_app.auth.logins import LOGIN_S

    return LOGIN_S


@router.get("/auth/callback", status_code=303, response_model=None)
@requires(Permission.PUBLIC)
async def finish_login(request: Request) -> Response:
    """Where the OIDC provider leads the browser back: begins a session and leads to the login's ``next`` (303). 400
    (`InvalidRequest`) if this browser did not begin the login, or it was finished already; 401 (`Unauthenticated`) if the ID
    token does not count; 403 (`Forbidden`) if the provider refuses the person, or the person has no role; 503 if the
    provider does not answer. Whoever asks for HTML gets an error as a page."""
    return await _for_people(request, lambda: _finished(request))


async def _finished(request: Request) -> Response:
    sessions, logins = _enabled(request)
    await _throttle(request).begin(request)
    cookies = sessions.cookies
    ended = await _counted(
        request,
        lambda: logins.finish(
            cookies.login(request), _answer(request), _origin(request), _throttle(request).address(request)
        ),
    )
    await _end_former(request, sessions, logins)
    await changed(gateway(request), AccessNames(sessions=frozenset({ended.session.id})))
    answer = RedirectResponse(gateway(request).settings.public_origin() + ended.target, status_code=303)
    cookies.keep_session(answer, ended.token, logins.life_s)
    cookies.drop_login(answer)
    return answer


async def _end_former(request: Request, sessions: Sessions, logins: Logins) -> None:
    """Ends the session that this browser had before."""
    former = sessions.cookies.session(request)
    if former is None:
        return
    try:
        session, _ = await sessions.find(former, SessionKind.BROWSER)
    except Unauthenticated:
        return
    await logins.end(session, _origin(request))
    await changed(gateway(request), AccessNames(sessions=frozenset({session.id})))


def _answer(request: Request) -> dict[str, str]:
    """Raises: `InvalidRequest` if a parameter is there twice: parsers disagree about which one counts."""
    given = [(name, value) for name, value in request.query_params.multi_items() if name in _ANSWER]
    if len(dict(given)) != len(given):
        raise InvalidRequest("The answer to this login has a parameter twice; log in again.", "login_mismatch")
    return dict(given)


@router.get("/auth/session")
@requires(Permission.PUBLIC)
async def show_session(request: Request) -> dict[str, Any]:
    """The caller's session, with the ``csrf_token`` that a page sends in ``X-CSRF-Token`` with each change. Without a
    session, its fields are null. 401 (`Unauthenticated`) if it has ended."""
    sessions: Sessions | None = request.app.state.sessions
    found = None if sessions is None else await _own_session(request, sessions)
    if found is None:
        empty = dict.fromkeys(("principal", "groups", "expires_at", "csrf_token"))
        return {"enabled": sessions is not None, **empty}
    session, secret = found
    return {
        "enabled": True,
        "principal": session.principal,
        "groups": list(session.groups),
        "expires_at": session.expires_at,
        "csrf_token": csrf_token(secret) if session.kind is SessionKind.BROWSER else None,
    }


@router.post("/auth/logout", response_model=None)
@requires(Permission.PUBLIC)
async def end_session(request: Request) -> Response:
    """Ends the caller's session on all replicas, and takes the cookie from the browser. ``ended`` is false if there was
    none. With a cookie the call needs ``X-CSRF-Token``: 403 (`Forbidden`, ``csrf``) without it."""
    sessions: Sessions | None = request.app.state.sessions
    ended = False
    if sessions is not None:
        ended = await _logged_out(request, sessions)
    answer = JSONResponse({"ended": ended})
    if sessions is not None:
        sessions.cookies.drop_session(answer)
    return answer


async def _logged_out(request: Request, sessions: Sessions) -> bool:
    """Raises: `Forbidden` if another's page calls."""
    try:
        found = await _own_session(request, sessions)
    except Unauthenticated:  # it has ended
        return False
    if found is None:
        return False
    session, secret = found
    if session.kind is SessionKind.BROWSER:
        sessions.check_page(request, secret)
    _, logins = _enabled(request)
    ended = await logins.end(session, _origin(request))
    await changed(gateway(request), AccessNames(sessions=frozenset({session.id})))
    return ended


@router.post("/auth/device")
@requires(Permission.PUBLIC)
async def begin_device_login(request: Request) -> dict[str, Any]:
    """Begins a login of a command line (RFC 8628): a person opens ``verification_uri`` in any browser and types
    ``user_code``. 404 (`NotFound`) if logins are off, 400 (`InvalidRequest`, ``no_device_login``) if the provider has none."""
    _, logins = _enabled(request)
    await _throttle(request).begin(request)
    return await logins.begin_device()


@router.post("/auth/device/token")
@requires(Permission.PUBLIC)
async def finish_device_login(request: Request, body: DeviceLogin) -> dict[str, Any]:
    """The session of a device login that was confirmed; its ``token`` is a bearer token and is in this answer only. 400
    (`InvalidRequest`) while it was not (``authorization_pending``, ``slow_down``), was denied (``access_denied``) or took
    too long (``expired_token``); 401 and 403 as for browsers."""
    _, logins = _enabled(request)
    throttle = _throttle(request)
    await throttle.begin(request)
    ended = await _counted(
        request, lambda: logins.finish_device(body.device_code, _origin(request), throttle.address(request))
    )
    await changed(gateway(request), AccessNames(sessions=frozenset({ended.session.id})))
    return {"token": ended.token, "principal": ended.session.principal, "expires_at": ended.session.expires_at}


# --- what they share -----------------------------------------------------------------------------------------------------


def _enabled(request: Request) -> tuple[Sessions, Logins]:
    """Raises: `NotFound` if logins are off."""
    logins: Logins | None = request.app.state.logins
    sessions: Sessions | None = request.app.state.sessions
    if logins is None or sessions is None:
        raise NotFound("Nobody can log in here; set ARAGORA_OAUTH_ENABLED=true, or use an API key.", "login_off")
    return sessions, logins


def _throttle(request: Request) -> LoginThrottle:
    throttle: LoginThrottle | None = request.app.state.throttle
    assert throttle is not None, "authentication is on where people log in"
    return throttle


def _origin(request: Request) -> Origin:
    """Logins are logged in the default workspace, as failed ones are. The principal is set when it is known."""
    return Origin(workspace=gateway(request).settings.workspace, cause=request.scope["state"]["trace_id"])


async def _for_people(request: Request, answer: Callable[[], Awaitable[Response]]) -> Response:
    """The answer; a refusal as a page if a browser shows it. Raises: the refusal of a program's call."""
    try:
        return await answer()
    except ControlPlaneError as refusal:
        if not wants_page(request):
            raise
        return refusal_page(request, refusal)


async def _counted(request: Request, login: Callable[[], Awaitable[T]]) -> T:
    """The outcome of a login; one that fails counts for the caller's address."""
    try:
        return await login()
    except CallerError as error:
        if error.code not in _PENDING:
            await _throttle(request).fail(request)
        raise


async def _own_session(request: Request, sessions: Sessions) -> tuple[Session, str] | None:
    """The session of the call, with its secret; None if it names none.

    Raises: `Unauthenticated` if it has ended, `RateLimited` if too many others did not count."""
    token, kind = sessions.cookies.session(request), SessionKind.BROWSER
    if has_token(request):
        token, kind = sent_token(request), SessionKind.COMMAND_LINE
    if token is None or not token.startswith(MARK):
        return None
    return await _throttle(request).guarded(request, token, lambda: sessions.find(token, kind))
