"""A Python class as an agent in the cluster: all there is to know to write one.

    class Echo:
        async def answer(self, question: Question) -> Answer:
            return Answer(text=question.messages[-1]["content"])

Register it with ``{"agent_id": "echo", "import_path": "my_agents:Echo", "max_concurrency": 8}``; the module (or one
above it) must be named in ARAGORA_AGENT_MODULES and be installed where the control plane runs. The class is
instantiated once per process with ``options.arguments`` as keyword arguments. ``answer`` is cancelled when the
question's time is over; whatever it raises makes the agent abstain. A class that also has ``work`` takes ordinary
tasks: it gets the task and answers its result, and may ``await task.progress(...)`` meanwhile, ask people or wait for children.
Instances live in the agent hosts' processes, so ``answer`` and ``work`` must not block.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, runtime_checkable

from aragora_worker.asking import Answer as AnsweredQuestion
from aragora_worker.asking import Asks, answer_of, question_of
from aragora_worker.children import ChildOutcome, Parks, outcomes_in, park_of
from cluster.domain.tasks.progress import Progress, checked_progress


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


#: Makes a report durable, for an attempt of a task. Raises what the control plane answers.
Report = Callable[[Progress], Awaitable[None]]


class WorkTask(dict[str, Any]):
    """A task in the hands of ``work``: its fields by name, and reports of progress."""

    def __init__(self, fields: Mapping[str, Any], report: Report) -> None:
        super().__init__(fields)
        self._report = report

    @property
    def checkpoint(self) -> Any:
        """What an earlier attempt left to go on from; None if none did."""
        return self.get("checkpoint")

    @property
    def answer(self) -> AnsweredQuestion | None:
        """The answer to the question that an earlier attempt asked last; None if none did."""
        return answer_of(self)

    @property
    def children(self) -> Sequence[ChildOutcome] | None:
        """How the children have ended that an earlier attempt waited for last; None if none did."""
        return outcomes_in(self)

    def ask(
        self,
        question: str,
        *,
        schema: Mapping[str, Any] | None = None,
        answerers: Sequence[str] = (),
        time_limit_s: float | None = None,
        default: Sequence[Any] = (),
        checkpoint: Any = None,
    ) -> NoReturn:
        """Asks people, and ends this attempt: the task comes again when it is answered, with ``answer`` and ``checkpoint``.
        ``schema``: the JSON Schema of the answer. ``answerers``: who may answer; without any, whoever may write tasks.
        ``default``: a list with the answer that applies when ``time_limit_s`` is over. Costs no retry.

        Raises: `InvalidRequest` if a value cannot be stored; else `Asks`, which ``work`` has to let through."""
        raise Asks(question_of(question, schema, answerers, time_limit_s, default, checkpoint))

    def park(self, children: Sequence[str], *, checkpoint: Any = None) -> NoReturn:
        """Waits for children, and ends this attempt: the task comes again when they all have ended, with ``children`` (their
        outcomes, in this order) and ``checkpoint``. They are ids of tasks that were submitted with this one as their
        ``parent_task_id``. Costs no retry.

        Raises: `InvalidRequest` if a value cannot be stored; else `Parks`, which ``work`` has to let through."""
        raise Parks(park_of(children, checkpoint))

    async def progress(
        self, *, percent: float | None = None, message: str | None = None, checkpoint: Any = None
    ) -> None:
        """Reports how far the work is (``percent``, 0 to 100; ``message``), and a ``checkpoint`` (JSON, 16 KiB at most) for the
        next attempt. What is left out stays as it was. Returns when this, or a newer report of the attempt, is durable: a
        task's is stored once a second at most.

        Raises: `InvalidRequest` if a value cannot be stored; `Conflict` if the attempt is over, so that the work should stop."""
        report = checked_progress(percent, message, checkpoint)
        if report is not None:
            await self._report(report)


@runtime_checkable
class TaskWorker(Protocol):
    async def work(self, task: WorkTask) -> Any:
        """``task`` has ``id``, ``task_type``, ``payload``, ``attempt``, ``metadata``, and ``checkpoint`` if an earlier attempt
        left one; answers its result (JSON)."""
