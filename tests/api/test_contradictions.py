"""What contradicts itself, or names nothing, is refused with a sentence; what the released client sends is taken."""

from __future__ import annotations

import itertools
import json
from typing import Any

from tests.support.api import Api

_QUESTION = {"content": "Which?", "async": True}
#: (what is sent beside a question, a part of the answer)
_DELIBERATIONS: list[tuple[dict[str, Any], str]] = [
    ({"mode": "sync"}, "mode sync and async true contradict"),
    ({"mode": "async", "async": False}, "mode async and async false contradict"),
    ({"timeout_seconds": 10, "config": {"timeout_seconds": -1}}, "config.timeout_seconds must be a number"),
    ({"timeout_seconds": 10, "config": {"timeout_seconds": "5"}}, "config.timeout_seconds must be a number"),
    *(({"config": {"options": value}}, "config.options must be a list") for value in ({}, "", 0, False)),
    *(({"config": {"agents": value}}, "config.agents must be a list") for value in ({}, "", 0, False)),
    *(({"config": {"consensus": value}}, "onsensus") for value in ("", 0, [], False, ["judge"])),
    *(({"config": {"escalate_to": value}}, "") for value in ("", 0, {})),
    *(({"config": {"judge": value}}, "config.judge must be") for value in ("", 0, 5, [])),
    *(({"config": {"schema": value}}, "config.schema must be a JSON schema") for value in ("", 0, [], False)),
    *(({"config": {"unit": value}}, "config.unit must be a text") for value in (0, {}, [])),
    *(({"config": {"seed": value}}, "config.seed must be a text") for value in (5, {}, False)),
    ({"config": {"agents": ["a", "b", "a"]}}, "config.agents names an agent twice"),
    ({"config": {"agents": ["a", " a"]}}, "config.agents names an agent twice"),
    ({"config": {"budget": {"tokens": 5}, "budget_tokens": 6}}, "send one"),
    ({"config": {"min_agents": 3, "max_agents": 2}}, "config.min_agents 3 is more than config.max_agents 2"),
    ({"config": {"min_agents": 8}}, "config.min_agents 8 is more than config.max_agents 7"),
    ({"config": {"options": ["a", "\u200b"]}}, "config.options must be a list"),
    *(
        ({"decision_type": "quick", "config": {"rounds": rounds}}, "decision_type quick and config.rounds contradict")
        for rounds in (1, 9, "2", 1.5)
    ),
    ({"content": "\u200b \n"}, "content must be"),
    ({"required_capabilities": ["\u200b"]}, "must have a character that can be seen"),
    ({"required_capabilities": ["a\nb"]}, "must be one line"),
]


async def test_a_deliberation_that_contradicts_itself_is_refused(api: Api) -> None:
    for more, says in _DELIBERATIONS:
        answer = await api.call("POST", "/deliberations", {**_QUESTION, **more})
        assert answer.status_code == 400, (more, answer.text)
        assert says in answer.json()["error"], (more, answer.text)
    assert (await api.get("/deliberations"))["total"] == 0
    for more in (
        {"mode": "async"},
        {"decision_type": "quick", "config": {"rounds": 0}},
        {"decision_type": "quick", "config": {"rounds": None}},
        {"mode": None},
        {
            "config": {
                "options": None,
                "agents": [],
                "consensus": None,
                "judge": None,
                "schema": {},
                "unit": "",
                "seed": None,
            }
        },
        {"config": {"timeout_seconds": 5}, "timeout_seconds": 10},
    ):
        taken = await api.call("POST", "/deliberations", {**_QUESTION, **more, "content": json.dumps(more)})
        assert taken.status_code == 202, (more, taken.text)


#: (path, a body with NAME in place of a name)
_NAMES: list[tuple[str, dict[str, Any]]] = [
    ("/tasks", {"task_type": "NAME"}),
    ("/tasks", {"task_type": "t", "required_capabilities": ["a", "NAME"]}),
    ("/tasks", {"task_type": "t", "concurrency_key": "NAME"}),
    ("/tasks", {"task_type": "t", "sticky_key": "NAME"}),
    ("/tasks", {"task_type": "t", "target_region": "NAME"}),
    ("/agents", {"agent_id": "a", "model": "NAME"}),
    ("/agents", {"agent_id": "a", "provider": "NAME"}),
    ("/agents", {"agent_id": "a", "capabilities": ["NAME"]}),
    ("/agents", {"agent_id": "a", "region_id": "NAME"}),
    ("/agents", {"agent_id": "a", "owner": "NAME"}),
    ("/keys", {"name": "NAME", "grants": ["viewer"]}),
    ("/workspaces", {"id": "w", "name": "NAME"}),
    ("/queue/pause", {"name": "NAME"}),
]


