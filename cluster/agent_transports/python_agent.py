"""A Python class as an agent in the cluster: all there is to know to write one.

    class Echo:
        async def answer(self, question: Question) -> Answer:
            return Answer(text=question.messages[-1]["content"])

Register it with ``{"agent_id": "echo", "import_path": "my_agents:Echo", "max_concurrency": 8}``; the module (or one
above it) must be named in ARAGORA_AGENT_MODULES and be installed where the control plane runs. The class is
instantiated once per process with ``options["arguments"]`` as keyword arguments. ``answer`` is cancelled when the
question's time is over; whatever it raises makes the agent abstain. A class that also has ``work`` takes ordinary
tasks: it gets the task and answers its result. Instances live in the agent hosts' processes, so ``answer`` and ``work``
must not block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """``messages`` as in a chat; the answer's text should be JSON that fits ``schema``. ``key`` is the same whenever
    the question is repeated."""

    messages: Sequence[Mapping[str, str]]
    schema: Mapping[str, Any]
    max_tokens: int
    timeout_s: float
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Counts of tokens where they are known."""

    text: str
    input_tokens: int | None = None
    output_tokens: int | None = None


@runtime_checkable
class InClusterAgent(Protocol):
    async def answer(self, question: Question) -> Answer: ...


@runtime_checkable
class TaskWorker(Protocol):
    async def work(self, task: Mapping[str, Any]) -> Any:
        """``task`` has ``id``, ``task_type``, ``payload``, ``attempt``, ``metadata``; answers its result (JSON)."""
