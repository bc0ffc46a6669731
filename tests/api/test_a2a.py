"""The A2A server, by the official client over real HTTP."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from a2a.client import A2ACardResolver
from a2a.client.errors import A2AClientError
from a2a.types import CancelTaskRequest, ListTasksRequest, TaskState
from a2a.utils.errors import A2AError, TaskNotFoundError, UnsupportedOperationError
from a2a.utils.signing import InvalidSignaturesError, create_signature_verifier
from google.protobuf.json_format import MessageToDict
from jwt import PyJWK

from serve_app.http.paging import encode_cursor
from tests.api.test_deliberations import panel
from tests.support.a2a_clients import (
    VERSION,
    a2a_client,
    called,
    frames,
    got,
    javascript_client,
    message,
    raw_message,
    refused,
    result_of,
    sent,
    state_of,
    subscribed,
    work,
)
from tests.support.answering import Agents
from tests.support.api import Api, api_settings
from tests.support.probes import eventually
from tests.support.stores import StoreUrls
from tests.support.task_api import TaskApi

PUBLIC = "https://control.example.com"
CARD = "/.well-known/agent-card.json"


@pytest.fixture
async def api(store_urls: StoreUrls, schema: str) -> AsyncIterator[Api]:
    async with Api(api_settings(store_urls, schema, a2a_enabled=True, public_url=PUBLIC)).running() as running:
        yield running


@pytest.fixture
async def agents() -> AsyncIterator[Agents]:
    async with Agents().running() as running:
        yield running


async def _done(tasks: TaskApi, lease: Any, result: Any) -> None:
    await tasks.post(f"/tasks/{lease['id']}/complete", {"lease_token": lease["lease_token"], "result": result})


# --- the card ----------------------------------------------------------------------------------------------------------


async def test_the_card_is_public_signed_and_names_the_public_url(api: Api) -> None:
    async with httpx.AsyncClient(verify=False, headers={"host": "127.0.0.1"}) as http:
        (key,) = (await api.client.get("/a2a/keys")).json()["keys"]
        names: list[Any] = []

        def key_of(kid: str | None, jku: str | None) -> PyJWK:
            names.append((kid, jku))
            return PyJWK(key)

        verify = create_signature_verifier(key_of, ["EdDSA"])
        card = await A2ACardResolver(http, api.url).get_agent_card(signature_verifier=verify)
        assert names == [(key["kid"], PUBLIC + "/a2a/keys")]
        card.description += "!"
        with pytest.raises(InvalidSignaturesError):
            verify(card)
    (interface,) = card.supported_interfaces
    assert (interface.url, interface.protocol_binding, interface.protocol_version) == (
        PUBLIC + "/a2a",
        "JSONRPC",
        "1.0",
    )
    assert {skill.id for skill in card.skills} == {"deliberate", "submit_task"}
    assert (card.capabilities.streaming, card.capabilities.push_notifications) == (True, True)
    assert not card.security_schemes
    current = [each for each in (await api.get("/receipts/keys"))["keys"] if each["current"]]
    assert [each["key_id"] for each in current] == [key["kid"]]


async def test_a_card_that_was_read_before_is_not_sent_again(api: Api) -> None:
    first = await api.client.get(CARD)
    again = await api.client.get(CARD, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await api.client.post(CARD)).headers["allow"] == "GET, HEAD"


# --- tasks and deliberations -------------------------------------------------------------------------------------------


async def test_a_deliberation_goes_from_its_question_to_its_decision(api: Api, agents: Agents) -> None:
    await panel(api, agents, a="A", b="A", c="B")
    for streaming in (True, False):
        async with a2a_client(api.url, streaming=streaming) as client:
            ours = {"config": {"options": ["A", "B"], "rounds": 0}}
            asked = message("Which?", ours=ours, context_id=f"talk {streaming}")
            events = [event async for event in client.send_message(asked)]
            task = events[0].task
            decided = await got(client, task.id)
            while state_of(decided) == "WORKING":  # the answer of a call that waits has a bound
                decided = await got(client, task.id)
            assert (state_of(decided), decided.context_id) == ("COMPLETED", f"talk {streaming}")
            assert decided.artifacts[0].parts[0].text == "A"
            assert result_of(decided)["consensus_reached"] is True
            if streaming:
                assert [event.WhichOneof("payload") for event in events][-2:] == ["artifact_update", "status_update"]
                assert state_of(events[-1].status_update) == "COMPLETED"
            record = await api.get(f"/deliberations/{task.id}")
            assert (record["question"], record["context_id"]) == ("Which?", f"talk {streaming}")


@pytest.mark.longer
async def test_the_javascript_client_goes_from_the_card_to_a_decision(
    store_urls: StoreUrls, schema: str, agents: Agents
) -> None:
    settings = api_settings(store_urls, schema, a2a_enabled=True, public_url=PUBLIC)
    async with Api(settings).running() as api:
        await panel(api, agents, a="A", b="A", c="B")
        found = await javascript_client(api.url, "Which?")
    assert found["verified"] == {"received": True, "changed": False, "parsed": True}
    assert (found["kinds"][0], found["kinds"][-2:]) == ("task", ["artifactUpdate", "statusUpdate"])
    assert (found["task"]["status"]["state"], found["task"]["contextId"]) == ("TASK_STATE_COMPLETED", "js")
    assert found["task"]["artifacts"][0]["parts"][0]["text"] == "A"
    assert found["refusal"] == "JsonRpcTaskNotFoundError"


async def test_a_task_goes_from_its_message_to_its_result(api: Api, tasks: TaskApi) -> None:
    await tasks.agent("a1", capabilities=["sum"])
    async with a2a_client(api.url) as client:
        events: list[Any] = []

        async def send() -> None:
            request = work([1, 5], ours={"required_capabilities": ["sum"], "priority": "high"})
            async for event in client.send_message(request):
                events.append(event)

        sending = asyncio.create_task(send())
        await eventually(lambda: bool(events))
        assert state_of(events[0].task) == "SUBMITTED"
        lease = await tasks.claim_one("a1")
        assert (lease["payload"], lease["priority"]) == ([1, 5], 75)
        await eventually(lambda: len(events) == 2)
        await _done(tasks, lease, {"n": 6, "big": 2**53 - 1})
        await sending
        assert [event.WhichOneof("payload") for event in events] == [
            "task",
            "status_update",
            "artifact_update",
            "status_update",
        ]
        assert [state_of(events[at].status_update) for at in (1, 3)] == ["WORKING", "COMPLETED"]
        assert result_of(await got(client, lease["id"])) == {"n": 6, "big": 2**53 - 1}


async def test_an_answer_waits_for_the_end_unless_told_otherwise(api: Api, tasks: TaskApi) -> None:
    await tasks.agent("a1")
    async with a2a_client(api.url, streaming=False) as client, a2a_client(api.url, polling=True) as polling:
        waiting = asyncio.create_task(sent(client, work("go")))
        lease = await tasks.claim_one("a1")
        assert lease["payload"] == {"prompt": "go"}
        await _done(tasks, lease, "done")
        task = await waiting
        assert (state_of(task), task.artifacts[0].parts[0].text) == ("COMPLETED", "done")
        request = {"configuration": {"returnImmediately": True}, "metadata": {"aragora": {"task_type": "t"}}}
        at_once = await called(api.client, "SendMessage", raw_message([{"text": "x"}]) | request)
        assert at_once["result"]["task"]["status"]["state"] == "TASK_STATE_SUBMITTED"
        del polling


async def test_a_task_that_fails_says_why(api: Api, tasks: TaskApi) -> None:
    await tasks.agent("a1")
    async with a2a_client(api.url, streaming=False) as client:
        waiting = asyncio.create_task(sent(client, work({"n": 1})))
        await tasks.fail(await tasks.claim_one("a1"), error="no such column", requeue=False)
        task = await waiting
    assert (state_of(task), task.status.message.parts[0].text) == ("FAILED", "no such column")
    assert not task.artifacts


async def test_a_repeat_of_a_message_begins_nothing_twice(api: Api) -> None:
    for request in (work({"n": 1}, message_id="ключ\n" * 100), message("Which?", message_id="m-2")):
        params = json.loads(json.dumps({"message": _json(request), "configuration": {"returnImmediately": True}}))
        answers = await asyncio.gather(*(called(api.client, "SendMessage", params) for _ in range(3)))
        assert len({answer["result"]["task"]["id"] for answer in answers}) == 1
        params["message"]["contextId"] = "another"
        code, said = await refused(api.client, "SendMessage", params)
        assert (code, "another body" in said) == (-32602, True)
    assert [(await api.get(path))["total"] for path in ("/tasks", "/deliberations")] == [1, 1]


def _json(request: Any) -> dict[str, Any]:
    found: dict[str, Any] = MessageToDict(request.message)
    return found


async def test_the_same_task_by_two_doors_has_the_same_payload(api: Api, tasks: TaskApi) -> None:
    payload = {"n": 5, "half": 0.5, "list": [1, {"deep": -3}], "yes": True, "none": None, "text": "5"}
    async with a2a_client(api.url, polling=True, streaming=False) as client:
        task = await sent(client, work(payload))  # whose client sends 5.0
    stored = await tasks.get(f"/tasks/{task.id}")
    assert json.dumps(stored["payload"], sort_keys=True) == json.dumps(payload, sort_keys=True)


async def test_numbers_that_the_protocol_would_round_are_refused(api: Api) -> None:
    for number in (2**53, -(2**53), 10**30, 1e300):
        for fields in ({"parts": [{"data": {"deep": [number]}}]}, {"parts": [{"text": "x"}]}):
            ours = {"task_type": "t"} | ({} if "data" in fields["parts"][0] else {"metadata": {"n": number}})
            params = raw_message(fields["parts"], metadata={"aragora": ours})
            code, said = await refused(api.client, "SendMessage", params)
            assert (code, "as texts" in said) == (-32602, True)
    assert (await api.get("/tasks"))["total"] == 0


async def test_large_numbers_of_a_result_keep_their_digits(api: Api, tasks: TaskApi) -> None:
    await tasks.agent("a1")
    task_id = await tasks.submit()
    await _done(tasks, await tasks.claim_one("a1"), {"n": 2**53 + 1})
    async with a2a_client(api.url) as client:
        (part,) = (await got(client, task_id)).artifacts[0].parts
    assert (part.media_type, json.loads(part.text)) == ("application/json", {"n": 2**53 + 1})


async def test_a_task_that_is_cancelled_ends_and_may_be_cancelled_again(api: Api, tasks: TaskApi) -> None:
    await api.post("/agents", {"agent_id": "silent", "capabilities": ["deliberation"]})
    await tasks.agent("a1")
    async with a2a_client(api.url, polling=True, streaming=False) as client:
        for request in (work({"n": 1}), message("Which?")):
            task = await sent(client, request)
            for _ in range(2):
                await client.cancel_task(CancelTaskRequest(id=task.id))
            await eventually(partial(_is, client, task.id, "CANCELED"))
        done = await sent(client, work({"n": 2}))
        await _done(tasks, await tasks.claim_one("a1"), 1)
        assert (await refused(api.client, "CancelTask", {"id": done.id}))[0] == -32002


async def _is(client: Any, task_id: str, state: str) -> bool:
    return state_of(await got(client, task_id)) == state


# --- questions ---------------------------------------------------------------------------------------------------------


async def test_a_message_to_a_task_answers_its_question(api: Api, tasks: TaskApi) -> None:
    schema = {"type": "object", "properties": {"tier": {"enum": [1, 2]}}, "required": ["tier"]}
    async with a2a_client(api.url) as client:
        asked = work({"n": 1}, ours={"input_required": {"question": "Which tier?", "answer_schema": schema}})
        task = await sent(client, asked)  # the stream ends with the question
        said = task.status.message.parts
        assert (state_of(task), said[0].text) == ("INPUT_REQUIRED", "Which tier?")
        assert result_of_part(said[1]) == {"answer_schema": schema}
        assert (await refused(api.client, "SendMessage", raw_message([{"data": {"tier": 3}}], taskId=task.id)))[
            0
        ] == -32602
        wrong = raw_message([{"data": {"tier": 1}}], taskId=task.id, contextId="another")
        assert "contextId" in (await refused(api.client, "SendMessage", wrong))[1]
        answered = await sent(client, message({"tier": 2}, task_id=task.id, context_id=task.context_id))
        assert (state_of(answered), result_of(answered)) == ("COMPLETED", {"tier": 2})
        code, said_then = await refused(api.client, "SendMessage", raw_message([{"text": "x"}], taskId=task.id))
        assert (code, "has ended" in said_then) == (-32004, True)
        plain = await tasks.submit()
        code, _ = await refused(api.client, "SendMessage", raw_message([{"text": "x"}], taskId=plain))
        assert code == -32004
        rejected = await sent(client, work({"n": 1}, ours={"input_required": {"question": "Publish?"}}))
        end = await sent(client, message("too early", ours={"verdict": "reject"}, task_id=rejected.id))
        assert (state_of(end), end.status.message.parts[0].text) == ("FAILED", "Rejected: too early")


def result_of_part(part: Any) -> Any:
    return MessageToDict(part)["data"]


async def test_a_repeated_answer_answers_no_later_question(api: Api, tasks: TaskApi) -> None:
    await tasks.agent("a1")
    task_id = await tasks.submit()
    answer = raw_message([{"text": "yes"}], taskId=task_id)
    for attempt in (1, 2):
        lease = await tasks.claim_one("a1")
        await tasks.post(
            f"/tasks/{task_id}/ask", {"question": f"Really {attempt}?", "lease_token": lease["lease_token"]}
        )
        at_once = {"configuration": {"returnImmediately": True}}
        await called(api.client, "SendMessage", answer | at_once)
    question = (await tasks.get(f"/tasks/{task_id}"))["question"]
    assert (question["question"], question["open"]) == ("Really 2?", True)


async def test_a_deliberation_asks_a_person_and_goes_on_with_the_answer(api: Api, agents: Agents) -> None:
    await panel(api, agents, a="A", b="B")
    config = {"options": ["A", "B"], "consensus": "majority", "rounds": 0, "ask_person": {}}
    async with a2a_client(api.url) as client:
        events = [event async for event in client.send_message(message("Which?", ours={"config": config}))]
        asked = await got(client, events[0].task.id)
        assert state_of(events[-1].status_update) == state_of(asked) == "INPUT_REQUIRED"
        assert "Which?" in asked.status.message.parts[0].text
        assert (await refused(api.client, "SendMessage", raw_message([{"text": "C"}], taskId=asked.id)))[0] == -32602
        answer = message("B", task_id=asked.id)
        last = [event async for event in client.send_message(answer)][-1]
        told, decided = getattr(last, last.WhichOneof("payload")), await got(client, asked.id)
        assert (state_of(told), state_of(decided)) == ("COMPLETED", "COMPLETED")
        assert decided.artifacts[0].parts[0].text == "B"
        # The same answer again changes nothing, and another one comes too late.
        assert state_of(await sent(client, answer)) == "COMPLETED"
        assert (await refused(api.client, "SendMessage", raw_message([{"text": "A"}], taskId=asked.id)))[0] == -32004


# --- streams -----------------------------------------------------------------------------------------------------------


async def test_a_stream_that_was_cut_goes_on_where_it_was(api: Api, tasks: TaskApi) -> None:
    await tasks.agent("a1")
    task_id = await tasks.submit()
    body = {"jsonrpc": "2.0", "id": "s", "method": "SubscribeToTask", "params": {"id": task_id}}
    seen = ""
    async with api.client.stream("POST", "/a2a", json=body, headers=VERSION) as stream:
        lease = None
        async for text in stream.aiter_text():
            seen += text
            if lease is None:
                lease = await tasks.claim_one("a1")
            if "TASK_STATE_WORKING" in seen:
                break
    (_, first), (last, working) = frames(seen)
    assert first["task"]["status"]["state"] == "TASK_STATE_SUBMITTED"
    assert working["statusUpdate"]["taskId"] == task_id
    rows = {str(row.seq): row.kind for row in await api.rows(task_id)}
    assert rows[str(last)] == "task.claimed"
    await _done(tasks, lease, 7)
    # What it has missed is the end, which who has never listened gets otherwise.
    rest = await api.client.post("/a2a", json=body, headers={**VERSION, "last-event-id": str(last)})
    ((_, ended),) = frames(rest.text)
    assert (ended["task"]["status"]["state"], ended["task"]["artifacts"][0]["parts"][0]["data"]) == (
        "TASK_STATE_COMPLETED",
        7,
    )
    async with a2a_client(api.url) as client:
        with pytest.raises(UnsupportedOperationError, match="has ended"):
            await subscribed(client, task_id)
    wrong = await api.client.post("/a2a", json=body, headers={**VERSION, "last-event-id": "x"})
    assert wrong.json()["error"]["code"] == -32602


async def test_a_subscriber_hears_of_each_attempt_and_question(api: Api, tasks: TaskApi) -> None:
    await tasks.agent("a1")
    async with a2a_client(api.url) as client:
        task_id = await tasks.submit()
        listening = asyncio.create_task(subscribed(client, task_id))
        await eventually(lambda: api.gateway.hub._listeners == 1)
        lease = await tasks.claim_one("a1")
        await tasks.post(f"/tasks/{task_id}/ask", {"question": "Why?", "lease_token": lease["lease_token"]})
        await tasks.post(f"/tasks/{task_id}/answer", {"verdict": "answer", "answer": "so"})
        await _done(tasks, await tasks.claim_one("a1"), "end")
        events = await listening
    states = [state_of(event.status_update) for event in events if event.HasField("status_update")]
    # What is read for one row may be newer, so that a state is told early and then not again.
    assert states[0] == "WORKING"
    assert states[-1] == "COMPLETED"
    assert events[0].HasField("task")
    assert len(events) == len(states) + 2


async def test_work_goes_on_when_its_client_hangs_up(api: Api, tasks: TaskApi) -> None:
    await tasks.agent("a1")
    for streaming in (True, False):
        async with a2a_client(api.url, streaming=streaming) as client:
            sending = asyncio.create_task(sent(client, work({"n": 1})))
            await eventually(lambda: api.gateway.hub._listeners == 1)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        # The call ends with its client, not with its time.
        await eventually(lambda: api.gateway.hub._listeners == 0)
        lease = await tasks.claim_one("a1")
        await _done(tasks, lease, 1)
        assert (await tasks.get(f"/tasks/{lease['id']}"))["status"] == "completed"


async def test_any_of_two_replicas_answers(api: Api, store_urls: StoreUrls, schema: str) -> None:
    settings = api_settings(
        store_urls, schema, a2a_enabled=True, public_url=PUBLIC, redis_prefix=api.settings.redis_prefix
    )
    async with Api(settings).running(()) as second, a2a_client(second.url) as other:
        async with a2a_client(api.url, polling=True, streaming=False) as client:
            task = await sent(client, work({"n": 1}))
        listening = asyncio.create_task(subscribed(other, task.id))
        await eventually(lambda: second.gateway.hub._listeners == 1)
        await api.post(f"/tasks/{task.id}/cancel")
        assert state_of((await listening)[-1].status_update) == "CANCELED"
        assert (await api.client.get(CARD)).content == (await second.client.get(CARD)).content


# --- lists -------------------------------------------------------------------------------------------------------------


async def _listed(client: Any, **fields: Any) -> list[Any]:
    found, token = [], ""
    while True:
        page = await client.list_tasks(ListTasksRequest(page_token=token, **fields))
        found += page.tasks
        token = page.next_page_token
        if not token:
            return found


async def test_lists_are_of_a_conversation_or_of_all(api: Api, tasks: TaskApi) -> None:
    await tasks.agent("a1")
    async with a2a_client(api.url, polling=True, streaming=False) as client:
        begun = await sent(client, work({"n": 1}))
        follow = await sent(client, work({"n": 2}, context_id=begun.context_id))
        asked = await sent(client, message("Which?", context_id=begun.context_id))
        other = await sent(client, work({"n": 3}, context_id="x y=z"))
        assert begun.context_id == begun.id
        in_it = await _listed(client, context_id=begun.context_id, page_size=1)
        assert {task.id for task in in_it} == {begun.id, follow.id, asked.id}
        assert len(in_it) == 3
        assert [task.id for task in await _listed(client, context_id="x y=z")] == [other.id]
        everything = await _listed(client, page_size=2)
        assert [task.id for task in everything] == [other.id, asked.id, follow.id, begun.id]
        await _done(tasks, await tasks.claim_one("a1"), {"n": 1})
        done = await _listed(client, status=TaskState.TASK_STATE_COMPLETED, include_artifacts=True)
        assert [result_of(task) for task in done] == [{"n": 1}]
        assert not (await _listed(client, status=TaskState.TASK_STATE_COMPLETED))[0].artifacts
        assert await _listed(client, status=TaskState.TASK_STATE_FAILED) == []
        assert await _listed(client, status=TaskState.TASK_STATE_REJECTED) == []
        later = ListTasksRequest().status_timestamp_after
        later.FromJsonString("2999-01-01T00:00:00Z")
        assert await _listed(client, status_timestamp_after=later) == []
    token = encode_cursor(4e9, "x")
    empty = (await called(api.client, "ListTasks", {"contextId": "none", "pageToken": token}))["result"]
    assert (empty["tasks"], empty["pageSize"], empty["nextPageToken"]) == ([], 50, "")


@pytest.mark.parametrize("context", ["talk", ""])
async def test_lists_begin_with_what_has_changed_last(api: Api, tasks: TaskApi, context: str) -> None:
    await tasks.agent("a1")
    async with a2a_client(api.url, polling=True, streaming=False) as client:
        first, second, third = [(await sent(client, work({"n": n}, context_id="talk"))).id for n in range(3)]
        asked = (await sent(client, message("Which?", context_id="talk"))).id
        page = await client.list_tasks(ListTasksRequest(page_size=2, context_id=context))
        assert ([task.id for task in page.tasks], page.total_size) == ([asked, third], 4)
        await _done(tasks, await tasks.claim_one("a1"), 1)
        rest = await client.list_tasks(
            ListTasksRequest(page_size=2, context_id=context, page_token=page.next_page_token)
        )
        assert [task.id for task in rest.tasks] == [second], (
            "what changed meanwhile comes before the pages that were read"
        )
        lease = await tasks.claim_one("a1")
        body = {"lease_token": lease["lease_token"], "question": "Really?"}
        await tasks.post(f"/tasks/{lease['id']}/ask", body)
        newest = await _listed(client, page_size=1, context_id=context)
        question = await got(client, second)
        assert [task.id for task in newest] == [second, first, asked, third]
        times = [task.status.timestamp.ToNanoseconds() for task in newest]
        assert times == sorted(times, reverse=True)
        assert newest[0].status.timestamp == question.status.timestamp
        since = newest[1].status.timestamp
        late = await _listed(client, page_size=1, context_id=context, status_timestamp_after=since)
        assert [task.id for task in late][:1] == [second]
        assert asked not in [task.id for task in late]
        waiting = await _listed(client, context_id=context, status=TaskState.TASK_STATE_INPUT_REQUIRED)
        assert [task.id for task in waiting] == [second]
        ended = await _listed(client, context_id=context, status=TaskState.TASK_STATE_COMPLETED)
        assert [task.id for task in ended] == [first]


async def test_pages_of_lists_name_each_task_once(api: Api, tasks: TaskApi) -> None:
    await tasks.agent("a1")
    made = [await tasks.submit() for _ in range(7)]
    for _ in range(3):
        await _done(tasks, await tasks.claim_one("a1"), 1)
    await tasks.claim_one("a1")
    async with a2a_client(api.url) as client:
        asked = [(await api.post("/deliberations", {"content": f"{n}?", "async": True}))["task_id"] for n in range(3)]
        for size in (1, 2, 3, 4, 100):
            found = [task.id for task in await _listed(client, page_size=size)]
            assert sorted(found) == sorted([*made, *asked]), size
            assert len(found) == len(set(found)), size


# --- odd input ---------------------------------------------------------------------------------------------------------

TEXT = [{"text": "x"}]
ODD_CALLS: list[tuple[str, Any, int, str]] = [
    ("SendMessage", {}, -32602, "message is required."),
    ("SendMessage", {"message": None}, -32602, "message is required."),
    ("SendMessage", {"message": {"role": "ROLE_USER", "parts": TEXT}}, -32602, "message.messageId is required."),
    ("SendMessage", {"message": {"messageId": "m", "parts": TEXT}}, -32602, "message.role is required."),
    ("SendMessage", {"message": {"messageId": "m", "role": "ROLE_BOSS", "parts": TEXT}}, -32602, "message.role"),
    ("SendMessage", {"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": TEXT}}, -32602, "must be ROLE_USER"),
    ("SendMessage", {"message": {"messageId": "m", "role": "ROLE_USER", "parts": []}}, -32602, "message.parts is"),
    ("SendMessage", {"message": {"messageId": 5, "role": "ROLE_USER", "parts": TEXT}}, -32602, "no SendMessageRequest"),
    # The package's parser takes a text or a list for an object without fields.
    *(("SendMessage", {"message": odd}, -32602, "message must be an object.") for odd in ("hello", ["hello"], 5)),
    *(("SendMessage", raw_message(odd), -32602, "parts must be a list of objects.") for odd in (["hello"], [["text"]])),
    ("SendMessage", raw_message(TEXT, configuration="x"), -32602, "configuration must be an object."),
    ("SendMessage", raw_message(TEXT, metadata=["x"]), -32602, "no SendMessageRequest"),
    ("SendMessage", [], -32602, "params must be an object."),
    ("SendMessage", raw_message([{}]), -32602, "text or data"),
    ("SendMessage", raw_message([{"url": "file:///etc/passwd"}]), -32005, "Files are not taken"),
    ("SendMessage", raw_message([{"raw": "AAAA"}]), -32005, "Files are not taken"),
    ("SendMessage", raw_message([{"raw": "not base64!"}]), -32602, "no SendMessageRequest"),
    ("SendMessage", raw_message([{"text": "a", "data": 1}]), -32602, "no SendMessageRequest"),
    ("SendMessage", raw_message([{"data": 1}]), -32602, "needs a text part"),
    ("SendMessage", raw_message([{"data": 1}, *TEXT]), -32602, "evidence"),
    ("SendMessage", raw_message([{"text": ""}]), -32602, "content must have at least 1 character."),
    ("SendMessage", raw_message(TEXT, contextId="x" * 257), -32602, "at most 256"),
    ("SendMessage", raw_message(TEXT, taskId="none"), -32001, "There is no task none."),
    ("SendMessage", raw_message(TEXT, taskId="../agents"), -32001, "There is no task ../agents."),
    ("SendMessage", raw_message(TEXT, tenant="other"), -32602, "tenant must be default"),
    ("SendMessage", raw_message(TEXT, metadata={"aragora": 5}), -32602, "metadata.aragora must be an object."),
    ("SendMessage", raw_message(TEXT, metadata={"aragora": {"skill": "rule"}}), -32602, "skill must be one of"),
    ("SendMessage", raw_message(TEXT, metadata={"aragora": {"skill": ["a"]}}), -32602, "skill must be one of"),
    (
        "SendMessage",
        raw_message(TEXT, metadata={"aragora": {"skill": "submit_task"}}),
        -32602,
        "task_type is required.",
    ),
    ("SendMessage", raw_message(TEXT, metadata={"aragora": {"task_type": 5}}), -32602, "task_type"),
    ("SendMessage", raw_message(TEXT, metadata={"aragora": {"task_type": "t", "payload": 1}}), -32602, "no payload"),
    ("SendMessage", raw_message(TEXT, metadata={"aragora": {"task_type": "t", "metadata": 1}}), -32602, "an object"),
    ("SendMessage", raw_message(TEXT, metadata={"aragora": {"config": {"rounds": "many"}}}), -32602, "rounds"),
    (
        "SendMessage",
        raw_message([*TEXT, {"data": {"prompt": "y"}}], metadata={"aragora": {"task_type": "t"}}),
        -32602,
        "an object without one",
    ),
    (
        "SendMessage",
        raw_message(TEXT, configuration={"taskPushNotificationConfig": {"url": "ftp://127.0.0.1:1"}}),
        -32602,
        "http or https",
    ),
    ("CreateTaskPushNotificationConfig", {"taskId": "t", "url": "http://127.0.0.1:1"}, -32001, "There is no task t."),
    ("GetTaskPushNotificationConfig", {"taskId": "t", "id": "c"}, -32001, "There is no task t."),
    ("ListTaskPushNotificationConfigs", {"taskId": "t"}, -32001, "There is no task t."),
    ("DeleteTaskPushNotificationConfig", {"taskId": "t", "id": "c"}, -32001, "There is no task t."),
    ("GetExtendedAgentCard", {}, -32004, "no extended card"),
    ("GetTask", {}, -32602, "id is required."),
    ("GetTask", {"id": "none"}, -32001, "There is no task none."),
    ("GetTask", {"id": "history"}, -32001, "There is no task history."),
    ("GetTask", {"id": "a?wait=25"}, -32001, "There is no task"),
    ("GetTask", {"id": {"a": 1}}, -32602, "no GetTaskRequest"),
    ("CancelTask", {"id": "none"}, -32001, "none"),
    ("SubscribeToTask", {"id": "none"}, -32001, "none"),
    ("SendStreamingMessage", raw_message(TEXT, taskId="none"), -32001, "none"),
    ("ListTasks", {"pageSize": 0}, -32602, "pageSize"),
    ("ListTasks", {"pageSize": 101}, -32602, "pageSize"),
    ("ListTasks", {"pageSize": 2**40}, -32602, "no ListTasksRequest"),
    ("ListTasks", {"historyLength": -1}, -32602, "historyLength"),
    ("ListTasks", {"pageToken": "x"}, -32602, "pageToken"),
    ("ListTasks", {"pageToken": "dHh4"}, -32602, "pageToken"),
    ("ListTasks", {"pageToken": "bmFufHg"}, -32602, "pageToken"),
    ("ListTasks", {"statusTimestampAfter": "yesterday"}, -32602, "no ListTasksRequest"),
    ("ListTasks", {"contextId": "x" * 600}, -32602, "at most"),
    ("message/send", {}, -32601, "There is no method message/send; use one of SendMessage"),
    ("\x01" * 400, {}, -32601, "There is no method"),
]


async def test_odd_calls_are_refused_in_one_sentence_with_a_code(api: Api) -> None:
    for method, params, code, said in ODD_CALLS:
        found, sentence = await refused(api.client, method, params)
        assert (found, said in sentence) == (code, True), (method, params, found, sentence)
        assert sentence.endswith("."), sentence
        assert len(sentence) < 400
    # Nothing was begun by any of them.
    assert [(await api.get(path))["total"] for path in ("/tasks", "/deliberations")] == [0, 0]


def _odd_bodies() -> Iterator[tuple[bytes, int]]:
    good = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "t"}}
    for body in (b"", b"{", b"\xff", b"[" * 100_000):
        yield body, -32700
    yield b'{"id": ' + b"9" * 5_000 + b"}", -32600
    yield b'{"id": "\\ud800"}', -32600
    for wrong in (5, [], [good], {}, good | {"id": None}, good | {"id": True}, good | {"id": 1.5}, good | {"id": []}):
        yield json.dumps(wrong).encode(), -32600
    for wrong in (good | {"jsonrpc": "1.0"}, good | {"method": 5}):
        yield json.dumps(wrong).encode(), -32600
    deep: Any = {}
    for _ in range(60):
        deep = {"a": deep}
    yield json.dumps(good | {"params": {"id": "t", "x": deep}}).encode(), -32001


async def test_what_is_no_call_is_refused_without_a_stack_trace(api: Api) -> None:
    headers = {**VERSION, "content-type": "application/json"}
    for body, code in _odd_bodies():
        answer = await api.client.post("/a2a", headers=headers, content=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (200, code), (body[:60], answer.text)
        assert answer.headers["x-trace-id"] in answer.text
        assert answer.json()["error"]["message"].endswith(".")
    assert (await api.client.post("/a2a", headers={"content-type": "text/plain"}, content=b"{}")).status_code == 415
    assert (await api.client.get("/a2a")).status_code == 405
    large = b'{"x": "' + b"y" * 1_100_000 + b'"}'
    assert (await api.client.post("/a2a", headers=headers, content=large)).status_code == 413


async def test_another_version_of_the_protocol_is_refused(api: Api) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "t"}}
    for version in ("0.3", "", "2.0", "1.x", "9" * 400):
        answer = await api.client.post("/a2a", json=body, headers={"a2a-version": version})
        assert answer.json()["error"]["code"] == -32009, version
    assert (await api.client.post("/a2a", json=body)).json()["error"]["code"] == -32009
    assert (await api.client.post("/a2a?A2A-Version=1.0", json=body)).json()["error"]["code"] == -32001


@pytest.mark.longer
async def test_a_part_that_is_away_is_an_error_without_its_text(api: Api) -> None:
    async with a2a_client(api.url, polling=True, streaming=False) as client:
        task = await sent(client, work({"n": 1}))
    await api.kill_scheduler()
    code, said = await refused(api.client, "CancelTask", {"id": task.id})
    assert (code, "try again" in said) == (-32603, True)


async def test_the_client_raises_the_errors_of_the_protocol(api: Api) -> None:
    async with a2a_client(api.url) as client:
        with pytest.raises(TaskNotFoundError):
            await got(client, "none")
        with pytest.raises((A2AError, A2AClientError)):
            await sent(client, message("x", task_id=uuid.uuid4().hex))


async def test_it_is_off_unless_it_is_switched_on(store_urls: StoreUrls, schema: str) -> None:
    async with Api(api_settings(store_urls, schema)).running(()) as api:
        for path in ("/a2a", "/a2a/keys", CARD):
            answer = await api.client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
