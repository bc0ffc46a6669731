"""Manifests: accepted by the schemas of their kinds, and in agreement with the code and with each other."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from pydantic import SecretStr
from ray import autoscaler

from cluster.process import waits
from cluster.setting_fields import CLIENT, LATER
from cluster.settings import Settings, role_of, variable_name
from cluster.version import VERSION
from serve_app.routes.deliberations import SYNC_WAIT_S
from serve_app.schemas.tasks import MAX_BLOCK_MS
from tests.support.docs import ROOT, VARIABLES, documents, manifests, variables_named
from tests.support.kubernetes import (
    METADATA,
    Manifest,
    assert_strict,
    core_problem,
    misspelt,
    patched,
    pod_template,
    problem_of,
    ray_schema,
    strict,
)

_SECRET_KEY = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "key"],
    "properties": {"name": {"type": "string"}, "key": {"type": "string"}},
}
#: Of the Prometheus operator's kinds the fields that are used here, so that a misspelt one is found.
_MONITOR_ENDPOINT = {
    "type": "object",
    "required": ["port"],
    "additionalProperties": False,
    "properties": {
        "port": {"type": "string"},
        "path": {"type": "string"},
        "interval": {"type": "string", "pattern": "^[0-9]+(ms|s|m)$"},
        "scheme": {"enum": ["http", "https"]},
        "tlsConfig": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "ca": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["secret"],
                    "properties": {"secret": _SECRET_KEY},
                },
                "serverName": {"type": "string"},
            },
        },
        "authorization": {
            "type": "object",
            "additionalProperties": False,
            "required": ["credentials"],
            "properties": {
                "credentials": _SECRET_KEY,
            },
        },
        "relabelings": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["action"],
                "properties": {
                    "action": {"enum": ["replace", "labeldrop", "keep", "drop"]},
                    "regex": {"type": "string"},
                    "targetLabel": {"type": "string"},
                    "replacement": {"type": "string"},
                },
            },
        },
    },
}
_RULE = {
    "type": "object",
    "required": ["alert", "expr", "for", "labels", "annotations"],
    "properties": {
        "alert": {"type": "string"},
        "expr": {"type": "string"},
        "for": {"type": "string", "pattern": "^[0-9]+(ms|s|m)$"},
        "labels": {"type": "object"},
        "annotations": {"type": "object"},
    },
}
_RULES = {
    "type": "object",
    "required": ["groups"],
    "properties": {
        "groups": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "rules"],
                "properties": {"name": {"type": "string"}, "rules": {"type": "array", "minItems": 1, "items": _RULE}},
            },
        }
    },
}
_ENDPOINTS = {"ServiceMonitor": "endpoints", "PodMonitor": "podMetricsEndpoints"}


def _all() -> list[tuple[str, Manifest]]:
    found = []
    for path in sorted((ROOT / "kuberay").glob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            found.append((f"{path.name}:{manifest['kind']}", manifest))
    return found


ALL = dict(_all())


def _of(group: str) -> list[str]:
    return [name for name, manifest in ALL.items() if manifest["apiVersion"].startswith(group)]


RAY = _of("ray.io/")
MONITORS = _of("monitoring.coreos.com/")
CORE = [name for name in ALL if name not in (*RAY, *MONITORS)]


def _monitor_schema(kind: str) -> Any:
    spec = _RULES if kind == "PrometheusRule" else _monitor_spec(_ENDPOINTS[kind])
    envelope = {
        "type": "object",
        "required": ["metadata", "spec"],
        "properties": {"apiVersion": {}, "kind": {}, "metadata": METADATA, "spec": spec},
    }
    return strict(envelope)


def _monitor_spec(key: str) -> Any:
    return {
        "type": "object",
        "required": ["selector", key],
        "properties": {
            "selector": {"type": "object", "properties": {"matchLabels": {}}},
            key: {"type": "array", "minItems": 1, "items": _MONITOR_ENDPOINT},
        },
    }


@pytest.mark.parametrize("name", RAY)
def test_kuberay_kinds_fit_their_schema_and_a_misspelt_field_does_not(name: str) -> None:
    assert_strict(problem_of(ray_schema(ALL[name]["kind"])), ALL[name])


@pytest.mark.parametrize("name", CORE)
def test_core_kinds_are_valid_and_a_misspelt_field_is_not(name: str) -> None:
    assert_strict(core_problem, ALL[name])


@pytest.mark.parametrize("name", MONITORS)
def test_monitors_use_known_fields_only(name: str) -> None:
    assert_strict(problem_of(_monitor_schema(ALL[name]["kind"])), ALL[name])


def _clusters() -> dict[str, Manifest]:
    keys = {"RayCluster": "", "RayService": "rayClusterConfig", "RayJob": "rayClusterSpec"}
    found = {}
    for name in RAY:
        spec = ALL[name]["spec"]
        key = keys[ALL[name]["kind"]]
        found[name] = spec[key] if key else spec
    return found


def _pods() -> dict[str, Manifest]:
    """Every pod template of the Ray kinds."""
    found = {}
    for name, cluster in _clusters().items():
        found[f"{name}:head"] = cluster["headGroupSpec"]["template"]
        for group in cluster.get("workerGroupSpecs", ()):
            found[f"{name}:{group['groupName']}"] = group["template"]
        if "submitterPodTemplate" in ALL[name]["spec"]:
            found[f"{name}:submitter"] = ALL[name]["spec"]["submitterPodTemplate"]
    return found


PODS = _pods()


@pytest.mark.parametrize("name", PODS)
def test_ray_pod_templates_are_valid_pods(name: str) -> None:
    assert_strict(core_problem, pod_template(PODS[name]))


def test_pods_that_serve_https_have_certificates_and_are_probed_so() -> None:
    service = patched(ALL["ray-service.yaml:RayService"], "tls.yaml")
    assert problem_of(ray_schema("RayService"))(service) == ""
    cluster = service["spec"]["rayClusterConfig"]
    pods = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    for pod in pods:
        assert core_problem(pod_template(pod)) == ""
        (container,) = pod["spec"]["containers"]
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted["certificates"] == "/etc/aragora/tls"
        assert "certificates" in {volume["name"] for volume in pod["spec"]["volumes"]}
        probes = [container[name] for name in container if name.endswith("Probe")]
        assert all(probe["httpGet"]["scheme"] == "HTTPS" for probe in probes if "httpGet" in probe)


def test_prometheus_asks_pods_that_serve_https_over_tls() -> None:
    monitor = patched(ALL["monitoring.yaml:ServiceMonitor"], "tls-monitoring.yaml")
    assert problem_of(_monitor_schema("ServiceMonitor"))(monitor) == ""
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["relabelings"][0]["replacement"].startswith(endpoint["tlsConfig"]["serverName"])


def test_the_cluster_launchers_file_fits_rays_schema() -> None:
    schema = json.loads((Path(autoscaler.__file__).parent / "ray-schema.json").read_text())
    config = yaml.safe_load((ROOT / "ray-cluster.yaml").read_text())
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(misspelt(config, ("head_start_ray_commands",)), schema)


def test_every_variable_named_in_docs_and_manifests_exists() -> None:
    unknown = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in documents()
        for name in variables_named(path.read_text(errors="replace"))
        if name not in VARIABLES
    }
    assert not unknown


def test_an_unknown_variable_would_be_found() -> None:
    assert list(variables_named("set ARAGORA_TASK_TIMEOT and ARAGORA_* names")) == ["ARAGORA_TASK_TIMEOT"]
    assert "ARAGORA_TASK_TIMEOT" not in VARIABLES


def test_the_image_is_the_same_everywhere_and_of_this_version() -> None:
    image = f"aragora/control-plane:{VERSION}"
    named = {c["image"] for pod in PODS.values() for c in pod["spec"]["containers"]}
    named.add(yaml.safe_load((ROOT / "ray-cluster.yaml").read_text())["docker"]["image"])
    assert named == {image}
    assert f"docker build -t {image} ." in (ROOT / "Dockerfile").read_text()


def test_rays_version_is_the_locks() -> None:
    locked = re.search(r"^ray\[?.*==([0-9.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked is not None
    assert {cluster["rayVersion"] for cluster in _clusters().values()} == {locked[1]}


def _default(name: str) -> Any:
    return Settings.model_fields[name].default


def _ports(pod: Manifest) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for c in pod["spec"]["containers"] for port in c.get("ports", ())}


def test_ports_are_those_of_the_settings() -> None:
    http, metrics = _default("http_port"), _default("prometheus_port")
    data = ALL["config.yaml:ConfigMap"]["data"]
    assert (data["ARAGORA_HTTP_PORT"], data["ARAGORA_PROMETHEUS_PORT"]) == (str(http), str(metrics))
    for name, pod in PODS.items():
        ports = _ports(pod)
        if name.endswith(":control-plane"):
            assert (ports["serve"], ports["telemetry"]) == (http, metrics)
        assert ports.get("serve", http) == http
    service = {port["name"]: port["port"] for port in ALL["service.yaml:Service"]["spec"]["ports"]}
    assert service == {"http": http, "metrics": metrics}
    assert _serve_config()["http_options"]["port"] == http
    assert yaml.safe_load((ROOT / "serve_app" / "serve_config.yaml").read_text())["http_options"]["port"] == http
    launcher = " ".join(yaml.safe_load((ROOT / "ray-cluster.yaml").read_text())["docker"]["run_options"])
    assert f"ARAGORA_HTTP_PORT={http} " in launcher
    assert f"ARAGORA_PROMETHEUS_PORT={metrics} " in launcher


def test_rays_own_metrics_leave_the_apis_port_alone() -> None:
    """KubeRay's default for them is 8080."""
    for cluster in _clusters().values():
        groups = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", ())]
        for group in groups:
            port = group["rayStartParams"]["metrics-export-port"]
            assert port != str(_default("http_port"))
            assert _ports(group["template"])["metrics"] == int(port)


