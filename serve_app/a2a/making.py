"""Makes an application serve /a2a, if the package that the protocol is in is installed."""

from __future__ import annotations

from starlette.types import ASGIApp

from cluster.settings import Settings
from serve_app.http.fast_path import DirectApp
from serve_app.in_cluster_classes import installed


class A2AMissing(Exception):
    """ARAGORA_A2A_ENABLED is set where what it needs is missing: the application does not start."""


def serve_a2a(app: DirectApp, settings: Settings) -> None:
    """Adds the layer if the settings say so. It has to be outside of whatever a call of a route has to pass.

    Raises: `A2AMissing` if the package is not installed, or nobody could say by which URL agents call."""
    if not settings.a2a_enabled:
        return
    if not installed("a2a") or not installed("jwt"):
        raise A2AMissing(
            "ARAGORA_A2A_ENABLED needs: pip install 'aragora-control-plane[a2a]' where the control plane runs; install it, or "
            "leave the variable unset."
        )
    if settings.public_url is None and not settings.listens_on_loopback():
        raise A2AMissing(
            "ARAGORA_A2A_ENABLED needs ARAGORA_PUBLIC_URL: the card names the URL by which other agents call; set it."
        )
    from serve_app.a2a.door import A2ADoor  # half a second of CPU that only these applications pay

    def layer(inner: ASGIApp) -> ASGIApp:
        return A2ADoor(inner, app, url=settings.public_origin(), auth=settings.auth_enabled)

    app.around(layer)
