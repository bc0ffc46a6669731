"""Which control plane a command talks to."""

from __future__ import annotations

import os

from rich.markup import escape

from cluster.cli.output import errors
from cluster.client import ControlPlaneClient
from cluster.embedded.layout import Layout
from cluster.embedded.run_file import read_run_file
from cluster.settings import Settings, load_settings, unknown_names


def settings() -> Settings:
    for warning in unknown_names(os.environ):
        errors.print(f"[yellow]warning:[/] {escape(warning)}")
    return load_settings()


def api_url(settings: Settings) -> str:
    """ARAGORA_API_URL, else the system of the data directory, else the default address."""
    if settings.api_url is not None:
        return settings.api_url
    running = read_run_file(Layout.of(settings.data_dir))
    return running.api_url if running is not None else f"http://{settings.http_host}:{settings.http_port}"


def client(settings: Settings) -> ControlPlaneClient:
    key = settings.api_key.get_secret_value() if settings.api_key is not None else None
    return ControlPlaneClient(api_url(settings), key)
