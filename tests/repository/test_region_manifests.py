"""Manifests of several regions: valid, in agreement with settings and code, with each other, and between the regions."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from cluster.cli.checks.etcd import is_sound
from cluster.process.haproxy import bundled_haproxy
from cluster.settings import Settings, load_settings
from cluster.version import VERSION
from regions.links.frames import LinkBounds
from regions.process import members_of
from tests.support.docs import ROOT, region_manifests
from tests.support.kubernetes import (
    METADATA,
    NAMES,
    REGIONS,
    Manifest,
    assert_strict,
    common_manifests,
    core_problem,
    manifests_of,
    patched,
    pod_template,
    problem_of,
    ray_schema,
    strict,
)

COMMON = common_manifests()
OF = {region: manifests_of(region) for region in NAMES}
ALL = {("common", name): manifest for name, manifest in COMMON.items()} | {
    (region, name): manifest for region in NAMES for name, manifest in OF[region].items()
}
PAGE = ROOT / "docs" / "regions-on-kubernetes.md"
#: The control plane's pod, the proxy's, and that of etcd, by their labels.
WORKER = {"app": "aragora-control-plane", "app.kubernetes.io/component": "worker"}
PROXY = {"app": "aragora-region-proxy"}
ETCD = {"app": "aragora-etcd"}
DNS = {"kubernetes.io/metadata.name": "kube-system"}
#: Of the example: addresses that are for documents.
RANGES = {"us-east-1": "192.0.2.0/24", "us-west-2": "198.51.100.0/24", "eu-west-1": "203.0.113.0/24"}

_ISSUER = {"type": "object", "required": ["name", "kind"], "properties": {"name": {}, "kind": {"const": "Issuer"}}}
_TEXTS = {"type": "array", "minItems": 1, "items": {"type": "string"}}
_DURATION = {"type": "string", "pattern": "^[0-9]+h$"}
_KEY = {
    "type": "object",
    "required": ["algorithm", "size", "rotationPolicy"],
    "properties": {"algorithm": {"const": "ECDSA"}, "size": {"const": 256}, "rotationPolicy": {"const": "Always"}},
}
#: Of cert-manager's kinds the fields that are used here, so that a misspelt one is found.
_CERT_MANAGER = {
    "Issuer": {
        "type": "object",
        "required": ["ca"],
        "properties": {"ca": {"type": "object", "required": ["secretName"], "properties": {"secretName": {}}}},
    },
    "Certificate": {
        "type": "object",
        "required": ["secretName", "duration", "renewBefore", "privateKey", "usages", "issuerRef"],
        "properties": {
            "secretName": {"type": "string"},
            "duration": _DURATION,
            "renewBefore": _DURATION,
            "privateKey": _KEY,
            "commonName": {"type": "string"},
            "uris": _TEXTS,
            "dnsNames": _TEXTS,
            "usages": {"type": "array", "items": {"enum": ["client auth", "server auth"]}},
            "issuerRef": _ISSUER,
        },
    },
}


def _problem(manifest: Manifest) -> str:
    if not manifest.get("apiVersion", "").startswith("cert-manager.io/"):
        return core_problem(manifest)
    spec = _CERT_MANAGER[manifest["kind"]]
    envelope = {
        "type": "object",
        "required": ["metadata", "spec"],
        "properties": {"apiVersion": {"const": "cert-manager.io/v1"}, "kind": {}, "metadata": METADATA, "spec": spec},
    }
    return problem_of(strict(envelope))(manifest)


@pytest.mark.parametrize("name", ALL, ids="/".join)
def test_manifests_are_valid_and_a_misspelt_field_is_not(name: tuple[str, str]) -> None:
    assert_strict(_problem, ALL[name])
    assert ALL[name]["metadata"]["namespace"] == "aragora"


def test_every_manifest_of_regions_is_tested_and_named_in_docs() -> None:
    files = {path.relative_to(REGIONS).as_posix() for path in region_manifests() if REGIONS in path.parents}
    assert files == {"etcd.yaml", "proxy.yaml", *(f"{r}/{f}.yaml" for r in NAMES for f in ("etcd", "region"))}
    page = PAGE.read_text()
    for file in ("etcd.yaml", "proxy.yaml", "$REGION/etcd.yaml", "$REGION/region.yaml", "patches/regions.yaml"):
        assert file in page


# --- settings ---------------------------------------------------------------------------------------------------------


def _data(region: str, name: str) -> Mapping[str, str]:
    data: Mapping[str, str] = OF[region][f"ConfigMap/{name}"]["data"]
    return data


def _settings(region: str, **changes: str) -> Settings:
    """Those of the region's pods: what both ConfigMaps have, the later one first."""
    config = yaml.safe_load((ROOT / "kuberay" / "config.yaml").read_text())["data"]
    environment = {**config, **_data(region, "aragora-region"), **changes}
    return load_settings({name: value for name, value in environment.items() if name.startswith("ARAGORA_")})


