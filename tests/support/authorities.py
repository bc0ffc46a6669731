"""A certificate authority that issues what a test asks for, good and odd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM
LOCAL = (x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")))

LASTS = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class Issued:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def write(self, directory: Path, name: str) -> tuple[str, str]:
        """The names of its certificate's file and of its key's."""
        directory.mkdir(exist_ok=True)
        files = directory / f"{name}.pem", directory / f"{name}.key"
        files[0].write_bytes(b"".join(each.public_bytes(PEM) for each in (self.certificate, *self.chain)))
        files[1].write_bytes(
            self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return str(files[0]), str(files[1])


@dataclass(slots=True)
class Issuer:
    """An authority. ``common_name`` tells authorities apart."""

    common_name: str = "A test's authority"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def own(self, ends_in: timedelta = timedelta(days=2), lasts: timedelta = LASTS) -> Issued:
        """The authority's own certificate."""
        builder = _builder(self.common_name, self.common_name, self.key, ends_in, lasts)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return Issued(builder.sign(self.key, hashes.SHA256()), self.key)

    def file(self, directory: Path, name: str = "ca") -> str:
        directory.mkdir(exist_ok=True)
        return self.own().write(directory, name)[0]

    def issue(
        self,
        names: Sequence[x509.GeneralName] = LOCAL,
        *,
        common_name: str = "somebody",
        ends_in: timedelta = timedelta(days=1),
        lasts: timedelta = LASTS,
        usages: Sequence[x509.ObjectIdentifier] = (),
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(common_name, self.common_name, key, ends_in, lasts)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return Issued(builder.sign(self.key, hashes.SHA256()), key)

    def agent(self, agent_id: str, domain: str = "aragora") -> Issued:
        return self.issue([x509.UniformResourceIdentifier(f"spiffe://{domain}/agent/{agent_id}")])


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, ends_in: timedelta, lasts: timedelta
) -> x509.CertificateBuilder:
    ends = datetime.now(UTC) + ends_in
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else []))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - lasts)
        .not_valid_after(ends)
    )
