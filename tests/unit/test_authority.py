"""The authority for development: what it issues is accepted by TLS and names an agent, and its files are private."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from aragora_worker.api import ControlPlaneClient
from aragora_worker.errors import ApiError, OutcomeUnknown, Unavailable
from aragora_worker.tls import ClientTls
from cluster.domain.access.agent_certificates import AgentCertificate, agent_certificate
from cluster.domain.base.errors import InvalidRequest
from cluster.embedded.authority import CertificateFiles, DevelopmentAuthority
from cluster.embedded.layout import EmbeddedError
from cluster.http.front_files import check_front_files
from cluster.process.front import FrontTls
from regions.links.identity import region_of
from tests.support.listening import listening, port_of

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


@pytest.fixture
def authority(tmp_path: Path) -> DevelopmentAuthority:
    found = DevelopmentAuthority(tmp_path / "ca")
    found.create(NOW)
    return found


def read(files: CertificateFiles) -> AgentCertificate:
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    return agent_certificate(certificate.public_bytes(Encoding.DER), "aragora")


def test_what_is_issued_is_good_and_private(authority: DevelopmentAuthority) -> None:
    server = authority.issue_server(["127.0.0.1", "localhost"], NOW, DAY)
    check_front_files(FrontTls(str(server.certificate), str(server.key), str(authority.file)), NOW)
    first = read(authority.issue_agent("a:1", "aragora", NOW, DAY))
    renewed = read(authority.renew("a:1", NOW + DAY))
    assert (first.agent_id, first.ends_at - first.begins_at) == ("a:1", 86_460)
    assert (renewed.agent_id, renewed.ends_at - first.ends_at) == ("a:1", 86_400)
    assert first.serial != renewed.serial
    assert {file.stat().st_mode & 0o777 for file in authority.directory.iterdir()} == {0o600}
    assert authority.directory.stat().st_mode & 0o777 == 0o700


def test_the_data_directory_is_private_if_the_authority_is_made_first(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    DevelopmentAuthority(data_dir / "ca").create(NOW)
    assert {path.stat().st_mode & 0o777 for path in (data_dir, data_dir / "ca")} == {0o700}


def test_a_region_shows_its_certificate_in_both_directions(authority: DevelopmentAuthority) -> None:
    for files in (authority.issue_region("east", "aragora", NOW, DAY), authority.renew("east", NOW)):
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert set(purposes) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
        assert region_of(certificate.public_bytes(Encoding.DER), "aragora") == "east"


def test_refusals_say_what_to_do(authority: DevelopmentAuthority, tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match=f"already; use it: set ARAGORA_TLS_CA_FILE .* to {authority.file}"):
        authority.create(NOW)
    with pytest.raises(EmbeddedError, match="ca init"):
        DevelopmentAuthority(tmp_path / "none").issue_agent("a", "aragora", NOW, DAY)
    with pytest.raises(EmbeddedError, match="ca issue"):
        authority.renew("nobody", NOW)
    for agent_id in ("server", "ca", "../a", "a/b", ""):
        with pytest.raises(EmbeddedError, match="choose another"):
            authority.issue_agent(agent_id, "aragora", NOW, DAY)
    for name in ("ca", "../ca", ""):
        with pytest.raises(EmbeddedError, match="choose another"):
            authority.renew(name, NOW)
    for host in ("", "a b", "a/b", "-a"):
        with pytest.raises(EmbeddedError, match="neither an address nor"):
            authority.issue_server([host], NOW, DAY)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each call with the serial number of the caller's certificate."""
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            shown = writer.get_extra_info("peercert") or {"serialNumber": ""}
            body = ('{"serial": "' + shown["serialNumber"] + '"}').encode()
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def test_a_client_shows_its_renewed_certificate(authority: DevelopmentAuthority) -> None:
    server = authority.issue_server(["127.0.0.1"], NOW, DAY)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.load_cert_chain(server.certificate, server.key)
    context.verify_mode = ssl.CERT_OPTIONAL
    own = authority.issue_agent("a", "aragora", NOW, DAY)
    tls = ClientTls(authority=str(authority.file), certificate=str(own.certificate), key=str(own.key))
    async with listening(_serve, context) as listener:
        url = f"https://127.0.0.1:{port_of(listener)}"
        async with ControlPlaneClient(url, tls=tls) as client:
            assert await _serial(client) == read(own).serial
            authority.renew("a", NOW)
            assert await _serial(client) == read(own).serial
            good = own.key.read_bytes()
            own.key.write_text("half of a file")
            assert await _serial(client) == read(own).serial  # as while it is written
            own.key.write_bytes(good)
            assert await _serial(client) == read(own).serial
        pinned = ClientTls(pinned=str(server.certificate))
        async with ControlPlaneClient(url.replace("127.0.0.1", "localhost"), tls=pinned) as client:
            assert await _serial(client) == ""
        for stranger in (ClientTls(), ClientTls(pinned=str(own.certificate))):
            async with ControlPlaneClient(url, tls=stranger) as client:
                with pytest.raises(OutcomeUnknown):
                    await _serial(client)