def test_pods_have_the_probes_of_their_role() -> None:
    (worker,) = PODS["ray-service.yaml:RayService:control-plane"]["spec"]["containers"]
    assert worker["livenessProbe"]["httpGet"] == {"path": "/health/live", "port": "serve"}
    assert worker["readinessProbe"]["httpGet"] == {"path": "/health", "port": "serve"}


def _without(pod: Manifest, *probes: str) -> Manifest:
    made = copy.deepcopy(pod)
    for container in made["spec"]["containers"]:
        for probe in probes:
            container.pop(probe, None)
    return made


def test_service_and_cluster_start_the_same_pods() -> None:
    for role in ("head", "control-plane"):
        service = PODS[f"ray-service.yaml:RayService:{role}"]
        cluster = PODS[f"ray-cluster.yaml:RayCluster:{role}"]
        assert _without(service, "startupProbe", "livenessProbe") == cluster


def _serve_config() -> Manifest:
    config: Manifest = yaml.safe_load(ALL["ray-service.yaml:RayService"]["spec"]["serveConfigV2"])
    return config


def test_the_services_application_is_the_committed_one() -> None:
    committed = yaml.safe_load((ROOT / "serve_app" / "serve_config.yaml").read_text())["applications"]
    deployed = _serve_config()["applications"]
    assert [application["import_path"] for application in deployed] == [
        application["import_path"] for application in committed
    ]
    for written, other in zip(deployed, committed, strict=True):
        assert {d["name"] for d in written["deployments"]} == {d["name"] for d in other["deployments"]}
        for deployment in written["deployments"]:
            assert deployment["ray_actor_options"] == {"num_cpus": 0, "resources": {"control_plane": 0.001}}


