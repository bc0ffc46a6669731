"""``aragora-haproxy``: what Ray Serve starts in the place of HAProxy where `up` does not start Ray.

It runs at every change of replicas, so it loads nothing but the standard library unless there are settings to read.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from cluster.process import front
from cluster.process.front import FrontTls
from cluster.process.haproxy import bundled_haproxy, run

_READ = ("ARAGORA_TLS_", "ARAGORA_CORS_ORIGINS", "ARAGORA_CONFIG_FILE")


def main() -> NoReturn:
    """The program, with HAProxy's own arguments."""
    binary = bundled_haproxy()
    if binary is None:
        sys.exit("aragora-haproxy: the HAProxy that ray[serve] brings is missing; reinstall ray[serve].")
    tls, origins = _settings()
    run(str(binary), sys.argv[1:], tls=tls, proof=front.proof_of(os.environ), origins=origins)  # noqa: TID251 - a root of a process


def _settings() -> tuple[FrontTls | None, tuple[str, ...]]:
    """TLS and origins as the settings say. Ends the program if they are not valid."""
    if not any(name.startswith(_READ) for name in os.environ):  # noqa: TID251 - a root of a process
        return None, ("*",)
    from cluster.settings import SettingsError, load_settings  # takes half a second

    try:
        found = load_settings()
    except SettingsError as error:
        sys.exit(f"aragora-haproxy: {error}")
    tls = front.front_tls(found.tls_enabled, found.tls_cert_file, found.tls_key_file, found.tls_ca_file)
    return tls, found.cors_origins