@pytest.mark.parametrize("renewed", [False, True])
async def test_a_refused_call_is_repeated_if_its_certificate_was_replaced(
    authority: DevelopmentAuthority, renewed: bool
) -> None:
    """A call that waits goes on with the certificate of its connection, which may be denied once there is another."""
    server = authority.issue_server(["127.0.0.1"], NOW, DAY)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.load_cert_chain(server.certificate, server.key)
    own = authority.issue_agent("a", "aragora", NOW, DAY)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if renewed:
            authority.renew("a", NOW + DAY)
        body = b'{"error": "It does not count.", "code": "certificate_refused", "trace_id": "t"}'
        head = f"HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    tls = ClientTls(authority=str(authority.file), certificate=str(own.certificate), key=str(own.key))
    async with listening(refuse, context) as listener:
        url = f"https://127.0.0.1:{port_of(listener)}"
        async with ControlPlaneClient(url, tls=tls) as client:
            with pytest.raises(Unavailable if renewed else ApiError) as refusal:
                await client.request("GET", "/x")
    assert refusal.value.code == ("certificate_replaced" if renewed else "certificate_refused")


async def test_a_refused_certificate_is_told_as_a_failure_of_tls(
    authority: DevelopmentAuthority, tmp_path: Path
) -> None:
    """TLS 1.3 tells a client only after its handshake, and httpx lets that error pass."""
    server = authority.issue_server(["127.0.0.1"], NOW, DAY)
    stranger = DevelopmentAuthority(tmp_path / "others")
    stranger.create(NOW)
    own = stranger.issue_agent("a", "aragora", NOW, DAY)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.load_cert_chain(server.certificate, server.key)
    context.verify_mode = ssl.CERT_OPTIONAL
    tls = ClientTls(authority=str(authority.file), certificate=str(own.certificate), key=str(own.key))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refused = asyncio.create_task(asyncio.to_thread(_refuse_one, listener, context))
        async with ControlPlaneClient(f"https://127.0.0.1:{listener.getsockname()[1]}", tls=tls) as client:
            with pytest.raises(OutcomeUnknown, match=r"\(TLS fails\); look at ARAGORA_CLIENT_CA_FILE"):
                await _serial(client)
        await refused


def _refuse_one(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Refuses a handshake as HAProxy does: the alert is not followed by a reset, which asyncio's server sends."""
    connection, _ = listener.accept()
    with connection.dup() as kept:
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)
        while kept.recv(4096):
            pass


def test_relative_files_stay_those_of_the_directory_at_the_start(
    authority: DevelopmentAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker looks at them before each call, and its job may have changed the directory."""
    own = authority.issue_agent("a", "aragora", NOW, DAY)
    monkeypatch.chdir(authority.file.parent)
    found = [os.path.relpath(path) for path in (authority.file, own.certificate, own.key)]
    tls = ClientTls(authority=found[0], certificate=found[1], key=found[2])
    before = tls.state()
    monkeypatch.chdir(tmp_path.parent)
    assert tls.state() == before
    assert isinstance(tls.context(), ssl.SSLContext)
    authority.renew("a", NOW + DAY)
    assert tls.state() != before


async def _serial(client: ControlPlaneClient) -> str:
    answer = await client.request("GET", "/x")
    return str(answer["serial"]).lower().lstrip("0")


@pytest.mark.parametrize(
    "files",
    [
        {"authority": "/nowhere"},
        {"pinned": "/nowhere"},
        {"certificate": "/nowhere", "key": "/nowhere"},
        {"authority": __file__},
    ],
    ids=str,
)
def test_files_that_cannot_be_used_are_named(files: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(files.values()))):
        ControlPlaneClient("https://127.0.0.1:1", tls=ClientTls(**files))
    assert ControlPlaneClient("http://127.0.0.1:1", tls=ClientTls(**files))
