"""What the manifests of regions configure, run by the real programs: the proxy's HAProxy, and three members of etcd."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from cluster.domain.base.errors import ControlPlaneError, StoreUnavailable
from cluster.embedded.ports import free_ports
from cluster.embedded.processes import end, spawn
from cluster.http.etcd_tls import etcd_context
from cluster.ports.consensus_group import KeyPut
from cluster.ports.replication import LinkLost
from cluster.process.clock import SystemClock
from cluster.process.haproxy import bundled_haproxy
from cluster.settings import Settings, load_settings
from regions.links.identity import PeerFiles
from regions.links.server import LinkServer
from regions.process import etcd_group
from tests.support.authorities import Issuer
from tests.support.dns import dns_server
from tests.support.etcd import ETCD, answering, needs_etcd
from tests.support.kubernetes import NAMES, common_manifests, manifests_of
from tests.support.links import SHORT, ZONE, ListEnd, RegionIssuer, greeting, linked, log_row
from tests.support.probes import eventually
from tests.support.reaper import after_us_end

PODS = ("127.0.0.2", "127.0.0.3")
#: From where connections on this machine come.
LOOPBACK = "127.0.0.1"


@asynccontextmanager
async def _leader(host: str, port: int, files: PeerFiles, rows: int) -> AsyncIterator[LinkServer]:
    """A region's leader in a pod of this address, whose log has so many rows."""
    end = ListEnd([log_row(n + 1) for n in range(rows)])
    server = LinkServer({ZONE: end}, greeting("east"), ("west",), files, SystemClock(), SHORT)
    await server.start(host, port)
    try:
        yield server
    finally:
        await server.stop()


@contextmanager
def _proxy(folder: Path, dns: int, pods: int) -> Iterator[int]:
    """The proxy as the manifest has it, on loopback; ``dns`` and ``pods`` are ports. Yields its own."""
    proxy, health = free_ports(2)
    text = common_manifests()["ConfigMap/aragora-region-proxy"]["data"]["haproxy.cfg"]
    for was, now in (
        ("parse-resolv-conf", f"nameserver test 127.0.0.1:{dns}"),
        ("bind :7443", f"bind 127.0.0.1:{proxy}"),
        (".cluster.local:7443", f".cluster.local:{pods}"),
        ("bind :8404", f"bind 127.0.0.1:{health}"),
    ):
        assert text.count(was) == 1
        text = text.replace(was, now)
    file = folder / "haproxy.cfg"
    file.write_text(text)
    started = spawn([str(bundled_haproxy()), "-db", "-f", str(file)], log=folder / "haproxy.log")
    after_us_end("session", started.to_json())
    try:
        yield proxy
    finally:
        end([started], first=signal.SIGKILL)


async def _rows(proxy: int, files: PeerFiles) -> int | None:
    """How many rows the region has that answers a new connection to the proxy; None if none does."""
    async with linked(proxy, files, bounds=SHORT) as link:
        try:
            return (await link.report()).position.seq
        except LinkLost:
            return None


async def test_the_proxy_leads_to_the_pod_that_has_the_leader(tmp_path: Path) -> None:
    issuer = RegionIssuer(tmp_path / "certificates")
    east, west = issuer.files("east"), issuer.files("west")
    (pods,) = free_ports(1)

    async def leads_to(rows: int | None) -> bool:
        """Each of many connections, so that chance does not choose the pod."""
        return [await _rows(proxy, west) for _ in range(12)] == [rows] * 12

    async with dns_server(PODS) as (_, zone):
        dns = zone.transport.get_extra_info("sockname")[1]
        with _proxy(tmp_path, dns, pods) as proxy:
            async with _leader(PODS[0], pods, east, rows=1):
                await eventually(lambda: leads_to(1), what="the proxy finds the leader")
            assert await _rows(proxy, west) is None
            async with _leader(PODS[1], pods, east, rows=2):
                await eventually(lambda: leads_to(2), what="the proxy finds the leader in another pod")
                # A process that is stopped: its kernel accepts connections, and nobody answers them.
                with socket.create_server((PODS[0], pods)) as stopped:
                    # The second check comes when the first has an outcome.
                    checks = [await asyncio.to_thread(stopped.accept) for _ in range(2)]
                    await eventually(lambda: leads_to(2), what="the proxy passes a leader by that is stopped")
                    for connection, _ in checks:
                        connection.close()
                zone.answers = [[ip_address("127.0.0.4")]]
                async with _leader("127.0.0.4", pods, east, rows=3):
                    await eventually(lambda: leads_to(3), what="the proxy finds the leader of a new cluster")


