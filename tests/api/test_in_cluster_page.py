"""The class of docs/in-cluster-agents.md, taken from the page, registered as the page says, does what the page says."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api, api_settings
from tests.support.called_agents import ended_task
from tests.support.docs import ROOT
from tests.support.probes import eventually
from tests.support.stores import StoreUrls
from tests.support.task_api import TaskApi

PAGE = (ROOT / "docs" / "in-cluster-agents.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def _registration() -> dict[str, Any]:
    (command,) = [block for block in _blocks("bash") if "import_path" in block]
    body: dict[str, Any] = json.loads(command.partition("-d '")[2].rpartition("'")[0])
    return body


#: Submits children over the API that its payload names, and waits for them.
FAMILY = """
class Family:
    async def work(self, task: WorkTask) -> Any:
        if task.children is None:
            body = {"lease_token": task["lease_token"], "tasks": [{"task_type": "add", **task["payload"]["child"]}] * 2}
            async with ControlPlaneClient(task["payload"]["url"]) as api:
                children = (await api.post(f"/tasks/{task['id']}/children", body))["task_ids"]
            task.park(children, checkpoint={"waits_for": len(children)})
        return {"results": [child.result for child in task.children], **task.checkpoint}
"""


@pytest.fixture
async def cluster(
    store_urls: StoreUrls, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Api]:
    """The control plane with the page's module where the page puts it, and allowed as the page allows it."""
    (source,), (publisher,) = _blocks("python"), _blocks("python run")
    (tmp_path / "my_agents.py").write_text(
        f"{source}\n{publisher}\n{FAMILY}\nfrom aragora_worker import ControlPlaneClient\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (start,) = [block for block in _blocks("bash") if "aragora-cp up" in block]
    (modules,) = re.findall(r"ARAGORA_AGENT_MODULES=(\S+)", start)
    async with Api(api_settings(store_urls, schema, agent_modules=(modules,))).running() as running:
        yield running
    sys.modules.pop("my_agents", None)


async def test_the_pages_agent_takes_tasks_and_answers_questions(cluster: Api) -> None:
    await cluster.post("/agents", _registration())
    task = {"task_type": "add", "payload": {"terms": [1, 2]}, "required_capabilities": ["add"]}
    created = await cluster.post("/tasks", task)
    done = await ended_task(cluster, created["task_id"])
    assert (done["result"], done["checkpoint"]) == ({"sum": 3}, {"terms": 2, "sum": 3})
    assert (done["progress"]["percent"], done["progress"]["message"]) == (100.0, "2 terms")
    question = {"content": "a or b?", "config": {"options": ["a", "b"], "agents": ["reviewer"], "min_agents": 1}}
    decision = await cluster.post("/deliberations", question)
    assert (decision["panel"], decision["answer"]) == (["reviewer"], "b")


async def test_the_pages_publisher_asks_before_it_publishes(cluster: Api) -> None:
    await cluster.post("/agents", {"agent_id": "p", "import_path": "my_agents:Publisher", "capabilities": ["publish"]})
    tasks = TaskApi(cluster)
    task = {"payload": {"text": "Hello"}, "required_capabilities": ["publish"], "max_retries": 0}
    yes, no = [await tasks.submit("publish", **task) for _ in range(2)]
    for task_id in (yes, no):
        await eventually(lambda task_id=task_id: tasks.is_detail(task_id, "input_required"), 60)
    assert (await tasks.post(f"/tasks/{yes}/answer", {"verdict": "answer", "answer": "maybe"}, expect=400))["code"]
    await tasks.post(f"/tasks/{yes}/answer", {"verdict": "approve"})
    await tasks.post(f"/tasks/{no}/answer", {"verdict": "reject", "reason": "too early"})
    assert (await ended_task(cluster, yes))["result"] == {"published": True, "text": "Hello"}
    assert (await ended_task(cluster, no))["result"] == {"published": False, "reason": "too early"}


async def test_work_in_the_cluster_waits_for_children(cluster: Api) -> None:
    await cluster.post("/agents", _registration())
    await cluster.post("/agents", {"agent_id": "f", "import_path": "my_agents:Family", "capabilities": ["family"]})
    child = {"payload": {"terms": [1, 2]}, "required_capabilities": ["add"]}
    payload = {"url": cluster.url, "child": child}
    task = {"task_type": "f", "payload": payload, "required_capabilities": ["family"], "max_retries": 0}
    done = await ended_task(cluster, (await cluster.post("/tasks", task))["task_id"])
    assert (done["result"], done["attempt"]) == ({"results": [{"sum": 3}] * 2, "waits_for": 2}, 2)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"import_path": "json:JSONDecoder"}, "import_forbidden"),
        ({"import_path": "my_agents:Missing"}, "import_not_found"),
        ({"import_path": "my_agents.inner:Reviewer"}, "import_not_found"),
    ],
)
async def test_what_the_page_says_is_refused_is(cluster: Api, change: dict[str, Any], code: str) -> None:
    assert f"400 `{code}`" in PAGE
    refused = await cluster.call("POST", "/agents", _registration() | change)
    assert (refused.status_code, refused.json()["code"]) == (400, code)


async def test_arguments_that_do_not_fit_fail_the_attempt(cluster: Api) -> None:
    await cluster.post("/agents", _registration() | {"options": {"arguments": {"colour": "red"}}})
    task = {"task_type": "add", "payload": {"terms": [1]}, "required_capabilities": ["add"], "max_retries": 0}
    ended = await ended_task(cluster, (await cluster.post("/tasks", task))["task_id"])
    assert "colour" in ended["error"]