@pytest.mark.parametrize("region", NAMES)
def test_settings_of_a_region_fit_together_and_name_all_others(region: str) -> None:
    found = _settings(region)
    others = set(NAMES) - {region}
    assert found.region == region
    assert set(found.peer_addresses()) == set(found.replication_targets) == others
    assert set(found.urls_of_regions()) == set(NAMES)
    assert found.first_primary == NAMES[0]
    assert found.region_primary == (region == NAMES[0])
    assert members_of(found) == members_of(_settings(NAMES[0])), "contradictions between regions are named by status"


def test_addresses_of_a_region_are_the_same_in_all() -> None:
    for region in NAMES:
        seen = {_settings(other).peer_addresses()[region] for other in NAMES if other != region}
        assert len(seen) == 1
    assert len({tuple(sorted(_settings(region).urls_of_regions().items())) for region in NAMES}) == 1


def test_two_regions_and_a_witness_are_as_the_page_says() -> None:
    """The witness applies what its member of etcd needs, and the data regions change what is shown."""
    (shown,) = re.findall(r"```yaml\n(  ARAGORA_REPLICATION_TARGETS: .*?)```", PAGE.read_text(), re.DOTALL)
    changes = yaml.safe_load(shown)
    assert set(changes) == {"ARAGORA_REPLICATION_TARGETS", "ARAGORA_REGION_PEERS", "ARAGORA_REGION_WITNESSES"}
    urls = {"ARAGORA_REGION_URLS": "us-east-1=https://us-east-1.aragora.example.com"}
    found = members_of(_settings("us-east-1", **changes, **urls))
    assert [(member.region, member.data) for member in found.members] == [
        ("us-east-1", True),
        ("us-west-2", True),
        ("eu-west-1", False),
    ]


# --- etcd -------------------------------------------------------------------------------------------------------------


def _cluster(region: str) -> dict[str, str]:
    entries = _data(region, "aragora-etcd")["ETCD_INITIAL_CLUSTER"].split(",")
    return dict(entry.split("=", 1) for entry in entries)


def test_members_of_etcd_are_the_regions_and_find_each_other() -> None:
    for region in NAMES:
        data = _data(region, "aragora-etcd")
        assert data["ETCD_NAME"] == region, "so doctor and the primary know the region's own member"
        assert _cluster(region) == _cluster(NAMES[0])
        assert set(_cluster(region)) == set(NAMES)
        assert data["ETCD_INITIAL_ADVERTISE_PEER_URLS"] == _cluster(region)[region]
        for other in NAMES:
            own = "https://aragora-etcd.aragora.svc:2379"
            url = own if other == region else _data(other, "aragora-etcd")["ETCD_ADVERTISE_CLIENT_URLS"]
            assert url in _settings(region).etcd_endpoints
        assert len(_settings(region).etcd_endpoints) == len(NAMES)
        assert not any(value.startswith("http:") for name, value in data.items() if name != "ETCD_LISTEN_METRICS_URLS")
    shared = [{k: v for k, v in _data(region, "aragora-etcd").items() if region not in v} for region in NAMES]
    assert shared[0] == shared[1] == shared[2], "what names no region is the same everywhere"