# --- etcd -------------------------------------------------------------------------------------------------------------

#: Of variables since release 3.6, the names before, which Debian's release reads.
_BEFORE_3_6 = {"ETCD_PEER_SKIP_CLIENT_SAN_VERIFICATION": "ETCD_EXPERIMENTAL_PEER_SKIP_CLIENT_SAN_VERIFICATION"}
_USAGES = {"client auth": ExtendedKeyUsageOID.CLIENT_AUTH, "server auth": ExtendedKeyUsageOID.SERVER_AUTH}
#: An address of its own for each region; connections come from 127.0.0.1, which no certificate names.
_ADDRESSES = {region: f"127.0.0.{11 + number}" for number, region in enumerate(NAMES)}


@dataclass
class _EtcdOfRegions:
    """Members and clients as the manifests configure them, with hosts, ports and files of this machine."""

    folder: Path
    client: int
    peer: int
    metrics: int

    def __post_init__(self) -> None:
        self.issuer = Issuer("etcd")

    def here(self, text: str, region: str) -> str:
        """A value of a manifest of a region, for this machine."""
        for other, address in _ADDRESSES.items():
            text = text.replace(f"etcd.{other}.example.com", address)
        for was in ("aragora-etcd.aragora.svc", "0.0.0.0", "localhost"):
            text = text.replace(was, _ADDRESSES[region])
        for port, ours in (("2379", self.client), ("2380", self.peer), ("2381", self.metrics)):
            text = text.replace(f":{port}", f":{ours}")
        for directory in ("/etc/etcd/tls", "/etc/aragora/etcd", "/var/lib/etcd"):
            text = text.replace(
                directory, str(self.folder / region / Path(directory).parent.name / Path(directory).name)
            )
        return text

    def certificate(self, region: str, name: str, directory: str, **changes: Any) -> Path:
        """The files of a Certificate, as cert-manager writes them into the Secret that is mounted at a directory."""
        spec = manifests_of(region)[f"Certificate/{name}"]["spec"] | changes
        hosts = {self.here(host, region) for host in spec.get("dnsNames", ())}
        names: list[x509.GeneralName] = [x509.IPAddress(ip_address(host)) for host in sorted(hosts)]
        names += [x509.UniformResourceIdentifier(uri) for uri in spec.get("uris", ())]
        issued = self.issuer.issue(
            names,
            common_name=spec.get("commonName", ""),
            usages=[_USAGES[usage] for usage in spec["usages"]],
        )
        folder = Path(self.here(directory, region))
        folder.mkdir(parents=True, exist_ok=True)
        for written, name_there in zip(issued.write(folder, "tls"), ("tls.crt", "tls.key"), strict=True):
            Path(written).rename(folder / name_there)
        Path(self.issuer.file(folder)).rename(folder / "ca.crt")
        return folder

    @contextmanager
    def members(self, without: str = "", **changes: Any) -> Iterator[None]:
        """All three. ``without``: a variable that they are not given; ``changes``: of the members' certificates."""
        started = []
        try:
            for region in NAMES:
                self.certificate(region, "aragora-etcd", "/etc/etcd/tls", **changes)
                data: Mapping[str, str] = manifests_of(region)["ConfigMap/aragora-etcd"]["data"]
                environment = {
                    _BEFORE_3_6.get(name, name): self.here(value, region)
                    for name, value in data.items()
                    if name != without
                }
                Path(environment["ETCD_DATA_DIR"]).parent.mkdir(parents=True, exist_ok=True)
                keep = {"PATH": os.environ["PATH"]}
                process = spawn([str(ETCD)], log=self.log(region), env={**environment, **keep})
                after_us_end("session", process.to_json())
                started.append(process)
            yield
        finally:
            end(started, first=signal.SIGKILL)

    def log(self, region: str) -> Path:
        return self.folder / f"{region}.log"

    def settings(self, region: str) -> Settings:
        """Those of the region's control plane."""
        folder = self.certificate(region, "aragora-etcd-client", "/etc/aragora/etcd")
        (folder / "password").write_text("secret\n")
        data: Mapping[str, str] = manifests_of(region)["ConfigMap/aragora-region"]["data"]
        return load_settings({name: self.here(value, region) for name, value in data.items()})

    def tls(self, folder: Path) -> ssl.SSLContext:
        return etcd_context(*(folder / name for name in ("ca.crt", "tls.crt", "tls.key")))


