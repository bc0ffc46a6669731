"""What is trusted of the regions' etcd, and the certificate that is shown to it."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from pathlib import Path

from cluster.domain.base.errors import InvalidRequest


class EtcdTls:
    """``context`` is for connections to etcd. Certificates are renewed while a process lives, so whoever connects calls
    ``follow`` before. An authority that a renewed file lacks is trusted until the process ends.

    Raises: `InvalidRequest` if a file cannot be used."""

    def __init__(self, authority: Path | None, certificate: Path | None, key: Path | None) -> None:
        self._authority = authority
        self._certificate = certificate
        self._key = key
        self._loaded = self._state()
        self.context = etcd_context(authority, certificate, key)

    def follow(self) -> None:
        """Loads files that have changed. Those that cannot be used, as while one of two is written, change nothing."""
        with suppress(OSError, InvalidRequest):
            state = self._state()
            if state == self._loaded:
                return
            # A pair that does not fit would stay in a context that has refused it.
            etcd_context(self._authority, self._certificate, self._key)
            if self._certificate is not None:
                self.context.load_cert_chain(self._certificate, self._key)
            if self._authority is not None:
                self.context.load_verify_locations(self._authority)
            self._loaded = state

    def _state(self) -> tuple[tuple[int, int, int], ...]:
        files = [file for file in (self._authority, self._certificate, self._key) if file is not None]
        with suppress(OSError):
            found = [os.stat(file) for file in files]
            return tuple((file.st_ino, file.st_mtime_ns, file.st_size) for file in found)
        return ()


def etcd_context(authority: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Raises: `InvalidRequest` if a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=authority)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidRequest(
            f"ARAGORA_ETCD_CA_FILE, _CERT_FILE or _KEY_FILE cannot be used ({error.strerror or error}); mend the file."
        ) from error
    return context
