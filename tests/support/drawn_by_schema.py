"""Schemathesis against the API: calls drawn from the OpenAPI document, each made by every role and by nobody.

The tool runs as a process of its own against the running application. This module is loaded there as well (`SCHEMATHESIS_HOOKS`):
its check repeats each drawn call as every other principal of the workspace, so that no role is left to the luck of the draw. That
answers are what the document says is checked at the server, by ``Witness``.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import requests
import schemathesis

from cluster.domain.access.permissions import OF_THE_SYSTEM
from cluster.domain.access.roles import ROLES
from serve_app.application import make_app
from tests.support.api import CP
from tests.support.fuzzing import FOREIGN, LEFT_OUT, OWN, WAITING, WITHOUT_WAITING, Ground
from tests.support.permission_tables import calls
from tests.support.permission_tables import roles as tabled_roles
from tests.support.principals import bearer

NOBODY = "nobody"
#: Whose calls the tool makes itself: the role that may do most, so that it learns ids from answers.
DRAWING = "admin"
_PLAN = "ARAGORA_TEST_DRAWN_PLAN"
#: Where ids may be told: by path and query, and in bodies that name objects and do not keep the name.
_PLACES: Mapping[str, Sequence[str]] = {
    "task_id": (
        "path.task_id",
        "query.task_id",
        "path.subject_id",
        "body.task_id",
        "body.results[*].task_id",
        "body.ids[*]",
    ),
    "agent_id": ("path.agent_id", "query.agent_id"),
    "request_id": ("path.request_id", "query.deliberation_id"),
    "key_id": ("path.key_id",),
    "workspace_id": ("path.workspace_id",),
    "role_name": ("path.role_name",),
    "log_id": ("path.log_id",),
    "snapshot_id": ("path.snapshot_id",),
}


#: The ends of paths whose bodies name objects and keep no name.
_NAMING = ("/complete", "/fail", "/prioritize", "/erasures", "/replay", "/purge", "/claim", "/heartbeats")
#: Beyond that uvicorn, without the HAProxy in front of it, answers by itself.
MOST_QUERY = 8_000
#: A bad item of these calls is refused alone, inside an answer 200.
_ITEM_BY_ITEM = ("/tasks/complete", "/tasks/fail", "/agents/heartbeats", "/outcomes/batch")
#: What JSON Schema cannot say is refused too (`positive_data_acceptance`); ``Allow`` of a path beside one with an id has the
#: methods of both (`allow_header_conformance`).
_NOT_CHECKED = "positive_data_acceptance,allow_header_conformance"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the check has to know: a header for each principal, and what no answer may show."""

    principals: Mapping[str, Mapping[str, str]]
    foreign: Sequence[str]


def _may(role: str, call: str) -> bool:
    permission = calls()[call]
    return permission == "public" or (
        role != NOBODY and permission in tabled_roles()[role] - {str(found) for found in OF_THE_SYSTEM}
    )


def fault_of(role: str, call: str, asked: str, answer: requests.Response, foreign: Sequence[str]) -> str:
    """What is wrong with the answer to a principal; empty if nothing is."""
    shown = [each for each in foreign if each in answer.text and each not in asked]
    if answer.status_code >= 500:
        return f"it was answered {answer.status_code}"
    if shown:
        at = answer.text.index(shown[0])
        return f"it shows {', '.join(shown)}: {answer.text[max(0, at - 300) : at + 100]}"
    if answer.status_code < 400 and not _may(role, call):
        return "it may not make this call"
    return ""


def repeated(
    session: requests.Session, sent: requests.PreparedRequest, headers: Mapping[str, str]
) -> requests.Response:
    """The answer to the same call of another principal."""
    again = sent.copy()
    again.headers.pop("Authorization", None)
    again.headers.update(headers)
    return session.send(again, timeout=60, allow_redirects=False)


def key_id_of(headers: Mapping[str, str]) -> str:
    return headers["Authorization"].split("_")[1]