@pytest.fixture
def etcd(tmp_path: Path) -> _EtcdOfRegions:
    return _EtcdOfRegions(tmp_path, *free_ports(3))


async def _with_passwords(etcd: _EtcdOfRegions, region: str) -> None:
    """What docs/regions-on-kubernetes.md does by `etcdctl`."""
    folder = Path(etcd.here("/etc/etcd/tls", region))
    everything = {"permType": "READWRITE", "key": "AA==", "range_end": "AA=="}
    address = f"https://{_ADDRESSES[region]}:{etcd.client}/v3/auth/"
    async with httpx.AsyncClient(base_url=address, verify=etcd.tls(folder), trust_env=False) as client:
        for path, body in (
            ("user/add", {"name": "root", "password": "other"}),
            ("user/grant", {"user": "root", "role": "root"}),
            ("role/add", {"name": "aragora"}),
            ("role/grant", {"name": "aragora", "perm": everything}),
            ("user/add", {"name": "aragora", "password": "secret"}),
            ("user/grant", {"user": "aragora", "role": "aragora"}),
            ("enable", {}),
        ):
            (await client.post(path, json=body)).raise_for_status()


@needs_etcd
async def test_members_of_the_manifests_elect_and_take_the_regions_clients(etcd: _EtcdOfRegions) -> None:
    with etcd.members():
        first = etcd_group(etcd.settings(NAMES[0]).model_copy(update={"etcd_user": None}), SystemClock())
        await answering(first)
        await _with_passwords(etcd, NAMES[0])
        with pytest.raises(ControlPlaneError):
            await first.read("")
        await first.close()
        for number, region in enumerate(NAMES):
            group = etcd_group(etcd.settings(region), SystemClock())
            await answering(group)
            assert (await group.members()).names == frozenset(NAMES)
            lease = await group.grant(10)
            assert await group.swap([], [KeyPut(key=f"zone/{number}", value=region, lease=lease.id)])
            assert await group.renew(lease.id) == 10
            assert (await group.read("")).value(f"zone/{number}") == region
            await group.close()


@needs_etcd
async def test_a_clients_certificate_opens_no_connection_between_members(etcd: _EtcdOfRegions) -> None:
    with etcd.members():
        group = etcd_group(etcd.settings(NAMES[0]), SystemClock())
        peer = f"https://{_ADDRESSES[NAMES[1]]}:{etcd.peer}/version"

        async def answers(directory: str) -> bool:
            tls = etcd.tls(Path(etcd.here(directory, NAMES[0])))
            async with httpx.AsyncClient(verify=tls, trust_env=False) as client:
                try:
                    return (await client.get(peer)).is_success
                except (httpx.HTTPError, ssl.SSLError):
                    return False

        await eventually(lambda: answers("/etc/etcd/tls"))
        assert not await answers("/etc/aragora/etcd")
        await group.close()


@needs_etcd
async def test_members_find_no_quorum_without_what_the_manifest_says_of_addresses(etcd: _EtcdOfRegions) -> None:
    with etcd.members(without="ETCD_PEER_SKIP_CLIENT_SAN_VERIFICATION"):
        refused = f"not {LOOPBACK}"
        await eventually(lambda: refused in etcd.log(NAMES[0]).read_text(errors="replace"))


@needs_etcd
async def test_why_etcd_refuses_a_client_is_told(etcd: _EtcdOfRegions) -> None:
    """With its own authentication etcd refuses clients whose certificate has a common name, by plain text."""
    with etcd.members():
        settings = etcd.settings(NAMES[0])
        without_user = etcd_group(settings.model_copy(update={"etcd_user": None}), SystemClock())
        await answering(without_user)
        await _with_passwords(etcd, NAMES[0])
        await without_user.close()
        etcd.certificate(NAMES[0], "aragora-etcd-client", "/etc/aragora/etcd", commonName="somebody")
        group = etcd_group(settings, SystemClock())
        with pytest.raises(StoreUnavailable, match="CommonName of client"):
            await group.read("")
        await group.close()
