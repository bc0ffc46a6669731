"""The files of the front's TLS, checked before anything is started: whoever gives a wrong file is told in a sentence.

HAProxy would refuse most of them too, but only after Ray has started, and in words about OpenSSL. An expired certificate, or a
chain in the wrong order, it would serve.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from cluster.process.front import FrontTls

CERTIFICATE = "ARAGORA_TLS_CERT_FILE"
KEY = "ARAGORA_TLS_KEY_FILE"
AUTHORITY = "ARAGORA_TLS_CA_FILE"


class UnusableFile(Exception):
    """A file of a TLS setting cannot be used. The message is a sentence that names the setting, the file and what to do."""


def check_front_files(tls: FrontTls, now: datetime) -> None:
    """Returns if the front can be served with these files. Raises: `UnusableFile` if not."""
    chain = _certificates(CERTIFICATE, tls.certificate)
    _check_time(CERTIFICATE, tls.certificate, chain[0], now)
    for number, (below, above) in enumerate(pairwise(chain), 2):
        if not _issued(below, above):
            raise UnusableFile(
                f"{CERTIFICATE} {tls.certificate} is no chain: its certificate {number} has not issued the one before it; put "
                "the server's own first, then the authority that issued it, and so on."
            )
        _check_time(CERTIFICATE, tls.certificate, above, now)
    _check_key(tls, chain[0])
    if tls.authority is not None:
        for certificate in _certificates(AUTHORITY, tls.authority):
            if not _is_authority(certificate):
                raise UnusableFile(
                    f"{AUTHORITY} {tls.authority} has a certificate that is no authority's ({_name(certificate)}); put those "
                    "there that issue the agents' certificates."
                )
            _check_time(AUTHORITY, tls.authority, certificate, now)


def soon_ending(tls: FrontTls, now: datetime, within: timedelta) -> list[str]:
    """A sentence for each certificate of the front that ends soon.

    Raises: `UnusableFile` if a file cannot be read."""
    files = ((CERTIFICATE, tls.certificate), (AUTHORITY, tls.authority))
    return [
        f"{setting} {file}: {_name(each)} ends {each.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it."
        for setting, file in files
        if file is not None
        for each in _certificates(setting, file)
        if each.not_valid_after_utc - now < within
    ]


def first_end(tls: FrontTls) -> float:
    """When the front's certificate that ends first does, as epoch seconds.

    Raises: `UnusableFile` if a file cannot be read."""
    files = ((CERTIFICATE, tls.certificate), (AUTHORITY, tls.authority))
    ends = [
        each.not_valid_after_utc.timestamp()
        for setting, file in files
        if file is not None
        for each in _certificates(setting, file)
    ]
    return min(ends)


def _read(setting: str, file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UnusableFile(f"{setting} names {file}, which cannot be read: {error.strerror or error}.") from None


def _certificates(setting: str, file: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(setting, file))
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise UnusableFile(
            f"{setting} names {file}, which has no certificates as PEM; they begin with -----BEGIN CERTIFICATE-----."
        ) from None


def _check_time(setting: str, file: str, certificate: x509.Certificate, now: datetime) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > ends:
        raise UnusableFile(
            f"{setting} {file} has expired: {_name(certificate)} was valid until {ends:%Y-%m-%d %H:%M} UTC; renew it."
        )
    if now < begins:
        raise UnusableFile(
            f"{setting} {file} is not valid yet: {_name(certificate)} begins {begins:%Y-%m-%d %H:%M} UTC; check this "
            "machine's clock."
        )


def _check_key(tls: FrontTls, certificate: x509.Certificate) -> None:
    try:
        key = serialization.load_pem_private_key(_read(KEY, tls.key), password=None)
    except TypeError:
        raise UnusableFile(
            f"{KEY} names {tls.key}, which is encrypted; give a key without a password, in a file of mode 0600."
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableFile(f"{KEY} names {tls.key}, which has no private key as PEM.") from None
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise UnusableFile(
            f"{KEY} {tls.key} is not the key of {CERTIFICATE} {tls.certificate}; give the two files of one certificate."
        )


def _issued(below: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()[:200] or "a certificate without a subject"