def test_etcd_grants_leases_as_short_as_the_leaders() -> None:
    """It grants none that is shorter than one and a half of its election timeouts."""
    data = _data(NAMES[0], "aragora-etcd")
    least_s = 1.5 * int(data["ETCD_ELECTION_TIMEOUT"]) / 1000
    assert least_s <= _settings(NAMES[0]).leader_election_timeout
    assert int(data["ETCD_ELECTION_TIMEOUT"]) >= 10 * int(data["ETCD_HEARTBEAT_INTERVAL"])


def _container(kind: str, name: str) -> Manifest:
    (container,) = COMMON[f"{kind}/{name}"]["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_the_release_of_etcd_is_sound_and_no_registry_is_named() -> None:
    image = _container("StatefulSet", "aragora-etcd")["image"]
    name, _, release = image.partition(":v")
    assert is_sound(release)
    assert tuple(map(int, release.split(".")))[:2] >= (3, 6), "a variable has another name before"
    assert "." not in name
    assert COMMON["StatefulSet/aragora-etcd"]["spec"]["replicas"] == 1


def test_etcds_files_are_where_its_variables_say() -> None:
    spec = COMMON["StatefulSet/aragora-etcd"]["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert spec["volumes"] == [{"name": "certificates", "secret": {"secretName": "aragora-etcd", "defaultMode": 0o440}}]
    files = {v for k, v in _data(NAMES[0], "aragora-etcd").items() if k.endswith("_FILE")}
    files |= {entry["value"] for entry in spec["containers"][0]["env"] if entry["name"] != "ETCDCTL_ENDPOINTS"}
    assert files == {f"{mounts['certificates']}/{name}" for name in ("tls.crt", "tls.key", "ca.crt")}
    assert _data(NAMES[0], "aragora-etcd")["ETCD_DATA_DIR"].startswith(mounts["data"] + "/")


# --- certificates -----------------------------------------------------------------------------------------------------


def _hosts(urls: str) -> set[str | None]:
    return {urlsplit(url).hostname for url in urls.split(",")}


@pytest.mark.parametrize("region", NAMES)
def test_certificates_name_what_they_are_asked_for(region: str) -> None:
    certificates = {name: OF[region][f"Certificate/{name}"]["spec"] for name in ("aragora-region", "aragora-etcd")}
    settings, etcd = _settings(region), _data(region, "aragora-etcd")
    uri = f"spiffe://{settings.tls_trust_domain}/region/{region}"
    assert certificates["aragora-region"]["uris"] == [uri]
    assert not {"commonName", "dnsNames"} & set(certificates["aragora-region"]), "what names a region is its only URI"
    member = certificates["aragora-etcd"]
    assert member["commonName"] == etcd["ETCD_PEER_CERT_ALLOWED_CN"]
    called = _hosts(etcd["ETCD_ADVERTISE_CLIENT_URLS"]) | _hosts(etcd["ETCD_INITIAL_ADVERTISE_PEER_URLS"])
    called |= {"localhost", "aragora-etcd.aragora.svc"}
    assert set(member["dnsNames"]) == called
    for both in certificates.values():
        assert set(both["usages"]) == {"client auth", "server auth"}
    client = OF[region]["Certificate/aragora-etcd-client"]["spec"]
    assert "commonName" not in client, "etcd's JSON gateway refuses its password then"
    assert client["usages"] == ["client auth"]
    issuers = {name: spec["issuerRef"]["name"] for name, spec in {**certificates, "client": client}.items()}
    assert issuers["client"] == issuers["aragora-etcd"] != issuers["aragora-region"]
    for name in issuers.values():
        assert f"Issuer/{name}" in OF[region]


# --- the control plane's pods -----------------------------------------------------------------------------------------


def _service() -> Manifest:
    return patched(yaml.safe_load((ROOT / "kuberay" / "ray-service.yaml").read_text()), "regions.yaml")


def _pods() -> dict[str, Manifest]:
    cluster = _service()["spec"]["rayClusterConfig"]
    groups = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"], **groups}


def test_the_patched_service_is_valid_and_so_are_its_pods() -> None:
    assert problem_of(ray_schema("RayService"))(_service()) == ""
    for pod in _pods().values():
        assert core_problem(pod_template(pod)) == ""


def test_all_pods_have_the_settings_and_only_the_control_planes_the_keys() -> None:
    for name, pod in _pods().items():
        (container,) = pod["spec"]["containers"]
        assert [entry["configMapRef"]["name"] for entry in container["envFrom"]] == ["aragora-config", "aragora-region"]
        secrets = {"region", "etcd"} & {volume["name"] for volume in pod["spec"]["volumes"]}
        assert bool(secrets) == (name == "control-plane")
        volumes = [volume["name"] for volume in pod["spec"]["volumes"]]
        assert len(volumes) == len(set(volumes))


def _secret_files(pod: Manifest) -> set[str]:
    """What is mounted from Secrets; cert-manager writes three files into each of its own."""
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    of_secret = {"aragora-etcd-user": {"password"}}
    found = set()
    for mount in pod["spec"]["containers"][0]["volumeMounts"]:
        volume = volumes[mount["name"]]
        names = [volume["secret"]["secretName"]] if "secret" in volume else []
        names += [source["secret"]["name"] for source in volume.get("projected", {}).get("sources", ())]
        for name in names:
            files = of_secret.get(name, {"tls.crt", "tls.key", "ca.crt"})
            found |= {f"{mount['mountPath']}/{file}" for file in files}
    return found


def test_files_of_the_settings_are_mounted_and_no_others() -> None:
    pod = _pods()["control-plane"]
    for region in NAMES:
        named = {value for name, value in _data(region, "aragora-region").items() if name.endswith("_FILE")}
        assert named == _secret_files(pod)
    dockerfile = (ROOT / "Dockerfile").read_text()
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    assert f"ARAGORA_DATA_DIR={mounts['surplus']}\n" in dockerfile, "surplus rows are in the data directory"
    claims = {v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"] if "persistentVolumeClaim" in v}
    for region in NAMES:
        for claim in claims:
            assert OF[region][f"PersistentVolumeClaim/{claim}"]["spec"]["accessModes"] == ["ReadWriteMany"]


# --- the proxy --------------------------------------------------------------------------------------------------------


def _haproxy_cfg() -> str:
    return str(COMMON["ConfigMap/aragora-region-proxy"]["data"]["haproxy.cfg"])


def test_the_proxy_runs_the_images_own_haproxy() -> None:
    container = _container("Deployment", "aragora-region-proxy")
    assert container["image"] == f"aragora/control-plane:{VERSION}"
    program = Path(container["command"][0])
    assert "ENV PATH=/opt/aragora/.venv/bin:" in (ROOT / "Dockerfile").read_text()
    found = bundled_haproxy()
    assert found is not None
    assert program.parts[-6:] == found.parts[-6:]
    assert program.is_relative_to("/opt/aragora/.venv")


def test_the_proxy_keeps_connections_as_long_as_their_ends_do() -> None:
    timeouts = dict(re.findall(r"timeout (client|server) (\d+)s\n", _haproxy_cfg().partition("frontend")[0]))
    assert all(int(seconds) > LinkBounds().quiet_s for seconds in timeouts.values())
    assert set(timeouts) == {"client", "server"}


def test_the_proxy_asks_for_the_pods_of_the_headless_service() -> None:
    service = COMMON["Service/aragora-region-leader"]
    name = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
    port = service["spec"]["ports"][0]["port"]
    (template,) = re.findall(r"server-template pod (\d+) (\S+)\n", _haproxy_cfg())
    assert template[1] == f"{name}:{port}"
    cluster = _service()["spec"]["rayClusterConfig"]
    (group,) = [group for group in cluster["workerGroupSpecs"] if group["groupName"] == "control-plane"]
    assert int(template[0]) >= 2 * group["maxReplicas"], "an old and a new cluster"


# --- ports and policies -----------------------------------------------------------------------------------------------


def _ports(pod: Manifest) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for c in pod["spec"]["containers"] for port in c.get("ports", ())}


def _pod_of(labels: Mapping[str, str]) -> Manifest:
    pods = [
        COMMON[name]["spec"]["template"] for name in ("StatefulSet/aragora-etcd", "Deployment/aragora-region-proxy")
    ]
    (found,) = [pod for pod in (*pods, _pods()["control-plane"]) if labels.items() <= pod["metadata"]["labels"].items()]
    return found


def test_services_lead_to_ports_on_which_their_pods_listen() -> None:
    for name, manifest in COMMON.items():
        if name.startswith("Service/"):
            ports = _ports(_pod_of(manifest["spec"]["selector"]))
            for port in manifest["spec"]["ports"]:
                assert port["port"] == ports.get(port["targetPort"], port["targetPort"]) == ports[port["name"]]
    for region in NAMES:
        assert _settings(region).listen_address() == ("0.0.0.0", _ports(_pod_of(WORKER))["region"])
        assert {port for _, port in _settings(region).peer_addresses().values()} == {_ports(_pod_of(PROXY))["region"]}
        data, ports = _data(region, "aragora-etcd"), _ports(_pod_of(ETCD))
        for variable, port in (("CLIENT", "client"), ("PEER", "peer"), ("METRICS", "health")):
            assert urlsplit(data[f"ETCD_LISTEN_{variable}_URLS"]).port == ports[port]
    assert f"bind :{_ports(_pod_of(PROXY))['region']}\n" in _haproxy_cfg()
    assert f"bind :{_ports(_pod_of(PROXY))['health']}\n" in _haproxy_cfg()


def test_who_waits_for_others_is_reached_before_it_is_ready() -> None:
    """Etcd gets a leader only if its members reach each other, and a pod's readiness is that of its API, not of the leader."""
    for name in ("aragora-etcd", "aragora-etcd-peers", "aragora-region-leader"):
        assert COMMON[f"Service/{name}"]["spec"]["publishNotReadyAddresses"] is True
    for name in ("aragora-etcd-peers", "aragora-region"):
        spec = COMMON[f"Service/{name}"]["spec"]
        assert (spec["type"], spec["externalTrafficPolicy"]) == ("LoadBalancer", "Local")


def _end(peer: Manifest) -> str:
    """A pod's app, a namespace, or a region by its range."""
    if "ipBlock" in peer:
        (region,) = [region for region, found in RANGES.items() if found == peer["ipBlock"]["cidr"]]
        return region
    if peer.get("namespaceSelector", {}).get("matchLabels") == DNS:
        return "dns"
    labels = peer["podSelector"]["matchLabels"]
    assert "namespaceSelector" not in peer
    return str(_pod_of(labels)["metadata"]["labels"]["app"])


def _rules(policy: Manifest, direction: str, key: str) -> Iterator[tuple[str, str, int]]:
    for rule in policy["spec"][direction]:
        assert rule[key], "without ends a rule admits all"
        assert rule["ports"], "without ports a rule opens all"
        for peer in rule[key]:
            for port in rule["ports"]:
                yield _end(peer), port["protocol"], port["port"]


def _policies(region: str, labels: Mapping[str, str]) -> list[Manifest]:
    """Those that select a pod, of all that a region applies."""
    base = yaml.safe_load((ROOT / "kuberay" / "network-policy.yaml").read_text())
    policies = [base, *(manifest for name, manifest in OF[region].items() if name.startswith("NetworkPolicy/"))]
    of_pod = _pod_of(labels)["metadata"]["labels"].items()
    return [policy for policy in policies if policy["spec"]["podSelector"]["matchLabels"].items() <= of_pod]


def _admitted(region: str, labels: Mapping[str, str]) -> tuple[set[Any], set[Any]]:
    """What may come to a pod and what may leave it, by the one policy of regions that selects it."""
    (policy,) = [each for each in _policies(region, labels) if each["metadata"]["name"] != "aragora"]
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    return set(_rules(policy, "ingress", "from")), set(_rules(policy, "egress", "to"))


@pytest.mark.parametrize("region", NAMES)
def test_policies_admit_what_is_needed_and_nothing_else(region: str) -> None:
    others = set(NAMES) - {region}
    worker, proxy, etcd = (_ports(_pod_of(labels)) for labels in (WORKER, PROXY, ETCD))
    names = {("dns", "UDP", 53), ("dns", "TCP", 53)}
    control_plane = "aragora-control-plane"
    assert _admitted(region, WORKER) == (
        {("aragora-region-proxy", "TCP", worker["region"])},
        {(other, "TCP", port) for other in others for port in (proxy["region"], etcd["client"])}
        | {("aragora-etcd", "TCP", etcd["client"])},
    )
    assert _admitted(region, PROXY) == (
        {(other, "TCP", proxy["region"]) for other in others},
        {(control_plane, "TCP", worker["region"]), *names},
    )
    assert _admitted(region, ETCD) == (
        {(other, "TCP", etcd[port]) for other in others for port in ("client", "peer")}
        | {(control_plane, "TCP", etcd["client"])},
        {*((other, "TCP", etcd["peer"]) for other in others), *names},
    )


def test_the_policy_of_rays_pods_opens_neither_proxy_nor_etcd() -> None:
    """It lets Ray's pods reach each other on all ports, and all of them the stores."""
    for labels in (PROXY, ETCD):
        assert [policy["metadata"]["name"] for policy in _policies(NAMES[0], labels)] == [labels["app"]]
    names = [policy["metadata"]["name"] for policy in _policies(NAMES[0], WORKER)]
    assert names == ["aragora", "aragora-region-leader"]


def test_what_leaves_a_region_is_admitted_by_the_other() -> None:
    for region in NAMES:
        for other in set(NAMES) - {region}:
            leaves = {
                port
                for labels in (WORKER, PROXY, ETCD)
                for end, _, port in _admitted(region, labels)[1]
                if end == other
            }
            comes = {
                port
                for labels in (WORKER, PROXY, ETCD)
                for end, _, port in _admitted(other, labels)[0]
                if end == region
            }
            assert leaves == comes


# --- pods -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [PROXY, ETCD], ids=lambda labels: labels["app"])
def test_pods_have_no_rights_and_a_budget(labels: Mapping[str, str]) -> None:
    spec = _pod_of(labels)["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    (container,) = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert not spec.get("hostNetwork")
    assert not [port for port in container["ports"] if "hostPort" in port]
    (budget,) = [
        manifest["spec"]
        for name, manifest in COMMON.items()
        if name.startswith("PodDisruptionBudget/") and manifest["spec"]["selector"]["matchLabels"] == labels
    ]
    assert budget["maxUnavailable"] == (0 if labels is ETCD else 1)


def test_probes_ask_the_ports_that_need_no_certificate() -> None:
    for labels in (PROXY, ETCD):
        (container,) = _pod_of(labels)["spec"]["containers"]
        probes = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}
        assert {probe["port"] for probe in probes.values()} == {"health"}
        assert {"livenessProbe", "readinessProbe"} <= set(probes)
    (etcd,) = _pod_of(ETCD)["spec"]["containers"]
    assert etcd["livenessProbe"]["httpGet"]["path"] != etcd["readinessProbe"]["httpGet"]["path"]


def test_a_region_that_is_alone_has_none_of_it() -> None:
    plain = yaml.safe_load((ROOT / "kuberay" / "ray-service.yaml").read_text())
    before = copy.deepcopy(plain)
    assert patched(plain, "regions.yaml") != before
    assert plain == before
    for path in sorted((ROOT / "kuberay").glob("*.yaml")):
        assert "aragora-region" not in path.read_text()
