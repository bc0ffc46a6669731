"""Signals over the API, the command line and the client: what is refused with what advice, and what comes of a repeat."""

from __future__ import annotations

import json
from typing import Any

from actors.roles import SEALER
from cluster.client.blocking import BlockingClient
from tests.support.api import Api, in_thread
from tests.support.cli import command

FLOW = {
    "name": "flow",
    "steps": [
        {"id": "ask", "signal": {"name": "approved", "default": 1}},
        {"id": "again", "signal": {"name": "more", "timeout_seconds": 0, "default": {"none": True}}},
    ],
}


async def _begun(api: Api) -> str:
    await api.post("/workflows", FLOW)
    return str((await api.post("/workflows/flow/runs", {}))["run_id"])


async def test_a_signal_is_taken_once(api: Api) -> None:
    run_id = await _begun(api)
    path = f"/workflow-runs/{run_id}/signals/approved"
    headers = {"Idempotency-Key": "k"}
    sent = [await api.post(path, {"value": {"by": "ann"}}, headers=given) for given in (headers, headers, {})]
    assert sent == [{"run_id": run_id, "signal": "approved"}] * 3
    refused: list[tuple[Any, dict[str, str], int, str]] = [
        ({"value": 2}, headers, 409, "idempotency_conflict"),
        ({"value": 2}, {}, 409, "already_signalled"),
        ({"value": "x" * 65_536}, {}, 400, "limit_exceeded"),
        ({"wrong": 2}, {}, 400, "unknown_field"),
    ]
    for body, given, status, code in refused:
        answer = await api.call("POST", path, body, headers=given)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    content, kind = '{"value": NaN}', {"Content-Type": "application/json"}
    assert (await api.call("POST", path, content=content, headers=kind)).json()["code"] == "invalid_json"
    other = await api.call("POST", f"/workflow-runs/{run_id}/signals/other", {})
    assert (other.status_code, other.json()["code"]) == (404, "signal_not_found")


async def test_the_value_is_the_result_and_the_run_ends(api: Api) -> None:
    await api.start(SEALER)
    run_id = await _begun(api)
    assert "approved" in await command(api, "workflows", "signal", run_id, "approved", "--value", '{"by": "ann"}')
    shown = json.loads(await command(api, "workflows", "wait", run_id, "--json"))
    assert [step["result"] for step in shown["steps"]] == [{"by": "ann"}, {"none": True}]
    assert [step["waits_until"] is None for step in shown["steps"]] == [True, False]
    late = await api.call("POST", f"/workflow-runs/{run_id}/signals/more", {})
    assert (late.status_code, late.json()["code"]) == (409, "already_terminal")
    await command(api, "workflows", "signal", run_id, "approved", "--value", "{", code=2)
    other = await api.call("POST", f"/workflow-runs/{run_id}/signals/other", {})
    assert (other.status_code, other.json()["code"]) == (404, "signal_not_found"), "also when the run has ended"
    await api.call("DELETE", "/workflows/flow")
    other = await api.call("POST", f"/workflow-runs/{run_id}/signals/other", {})
    assert (other.status_code, other.json()["code"]) == (409, "already_terminal"), "nobody knows any more what waited"


async def test_a_client_sends_a_signal(api: Api) -> None:
    run_id = await _begun(api)

    def send() -> Any:
        with BlockingClient(api.url) as client:
            return client.signal_run(run_id, "approved", [1], idempotency_key="k")

    assert await in_thread(send) == {"run_id": run_id, "signal": "approved"}
    assert await api.stores.workflows.signals("default", run_id) == {"approved": [1]}
