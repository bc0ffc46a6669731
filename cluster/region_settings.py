"""The settings of several regions, and what is wrong with those that do not fit together.

A region is alone until ``ARAGORA_REGION_PEERS`` names others: nothing here has an effect then, but for its name and for how long
its leader's lease lasts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import field_validator

from cluster.domain.replication.quorum import DEFAULT_ZONE, LEAST_VOTERS, TWO_ALONE, ReplicationMode
from cluster.domain.replication.timers import RegionTimers
from cluster.domain.residency import RegionZones
from cluster.retention_settings import RetentionSettings
from cluster.setting_fields import PROCESS, Words, split_words, variable

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_PORT = r"[1-9][0-9]{0,4}"
_ADDRESS = re.compile(rf"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>{_PORT})")
_MOST_PORT = 65_535
_URL = re.compile(r"https?://[A-Za-z0-9._:\[\]-]+(?:/[A-Za-z0-9._~/-]*)?")
#: How much two clocks may differ over one election timeout, as a part of it.
_MARGIN = 0.1


class RegionSettings(RetentionSettings):
    """The part of `Settings` about regions."""

    # fmt: off
    region: str = variable("default", "This region's name.", group="Regions", pattern=f"^{_NAME}$")
    region_primary: bool = variable(True, "Whether this region is the primary when the group is founded. It is not if ARAGORA_PRIMARY_REGION names another one.", group="Regions")
    primary_region: str | None = variable(None, "The region that is the primary when the group is founded, and to which `aragora-cp region failback` goes.", group="Regions", pattern=f"^{_NAME}$")
    replication_targets: Words = variable((), "Regions that replicate from this one while it is primary, separated by commas. ARAGORA_REGION_PEERS has their addresses.", group="Regions")
    replication_mode: ReplicationMode | None = variable(None, "sync: an answer waits for every member of the in-sync set; async: it waits for none. Unset: sync. When the group is founded.", group="Regions")
    data_residency: str | None = variable(None, "The zone that this region is in. What a workspace holds that is resident in a zone stays in it.", group="Regions", pattern=f"^{_NAME}$")
    region_zones: Words = variable((), "The zones that the other data regions are in: NAME=ZONE, separated by commas. One that is not named is in none.", group="Regions")
    leader_election_timeout: float = variable(10.0, "How long the lease of a region's leader lasts after its holder has died.", group="Regions", unit="seconds", gt=0)
    stale_leader_threshold: float = variable(60.0, "After so long without a word of its primary, a secondary calls itself stale.", group="Regions", unit="seconds", gt=0)
    sync_interval: float = variable(5.0, "A member of the in-sync set that is late for longer leaves it.", group="Regions", unit="seconds", gt=0)
    region_heartbeat: float = variable(1.0, "Between two looks at the group, and two signs of life on a link that has nothing to send.", group="Regions", unit="seconds", gt=0)
    region_peers: Words = variable((), "The other data regions and where they answer: NAME=HOST:PORT, separated by commas. Unset: the region is alone.", group="Regions")
    region_witnesses: Words = variable((), "Regions that hold a vote in etcd and no data, separated by commas.", group="Regions")
    automatic_failover: bool = variable(True, "Elect a new primary without an operator. It takes three regions, or two and a witness.", group="Regions")
    region_listen: str = variable("127.0.0.1:7443", "HOST:PORT where this region answers its peers.", group="Regions")
    region_urls: Words = variable((), "Where clients reach the API of each region: NAME=URL, separated by commas. A region that does not write for the zone forwards calls to its primary's, and names it.", group="Regions")
    region_urls_ca_file: Path | None = variable(None, "Authorities of the certificates at ARAGORA_REGION_URLS, for calls that this region forwards. Unset: those of the system.", group="Regions", role=PROCESS)
    region_cert_file: Path | None = variable(None, "Certificate that this region shows its peers, as PEM. Its only URI is spiffe://TRUST_DOMAIN/region/NAME, with ARAGORA_TLS_TRUST_DOMAIN.", group="Regions", role=PROCESS)
    region_key_file: Path | None = variable(None, "Private key of that certificate.", group="Regions", role=PROCESS)
    region_ca_file: Path | None = variable(None, "Authorities of the peers' certificates.", group="Regions", role=PROCESS)
    region_socket: Path | None = variable(None, "Socket by which `aragora-cp region` reaches this region's leader. Unset: one beside those of ARAGORA_DATA_DIR.", group="Regions", role=PROCESS)
    etcd_endpoints: Words = variable((), "URL of each member of the etcd that the regions share, separated by commas.", group="Regions")
    etcd_ca_file: Path | None = variable(None, "Authorities of etcd's certificates. Unset: those of the system.", group="Regions", role=PROCESS)
    etcd_cert_file: Path | None = variable(None, "Certificate that is shown to etcd.", group="Regions", role=PROCESS)
    etcd_key_file: Path | None = variable(None, "Private key of that certificate.", group="Regions", role=PROCESS)
    etcd_user: str | None = variable(None, "User of etcd's own authentication.", group="Regions")
    etcd_password_file: Path | None = variable(None, "File whose only line is that user's password. A changed file counts at once.", group="Regions", role=PROCESS)
    # fmt: on

    _region_words = field_validator(
        "replication_targets",
        "region_peers",
        "region_witnesses",
        "region_urls",
        "region_zones",
        "etcd_endpoints",
        mode="before",
    )(split_words)

    @field_validator("region_peers")
    @classmethod
    def _peers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = [peer.partition("=")[0] for peer in value]
        for name, peer in zip(names, value, strict=True):
            if re.fullmatch(_NAME, name) is None or _address(peer.partition("=")[2]) is None:
                raise ValueError("each must be NAME=HOST:PORT, such as us-west-2=10.0.8.4:7443")
        if len(set(names)) < len(names):
            raise ValueError("it names a region twice")
        return value

    @field_validator("region_listen")
    @classmethod
    def _listen(cls, value: str) -> str:
        if _address(value) is None:
            raise ValueError("it must be HOST:PORT, such as 0.0.0.0:7443")
        return value

    @field_validator("region_urls")
    @classmethod
    def _urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            name, _, url = entry.partition("=")
            if re.fullmatch(_NAME, name) is None or _URL.fullmatch(url) is None:
                raise ValueError("each must be NAME=URL, such as us-west-2=https://west.example.com")
        return value

    @field_validator("region_zones")
    @classmethod
    def _zones(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = [entry.partition("=")[0] for entry in value]
        for name, entry in zip(names, value, strict=True):
            if re.fullmatch(_NAME, name) is None or re.fullmatch(_NAME, entry.partition("=")[2]) is None:
                raise ValueError("each must be NAME=ZONE, such as eu-west-1=eu")
        if len(set(names)) < len(names):
            raise ValueError("it names a region twice")
        return value

    @field_validator("etcd_endpoints")
    @classmethod
    def _endpoints(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for endpoint in value:
            scheme, _, rest = endpoint.removesuffix("/").partition("://")
            if scheme not in ("http", "https") or _address(rest) is None:
                raise ValueError(
                    "each must be http:// or https:// with a host and a port, such as https://10.0.8.4:2379"
                )
        return value

    @property
    def has_peers(self) -> bool:
        """Whether the region is one of several."""
        return bool(self.region_peers)

    @property
    def zone(self) -> str:
        """What the log's rows and the epoch are of: the zone that regions share, or a region alone."""
        return DEFAULT_ZONE if self.has_peers else self.region

    def urls_of_regions(self) -> dict[str, str]:
        """Where clients reach the API of each region."""
        return dict(entry.split("=", 1) for entry in self.region_urls)

    def zones(self) -> RegionZones:
        """Which data region is in which zone of residency."""
        named = dict(entry.split("=", 1) for entry in self.region_zones)
        own = {} if self.data_residency is None else {self.region: self.data_residency}
        return RegionZones(
            region=self.region, zones=named | own, regions=frozenset({self.region, *self.peer_addresses()})
        )

    @property
    def first_primary(self) -> str:
        """Which region is the primary when the group is founded."""
        return self.primary_region or self.region

    def peer_addresses(self) -> dict[str, tuple[str, int]]:
        """Where each other data region answers."""
        found = {}
        for peer in self.region_peers:
            name, _, text = peer.partition("=")
            address = _address(text)
            assert address is not None, "checked when it was read"
            found[name] = address
        return found

    def listen_address(self) -> tuple[str, int]:
        """Where this region answers its peers."""
        address = _address(self.region_listen)
        assert address is not None, "checked when it was read"
        return address

    def region_timers(self) -> RegionTimers:
        """The timers of this region's leader."""
        return RegionTimers(
            heartbeat_s=self.region_heartbeat,
            election_s=self.leader_election_timeout,
            stale_s=self.stale_leader_threshold,
            sync_s=self.sync_interval,
            margin_s=_MARGIN * self.leader_election_timeout,
        )