def _install(plan: Plan) -> None:
    """Registers the hooks in the process of the tool."""
    session = requests.Session()
    own_keys = {key_id_of(headers) for headers in plan.principals.values() if headers}

    @schemathesis.check
    def every_principal(ctx: Any, response: Any, case: Any) -> None:
        path = case.operation.path
        root = "" if path.startswith(f"{CP}/") else "ROOT "
        call = f"{root}{case.operation.method.upper()} {path.removeprefix(CP)}"
        sent = response.request
        body = sent.body.decode(errors="replace") if isinstance(sent.body, bytes) else sent.body or ""
        asked = f"{unquote(sent.url)} {body}"
        for role, headers in plan.principals.items():
            answer = repeated(session, sent, headers)
            fault = fault_of(role, call, asked, answer, plan.foreign)
            assert not fault, f"{role} {call} {asked[:600]}: {fault}: {answer.text[:300]}"

    @schemathesis.hook
    def map_body(context: Any, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        fields = (found for end, found in WITHOUT_WAITING.items() if context.operation.path.endswith(end))
        return {**body, **next(fields, {})}

    @schemathesis.hook
    def filter_case(context: Any, case: Any) -> bool:
        """Whether the principals can go on after the call, and what they may be shown is the same."""
        is_suspension = isinstance(case.body, dict) and case.body.get("state") == "suspended"
        in_path = case.path_parameters or {}
        if is_suspension or in_path.get("key_id") in own_keys or len(str(case.query)) > MOST_QUERY:
            return False
        return context.operation.path.endswith(_NAMING) or not _holds(case.body, in_path.get("role_name"), plan.foreign)


def _holds(body: Any, name: Any, foreign: Sequence[str]) -> bool:
    """Whether a call gives something of its own a name of the other workspace, which later answers would show."""
    given = f"{body!r} {name}"
    return any(each in given for each in foreign)


def plan_of(ground: Ground) -> Plan:
    made = {NOBODY: {}, **{role: bearer(ground.keys[role]) for role in ROLES}}
    return Plan(principals=made, foreign=tuple(ground.foreign))


def _without_waiting(document: dict[str, Any]) -> dict[str, Any]:
    """The document as the tool gets it. Rejected: a hook that takes the parameters out of drawn calls. The tool then expects bad
    values to be refused that it never sent."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "parameters" in operation:
                operation["parameters"] = [each for each in operation["parameters"] if each.get("name") not in WAITING]
    return document


def _configuration(ground: Ground) -> str:
    lines = []
    for name in _PLACES:
        lines += [f"[dictionaries.{name}]", f"values = {json.dumps(ground.ids[name])}"]
    lines += ["[parameters]"]
    for name, places in _PLACES.items():
        lines += [f'"{place}" = {{ dictionary = "{name}", probability = 0.7 }}' for place in places]
    for path in _ITEM_BY_ITEM:
        lines += ["[[operations]]", f'include-path = "{CP}{path}"', "checks.negative_data_rejection.enabled = false"]
    return "\n".join(lines)


async def drawn_by_schema(ground: Ground, directory: Path, *options: str) -> str:
    """Runs the tool with ``options``, and has each call repeated by every principal; returns what it printed if it found a fault,
    else an empty text.

    Raises: `AssertionError` if a principal does not get in any more, so that its calls proved nothing."""
    drawing = ("--header", f"Authorization: {bearer(ground.keys[DRAWING])['Authorization']}")
    found = await _run(ground, directory, _configuration(ground), *drawing, "--exclude-checks", _NOT_CHECKED, *options)
    for role, key in ground.keys.items():
        answer = await ground.door.api.call("GET", "/agents", headers=bearer(key))
        assert answer.status_code == 200, f"{role}: {answer.text}"
    return found


async def read_by_peers(ground: Ground, directory: Path, *options: str) -> str:
    """Runs the tool's own check of object-level authorization: whatever the operator of one workspace has made or listed, the one
    of the other reads too. Returns as `drawn_by_schema`."""
    keys = {workspace: await ground.door.key("operator", workspace=workspace) for workspace in (OWN, FOREIGN)}
    entries = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {key}"}]}
        for name, key in keys.items()
    ]
    (directory / "auth.json").write_text(json.dumps({"auth": entries}))
    peers = f"[auth.wfc]\npath = {json.dumps(str(directory / 'auth.json'))}\npeers = {json.dumps([*keys])}"
    return await _run(ground, directory, peers, "--checks", "object_level_authorization", *options)


async def _run(ground: Ground, directory: Path, configuration: str, *options: str) -> str:
    plan = plan_of(ground)
    (directory / "plan.json").write_text(json.dumps({"principals": plan.principals, "foreign": plan.foreign}))
    (directory / "openapi.json").write_text(json.dumps(_without_waiting(make_app().openapi())))
    (directory / "schemathesis.toml").write_text(configuration)
    left_out = [option for method, path in LEFT_OUT for option in ("--exclude-name", f"{method.upper()} {path}")]
    process = await asyncio.create_subprocess_exec(
        *(Path(sys.executable).parent / "schemathesis", "--no-color", "--config-file", directory / "schemathesis.toml"),
        *("run", directory / "openapi.json", "--url", ground.door.api.url, "--continue-on-failure"),
        *("--request-timeout", "60", "--suppress-health-check", "all", *left_out, *options),
        env=os.environ
        | {"SCHEMATHESIS_HOOKS": __name__, _PLAN: str(directory / "plan.json"), "PYTHONPATH": os.getcwd()},
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    return "" if process.returncode == 0 else printed.decode()


if _PLAN in os.environ:
    _install(Plan(**json.loads(Path(os.environ[_PLAN]).read_text())))
