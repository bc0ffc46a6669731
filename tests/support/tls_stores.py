"""PostgreSQL and Redis that speak TLS alone and ask for a client's certificate. The embedded ones are built without TLS, so these
are Debian's (packages postgresql and redis-server)."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cluster.embedded.ports import free_ports
from cluster.embedded.postgres import _unprivileged
from cluster.embedded.processes import end, session_members, spawn

ROOT = Path("/usr/lib/postgresql")
USER = "aragora"


@dataclass(frozen=True, slots=True)
class Pem:
    """Files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a directory."""

    def __init__(self, base: Path, name: str) -> None:
        self._base, self._name = base, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = base / f"{name}.crt"
        own = self._build(self._name, self._key).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        self.file.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _build(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(subject_name=subject, issuer_name=self._name, public_key=key.public_key())
        return (
            builder.serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )

    def issue(self, name: str, *hosts: str) -> Pem:
        """A certificate for a user's name or for hosts."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._build(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), False)
        pem = Pem(self._base / f"{name}.crt", self._base / f"{name}.key")
        pem.certificate.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        pem.key.touch(0o600)
        pem.key.write_bytes(key.private_bytes(*private))
        return pem


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@dataclass(frozen=True, slots=True)
class TlsStores:
    """Their certificate is for 127.0.0.1 and localhost; they can be reached at 127.0.0.2 too. ``others`` is another authority,
    which has signed nothing that they use, and ``client`` what they admit."""

    postgres_port: int
    redis_port: int
    authority: Authority
    others: Authority
    client: Pem

    def database_url(self, host: str = "127.0.0.1", mode: str = "verify-full", **changed: str | None) -> str:
        """With the client's certificate and the authority's. ``changed`` replaces options, or removes them (None)."""
        options: dict[str, str | None] = {
            "sslmode": mode,
            "sslrootcert": str(self.authority.file),
            "sslcert": str(self.client.certificate),
            "sslkey": str(self.client.key),
            **changed,
        }
        return f"postgresql://{USER}@{host}:{self.postgres_port}/postgres?{_query(options)}"

    def redis_url(self, host: str = "127.0.0.1", scheme: str = "rediss", **changed: str | None) -> str:
        options: dict[str, str | None] = {
            "ssl_cert_reqs": "required",
            "ssl_ca_certs": str(self.authority.file),
            "ssl_certfile": str(self.client.certificate),
            "ssl_keyfile": str(self.client.key),
            **changed,
        }
        return f"{scheme}://{host}:{self.redis_port}/0?{_query(options)}"


def _query(options: dict[str, str | None]) -> str:
    return "&".join(f"{name}={value}" for name, value in options.items() if value is not None)


def installed() -> tuple[Path, str]:
    """Debian's (directory of PostgreSQL's programs, redis-server)."""
    found = sorted(ROOT.glob("*/bin/postgres"))
    redis = shutil.which("redis-server")
    if not found or redis is None:
        pytest.skip("needs Debian's postgresql and redis-server; .ci/run installs them")
    return found[-1].parent, redis


@contextmanager
def tls_stores() -> Iterator[TlsStores]:
    """Both, started. The tests that use them are skipped where they are not installed."""
    binaries, redis = installed()
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aragora-tls-")))
        authority, others = Authority(base, "authority"), Authority(base, "others")
        server, client = authority.issue("server", "127.0.0.1", "localhost"), authority.issue(USER)
        stores = TlsStores(*free_ports(2), authority, others, client)
        stack.enter_context(_postgres(binaries, base, stores, server))
        stack.enter_context(_redis(redis, base, stores, server))
        yield stores


@contextmanager
def _postgres(binaries: Path, base: Path, stores: TlsStores, server: Pem) -> Iterator[None]:
    data, run = base / "postgres", _unprivileged()
    command = [str(binaries / "initdb"), "-D", str(data), "-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C"]
    subprocess.run([*run, *command], check=True, capture_output=True)
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.0/8 cert\nlocal all all trust\n")
    options = {
        "listen_addresses": "127.0.0.1,127.0.0.2",
        "port": str(stores.postgres_port),
        "unix_socket_directories": str(base),
        "ssl": "on",
        "ssl_cert_file": str(server.certificate),
        "ssl_key_file": str(server.key),
        "ssl_ca_file": str(stores.authority.file),
        "fsync": "off",
    }
    words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    with running_server([*run, str(binaries / "postgres"), "-D", str(data), *words], base / "postgres.log"):
        yield


@contextmanager
def _redis(binary: str, base: Path, stores: TlsStores, server: Pem) -> Iterator[None]:
    options = {
        "port": "0",
        "tls-port": str(stores.redis_port),
        "bind": "127.0.0.1 127.0.0.2",
        "tls-cert-file": str(server.certificate),
        "tls-key-file": str(server.key),
        "tls-ca-cert-file": str(stores.authority.file),
        "tls-auth-clients": "yes",
        "dir": str(base),
        "save": "",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", *value.split(" "))]
    with running_server([binary, *words], base / "redis.log"):
        yield


@contextmanager
def running_server(command: list[str], log: Path) -> Iterator[None]:
    process = spawn(command, log=log)
    try:
        yield
    finally:
        end(session_members(process) or [process])
