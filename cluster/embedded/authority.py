"""An authority for development: it issues certificates of the API, of agents and of regions, on one machine, from files of its
directory.

In production that is cert-manager's or SPIRE's work (docs/tls.md). A key never leaves the directory in which it was made.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cluster.embedded.layout import EmbeddedError
from cluster.embedded.secrets import write_private

#: Clocks differ: what was issued a moment ago is valid on machines that are this far behind.
SKEW: Final = timedelta(seconds=60)
AUTHORITY_LIFE: Final = timedelta(days=3650)
_AUTHORITY: Final = "ca"
_SERVER: Final = "server"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
_PEM: Final = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class DevelopmentAuthority:
    """The authority whose files are in ``directory``."""

    directory: Path

    @property
    def file(self) -> Path:
        return self._files(_AUTHORITY).certificate

    def create(self, now: datetime) -> None:
        """Makes the authority. Raises: `EmbeddedError` if there is one: all that it has issued would count no longer."""
        if self.file.exists():
            raise EmbeddedError(
                f"There is an authority in {self.directory} already; use it: set ARAGORA_TLS_CA_FILE and "
                f"ARAGORA_CLIENT_CA_FILE to {self.file}. For a new one, which ends what it has issued, remove its files first."
            )
        # The data directory is made here if nothing has started yet: ``parents`` alone would let others read in it.
        for directory in (self.directory.parent, self.directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Aragora development authority")])
        certificate = (
            _builder(name, name, key, now, AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(of_authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        self._write(_AUTHORITY, certificate, key)

    def issue_agent(self, agent_id: str, trust_domain: str, now: datetime, life: timedelta) -> CertificateFiles:
        """The files of an agent's certificate. Raises: `EmbeddedError` as `issue_server`."""
        if agent_id == _SERVER:
            raise EmbeddedError(f"{agent_id} is the name of the API's files; choose another id.")
        names = [x509.UniformResourceIdentifier(f"spiffe://{trust_domain}/agent/{agent_id}")]
        return self._issue(agent_id, names, [ExtendedKeyUsageOID.CLIENT_AUTH], now, life)

    def issue_region(self, region: str, trust_domain: str, now: datetime, life: timedelta) -> CertificateFiles:
        """The files of the certificate that a region shows its peers. Raises: `EmbeddedError` as `issue_server`."""
        names = [x509.UniformResourceIdentifier(f"spiffe://{trust_domain}/region/{region}")]
        # On a link between two regions each may be the one that asks.
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        return self._issue(region, names, purposes, now, life)

    def issue_server(self, hosts: Sequence[str], now: datetime, life: timedelta) -> CertificateFiles:
        """The files of a certificate for the API at these addresses and names.

        Raises: `EmbeddedError` if a name is none, or there is no authority."""
        return self._issue(_SERVER, [_host(host) for host in hosts], [ExtendedKeyUsageOID.SERVER_AUTH], now, life)

    def renew(self, name: str, now: datetime) -> CertificateFiles:
        """A certificate with the names and the life of the one that has this name, and a new key.

        Raises: `EmbeddedError` if there is none, or no authority."""
        _check_name(name)
        before = self._certificate(name)
        names = before.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        purposes = before.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        life = before.not_valid_after_utc - before.not_valid_before_utc - SKEW
        return self._issue(name, list(names), list(purposes), now, life)

    def _issue(
        self,
        name: str,
        names: Sequence[x509.GeneralName],
        purposes: Sequence[x509.ObjectIdentifier],
        now: datetime,
        life: timedelta,
    ) -> CertificateFiles:
        _check_name(name)
        authority, authority_key = self._certificate(_AUTHORITY), self._key()
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        certificate = (
            _builder(subject, authority.subject, key, now, life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(of_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .sign(authority_key, hashes.SHA256())
        )
        return self._write(name, certificate, key)

    def _files(self, name: str) -> CertificateFiles:
        return CertificateFiles(self.directory / f"{name}.pem", self.directory / f"{name}.key")

    def _certificate(self, name: str) -> x509.Certificate:
        file = self._files(name).certificate
        try:
            return x509.load_pem_x509_certificate(file.read_bytes())
        except (OSError, ValueError, x509.InvalidVersion):
            advice = (
                "make one with `aragora-cp ca init`" if name == _AUTHORITY else "make it with `aragora-cp ca issue`"
            )
            raise EmbeddedError(f"{file} is no certificate that can be read; {advice}.") from None

    def _key(self) -> ec.EllipticCurvePrivateKey:
        file = self._files(_AUTHORITY).key
        try:
            key = serialization.load_pem_private_key(file.read_bytes(), password=None)
        except (OSError, ValueError, TypeError):
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise EmbeddedError(
                f"{file} is not this authority's key; make another authority with `aragora-cp ca init`."
            )
        return key

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> CertificateFiles:
        files = self._files(name)
        form = (_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        write_private(files.key, key.private_bytes(*form).decode())
        write_private(files.certificate, certificate.public_bytes(_PEM).decode())
        return files


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + life)
    )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name == _AUTHORITY:
        raise EmbeddedError(f"{name} cannot be the name of a certificate's files; choose another.")


def _usage(*, of_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not of_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=of_authority,
        crl_sign=of_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    if not re.fullmatch(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", text):
        raise EmbeddedError(f"{text!r} is neither an address nor the name of a host.")
    return x509.DNSName(text)
