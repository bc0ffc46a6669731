"""Calls agents that are Python objects: those that the process was given, or imported by path where that is allowed."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from aragora_worker.asking import Asks
from aragora_worker.children import Parks
from cluster.agent_transports.python_agent import InClusterAgent, Question, TaskWorker, WorkTask
from cluster.domain.agents.calls import Reply
from cluster.domain.base.errors import AgentMalformed, AgentTimeout, AgentUnavailable, EndpointForbidden
from cluster.domain.base.json_values import check_size, shown_error, write_any_json
from cluster.domain.tasks.agent_waits import CONTRACT
from cluster.domain.tasks.progress import Progress
from cluster.ports.agent_transport import THE_ANSWER, Ask, counted, judged, number
from cluster.process.large import in_thread_if_large, rough_size

_logger = logging.getLogger(__name__)

#: How many characters of an error in an agent's code are shown.
MAX_ERROR_SHOWN = 400


class PythonTransport:
    """``given`` are agents by id; ``may_import(path)`` says whether an agent's import path may be imported."""

    def __init__(
        self, given: Mapping[str, InClusterAgent] | None = None, may_import: Callable[[str], bool] = lambda path: False
    ) -> None:
        #: (import path, agent id) → instance; the path of a given agent is empty. An imported class is instantiated once.
        self._agents: dict[tuple[str, str], Any] = {("", name): agent for name, agent in (given or {}).items()}
        self._may_import = may_import

    async def ask(self, ask: Ask) -> Reply:
        """Returns the agent's answer, or its result for a task.

        Raises: `AgentTimeout` if the time is over; `AgentUnavailable` if its code raises or cannot be instantiated;
        `AgentMalformed` if its answer does not fit; `EndpointForbidden` if its module may not be imported."""
        agent = self._agent(ask)
        try:
            async with asyncio.timeout(ask.timeout_s) as limit:
                return await (_answer(agent, ask) if ask.task is None else _work(agent, ask))
        except (AgentMalformed, AgentUnavailable):
            raise
        except BaseException as error:
            # SystemExit and KeyboardInterrupt too: they would end the loop, and with it all agents of the process.
            if limit.expired():
                raise AgentTimeout(f"Agent {ask.agent_id} did not answer within {ask.timeout_s:.1f} s.") from None
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            _logger.warning("agent %s raised", ask.agent_id, exc_info=error)
            raise AgentUnavailable(f"Agent {ask.agent_id} raised {shown_error(error, MAX_ERROR_SHOWN)}") from error

    def _agent(self, ask: Ask) -> Any:
        path = ask.options.import_path
        key = (path, ask.agent_id)
        if key not in self._agents:
            self._agents[key] = self._imported(path, ask.options.arguments)
        return self._agents[key]

    def _imported(self, path: str, arguments: Mapping[str, Any]) -> Any:
        if not self._may_import(path):
            raise EndpointForbidden(f"{path} may not run in the cluster; name its module in ARAGORA_AGENT_MODULES.")
        module, _, name = path.partition(":")
        try:
            agent = getattr(importlib.import_module(module), name)(**arguments)
        except BaseException as error:  # a module may end the process as it is imported
            raise AgentUnavailable(f"{path} cannot be made an agent: {shown_error(error, MAX_ERROR_SHOWN)}") from error
        if not isinstance(agent, InClusterAgent | TaskWorker):
            raise AgentUnavailable(f"{path} has neither an answer nor a work method; see docs/in-cluster-agents.md.")
        return agent


def _is_cancelled() -> bool:
    """Whether this task was cancelled. The agent's own code may raise CancelledError too."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _answer(agent: Any, ask: Ask) -> Reply:
    if not isinstance(agent, InClusterAgent):
        raise AgentUnavailable(f"Agent {ask.agent_id} has no answer method.")
    question = Question(
        messages=ask.messages, schema=ask.schema, max_tokens=ask.max_tokens, timeout_s=ask.timeout_s, key=ask.key
    )
    answer: Any = await agent.answer(question)
    text = getattr(answer, "text", None)
    if not isinstance(text, str):
        raise AgentMalformed(f"Agent {ask.agent_id} answered a {type(answer).__name__} without a text.")
    with judged():
        tokens_in, tokens_out = (getattr(answer, name, None) for name in ("input_tokens", "output_tokens"))
        return await in_thread_if_large(len(text), _reply, ask, text, number(tokens_in), number(tokens_out))


def _reply(ask: Ask, text: str, tokens_in: int | None, tokens_out: int | None) -> Reply:
    check_size(text, THE_ANSWER)
    return counted(ask, text, tokens_in, tokens_out)


async def _work(agent: Any, ask: Ask) -> Reply:
    if not isinstance(agent, TaskWorker) or ask.task is None:
        raise AgentUnavailable(f"Agent {ask.agent_id} has no work method, so it takes no tasks.")
    answer: dict[str, Any]
    try:
        answer = {"result": await agent.work(WorkTask(ask.task, ask.report or _nobody_stores))}
    except Asks as asks:
        answer = {"contract": CONTRACT, "ask": asks.ask}
    except Parks as parks:
        answer = {"contract": CONTRACT, "park": parks.park}
    with judged():
        return await in_thread_if_large(rough_size(answer), _reply_with, answer)


async def _nobody_stores(progress: Progress) -> None:
    """For an asker that keeps no progress."""


def _reply_with(answer: Any) -> Reply:
    text = write_any_json(answer, THE_ANSWER)
    check_size(text, THE_ANSWER)
    return Reply(text=text)
