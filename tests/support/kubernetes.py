"""Manifests: what the schemas of their kinds say, JSON patches, and the manifests of regions."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import kubernetes_validate.utils
import pytest
import yaml

from tests.support.docs import ROOT

SCHEMAS = ROOT.parent / "shared" / "schemas"
KUBERNETES = "1.30"
# It parses a megabyte of schemas in every call, and tests make hundreds of calls.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)
Manifest = dict[str, Any]
METADATA = {"type": "object", "properties": {name: {} for name in ("name", "namespace", "labels", "annotations")}}


def strict(schema: Any) -> Any:
    """No unknown fields, as the API server's strict validation has it. Kubernetes' own int-or-string stays open."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


def ray_schema(kind: str) -> Any:
    file = SCHEMAS / f"{kind.lower()}s.json"
    if not file.exists():
        pytest.skip("KubeRay's schemas are not beside this repository (../shared/schemas)")
    schema = json.loads(file.read_text())["versions"]["v1"]
    # The API server validates the envelope by itself.
    schema["properties"]["metadata"] = METADATA
    return strict(schema)


def problem_of(schema: Any) -> Callable[[Manifest], str]:
    """The first problem's message; empty if there is none. (The error's own text prints the whole schema.)"""
    validator = jsonschema.Draft202012Validator(schema)

    def problem(manifest: Manifest) -> str:
        return next((error.message for error in validator.iter_errors(manifest)), "")

    return problem


def core_problem(manifest: Manifest) -> str:
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message) or "invalid"
    return ""


def pod_template(pod: Manifest) -> Manifest:
    """KubeRay's schema knows pods, but kubernetes-validate knows them of the Kubernetes version that runs them."""
    return {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": pod}


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all fields whose name is Kubernetes' and not the user's."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if path and (path[-1] in _FREE or (path[-1] == "selector" and key != "matchLabels")):
                continue  # a Service's selector is labels itself
            yield (*path, key)
            yield from _paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _paths(inner, (*path, index))


#: Maps with keys of the user's choice; a resource or label may be called anything.
_FREE = frozenset(
    {"labels", "matchLabels", "annotations", "data", "stringData", "requests", "limits", "rayStartParams"}
)


def misspelt(manifest: Manifest, path: tuple[Any, ...]) -> Manifest:
    mutated = copy.deepcopy(manifest)
    holder = mutated
    for key in path[:-1]:
        holder = holder[key]
    holder[f"{path[-1]}x"] = holder.pop(path[-1])
    return mutated


def assert_strict(problem: Callable[[Manifest], str], manifest: Manifest) -> None:
    """The manifest passes, and with any one field misspelt it does not."""
    assert problem(manifest) == ""
    paths = [path for path in _paths(manifest) if path[0] in ("spec", "template") or len(path) == 1]
    assert len(paths) > 1
    for path in paths:
        if path not in (("apiVersion",), ("kind",)):
            assert problem(misspelt(manifest, path)), f"{path} may be misspelt"


def patched(manifest: Manifest, patch: str) -> Manifest:
    """With the operations of a JSON patch (RFC 6902) that adds."""
    made = json.loads(json.dumps(manifest))  # what YAML's anchors share is several things to Kubernetes
    for operation in yaml.safe_load((ROOT / "kuberay" / "patches" / patch).read_text()):
        assert operation["op"] == "add"
        *path, last = operation["path"].removeprefix("/").split("/")
        holder: Any = made
        for key in path:
            holder = holder[int(key)] if isinstance(holder, list) else holder[key]
        if last == "-":
            holder.append(operation["value"])
        else:
            assert last not in holder
            holder[last] = operation["value"]
    return dict(made)


def read_manifests(path: Path) -> list[tuple[str, Manifest]]:
    """Each with its file's name, its kind and, where a file has several of a kind, its own name."""
    return [
        (f"{manifest['kind']}/{manifest['metadata']['name']}", manifest)
        for manifest in yaml.safe_load_all(path.read_text())
    ]


# --- regions ----------------------------------------------------------------------------------------------------------

REGIONS = ROOT / "kuberay" / "regions"
#: The data regions of the example.
NAMES = ("us-east-1", "us-west-2", "eu-west-1")


def common_manifests() -> dict[str, Manifest]:
    """What is the same in each region, by kind and name."""
    return dict([*read_manifests(REGIONS / "etcd.yaml"), *read_manifests(REGIONS / "proxy.yaml")])


def manifests_of(region: str) -> dict[str, Manifest]:
    """What a region has of its own, by kind and name."""
    return dict([*read_manifests(REGIONS / region / "etcd.yaml"), *read_manifests(REGIONS / region / "region.yaml")])
