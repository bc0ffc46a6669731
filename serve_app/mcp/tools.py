"""The tools: what a model may do here, each by one or two calls of the API's routes.

Names of arguments are those of the API, since its errors name them, but for ``deliberation_id``, which is a path's ``request_id``
there. An argument that is null counts as left out, as models write it so; only a payload may be null.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cluster.domain.agents.agent import AgentStatus
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import shown_text
from cluster.domain.base.names import check_key
from cluster.domain.tasks.task import TaskStatus
from cluster.process.waits import LONGEST_WAIT_S
from serve_app.http.route_calls import Refused, Routes
from serve_app.mcp.schemas import body_fields
from serve_app.openapi.shapes import (
    ANYTHING,
    COUNT,
    ID,
    SHAPES,
    TEXT,
    YES_OR_NO,
    Schema,
    fields,
    listed,
    nullable,
    ref,
    words,
)
from serve_app.routes.deliberations import DeliberationStatus
from serve_app.routes.task_reads import ENDED
from serve_app.schemas.deliberations import Deliberate
from serve_app.schemas.tasks import CreateTask

#: How long `deliberate` waits for the end unless it is told otherwise. Some clients of models give up a call after half a minute.
WAIT_S: Final = 20
#: Agents of one answer, since a model has to read them all.
MAX_AGENTS: Final = 200
SHOWN_AGENTS: Final = 50

Arguments = Mapping[str, Any]
Outcome = dict[str, Any]
#: An outcome that is a text is JSON, in the characters in which the API writes it.
Run = Callable[[Routes, Arguments], Awaitable[Outcome | str]]


@dataclass(frozen=True, slots=True)
class OurTool:
    """``arguments``: the schema of each; ``output``: the schema of what the tool returns. ``changes``: it changes something;
    ``ends``: it ends what somebody has started."""

    name: str
    title: str
    description: str
    arguments: Mapping[str, Schema]
    output: Schema
    run: Run
    required: tuple[str, ...] = ()
    changes: bool = False
    ends: bool = False

    def input_schema(self) -> Schema:
        return {
            "type": "object",
            "properties": dict(self.arguments),
            "required": list(self.required),
            "additionalProperties": False,
        }

    async def __call__(self, routes: Routes, given: Arguments) -> Outcome | str:
        """What the tool returns.

        Raises: `Refused` if a route refuses the call, `InvalidRequest` if there is no such argument or one is missing."""
        unknown = [name for name in given if name not in self.arguments]
        if unknown:
            raise InvalidRequest(
                f"{self.name} has no argument {shown_text(unknown[0], 64)}; it has {', '.join(self.arguments)}.",
                "unknown_argument",
            )
        kept = {name: value for name, value in given.items() if value is not None or name == "payload"}
        for name in self.required:
            if name not in kept:
                raise InvalidRequest(f"{name} is required.", "invalid_request")
        return await self.run(routes, kept)


# --- arguments ---------------------------------------------------------------------------------------------------------


def _described(schema: Schema, text: str) -> Schema:
    return {**schema, "description": text}


def _wait(default: float) -> Schema:
    return {
        "type": "number",
        "minimum": 0,
        "maximum": LONGEST_WAIT_S,
        "default": default,
        "description": f"How many seconds to wait for the end, at most {LONGEST_WAIT_S}. Work goes on after that.",
    }


_KEY: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "description": "A name of your choice for this one request. If you repeat the call with it, nothing is done twice.",
}
_TASK_ID: Final = _described(ID, "The id of a task, as submit_task returned it.")
_DELIBERATION_ID: Final = _described(ID, "The id of a deliberation, as deliberate returned it.")
#: A task has one of the former, a deliberation one of the latter.
_STATUS: Final[Schema] = {
    "type": "string",
    "enum": [*dict.fromkeys(str(word) for word in (*TaskStatus, *DeliberationStatus))],
}
_ONE_OF: Final = {"task_id": _TASK_ID, "deliberation_id": _DELIBERATION_ID}


def _key(given: Arguments) -> str | None:
    """The idempotency key. A header carries it, so it is ASCII. Raises: `InvalidRequest` if it is none."""
    key = given.get("idempotency_key")
    if key is None:
        return None
    if not isinstance(key, str) or not key.isascii():
        raise InvalidRequest("idempotency_key must be a text of ASCII characters.", "invalid_idempotency_key")
    return check_key(key, "idempotency_key")


def _waited(given: Arguments, default: float = 0) -> float:
    """How long the call waits. It is looked at before anything is begun. Raises: `InvalidRequest` if that is not allowed."""
    wait = given.get("wait", default)
    if isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 <= wait <= LONGEST_WAIT_S:
        raise InvalidRequest(f"wait must be a number of seconds from 0 to {LONGEST_WAIT_S}.", "invalid_request")
    return wait


def _query(given: Arguments, *names: str) -> dict[str, str]:
    """Some arguments as a query. Raises: `InvalidRequest` if one is a list or an object."""
    query: dict[str, str] = {}
    for name in names:
        value = given.get(name)
        if isinstance(value, list | dict):
            raise InvalidRequest(f"{name} must be one value, not a list or an object.", "invalid_request")
        if value is not None:
            query[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return query


def _body(given: Arguments, names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


def _path(given: Arguments) -> tuple[str, bool]:
    """The path of the task or the deliberation, and whether it is a task's.

    Raises: `InvalidRequest` unless exactly one of them is named, by an id."""
    task_id, deliberation_id = given.get("task_id"), given.get("deliberation_id")
    if (task_id is None) == (deliberation_id is None):
        raise InvalidRequest("Give task_id or deliberation_id, and not both.", "invalid_request")
    if task_id is not None:
        return f"/tasks/{check_id(task_id, 'task_id')}", True
    return deliberation_path(deliberation_id), False


def deliberation_path(deliberation_id: object) -> str:
    """The path of a deliberation. Raises: `InvalidRequest` if ``deliberation_id`` is no id."""
    return f"/deliberations/{check_id(deliberation_id, 'deliberation_id')}"


# --- deliberations -----------------------------------------------------------------------------------------------------

_QUESTION: Final = {
    "content": "The question, with all that the agents have to know to answer it.",
    "config": 'Options of the deliberation, such as {"options": ["A", "B"], "agents": ["a1", "a2"], "rounds": 2}. '
    "Without options the agents answer freely.",
    "context": "Facts about the question, which the agents see as data.",
    "documents": "Texts that the agents see as data. Nothing is fetched.",
    "evidence": "Findings that the agents see as data.",
    "required_capabilities": "Only agents that have all of these capabilities are asked.",
    "timeout_seconds": "After so many seconds it ends with the best answer so far.",
}
_DELIBERATION: Final = fields(
    deliberation_id=ID, status_opt=words(DeliberationStatus), ended_opt=YES_OR_NO, result_opt=nullable(ref("Decision"))
)


async def _deliberate(routes: Routes, given: Arguments) -> Outcome:
    wait_s = _waited(given, WAIT_S)
    body = {**_body(given, _QUESTION), "async": True}
    admitted = await routes.post("/deliberations", body, _key(given))
    deliberation_id = admitted["request_id"]
    try:
        return await _deliberation(routes, deliberation_path(deliberation_id), wait_s)
    except Refused:
        # It has begun, and whoever asked has to learn its id. Asking for its status shows what is the matter.
        return {"deliberation_id": deliberation_id}


async def _deliberation(routes: Routes, path: str, wait_s: float) -> Outcome:
    found = await routes.get(path, {"wait": wait_s})
    outcome = {
        "deliberation_id": found["request_id"],
        "status": found["deliberation_status"],
        "ended": found["terminal"] is not None,
    }
    return outcome | ({"result": found["result"]} if "result" in found else {})


# --- tasks -------------------------------------------------------------------------------------------------------------

_WORK: Final = {
    "task_type": "What kind of work it is. The agents that take tasks know the types that they can do.",
    "payload": "What the agent needs to do the work: any JSON.",
    "required_capabilities": "Only an agent that has all of these capabilities gets the task.",
    "priority": "low, normal, high or urgent.",
    "timeout_seconds": "How long one attempt may take.",
    "max_retries": "How often the task is tried again after an attempt has failed.",
    "metadata": "Notes about the task, for people and for searches.",
    "queue": "The queue in which the task waits.",
    "target_agent": "The id of the only agent that may have the task.",
    "delay_seconds": "The task waits for so many seconds before it may be taken.",
    "after": "Ids of tasks that must end first.",
}
_TASK_STATUS: Final = (
    *("status", "status_detail", "attempt", "assigned_agent", "created_at", "started_at", "completed_at", "error"),
    "progress",
)
_TASK_RESULT: Final = ("status", "result", "error")


def _task_fields(names: tuple[str, ...]) -> dict[str, Schema]:
    """The schemas of some fields of a task, which may all be left out: some are withheld, and a deliberation has others."""
    return {f"{name}_opt": SHAPES["Task"]["properties"][name] for name in names}


async def _submit_task(routes: Routes, given: Arguments) -> Outcome:
    wait_s = _waited(given)
    submitted: Outcome = await routes.post("/tasks", _body(given, _WORK), _key(given))
    outcome = {"task_id": submitted["task_id"]}
    if wait_s == 0:
        return outcome
    try:
        return await _task(routes, f"/tasks/{submitted['task_id']}", wait_s, _TASK_RESULT)
    except Refused:  # as in _deliberate
        return outcome


async def _task(routes: Routes, path: str, wait_s: float, names: tuple[str, ...]) -> Outcome:
    task = await routes.get(path, {"wait": wait_s})
    return {"task_id": task["id"], "ended": task["status"] in ENDED} | {
        name: task[name] for name in names if name in task
    }


async def _task_status(routes: Routes, given: Arguments) -> Outcome:
    (path, is_task), wait_s = _path(given), _waited(given)
    if is_task:
        return await _task(routes, path, wait_s, _TASK_STATUS)
    outcome = await _deliberation(routes, path, wait_s)
    outcome.pop("result", None)
    return outcome


async def _task_result(routes: Routes, given: Arguments) -> Outcome:
    (path, is_task), wait_s = _path(given), _waited(given)
    return await (_task(routes, path, wait_s, _TASK_RESULT) if is_task else _deliberation(routes, path, wait_s))


async def _explain(routes: Routes, given: Arguments) -> Outcome:
    path = f"/tasks/{check_id(given['task_id'], 'task_id')}/explain"
    explanation: Outcome = await routes.get(path)
    return explanation


async def _cancel(routes: Routes, given: Arguments) -> Outcome:
    path, _ = _path(given)
    cancelled: Outcome = await routes.post(f"{path}/cancel")
    return cancelled


async def _receipt(routes: Routes, given: Arguments) -> str:
    return await routes.text("GET", f"{deliberation_path(given['deliberation_id'])}/receipt")


# --- agents ------------------------------------------------------------------------------------------------------------

_AGENT_FIELDS: Final = (
    *("agent_id", "capabilities", "status", "model", "provider", "tags", "region_id", "running_tasks"),
    *("max_concurrency", "tasks_completed", "tasks_failed", "last_heartbeat"),
)
_AGENT_FILTERS: Final = {
    "capability": _described(TEXT, "Only agents that have this capability."),
    "status": _described(words(AgentStatus), "Only agents with this status."),
    "provider": _described(TEXT, "Only agents of this provider."),
    "region": _described(TEXT, "Only agents of this region."),
    "tag": _described(TEXT, "Only agents with this tag."),
}


async def _list_agents(routes: Routes, given: Arguments) -> Outcome:
    limit, offset = given.get("limit", SHOWN_AGENTS), given.get("offset", 0)
    if limit not in range(1, MAX_AGENTS + 1):
        raise InvalidRequest(
            f"limit must be a whole number from 1 to {MAX_AGENTS}; read on with offset.", "invalid_request"
        )
    asked = {"available": False, **given, "limit": limit, "offset": offset}
    found = await routes.get("/agents", _query(asked, *_AGENT_FILTERS, "available", "limit", "offset"))
    agents = [{name: agent[name] for name in _AGENT_FIELDS if name in agent} for agent in found["agents"]]
    total = found["total"]
    return {"agents": agents, "total": total, "has_more": int(offset) + len(agents) < total}


# --- all of them -------------------------------------------------------------------------------------------------------

_RESULT: Final = {
    **{
        "task_id_opt": ID,
        "deliberation_id_opt": ID,
        "ended_opt": YES_OR_NO,
        "status_opt": TEXT,
        "result_opt": ANYTHING,
    },
    "error_opt": nullable(TEXT),
}

TOOLS: Final = {
    tool.name: tool
    for tool in (
        OurTool(
            name="deliberate",
            title="Ask several agents and decide",
            description="Puts a question to several agents, which debate it if they disagree, and returns their decision with "
            "its confidence, the dissent, and who supports it. If it has not ended in time, ended is false: ask for it with "
            "task_result and the deliberation_id. A deliberation goes on if you hang up.",
            arguments={
                **body_fields(Deliberate, _QUESTION),
                "wait": _wait(WAIT_S),
                "idempotency_key": _KEY,
            },
            required=("content",),
            output=_DELIBERATION,
            run=_deliberate,
            changes=True,
        ),
        OurTool(
            name="submit_task",
            title="Give work to an agent",
            description="Submits a task, which waits durably until an agent that can do it takes it. Returns its task_id, and "
            "with wait also its result if it ends in that time. Ask later with task_status or task_result.",
            arguments={**body_fields(CreateTask, _WORK), "wait": _wait(0), "idempotency_key": _KEY},
            required=("task_type",),
            output=fields(**{**_RESULT, "task_id": ID}),
            run=_submit_task,
            changes=True,
        ),
        OurTool(
            name="task_status",
            title="See how far work has come",
            description="Says how far a task or a deliberation has come. Give task_id or deliberation_id. With wait it returns "
            "when that has ended or the time is over.",
            arguments={**_ONE_OF, "wait": _wait(0)},
            output=fields(
                **{
                    "task_id_opt": ID,
                    "deliberation_id_opt": ID,
                    "ended": YES_OR_NO,
                    **_task_fields(_TASK_STATUS),
                    "status_opt": _STATUS,
                },
            ),
            run=_task_status,
        ),
        OurTool(
            name="task_result",
            title="Get a result",
            description="Returns the result of a task or a deliberation. Give task_id or deliberation_id. While ended is false "
            "there is none yet; with wait it returns when there is one or the time is over.",
            arguments={**_ONE_OF, "wait": _wait(0)},
            output=fields(**_RESULT),
            run=_task_result,
        ),
        OurTool(
            name="receipt",
            title="Get the signed receipt of a decision",
            description="Returns the signed receipt of a deliberation that has ended: the question, every answer, the votes and "
            "the decision, so that anybody can verify it.",
            arguments={"deliberation_id": _DELIBERATION_ID},
            required=("deliberation_id",),
            output=ref("Receipt"),
            run=_receipt,
        ),
        OurTool(
            name="explain",
            title="Explain why a task does not run",
            description="Says why a task is not running, and what would change that.",
            arguments={"task_id": _TASK_ID},
            required=("task_id",),
            output=ref("Explanation"),
            run=_explain,
        ),
        OurTool(
            name="list_agents",
            title="List agents",
            description="Lists the agents of the workspace by id, with their capabilities and whether they take work.",
            arguments={
                **_AGENT_FILTERS,
                "available": _described(YES_OR_NO, "True: only agents that take work now."),
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_AGENTS, "default": SHOWN_AGENTS},
                "offset": {"type": "integer", "minimum": 0, "default": 0},
            },
            output=fields(
                agents=listed(fields(**{name: SHAPES["Agent"]["properties"][name] for name in _AGENT_FIELDS})),
                total=COUNT,
                has_more=YES_OR_NO,
            ),
            run=_list_agents,
        ),
        OurTool(
            name="cancel",
            title="Cancel a task or a deliberation",
            description="Cancels a task or a deliberation. Give task_id or deliberation_id. Work that waits ends at once; an "
            "agent that has begun is asked to stop. A deliberation keeps its best answer so far.",
            arguments=_ONE_OF,
            output=fields(cancelled=YES_OR_NO),
            run=_cancel,
            changes=True,
            ends=True,
        ),
    )
}
