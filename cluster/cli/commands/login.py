"""``aragora-cp login`` and ``logout``: a session of the command line by the device flow of the control plane's OIDC provider.

The control plane asks the provider, so that the command needs no setting but the API's URL, and the client's secret stays there.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aragora_worker.api import ControlPlaneClient
from aragora_worker.errors import ApiError
from cluster.cli.connection import api_tls, api_url, client_settings
from cluster.cli.credentials import keep_session, kept_session
from cluster.cli.output import console, plain
from cluster.cli.uniform import answered, told
from cluster.domain.base.errors import InvalidRequest, TryLater, Unauthenticated
from cluster.process.clock import SystemClock
from cluster.settings import Settings

#: By how much longer the interval is after each ``slow_down`` (RFC 8628, 3.5), and the longest that is waited.
SLOWER_S, LONGEST_S = 5, 60
_SAYS = {"device_code": str, "user_code": str, "verification_uri": str, "interval": int, "expires_in": int}


def login() -> None:
    """Log in with the control plane's OIDC provider, by any browser. Later commands use the session where ARAGORA_API_KEY is not
    set."""
    ours = client_settings()
    done = asyncio.run(_login(ours))
    keep_session(ours, api_url(ours), done["token"])
    answered({"principal": done["principal"]})
    console.print(f"Logged in as {plain(done['principal'])}.")


async def _login(ours: Settings) -> Any:
    """Raises: `ApiError` if the login is denied, `InvalidRequest` if it takes too long."""
    async with ControlPlaneClient(api_url(ours), tls=api_tls(ours)) as api:
        begun = await api.request("POST", "/auth/device", has=_SAYS)
        complete = begun.get("verification_uri_complete")
        told().print(f"Open {plain(begun['verification_uri'])} in a browser and type {plain(begun['user_code'])}.")
        if complete:
            told().print(f"Or open {plain(complete)} and see that it shows this code.")
        return await _confirmed(api, begun)


async def _confirmed(api: ControlPlaneClient, begun: dict[str, Any]) -> Any:
    """The session, once the login was confirmed.

    Raises: `ApiError` if it was denied (``access_denied``), `InvalidRequest` if it was not in time (``expired_token``)."""
    clock = SystemClock()
    interval_s = min(max(1, begun["interval"]), LONGEST_S)
    until = clock.now() + begun["expires_in"]
    while clock.now() < until:
        await clock.sleep(interval_s)
        try:
            return await api.request(
                "POST",
                "/auth/device/token",
                {"device_code": begun["device_code"]},
                has={"token": str, "principal": str},
            )
        except ApiError as error:
            if error.code not in ("authorization_pending", "slow_down"):
                raise
            slower_s = SLOWER_S if error.code == "slow_down" else 0
        except TryLater:  # the provider or the control plane is away for a moment, or is asked too often
            slower_s = SLOWER_S
        interval_s = min(interval_s + slower_s, LONGEST_S)
    raise InvalidRequest("The login was not confirmed in time; begin again.", "expired_token")


def logout() -> None:
    """End the session of `aragora-cp login`, here and on the control plane."""
    ours = client_settings()
    url = api_url(ours)
    token = kept_session(ours, url)
    if token is None:
        answered({"ended": False})
        console.print("Nobody is logged in.")
        return
    ended = asyncio.run(_logout(ours, url, token))
    keep_session(ours, url, None)
    answered({"ended": ended})
    console.print("Logged out." if ended else "The session had ended already.")


async def _logout(ours: Settings, url: str, token: str) -> bool:
    async with ControlPlaneClient(url, token, tls=api_tls(ours)) as api:
        try:
            return bool((await api.request("POST", "/auth/logout", has={"ended": bool}))["ended"])
        except ApiError as error:
            if error.status != Unauthenticated.status:
                raise
            return False
