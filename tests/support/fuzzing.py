"""Calls that are drawn from the OpenAPI document: every role of one workspace, objects of two, valid and odd values.

``python -m tests.support.fuzzing CALLS SEED`` makes more calls than a test (`make fuzz`), and prints what was wrong with which.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import string
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.access.roles import ROLES
from serve_app.application import make_app
from tests.support.api import Api
from tests.support.authenticated import Authenticated, authenticated
from tests.support.principals import bearer
from tests.support.probes import eventually
from tests.support.stores import StoreUrls, running_stores

OWN, FOREIGN = "own", "foreign"
#: Words in every object of the other workspace: no answer may hold them.
FOREIGN_WORDS = "wordsoftheothers"
ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2**31,
        2**63,
        10**30,
        0.5,
        1e308,
        "",
        " ",
        "0",
        "\x00",
        "\ud800",
        "a" * 5000,
        "é",
        "😀",
    ),
    *("../..", "%2e", "' or 1=1 --", "{}", [], {}, [[]], {"": None}, [None] * 3, {"a": {"b": {"c": [1]}}}, "2" * 400),
)
#: Calls that would only wait, by the ends of their paths, and the fields that keep them from it.
WITHOUT_WAITING: Mapping[str, Mapping[str, Any]] = {"/tasks/claim": {"block_ms": 0}, "/deliberations": {"async": True}}
#: Query parameters of calls that would only wait: a drawn one makes its call wait for as long as a caller may.
WAITING = {"wait"}
#: Calls that never end, or take the ground away from the calls after them.
LEFT_OUT = {("get", "/api/control-plane/stream"), ("delete", "/api/control-plane/workspaces/{workspace_id}")}
_SAFE = set(string.ascii_letters + string.digits + "-_.~")


@dataclass(slots=True)
class DrawnCall:
    """A call, and what was drawn for it."""

    role: str
    method: str
    path: str
    query: list[tuple[str, str]]
    body: Any
    has_body: bool


@dataclass(slots=True)
class Ground:
    """The running system, one key for each role of ``OWN``, and the ids of objects in both workspaces."""

    door: Authenticated
    keys: dict[str, str] = field(default_factory=dict)
    ids: dict[str, list[str]] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)


@asynccontextmanager
async def fuzzing_ground(urls: StoreUrls) -> AsyncIterator[Ground]:
    """Two workspaces with an object of every kind each."""
    async with authenticated(urls) as door:
        ground = Ground(door)
        for workspace in (OWN, FOREIGN):
            await _furnished(ground, workspace)
        for role in ROLES:
            ground.keys[role] = await door.key(role, workspace=OWN)
        yield ground


async def _furnished(ground: Ground, workspace: str) -> None:
    door, words = ground.door, FOREIGN_WORDS if workspace == FOREIGN else "ownwords"
    await door.call("POST", "/workspaces", {"id": workspace, "name": words})
    headers = bearer(await door.key("operator", workspace=workspace))
    await door.call("POST", "/agents", {"agent_id": f"{workspace}-agent", "metadata": {"w": words}}, headers)
    task = {"task_type": words, "payload": {"w": words}, "metadata": {"w": words}}
    ids = [(await door.call("POST", "/tasks", task, headers))["task_id"] for _ in range(3)]
    leased = await door.call("POST", "/tasks/claim", {"agent_id": f"{workspace}-agent", "block_ms": 20_000}, headers)
    report = {"lease_token": leased["task"]["lease_token"], "error": words, "requeue": False}
    await door.call("POST", f"/tasks/{leased['task']['id']}/fail", report, headers)
    question = {"content": words, "async": True, "config": {"min_agents": 2}}
    asked = [
        (await door.call("POST", "/deliberations", question | {"context": {"n": number}}, headers))["request_id"]
        for number in range(2)
    ]
    await _told(door, asked[0], words, headers)
    await door.call("PUT", "/queue/controls", {"kind": "queue", "name": words, "rate_per_second": 5}, headers)
    in_workspace = door.admin | {"X-Aragora-Workspace": workspace}
    await door.call("PUT", f"/roles/{workspace}-role", {"permissions": ["controlplane:tasks.read"]}, in_workspace)
    key = (await door.key("viewer", workspace=workspace, name=words)).split("_")[1]
    await door.call("PUT", f"/workspaces/{workspace}/members", {"subject": f"group:{words}", "role": "viewer"})
    found = {
        "task_id": ids,
        "agent_id": [f"{workspace}-agent"],
        "request_id": asked,
        "log_id": [
            entry["entry_id"] for entry in (await door.call("GET", "/audit-logs", headers=in_workspace))["entries"]
        ],
        "snapshot_id": ["absent"],
        "key_id": [key],
        "workspace_id": [workspace],
        "role_name": ["viewer", f"{workspace}-role"],
    }
    for name, values in found.items():
        ground.ids.setdefault(name, []).extend(values)
    if workspace == FOREIGN:
        ground.foreign += [*ids, *asked, key, FOREIGN_WORDS]


async def _told(door: Authenticated, request_id: str, words: str, headers: dict[str, str]) -> None:
    """Cancels a deliberation, and says what would have been right."""
    await door.call("POST", f"/deliberations/{request_id}/cancel", headers=headers)

    async def ended() -> bool:
        return (await door.call("GET", f"/deliberations/{request_id}", headers=headers))["terminal"] is not None

    await eventually(ended)
    outcome = {"correct": words, "votes": {"x": words, "y": "b"}}
    await door.call("POST", f"/deliberations/{request_id}/outcome", outcome, headers)


class Fuzzer:
    """Draws calls from a seed: the same seed draws the same calls."""

    def __init__(self, ground: Ground, seed: int) -> None:
        self._ground = ground
        self._random = random.Random(seed)
        self._document = make_app().openapi()
        self._operations = [
            (method, path, operation)
            for path, operations in sorted(self._document["paths"].items())
            for method, operation in sorted(operations.items())
            if (method, path) not in LEFT_OUT
        ]

    def draw(self, number: int) -> DrawnCall:
        """The call of this number. Every operation has its turn."""
        method, path, operation = self._operations[number % len(self._operations)]
        query = []
        for parameter in map(self._followed, operation.get("parameters", ())):
            name = parameter["name"]
            if parameter["in"] == "path":
                path = path.replace(f"{{{name}}}", _quoted(self._id(name)))
            elif name in WAITING:
                continue
            elif parameter["in"] == "query" and (parameter.get("required") or self._random.random() < 0.4):
                query.append((name, _text(self._value(parameter["schema"]))))
        content = self._followed(operation.get("requestBody", {})).get("content", {})
        schema = content.get("application/json", {}).get("schema")
        body = None if schema is None else self._value(schema)
        if isinstance(body, dict):
            body |= next((fields for end, fields in WITHOUT_WAITING.items() if path.endswith(end)), {})
        return DrawnCall(
            role=self._random.choice([*ROLES, "nobody"]),
            method=method.upper(),
            path=path,
            query=query,
            body=body,
            has_body=schema is not None,
        )

    def _followed(self, value: Any) -> Any:
        while "$ref" in value:
            found: Any = self._document
            for step in value["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            value = found
        return value

    def _id(self, name: str) -> str:
        known, whose = self._ground.ids.get(name, []), self._random.random()
        foreign = [id for id in known if id in self._ground.foreign]
        if foreign and whose < 0.4:
            return self._random.choice(foreign)
        if known and whose < 0.8:
            return self._random.choice(known)
        return _text(self._random.choice(ODD)) or "x"

    def _value(self, schema: Mapping[str, Any], depth: int = 0) -> Any:
        """A value of the schema, or now and then another one."""
        schema = self._followed(schema)
        if self._random.random() < 0.06 or depth > 6:
            return self._random.choice(ODD)
        for name in ("anyOf", "oneOf", "allOf"):
            if name in schema:
                return self._value(self._random.choice(schema[name]), depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        return self._of_type(schema, depth)

    def _of_type(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type")
        if kind == "object" or "properties" in schema:
            return self._object(schema, depth)
        if kind == "array":
            return [self._value(schema.get("items", {}), depth + 1) for _ in range(self._random.choice((0, 1, 1, 3)))]
        if kind == "string":
            return self._string()
        if kind in ("integer", "number"):
            low, high = schema.get("minimum", -5), schema.get("maximum", 100)
            drawn = self._random.choice([low, high, self._random.uniform(low, high)])
            return drawn if kind == "number" else int(drawn)
        return {"boolean": self._random.random() < 0.5, "null": None}.get(kind or "", self._random.choice(ODD))

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        chosen = {
            name: self._value(value, depth + 1)
            for name, value in schema.get("properties", {}).items()
            if name in required or self._random.random() < 0.4
        }
        for name in chosen:
            if name in self._ground.ids and self._random.random() < 0.7:
                chosen[name] = self._id(name)
        if self._random.random() < 0.1:
            chosen[_text(self._random.choice(ODD))] = self._random.choice(ODD)
        return chosen

    def _string(self) -> str:
        # None of the other workspace's: what a caller has sent itself may be in later answers.
        known = [value for values in self._ground.ids.values() for value in values]
        known = [value for value in known if value not in self._ground.foreign]
        return str(self._random.choice([*known, "x", "a-b", "controlplane:tasks.read", "user:a@b.c", "2026-01-01"]))


async def faults_of(ground: Ground, call: DrawnCall) -> list[str]:
    """What is wrong with the answer to a call. The server's `Witness` compares it with the document besides."""
    sent = "" if not call.has_body else json.dumps(call.body)
    headers = {} if call.role == "nobody" else bearer(ground.keys[call.role])
    answer = await ground.door.api.client.request(
        call.method,
        call.path,
        params=call.query,
        content=sent.encode() if call.has_body else None,
        headers=headers | ({"Content-Type": "application/json"} if call.has_body else {}),
    )
    asked = f"{call.path} {call.query} {sent}"
    faults = [f"it was answered {answer.status_code}"] if answer.status_code >= 500 else []
    # With its workspace's mark (`request_ids.py`) an id is one that a caller chose for a deliberation of its own.
    shown = [each for each in ground.foreign if re.search(re.escape(each) + r"(?!\.w-[0-9a-f]{16})", answer.text)]
    faults += [f"it shows {each}" for each in shown if each not in asked]
    if call.role == "nobody" and answer.is_success and not _is_public(call.path):
        faults.append("nobody may call it")
    return [f"{call.role} {call.method} {asked[:600]}: {fault}: {answer.text[:300]}" for fault in faults]