async def test_a_name_that_nobody_can_read_is_refused(api: Api) -> None:
    for (path, body), name in itertools.product(_NAMES, ("\u200b", " ", "\n", "a\nb", "\u2800")):
        sent = json.loads(json.dumps(body).replace('"NAME"', json.dumps(name)))
        answer = await api.call("POST", path, sent)
        assert (answer.status_code, answer.json().get("code")) == (400, "invalid_name"), (sent, answer.text)


async def test_a_blank_key_is_none_that_repeats_could_share(api: Api) -> None:
    for key in ("\n", " ", "\u200b", "a\x1fb", "\t"):
        answer = await api.call("POST", "/tasks", {"task_type": "t", "idempotency_key": key})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key"), answer.text
    for key in ("", "\xa0", "\xad"):
        sent = {"Idempotency-Key": key.encode("latin-1")}
        answer = await api.call("POST", "/tasks", {"task_type": "t"}, headers=sent)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key"), answer.text
    assert (await api.get("/tasks"))["total"] == 0


async def test_a_call_with_two_keys_is_refused(api: Api) -> None:
    task = await api.post("/tasks", {"task_type": "t"})
    batch = {"tasks": [{"task_type": "t"}]}
    calls = {"/tasks": {"task_type": "t"}, "/tasks/batch": batch, f"/tasks/{task['task_id']}/cancel": {}}
    for path, body in calls.items():
        for second in ("b", "a"):
            sent = [("Idempotency-Key", "a"), ("idempotency-key", second)]
            answer = await api.call("POST", path, body, headers=sent)
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key"), (path, answer.text)
    assert [found["status"] for found in (await api.get("/tasks"))["tasks"]] == ["pending"]


async def test_a_model_server_needs_another_name_than_the_default_in_any_case(api: Api) -> None:
    for model in ("UNKNOWN", "Unknown ", "", " unknown"):
        body = {"agent_id": "a", "transport": "openai", "endpoint": "http://127.0.0.1:9/v1", "model": model}
        answer = await api.call("POST", "/agents", body)
        assert (answer.status_code, answer.json()["code"]) == (400, "model_missing"), answer.text
    assert (await api.call("POST", "/agents", {"agent_id": "a", "model": "", "provider": "unknown"})).status_code == 201


async def test_a_task_whose_target_is_excluded_is_refused(api: Api) -> None:
    body = {"task_type": "t", "target_agent": "a", "excluded_agents": ["b", "a"]}
    for path, sent in (("/tasks", body), ("/tasks/batch", {"tasks": [{"task_type": "t"}, body]})):
        answer = await api.call("POST", path, sent)
        assert (answer.status_code, answer.json().get("code")) == (400, "invalid_target"), answer.text
    assert (await api.get("/tasks"))["total"] == 0
    assert (await api.call("POST", "/tasks", {**body, "excluded_agents": ["b"]})).status_code == 201


async def test_a_text_of_a_wrong_length_is_said_in_characters(api: Api) -> None:
    for path, body, says in (
        ("/keys", {"name": "k", "grants": [""]}, "grants.0 must have at least 1 character."),
        ("/tasks", {"task_type": "x" * 257}, "task_type must have at most 256 characters."),
        ("/agents", {"agent_id": "a", "model": "x" * 257}, "model must have at most 256 characters."),
    ):
        answer = await api.call("POST", path, body)
        assert (answer.status_code, answer.json()["error"]) == (400, says)
    assert (await api.call("GET", "/tasks?queue=")).json()["error"] == "queue must have at least 1 character."
    listed = await api.call("POST", "/keys", {"name": "k", "grants": []})
    assert "at least 1 item" in listed.json()["error"], "a list has items"
