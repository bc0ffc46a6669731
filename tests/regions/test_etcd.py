"""The etcd adapter on real members: some die, the link needs a certificate, and the client a password."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cluster.domain.base.errors import StoreUnavailable
from cluster.embedded.ports import free_ports
from cluster.http.etcd_tls import EtcdTls
from cluster.ports.consensus_group import GroupMembers, GroupView, KeyPut
from cluster.process.clock import SystemClock
from regions.consensus.etcd import EtcdGroup
from tests.support.authorities import LOCAL, Issuer
from tests.support.etcd import EtcdMember, etcd_group, etcd_members, lead_by, needs_etcd
from tests.support.listening import listening, port_of
from tests.support.probes import eventually

pytestmark = needs_etcd


async def test_a_dead_member_costs_one_answer_and_a_lost_quorum_all() -> None:
    with etcd_members(3) as members:
        async with etcd_group(members) as group:
            await group.swap([], [KeyPut(key="k", value="1")])
            views: list[GroupView] = []

            async def follow() -> None:
                async with aclosing(group.watch("k")) as watched:
                    async for view in watched:
                        views.append(view)

            task = asyncio.create_task(follow())
            await eventually(lambda: views)
            members[0].kill()

            async def written() -> bool:
                try:
                    return await group.swap([], [KeyPut(key="k", value="2")])
                except StoreUnavailable:
                    return False  # its outcome is not known: another member was told, or had no leader yet

            await eventually(written)
            await eventually(lambda: views[-1].value("k") == "2")
            members[1].kill()
            with pytest.raises(StoreUnavailable):
                await group.read("k")
            with pytest.raises(StoreUnavailable):
                await group.swap([], [KeyPut(key="k", value="3")])
            members[1].start()
            await eventually(written)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_the_leader_hands_over_to_a_member_that_answers() -> None:
    """Who is asked to hand over to one that is away stops the group for an election's time."""
    with etcd_members(["east", "north", "west"]) as members:
        async with etcd_group(members) as group:
            await lead_by(members, "east")
            assert await group.members() == GroupMembers(names=frozenset({"east", "north", "west"}), leader="east")
            await group.move_leader("north")
            assert (await group.members()).leader == "east"
            await group.move_leader("east", avoid=["north", "west"])
            assert (await group.members()).leader == "east", "there is no other"
            for avoided, heir in (("north", "west"), ("west", "north")):
                await group.move_leader("east", avoid=["east", avoided])
                assert (await group.members()).leader == heir
                await lead_by(members, "east")
            for away, heir in (("west", "north"), ("north", "west")):
                lost = members[[member.name for member in members].index(away)]
                lost.kill()
                await group.move_leader("east")
                assert (await group.members()).leader == heir
                lost.start()
                await lead_by(members, "east")
            only_north = EtcdGroup([members[1].url], SystemClock())
            with pytest.raises(StoreUnavailable) as raised:
                await only_north.move_leader("east")
            assert "east" in raised.value.message
            await only_north.close()
            for member in members:
                member.kill()
            with pytest.raises(StoreUnavailable):
                await group.members()


async def test_calls_that_fail_at_the_same_endpoint_turn_to_the_next() -> None:
    """As many at once as would come round to it again."""
    with etcd_members() as members:
        async with etcd_group(members):
            nobody = [f"http://127.0.0.1:{port}" for port in free_ports(2)]
            group = EtcdGroup([*nobody, members[0].url], SystemClock())
            assert len(await asyncio.gather(*(group.read("") for _ in range(9)))) == 9
            await group.close()


