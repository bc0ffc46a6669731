"""What a caller trusts, and how it says who it is, when it calls the API over HTTPS."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aragora_worker.base.errors import InvalidRequest
from aragora_worker.pinned import pinned_context


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTls:
    """Files: the authority of the API's certificate (None: those that httpx trusts), and the caller's own certificate and key.
    ``pinned`` is the certificate of an API on this machine, which is called by its address. Relative paths are those of the
    directory at hand."""

    authority: str | None = None
    certificate: str | None = None
    key: str | None = None
    pinned: str | None = None

    def __post_init__(self) -> None:
        # They are read again when they have changed, and a worker's job may have changed the directory by then.
        for name in ("authority", "certificate", "key", "pinned"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, os.path.abspath(path))

    def context(self) -> ssl.SSLContext | bool:
        """What httpx takes as ``verify``. Raises: `InvalidRequest` if a file cannot be used."""
        if not any((self.authority, self.certificate, self.pinned)):
            return True
        try:
            if self.pinned is not None:
                context = pinned_context(Path(self.pinned))
            else:
                context = ssl.create_default_context(cafile=self.authority)
        except OSError as error:  # ssl.SSLError is one
            name = self.authority or self.pinned
            raise InvalidRequest(
                f"{name} cannot be read as certificates ({_reason(error)}); correct the path."
            ) from None
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key)
            except OSError as error:
                raise InvalidRequest(
                    f"{self.certificate} and {self.key} cannot be used as this caller's certificate and key ({_reason(error)}); "
                    "look at ARAGORA_CLIENT_CERT_FILE and ARAGORA_CLIENT_KEY_FILE."
                ) from None
        return context

    def state(self) -> tuple[object, ...]:
        """Differs when a file has changed."""
        found: list[object] = []
        for name in (self.authority, self.certificate, self.key, self.pinned):
            with suppress(OSError):
                if name is not None:
                    at = os.stat(name)
                    found.append((at.st_ino, at.st_mtime_ns, at.st_size))
        return tuple(found)


class ApiSettings(Protocol):
    """The settings that say where the API is and how it is called, whoever has read them."""

    @property
    def client_ca_file(self) -> Path | None: ...
    @property
    def client_cert_file(self) -> Path | None: ...
    @property
    def client_key_file(self) -> Path | None: ...
    @property
    def http_port(self) -> int: ...
    @property
    def tls_enabled(self) -> bool: ...
    @property
    def tls_cert_file(self) -> Path | None: ...


def client_tls(settings: ApiSettings, pinned: str | None = None) -> ClientTls:
    """What the settings say. An authority that they name wins over ``pinned``."""
    authority = settings.client_ca_file
    return ClientTls(
        authority=str(authority) if authority is not None else None,
        certificate=str(settings.client_cert_file) if settings.client_cert_file is not None else None,
        key=str(settings.client_key_file) if settings.client_key_file is not None else None,
        pinned=pinned if authority is None else None,
    )


def default_url(settings: ApiSettings, host: str = "127.0.0.1") -> str:
    """The API of this machine's settings."""
    scheme = "https" if settings.tls_enabled else "http"
    return f"{scheme}://{host}:{settings.http_port}"


def default_pin(settings: ApiSettings) -> str | None:
    """The certificate of the API at `default_url`."""
    return str(settings.tls_cert_file) if settings.tls_enabled and settings.tls_cert_file is not None else None


def _reason(error: OSError) -> str:
    return error.reason if isinstance(error, ssl.SSLError) and error.reason else error.strerror or type(error).__name__
