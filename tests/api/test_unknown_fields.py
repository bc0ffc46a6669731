"""A body that the released client does not send has no unknown fields: a misspelt one would silently mean the default."""

from __future__ import annotations

from typing import Any

from tests.support.api import Api

#: (method, path, a body that counts, a field that it has not, the field that the answer names)
_UNKNOWN: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("POST", "/keys", {"name": "k", "grants": ["viewer"]}, "expires_days", "expires_in_seconds"),
    ("POST", "/keys", {"name": "k", "grants": ["viewer"]}, "expiresInSeconds", "expires_in_seconds"),
    ("POST", "/keys", {"name": "k", "grants": ["viewer"]}, "workspace", "workspaces"),
    ("POST", "/keys/k/rotate", {}, "overlap", "overlap_seconds"),
    ("POST", "/workspaces", {"id": "w"}, "nmae", "name"),
    ("PATCH", "/workspaces/default", {}, "status", "state"),
    ("PUT", "/workspaces/default/members", {"subject": "user:a@example.org", "role": "viewer"}, "roles", "role"),
    ("PUT", "/roles/r", {"permissions": []}, "permission", "permissions"),
    ("PUT", "/queue/controls", {"name": "q"}, "rate_per_minute", "rate_per_second"),
    ("POST", "/queue/pause", {"name": "q"}, "kinds", "kind"),
    ("POST", "/dead-letter/purge", {"filter": {}}, "dryrun", "dry_run"),
    ("POST", "/dead-letter/replay", {"filter": {}}, "patch_payload", "payload_patch"),
    ("POST", "/deliberations/d/outcome", {"correct": "a"}, "vote", "votes"),
]


#: (path, a body with a part that has an unknown field, what the answer says)
_UNKNOWN_IN_PARTS: list[tuple[str, Any, str]] = [
    ("/dead-letter/purge", {"filter": {"type": "echo"}}, "task_type"),
    ("/tasks", {"task_type": "echo", "after": [{"id": "a", "when_fails": "run"}]}, "when_failed"),
    ("/agents", {"agent_id": "a", "rate": {"per_minute": 60, "bursts": 5}}, "burst"),
    ("/agents", {"agent_id": "a", "price": {"input_per_mtok": 1, "output_per_mtok": 1, "unit": "USD"}}, "use "),
    ("/outcomes/batch", {"outcomes": [{"id": "q", "votes": {"a": 1}, "correct": 1, "option": [1]}]}, "options"),
]


async def test_an_unknown_field_is_refused_with_the_nearest_one(api: Api) -> None:
    for method, path, body, unknown, meant in _UNKNOWN:
        answer = await api.call(method, path, {**body, unknown: 30})
        assert (answer.status_code, answer.json()["code"]) == (400, "unknown_field"), answer.text
        assert answer.json()["error"] == f"There is no field {unknown} here; did you mean {meant}?"
    assert (await api.get("/keys"))["total"] == 0
    for method, path, body, _, _ in _UNKNOWN:
        # The field that names the workspace of a call is one of every body.
        named = await api.call(method, path, {**body, "workspace_id": api.settings.workspace})
        assert named.status_code in (200, 201, 404, 409), named.text


async def test_an_unknown_field_of_a_part_is_refused(api: Api) -> None:
    for path, body, meant in _UNKNOWN_IN_PARTS:
        answer = await api.call("POST", path, body)
        assert (answer.status_code, answer.json()["code"]) == (400, "unknown_field"), answer.text
        assert meant in answer.json()["error"]


async def test_the_released_clients_keyword_arguments_stay_fields_that_are_ignored(api: Api) -> None:
    for path, body in (
        ("/agents", {"agent_id": "a", "anything": 1}),
        ("/tasks", {"task_type": "echo", "anything": {"a": 1}}),
        ("/tasks/claim", {"agent_id": "a", "block_ms": 0, "anything": None}),
        ("/deliberations", {"content": "Which?", "async": True, "response_channels": []}),
    ):
        assert (await api.call("POST", path, body)).is_success, path
