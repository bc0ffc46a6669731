"""Which control plane a command talks to."""

from __future__ import annotations

import os

from aragora_worker.api import ControlPlaneClient
from aragora_worker.tls import ClientTls, client_tls, default_pin, default_url
from cluster.cli.contexts import with_context
from cluster.cli.credentials import kept_session
from cluster.cli.output import errors, plain
from cluster.embedded.layout import EmbeddedError, Layout
from cluster.embedded.run_file import RunFile, is_held, read_run_file
from cluster.settings import Settings, load_settings, unknown_names


def settings() -> Settings:
    """The settings of this process; prints a warning for each unknown ``ARAGORA_`` name.

    Raises: `SettingsError` if a variable is not valid.
    """
    for warning in unknown_names(os.environ):  # noqa: TID251 - what is set and unknown
        errors.print(f"[yellow]warning:[/] {plain(warning)}")
    return load_settings()


def client_settings() -> Settings:
    """The settings of a command that calls the API, with the context that it uses (`contexts`). Commands that work on this
    machine's own system take `settings`.

    Raises: `SettingsError` if a variable is not valid, or the context cannot be used.
    """
    return with_context(settings(), os.environ)  # noqa: TID251 - a context may name a variable that has its token


def api_url(settings: Settings) -> str:
    """The settings' URL, else the system of the data directory, else the default address."""
    if settings.api_url is not None:
        return settings.api_url
    running = read_run_file(Layout.of(settings.data_dir))
    return running.api_url if running is not None else default_url(settings, settings.http_host)


def api_tls(settings: Settings) -> ClientTls:
    """What is trusted at `api_url`, and the certificate that is shown there."""
    if settings.api_url is not None:
        return client_tls(settings)
    running = read_run_file(Layout.of(settings.data_dir))
    return client_tls(settings, default_pin(settings) if running is None else running.certificate or None)


def credential(settings: Settings, url: str) -> str | None:
    """What a call of the URL proves: ARAGORA_API_KEY or the context's token, else the session of `aragora-cp login`.

    Raises: `SettingsError` if the file of sessions cannot be used."""
    return settings.api_key.get_secret_value() if settings.api_key is not None else kept_session(settings, url)


def client(settings: Settings) -> ControlPlaneClient:
    """A client with the `credential` of the API that the settings name.

    Raises: `SettingsError` if the file of sessions cannot be used, `InvalidRequest` if ARAGORA_CLIENT_WORKSPACE is no id."""
    url = api_url(settings)
    return ControlPlaneClient(
        url,
        credential(settings, url),
        tls=api_tls(settings),
        workspace=settings.client_workspace,
        other_urls=settings.api_urls,
    )


def running_system(settings: Settings) -> RunFile:
    """The system that runs on the data directory.

    Raises: `EmbeddedError` if none runs there.
    """
    layout = Layout.of(settings.data_dir)
    running = read_run_file(layout)
    if running is None or not is_held(layout.lock_file):
        raise EmbeddedError(f"No control plane runs on {layout.data_dir}; start one with `aragora-cp up`.")
    return running


def ray_variables(running: RunFile) -> dict[str, str]:
    """Environment variables with which Ray's own commands find the system and its token.

    `ray status` and `ray.init` read the first, `ray job` the second (and only then the first), `serve` the third.
    """
    if not running.ray_address:
        return {}  # started without Ray
    # Ray's commands would put this machine's outer address in the place of 127.0.0.1, where this Ray does not listen.
    on_loopback = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} if running.ray_address.startswith("127.") else {}
    return on_loopback | {
        "RAY_ADDRESS": running.ray_address,
        "RAY_API_SERVER_ADDRESS": running.dashboard_url,
        "RAY_DASHBOARD_ADDRESS": running.dashboard_url,
        **({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": running.ray_token_path} if running.ray_token_path else {}),
    }
