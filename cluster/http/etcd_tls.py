"""What is trusted of the regions' etcd, and the certificate that is shown to it."""

from __future__ import annotations

import ssl
from pathlib import Path

from cluster.domain.base.errors import InvalidRequest


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