def _group(cluster: str, name: str) -> Manifest:
    (found,) = [group for group in _clusters()[cluster]["workerGroupSpecs"] if group["groupName"] == name]
    return dict(found)


def test_nodes_for_dedicated_agents_come_and_go_and_hold_nothing_else() -> None:
    for name in ("ray-service.yaml:RayService", "ray-cluster.yaml:RayCluster"):
        cluster, group = _clusters()[name], _group(name, "agents")
        assert cluster["enableInTreeAutoscaling"] is True
        assert (group["minReplicas"], group["replicas"]) == (0, 0)
        assert group["maxReplicas"] > 0
        # An actor of the control plane would need this resource, so none is placed here; Ray's CPUs are the pod's limit.
        assert not {"resources", "num-cpus"} & set(group["rayStartParams"])
        # KubeRay's own probe of a RayService's workers asks for Serve's proxy, which never runs here.
        (container,) = group["template"]["spec"]["containers"]
        assert "local_raylet_healthz" in str(container["readinessProbe"])
        # The Service and the disruption budget are about the API's pods only.
        labels = group["template"]["metadata"]["labels"]
        for selector in (ALL["service.yaml:Service"]["spec"]["selector"], _budget()["selector"]["matchLabels"]):
            assert not selector.items() <= {**labels, "ray.io/serve": "true"}.items()
        # The autoscaler runs in the head's pod and asks Kubernetes for pods.
        assert cluster["headGroupSpec"]["template"]["spec"]["automountServiceAccountToken"] is True


