"""The URIs among a certificate's alternative names: agents and regions are named by one."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

#: What cryptography raises for a certificate that OpenSSL has let pass. The last four are plain exceptions.
_UNREADABLE: Final = (
    ValueError,
    UnsupportedAlgorithm,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def read_uris(der: bytes) -> tuple[x509.Certificate, list[str]] | None:
    """A certificate and its URIs; None if it cannot be read, or has no alternative names."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except _UNREADABLE:
        return None
    return certificate, names.get_values_for_type(x509.UniformResourceIdentifier)