def _address(text: str) -> tuple[str, int] | None:
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > _MOST_PORT:
        return None
    return found["v6"] or found["host"], int(found["port"])


def regions_do_not_fit(found: RegionSettings) -> str | None:
    """What is wrong with the settings of regions that are valid one by one, as one sentence; None if they fit together."""
    return next(_alone(found) if not found.has_peers else _problems(found), None)


def _alone(found: RegionSettings) -> Iterator[str]:
    """The guide's variables may be set without peers, and mean nothing then. What exists for peers only may not: whoever sets it
    believes that the region has some."""
    for name in (
        "replication_mode",
        "region_witnesses",
        "etcd_endpoints",
        "region_cert_file",
        "region_urls",
        "region_zones",
    ):
        if getattr(found, name):
            yield (
                f"ARAGORA_{name.upper()} is set, but ARAGORA_REGION_PEERS is not, so nothing would be replicated; name the other "
                "regions and their addresses."
            )


def _problems(found: RegionSettings) -> Iterator[str]:
    peers = set(found.peer_addresses())
    yield from _of_names(found, peers)
    for name in sorted(found.urls_of_regions().keys() - peers - {found.region}):
        yield f"ARAGORA_REGION_URLS names {name}, which is no region of ARAGORA_REGION_PEERS; mend one of them."
    yield from _of_zones(found, peers)
    voters = 1 + len(peers) + len(found.region_witnesses)
    if found.automatic_failover and voters < LEAST_VOTERS:
        yield f"{TWO_ALONE} Or set ARAGORA_AUTOMATIC_FAILOVER=false, and fail over by command."
    yield from found.region_timers().problems()
    yield from _of_files(found)