def _is_public(path: str) -> bool:
    return path.startswith(
        (
            "/health",
            "/api/control-plane/health",
            "/api/control-plane/receipts/keys",
            "/api/control-plane/auth/",
            "/ready",
            "/live",
        )
    )


def _quoted(text: str) -> str:
    return "".join(
        each if each in _SAFE else "".join(f"%{byte:02X}" for byte in each.encode(errors="surrogatepass"))
        for each in text
    )[:600]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode(errors="replace").decode()


async def fuzz(ground: Ground, seed: int, calls: int) -> list[str]:
    """Makes ``calls`` calls, one after the other, and returns what was wrong with them."""
    fuzzer, faults = Fuzzer(ground, seed), list[str]()
    for number in range(calls):
        faults += await faults_of(ground, fuzzer.draw(number))
    return faults


def _differences(api: Api) -> Sequence[str]:
    found, api.witness.differences = list(dict.fromkeys(api.witness.differences)), []
    return found


async def _faults(urls: StoreUrls, calls: int, seed: int) -> list[str]:
    async with fuzzing_ground(urls) as ground:
        return [*await fuzz(ground, seed, calls), *_differences(ground.door.api)]


def _main(calls: int, seed: int) -> int:
    with running_stores() as urls:
        faults = asyncio.run(_faults(urls, calls, seed))
    print("\n".join(faults[:100]))
    print(f"{calls} calls of seed {seed}: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(_main(int(sys.argv[1]), int(sys.argv[2])))
