"""What ``aragora-cp up`` decides about authentication, and the key of sealed secrets that it makes."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from cluster.embedded.layout import EmbeddedError
from cluster.embedded.secrets import write_private
from cluster.process.front import FrontTls, front_tls
from cluster.settings import Settings

OFF: Final = (
    "AUTHENTICATION IS OFF: everybody on this machine who reaches the API is its administrator. "
    "ARAGORA_AUTH_ENABLED=true turns it on."
)


def with_authentication(settings: Settings) -> Settings:
    """The settings, with authentication off if nobody has set it, and the stores are embedded and the API on loopback: one
    person tries it out on one machine. Whoever names an authority of agents' certificates or lets people log in does more than
    that.

    Raises: `EmbeddedError` if authentication is off and the API is not on loopback."""
    embeds = settings.database_url is None or settings.redis_url is None
    more = settings.tls_ca_file is not None or settings.oauth_enabled
    tries_out = embeds and settings.listens_on_loopback() and not more
    if "auth_enabled" not in settings.model_fields_set and tries_out:
        settings = settings.model_copy(update={"auth_enabled": False})
    if not settings.auth_enabled and not settings.listens_on_loopback():
        raise EmbeddedError(
            f"ARAGORA_AUTH_ENABLED is false and ARAGORA_HTTP_HOST is {settings.http_host}, where others could call; unset one "
            "of them."
        )
    return settings


def checked_tls(settings: Settings) -> FrontTls | None:
    """The files with which HTTPS is served; None if it is not. Raises: `EmbeddedError` if they cannot be used."""
    tls = front_tls(settings.tls_enabled, settings.tls_cert_file, settings.tls_key_file, settings.tls_ca_file)
    if tls is None:
        return None
    from cluster.http.front_files import UnusableFile, check_front_files  # loads cryptography too

    try:
        check_front_files(tls, datetime.now(UTC))
    except UnusableFile as error:
        raise EmbeddedError(str(error)) from None
    return tls


def sealing_key(path: Path) -> SecretStr:
    """The key of sealed secrets, made if there is none. It is beside the database's directory and not in it, so that a copy of
    the database alone opens nothing."""
    from cluster.domain.access.sealing import KEY_BYTES  # loads cryptography, which few commands need

    if not path.exists():
        write_private(path, base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode())
    return SecretStr(path.read_text().strip())