def _budget() -> Manifest:
    spec: Manifest = ALL["service.yaml:PodDisruptionBudget"]["spec"]
    return spec


#: Where Ray (its sessions), HAProxy (its sockets) and libraries (their caches) write; /dev/shm is KubeRay's.
_WRITTEN = {"/tmp", "/home/ray"}


@pytest.mark.parametrize("name", PODS)
def test_containers_write_to_volumes_only(name: str) -> None:
    volumes = {volume["name"]: volume for volume in PODS[name]["spec"]["volumes"]}
    for container in PODS[name]["spec"]["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        written = {m["mountPath"] for m in container["volumeMounts"] if "emptyDir" in volumes[m["name"]]}
        assert written == _WRITTEN


def test_services_give_no_pod_variables_that_look_like_settings() -> None:
    """Kubernetes makes ARAGORA_CONTROL_PLANE_PORT and others of the Service; each process would warn of them."""
    assert [name for name, pod in PODS.items() if pod["spec"].get("enableServiceLinks") is not False] == []


def test_replicas_are_on_different_machines() -> None:
    for name, pod in PODS.items():
        if name.endswith(":control-plane"):
            (spread,) = pod["spec"]["topologySpreadConstraints"]
            assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "DoNotSchedule")
            assert spread["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_the_commented_rule_for_agents_in_the_cluster_is_valid() -> None:
    text = (ROOT / "kuberay" / "network-policy.yaml").read_text()
    policy = yaml.safe_load(re.sub(r"^    # (-? +|- )", lambda match: f"    {match[1]}", text, flags=re.MULTILINE))
    assert len(policy["spec"]["egress"]) == len(ALL["network-policy.yaml:NetworkPolicy"]["spec"]["egress"]) + 1
    assert_strict(core_problem, policy)


def test_the_base_image_is_a_full_version_whose_digest_is_given() -> None:
    (base,) = re.findall(r"^FROM (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert re.fullmatch(r"python:3\.11\.[0-9]+-slim-bookworm\$\{BASE_DIGEST\}", base)
    assert not re.search(r"sha256:[0-9a-f]{64}", (ROOT / "Dockerfile").read_text()), (
        "a digest goes stale with the next fix"
    )


def test_every_worker_has_a_replica_and_thus_a_proxy() -> None:
    group = _group("ray-service.yaml:RayService", "control-plane")
    api = next(d for d in _serve_config()["applications"][0]["deployments"] if d["name"] == "Api")
    assert api["num_replicas"] == group["replicas"] == group["maxReplicas"]
    assert api["max_replicas_per_node"] == 1


def test_a_new_version_of_the_api_can_start_beside_the_old_one() -> None:
    """It starts first, where a node may have both. Where each node may have one replica, it would wait for ever."""
    committed = yaml.safe_load((ROOT / "serve_app" / "serve_config.yaml").read_text())["applications"][0]
    (api,) = [part for part in committed["deployments"] if part["name"] == "Api"]
    assert api["max_surge_percent"] > 0
    assert api.get("max_replicas_per_node") is None
    (on_kubernetes,) = [part for part in _serve_config()["applications"][0]["deployments"] if part["name"] == "Api"]
    assert on_kubernetes["max_surge_percent"] == 0
    assert on_kubernetes["max_replicas_per_node"] < on_kubernetes["num_replicas"]


def test_the_head_runs_nothing() -> None:
    for name in ("ray-service.yaml:RayService", "ray-cluster.yaml:RayCluster"):
        cluster = _clusters()[name]
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        group = _group(name, "control-plane")
        assert json.loads(json.loads(group["rayStartParams"]["resources"].strip("'"))) == {"control_plane": 1}
    assert ALL["ray-service.yaml:RayService"]["spec"]["excludeHeadPodFromServeSvc"] is True
    assert all(cluster["authOptions"]["mode"] == "token" for cluster in _clusters().values())


#: GCS, the dashboard with its API of jobs, and Ray's client: whoever reaches one may run code.
_RAYS = {6379, 8265, 10001}


def test_no_manifest_opens_rays_ports_to_others() -> None:
    opened = []
    for name, manifest in ALL.items():
        for port in manifest["spec"]["ports"] if manifest["kind"] == "Service" else ():
            opened += [name] * bool({port["port"], port["targetPort"]} & {*_RAYS, "gcs-server", "dashboard", "client"})
    (policy,) = [manifest for manifest in ALL.values() if manifest["kind"] == "NetworkPolicy"]
    own = {"matchLabels": {"app.kubernetes.io/part-of": "aragora"}}
    operator = {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}}
    for rule in policy["spec"]["ingress"]:
        callers = [peer.get("podSelector") for peer in rule["from"]]
        ports = {entry["port"] for entry in rule.get("ports", ())}
        if callers != [own]:
            assert ports, "without ports a rule opens all"
            opened += [str(rule)] * (bool(ports & _RAYS) and callers != [operator])
    assert policy["spec"]["podSelector"] == own
    assert opened == []
    for name, pod in PODS.items():
        assert not pod["spec"].get("hostNetwork"), name
        assert not [
            port for each in pod["spec"]["containers"] for port in each.get("ports", ()) if "hostPort" in port
        ], name
    launcher = yaml.safe_load((ROOT / "ray-cluster.yaml").read_text())
    assert "--env RAY_AUTH_MODE=token" in launcher["docker"]["run_options"]
    (head,) = [command for command in launcher["head_start_ray_commands"] if "--head" in command]
    assert "--dashboard-host=127.0.0.1 " in head


def test_secrets_have_names_and_no_values() -> None:
    secret = ALL["secret.example.yaml:Secret"]
    assert set(secret["stringData"].values()) == {""}
    text = (ROOT / "kuberay" / "ray-service.yaml").read_text()
    used = set(re.findall(r"name: aragora-secrets, key: ([a-z-]+)", text))
    assert used == set(secret["stringData"])
    optional = set(re.findall(r"name: aragora-secrets, key: ([a-z-]+), optional: true", text))
    assert used - optional == {"database-url", "redis-url", "redis-password"}


def test_every_secret_setting_that_has_an_effect_comes_from_the_secret() -> None:
    secret = {
        variable_name(name, info)
        for name, info in Settings.model_fields.items()
        if SecretStr in get_args(info.annotation) and role_of(info) not in (LATER, CLIENT)
    }
    assert secret
    for name, pod in PODS.items():
        if "RayJob" not in name:
            (container,) = pod["spec"]["containers"]
            assert secret <= {entry["name"] for entry in container["env"] if "secretKeyRef" in entry["valueFrom"]}


def test_serves_environment_is_the_same_on_kubernetes_and_on_machines() -> None:
    data = {key: value for key, value in ALL["config.yaml:ConfigMap"]["data"].items() if key.startswith("RAY_SERVE_")}
    options = yaml.safe_load((ROOT / "ray-cluster.yaml").read_text())["docker"]["run_options"]
    launcher = dict(o.removeprefix("--env ").split("=", 1) for o in options if o.startswith("--env RAY_SERVE_"))
    assert launcher == data
    assert data["RAY_SERVE_ENABLE_HA_PROXY"] == "1"


def test_a_replaced_pod_waits_for_the_longest_call() -> None:
    """HAProxy's old process, a replica that leaves and its pod: each longer than what it may have in hand."""
    assert max(MAX_BLOCK_MS / 1000, SYNC_WAIT_S) <= waits.LONGEST_WAIT_S < waits.LONGEST_CALL_S
    assert waits.LONGEST_CALL_S < waits.HAPROXY_HARD_STOP_S
    assert waits.DRAINING_S + waits.LONGEST_CALL_S < waits.REPLICA_GRACE_S < waits.POD_GRACE_S
    data = ALL["config.yaml:ConfigMap"]["data"]
    assert data["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] == str(waits.HAPROXY_HARD_STOP_S)
    assert data["RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"] == str(waits.DRAINING_S)
    graces = {
        pod["spec"].get("terminationGracePeriodSeconds") for name, pod in PODS.items() if ":control-plane" in name
    }
    assert graces == {waits.POD_GRACE_S}
    by_hand = (ROOT / "docs" / "deploy.md").read_text()
    assert f"RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S={waits.HAPROXY_HARD_STOP_S}" in by_hand
    assert f"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S={waits.DRAINING_S}" in by_hand


def test_haproxy_is_started_by_our_program_with_our_times() -> None:
    data = ALL["config.yaml:ConfigMap"]["data"]
    assert data["RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S"] == str(waits.PROXY_CHECK_S)
    assert data["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] == str(waits.PROXY_READY_S)
    program = Path(data["RAY_SERVE_HAPROXY_BINARY_PATH"])
    assert f"ENV PATH={program.parent}:" in (ROOT / "Dockerfile").read_text()
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts[program.name] == "cluster.cli.haproxy:main"
    by_hand = (ROOT / "docs" / "deploy.md").read_text()
    assert f"RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S={waits.PROXY_CHECK_S}" in by_hand
    assert f"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S={waits.PROXY_READY_S}" in by_hand
    assert program.name in by_hand


def test_the_apis_deployment_waits_for_the_longest_call() -> None:
    committed = yaml.safe_load((ROOT / "serve_app" / "serve_config.yaml").read_text())["applications"][0]
    (api,) = [part for part in committed["deployments"] if part["name"] == "Api"]
    assert api["graceful_shutdown_timeout_s"] == waits.REPLICA_GRACE_S
    # Without a value of its own the service takes that of `serve_app/app.py`, of which the committed one is built.
    for deployment in _serve_config()["applications"][0]["deployments"]:
        assert "graceful_shutdown_timeout_s" not in deployment


def test_no_manifest_is_outside_the_tests() -> None:
    assert {path.name for path in manifests()[1:]} == {name.partition(":")[0] for name in ALL}


@pytest.mark.slow
def test_serve_build_reproduces_the_committed_application(tmp_path: Path) -> None:
    output = tmp_path / "built.yaml"
    subprocess.run(
        [
            str(Path(sys.executable).with_name("serve")),
            "build",
            "serve_app.app:app",
            "--app-dir",
            ".",
            "-o",
            str(output),
        ],
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        check=True,
    )
    ours = yaml.safe_load((ROOT / "serve_app" / "serve_config.yaml").read_text())
    made = yaml.safe_load(output.read_text())
    for application in (*made["applications"], *ours["applications"]):
        del application["name"]  # the command has no option for it
    assert made["applications"] == ours["applications"]
    assert made["proxy_location"] == ours["proxy_location"]
