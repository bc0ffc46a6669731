"""What no call could reach is refused when it is registered: singly, in a batch, and when it replaces an agent."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.api import Api, api_settings
from tests.support.stores import StoreUrls


class Works:
    async def work(self, task: Any) -> Any:
        return None


class Idle:
    """Neither answers nor works."""


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"endpoint": "http://10.0.0.1/"}, "endpoint_forbidden"),
    ({"endpoint": "http://169.254.169.254/latest"}, "endpoint_forbidden"),
    ({"endpoint": "http://[::ffff:10.0.0.1]/", "transport": "openai"}, "endpoint_forbidden"),
    ({"endpoint": "http://167772161/", "transport": "anthropic"}, "endpoint_forbidden"),
    ({"endpoint": "http://0xa9fea9fe/", "transport": "a2a"}, "endpoint_forbidden"),
    ({"endpoint": "http://10.0.0.1/", "dedicated": True}, "endpoint_forbidden"),
    *(
        ({"endpoint": "http://agent.example/v1", "transport": transport, **named}, "model_missing")
        for transport in ("openai", "anthropic")
        for named in ({}, {"model": ""}, {"model": "unknown"}, {"model": " \t"})
    ),
    ({"endpoint": "http://"}, "invalid_endpoint"),
    ({"endpoint": "http://a:99999"}, "invalid_endpoint"),
    ({"endpoint": "a.example/agent"}, "invalid_endpoint"),
    ({"import_path": f"{__name__}:Missing"}, "import_not_found"),
    ({"import_path": f"{__name__}.missing:Works"}, "import_not_found"),
    ({"import_path": f"{__name__}:Idle"}, "import_not_found"),
    ({"import_path": f"{__name__}:Missing", "dedicated": True}, "import_not_found"),
    ({"import_path": "os:system"}, "import_forbidden"),
]
RIGHT: list[dict[str, Any]] = [
    {"endpoint": "http://127.0.0.1:1/"},
    {"endpoint": "http://agent.example:8080/a?b=c"},
    {"endpoint": "http://agent.example/v1", "transport": "openai", "model": "unknown-1"},
    {"endpoint": "http://agent.example/v1", "transport": "anthropic", "model": "m"},
    {"import_path": f"{__name__}:Works"},
    {},
]


@pytest.fixture
async def api(store_urls: StoreUrls, schema: str) -> AsyncIterator[Api]:
    async with Api(api_settings(store_urls, schema, agent_modules=(__name__,))).running(()) as running:
        yield running


async def test_what_no_call_could_reach_is_not_registered(api: Api) -> None:
    await api.post("/agents", {"agent_id": "old", "model": "kept"})
    for body, code in WRONG:
        for call in (
            api.call("POST", "/agents", {"agent_id": "new", **body}),
            api.call("POST", "/agents", {"agent_id": "old", **body}),
            api.call("POST", "/agents/batch", {"agents": [{"agent_id": "good"}, {"agent_id": "new", **body}]}),
        ):
            answer = await call
            assert (answer.status_code, answer.json()["code"]) == (400, code), (body, answer.text)
            assert answer.json()["error"].endswith(".")
    (agent,) = (await api.get("/agents?available=false"))["agents"]
    assert (agent["agent_id"], agent["model"]) == ("old", "kept")


async def test_a_refused_agent_of_a_batch_is_named(api: Api) -> None:
    agents = [{"agent_id": "good"}, {"agent_id": "bad", "endpoint": "http://10.0.0.1/"}]
    answer = await api.call("POST", "/agents/batch", {"agents": agents})
    assert answer.json()["error"].startswith("Agent bad: ")


async def test_what_a_call_may_reach_is_registered(api: Api) -> None:
    for index, body in enumerate(RIGHT):
        await api.post("/agents", {"agent_id": f"a{index}", **body})
    await api.post("/agents/batch", {"agents": [{"agent_id": f"b{index}", **body} for index, body in enumerate(RIGHT)]})


async def test_a_transport_whose_extra_is_missing_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"agent_id": "a2a", "endpoint": "http://agent.example/", "transport": "a2a"}
    await api.post("/agents", body)
    monkeypatch.setitem(sys.modules, "a2a", None)
    answer = await api.call("POST", "/agents", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "transport_missing")
    assert "[a2a]" in answer.json()["error"]


async def test_of_several_entries_for_one_agent_the_last_counts(api: Api) -> None:
    """Each would be a transaction of its own: a thousand of them were answered 503, and held up everybody's registrations."""
    agents = [{"agent_id": "same", "model": f"m{number}"} for number in range(999)]
    answer = await api.post("/agents/batch", {"agents": [*agents, {"agent_id": "other"}]})
    assert [agent["model"] for agent in answer["agents"]] == ["m998"] * 999 + ["unknown"]
    assert answer["total"] == 1000
    assert [row.kind for row in await api.rows("same")] == ["agent.registered"]
