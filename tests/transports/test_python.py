"""Classes in the cluster are agents; whatever they raise, the loop that they share with others goes on."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from cluster.agent_transports.python import PythonTransport
from cluster.agent_transports.python_agent import Answer, Question, WorkTask
from cluster.domain.agents.agent import TransportKind
from cluster.domain.agents.calls import Reply
from cluster.domain.base.errors import (
    AgentTimeout,
    AgentUnavailable,
    EndpointForbidden,
    InvalidRequest,
)
from cluster.domain.tasks.progress import Progress
from cluster.ports.agent_transport import Ask
from tests.support.asking import question
from tests.support.threads import running_in

TASK = {"id": "t1", "task_type": "t", "payload": None, "attempt": 1, "metadata": {}}


class Own(BaseException):
    """What a library may derive from the very root."""


class Raising:
    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def answer(self, question: Question) -> Answer:
        raise self._error

    async def work(self, task: Mapping[str, Any]) -> Any:
        await asyncio.sleep(0)
        raise self._error


class Waits:
    async def answer(self, question: Question) -> Answer:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


ERRORS = [
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    Own("own"),
    BaseExceptionGroup("many", [SystemExit(1), ValueError("x")]),
    asyncio.CancelledError(),
    TimeoutError("of its own"),
    StopIteration(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("task", [TASK, None], ids=["work", "answer"])
async def test_whatever_an_agent_raises_fails_its_call_alone(error: BaseException, task: dict[str, Any] | None) -> None:
    ask = question("", transport=TransportKind.IMPORT, agent_id="a1", task=task, timeout_s=30.0)
    with pytest.raises(AgentUnavailable, match="Agent a1 raised"):
        await PythonTransport({"a1": Raising(error)}).ask(ask)


class Says:
    def __init__(self, size: int) -> None:
        self._text = "a" * size

    async def answer(self, question: Question) -> Answer:
        return Answer(text=self._text)

    async def work(self, task: Mapping[str, Any]) -> Any:
        return {"numbers": list(range(len(self._text)))}


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_large_answer_in_the_cluster_is_read_off_the_loop(size: int) -> None:
    with running_in("counted") as ran:
        reply = await PythonTransport({"says": Says(size)}).ask(
            question("", transport=TransportKind.IMPORT, agent_id="says")
        )
    assert len(reply.text) == size
    assert (threading.get_ident() in ran["counted"]) == (size == 10)


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_large_result_in_the_cluster_is_written_off_the_loop(size: int) -> None:
    ask = question("", transport=TransportKind.IMPORT, agent_id="says", task=TASK)
    with running_in("write_any_json") as ran:
        reply = await PythonTransport({"says": Says(size)}).ask(ask)
    assert json.loads(reply.text) == {"result": {"numbers": list(range(size))}}
    assert (threading.get_ident() in ran["write_any_json"]) == (size == 10)


async def test_an_agent_that_takes_too_long_times_out() -> None:
    ask = question("", transport=TransportKind.IMPORT, agent_id="a1", timeout_s=0.01)
    with pytest.raises(AgentTimeout):
        await PythonTransport({"a1": Waits()}).ask(ask)


async def test_a_question_that_is_cancelled_stays_cancelled() -> None:
    ask = question("", transport=TransportKind.IMPORT, agent_id="a1", timeout_s=30.0)
    asking = asyncio.create_task(PythonTransport({"a1": Waits()}).ask(ask))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


class EndsAsItIsMade:
    def __init__(self) -> None:
        sys.exit(1)


async def test_an_agent_that_exits_in_its_constructor_ends_nothing_else() -> None:
    python = PythonTransport(may_import=lambda path: path.startswith("tests."))
    path = f"{__name__}:EndsAsItIsMade"
    with pytest.raises(AgentUnavailable):
        await python.ask(question("", transport=TransportKind.IMPORT, options={"import_path": path}))


class Echo:
    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix

    async def answer(self, question: Question) -> Answer:
        return Answer(text=self.prefix + question.messages[-1]["content"], input_tokens=1, output_tokens=2)

    async def work(self, task: Mapping[str, Any]) -> Any:
        return {"echo": task["payload"]}


class Broken:
    async def answer(self, question: Question) -> Answer:
        raise ValueError("no idea")


def _python(path: str, **changes: Any) -> Ask:
    options = {"import_path": path, **changes.pop("options", {})}
    return question("", transport=TransportKind.IMPORT, options=options, agent_id="a1", **changes)


async def test_a_python_agent_works_only_where_its_module_is_allowed() -> None:
    python = PythonTransport(may_import=lambda path: path.startswith("tests."))
    ask = _python(f"{__name__}:Echo", options={"arguments": {"prefix": "> "}})
    assert await python.ask(ask) == Reply(text="> Which?", tokens=3, input_tokens=1, output_tokens=2)
    task = {"id": "t1", "task_type": "echo", "payload": 7, "attempt": 1}
    worked = await python.ask(_python(f"{__name__}:Echo", task=task, options={"arguments": {"prefix": "> "}}))
    assert json.loads(worked.text) == {"result": {"echo": 7}}
    with pytest.raises(EndpointForbidden):
        await python.ask(_python("os:system"))
    for wrong in ("Broken", "Server", "Missing"):
        with pytest.raises(AgentUnavailable):
            await python.ask(_python(f"{__name__}:{wrong}"))


async def test_an_object_of_this_process_can_be_an_agent() -> None:
    reply = await PythonTransport({"a1": Echo()}).ask(question("", transport=TransportKind.IMPORT, agent_id="a1"))
    assert reply.text == "Which?"


class Pages:
    async def answer(self, question: Question) -> Answer:
        return Answer(text="")

    async def work(self, task: WorkTask) -> Any:
        before = task.checkpoint
        await task.progress(percent=50, message="half", checkpoint={"page": task["payload"]})
        with pytest.raises(InvalidRequest, match="0 to 100"):
            await task.progress(percent=101)
        return {"went on from": before}


async def test_an_agent_that_works_reports_to_whoever_asked() -> None:
    reported: list[Progress] = []

    async def report(progress: Progress) -> None:
        reported.append(progress)

    task = {**TASK, "payload": 2, "checkpoint": [1]}
    ask = question("", transport=TransportKind.IMPORT, agent_id="p", task=task)
    transport = PythonTransport({"p": Pages()})
    reply = await transport.ask(replace(ask, report=report))
    assert json.loads(reply.text) == {"result": {"went on from": [1]}}
    assert reported == [Progress(percent=50.0, message="half", checkpoint_json='{"page":2}')]
    again = await transport.ask(ask)
    assert again == reply, "whoever keeps no progress gets the result all the same"
