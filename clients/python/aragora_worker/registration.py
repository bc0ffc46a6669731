"""The agent that a worker is: its registration, which it renews when the control plane has forgotten it, and its end."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Mapping
from typing import Any

from aragora_worker.base.errors import CallerError, ControlPlaneError, NotFound
from aragora_worker.base.ids import path_segment
from aragora_worker.calls import ANNOUNCE_S, PROCESS, REGISTRATION, WorkerCalls
from aragora_worker.errors import OutcomeUnknown

_logger = logging.getLogger(__name__)


class Registration:
    """``description`` is the body of the registration but for the mark of this process."""

    def __init__(self, description: dict[str, Any], calls: WorkerCalls) -> None:
        self.agent_id: str = description["agent_id"]
        self.description = description
        #: Registered with the agent, so that each process sees whether another one has registered after it. Claims and heartbeats
        #: name it too, so that this process does not renew the leases of one that was killed.
        self.process = uuid.uuid4().hex
        self._calls = calls
        #: False once another process may have this agent's id: then this one does not deregister it.
        self._alone = True

    async def registered(self) -> bool:
        """Repeats the registration until it is taken. If it is refused, ends the worker and returns False."""
        try:
            await self._calls.patiently(REGISTRATION, self._register)
        except CallerError as error:
            self._calls.end_with(error)
            return False
        _logger.info("agent %s is registered", self.agent_id)
        return True

    async def leave(self) -> None:
        """Deregisters the agent, unless another process may have its id (it would lose its tasks), or an operator paused it
        (a new registration would end that)."""
        with contextlib.suppress(ControlPlaneError):
            agent = await self._seen()
            mine = self._alone and agent["metadata"].get(PROCESS) == self.process
            if mine and agent.get("intent_by") != "operator":
                await self._calls.client.request("DELETE", self._path(), timeout_s=ANNOUNCE_S)
                _logger.info("agent %s is deregistered", self.agent_id)

    async def _register(self) -> None:
        self._alone = self._alone and await self._is_free()
        answer = await self._calls.post("/agents", self._body(), has={"agent_id": str})
        if answer["agent_id"] != self.agent_id:
            raise OutcomeUnknown("What answered the registration is not the control plane.")
        if notice := answer.get("notice"):
            _logger.warning("%s", notice)

    def _body(self) -> Mapping[str, Any]:
        metadata = self.description.get("metadata") or {}
        if not isinstance(metadata, dict):
            return self.description  # the API refuses it, with its own sentence
        return {**self.description, "metadata": {**metadata, PROCESS: self.process}}

    async def _seen(self) -> Mapping[str, Any]:
        """The agent as the control plane has it. Raises: what the client raises."""
        agent: Mapping[str, Any] = await self._calls.client.request(
            "GET", self._path(), timeout_s=ANNOUNCE_S, has={"metadata": dict}
        )
        return agent

    async def _is_free(self) -> bool:
        """Whether no other process is alive under this agent's id, as far as the control plane shows."""
        try:
            agent = await self._seen()
        except NotFound:
            return True
        except ControlPlaneError:
            return False
        return agent.get("liveness") == "offline" or agent["metadata"].get(PROCESS) == self.process

    def _path(self) -> str:
        return f"/agents/{path_segment(self.agent_id)}"