@asynccontextmanager
async def _hangs_up() -> AsyncIterator[tuple[str, list[bytes]]]:
    """The URL of a server that reads each request and closes the connection; and what it has read."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n"))
        writer.close()

    async with listening(serve) as server:
        yield f"http://127.0.0.1:{port_of(server)}", requests


async def test_a_swap_that_may_have_happened_is_not_sent_again() -> None:
    async with _hangs_up() as (first, at_first), _hangs_up() as (second, at_second):
        nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
        group = EtcdGroup([nobody, first, second], SystemClock())
        with pytest.raises(StoreUnavailable):
            await group.swap([], [KeyPut(key="k", value="1")])
        assert (len(at_first), len(at_second)) == (1, 0)
        with pytest.raises(StoreUnavailable):
            await group.read("k")
        assert (len(at_first), len(at_second)) == (2, 1)
        await group.close()


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, for both sides; and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "region")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


async def test_a_client_needs_a_certificate_where_etcd_asks_for_it(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    files = ["--cert-file", certificate, "--key-file", key, "--trusted-ca-file", certificate, "--client-cert-auth"]
    tls, without = EtcdTls(certificate, certificate, key), EtcdTls(certificate, None, None)
    with etcd_members(1, [str(option) for option in files], scheme="https") as members:
        async with etcd_group(members, tls=tls) as group:
            assert await group.swap([], [KeyPut(key="k", value="1")])
        stranger = EtcdGroup([members[0].url], SystemClock(), tls=without)
        with pytest.raises(StoreUnavailable):
            await stranger.read("k")
        await stranger.close()


def _written(issuer: Issuer, folder: Path, name: str, usage: x509.ObjectIdentifier) -> list[Path]:
    """The files of a certificate and of its key. It has no common name."""
    issued = issuer.issue([*LOCAL], common_name="", usages=[usage, ExtendedKeyUsageOID.CLIENT_AUTH])
    return [Path(file) for file in issued.write(folder, name)]


async def test_a_renewed_certificate_is_shown_by_the_client_that_runs(tmp_path: Path) -> None:
    ours, other = Issuer("ours"), Issuer("other")
    authority = Path(ours.file(tmp_path))
    served = _written(ours, tmp_path, "server", ExtendedKeyUsageOID.SERVER_AUTH)
    used = _written(other, tmp_path, "client", ExtendedKeyUsageOID.CLIENT_AUTH)
    renewed = _written(ours, tmp_path, "renewed", ExtendedKeyUsageOID.CLIENT_AUTH)
    files = ["--cert-file", served[0], "--key-file", served[1], "--trusted-ca-file", authority, "--client-cert-auth"]
    with etcd_members(1, [str(option) for option in files], scheme="https") as members:
        async with etcd_group(members, tls=EtcdTls(authority, *served)):
            group = EtcdGroup([members[0].url], SystemClock(), tls=EtcdTls(authority, *used))
            with pytest.raises(StoreUnavailable):
                await group.read("k")
            renewed[0].replace(used[0])
            with pytest.raises(StoreUnavailable):
                await group.read("k")  # the key of another certificate
            renewed[1].replace(used[1])
            assert (await group.read("k")).entries == {}
            await group.close()


async def _with_passwords(member: EtcdMember, *others: tuple[str, Mapping[str, str]]) -> None:
    async with httpx.AsyncClient(base_url=f"{member.url}/v3/auth/") as client:
        for path, body in (
            ("user/add", {"name": "root", "password": "secret"}),
            ("role/add", {"name": "root"}),
            ("user/grant", {"user": "root", "role": "root"}),
            *others,
            ("enable", {}),
        ):
            (await client.post(path, json=body)).raise_for_status()


async def _forget_tokens(member: EtcdMember) -> None:
    """A restart would not do: etcd finds its tokens in its log again."""
    async with httpx.AsyncClient(base_url=f"{member.url}/v3/auth/") as client:
        answer = await client.post("authenticate", json={"name": "root", "password": "secret"})
        headers = {"Authorization": answer.json()["token"]}
        (await client.post("disable", json={}, headers=headers)).raise_for_status()
        (await client.post("enable", json={})).raise_for_status()


async def test_the_client_proves_who_it_is_and_again_when_it_is_forgotten() -> None:
    with etcd_members(1) as members:
        async with etcd_group(members):
            await _with_passwords(members[0])
        async with etcd_group(members, user="root", password=lambda: "secret") as group:
            assert await group.swap([], [KeyPut(key="k", value="1")])
            await _forget_tokens(members[0])
            assert (await group.members()).leader == "m0"
            assert (await group.read("k")).value("k") == "1"


async def test_a_client_that_etcd_refuses_says_what_to_correct(tmp_path: Path) -> None:
    file = tmp_path / "password"
    with etcd_members(1) as members:
        async with etcd_group(members) as nobody:
            await _with_passwords(members[0])
            with pytest.raises(StoreUnavailable, match="set ARAGORA_ETCD_USER"):
                await nobody.read("k")
        stranger = EtcdGroup([members[0].url], SystemClock(), user="root", password=file.read_text)
        with pytest.raises(StoreUnavailable, match="ARAGORA_ETCD_PASSWORD_FILE cannot be read"):
            await stranger.read("k")
        file.write_text("wrong")
        with pytest.raises(StoreUnavailable, match="correct ARAGORA_ETCD_USER") as raised:
            await stranger.read("k")
        assert "wrong" not in raised.value.message
        file.write_text("secret")
        assert (await stranger.read("k")).entries == {}, "the file is read anew"
        await stranger.close()


async def test_a_user_without_a_role_is_told_to_get_one() -> None:
    with etcd_members(1) as members:
        async with etcd_group(members):
            await _with_passwords(members[0], ("user/add", {"name": "aragora", "password": "secret"}))
        group = EtcdGroup([members[0].url], SystemClock(), user="aragora", password=lambda: "secret")
        with pytest.raises(StoreUnavailable, match="aragora may not do this; grant its role"):
            await group.read("k")
        await group.close()