def _of_names(found: RegionSettings, peers: set[str]) -> Iterator[str]:
    region, primary = found.region, found.primary_region
    if region in peers:
        yield f"ARAGORA_REGION_PEERS names this region itself ({region}); name only the others."
    for name in found.region_witnesses:
        if name == region or name in peers:
            yield f"ARAGORA_REGION_WITNESSES names {name}, which holds data; a witness holds none, so name it in one place."
    for name in found.replication_targets:
        if name not in peers:
            yield f"ARAGORA_REPLICATION_TARGETS names {name}, but ARAGORA_REGION_PEERS has no address of it; add one."
    if found.replication_targets and set(found.replication_targets) != peers:
        missing = ", ".join(sorted(peers - set(found.replication_targets)))
        yield f"ARAGORA_REGION_PEERS has {missing}, but ARAGORA_REPLICATION_TARGETS does not name it; name all data regions."
    says = "region_primary" in found.model_fields_set
    if says and found.region_primary and primary not in (None, region):
        yield f"ARAGORA_REGION_PRIMARY is true in {region}, but ARAGORA_PRIMARY_REGION names {primary}; mend one of them."
    if says and not found.region_primary and primary in (None, region):
        yield f"ARAGORA_REGION_PRIMARY is false in {region}, so ARAGORA_PRIMARY_REGION must name another region; set it."
    if primary is not None and primary != region and primary not in peers:
        yield f"ARAGORA_PRIMARY_REGION names {primary}, but ARAGORA_REGION_PEERS has no address of it; add one."


def _of_zones(found: RegionSettings, peers: set[str]) -> Iterator[str]:
    named = dict(entry.split("=", 1) for entry in found.region_zones)
    for name in sorted(named.keys() - peers - {found.region}):
        yield f"ARAGORA_REGION_ZONES names {name}, which is no region of ARAGORA_REGION_PEERS; mend one of them."
    own = named.get(found.region, found.data_residency)
    if own != found.data_residency:
        yield (
            f"ARAGORA_REGION_ZONES says that {found.region} is in {own}, and its ARAGORA_DATA_RESIDENCY says "
            f"{found.data_residency or 'nothing'}; mend one of them."
        )
    if DEFAULT_ZONE in (*named.values(), found.data_residency):
        yield f"No zone of residency is called {DEFAULT_ZONE}, which stands for all regions; choose another name."


def _of_files(found: RegionSettings) -> Iterator[str]:
    for name in ("region_cert_file", "region_key_file", "region_ca_file"):
        if getattr(found, name) is None:
            yield f"ARAGORA_{name.upper()} is not set, but regions reach each other only with certificates; name the file."
    if not found.etcd_endpoints:
        yield "ARAGORA_ETCD_ENDPOINTS is not set, but several regions elect their primary in etcd; name its members."
    for first, second in (("etcd_cert_file", "etcd_key_file"), ("etcd_user", "etcd_password_file")):
        if (getattr(found, first) is None) != (getattr(found, second) is None):
            yield f"ARAGORA_{first.upper()} and ARAGORA_{second.upper()} go together; set both or none."
    plain = [endpoint for endpoint in found.etcd_endpoints if endpoint.startswith("http://")]
    if plain and any((found.etcd_ca_file, found.etcd_cert_file)):
        yield f"ARAGORA_ETCD_ENDPOINTS has {plain[0]}, which is not encrypted, but certificates of etcd are set; use https://."
