"""Spans of what is done for agents: an attempt at a task, a deliberation, a call. Only a process that traces uses them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from actors.agents.bounded_calls import AskAgent
from cluster.domain.agents.agent import CHATS, TransportKind
from cluster.domain.agents.calls import Reply
from cluster.domain.tasks.task import Task
from cluster.ports.agent_transport import Ask
from cluster.process import spans
from cluster.process.traces import traced
from cluster.telemetry import genai_names as names

#: Whose protocol an agent speaks. One that speaks ours, or A2A, says nothing of its model.
_PROVIDERS = {TransportKind.OPENAI: "openai", TransportKind.ANTHROPIC: "anthropic"}

#: Why a model stops, as servers of the known protocols say it. Any other reason is a text that an agent wrote, which no span has.
_FINISH_REASONS = frozenset(
    {
        *("stop", "length", "content_filter", "tool_calls", "function_call", "error"),
        *(
            "end_turn",
            "max_tokens",
            "stop_sequence",
            "tool_use",
            "pause_turn",
            "refusal",
            "model_context_window_exceeded",
        ),
    }
)


@contextmanager
def attempt_span(task: Task, cause: str) -> Iterator[None]:
    """What a host does for an attempt of a task, in the trace of its submit: from its lease until its report is taken."""
    its: dict[str, spans.Value] = {"aragora.task.id": task.id, "aragora.task.type": task.task_type}
    its |= {"aragora.task.attempt": task.attempt, "aragora.agent.id": task.assigned_agent or ""}
    with (
        traced(cause),
        spans.span("task.attempt", spans.Kind.CONSUMER, its, parent=spans.waiting_span(cause, task.id)),
    ):
        yield


@contextmanager
def deliberation_span(request_id: str, cause: str) -> Iterator[None]:
    """What a worker does for a deliberation, until it ends or waits for a person."""
    its: dict[str, spans.Value] = {"aragora.deliberation.id": request_id}
    with (
        traced(cause),
        spans.span("deliberation.run", spans.Kind.CONSUMER, its, parent=spans.waiting_span(cause, request_id)),
    ):
        yield


def traced_ask(ask: AskAgent) -> AskAgent:
    """``ask`` within a span that has the names of the conventions for generative AI. No question and no answer is in it, nor the
    endpoint, which may hold a credential."""

    async def asked(call: Ask) -> Reply:
        chats = call.transport in CHATS
        operation = names.CHAT if chats else names.INVOKE_AGENT
        its: dict[str, spans.Value] = {
            names.OPERATION: operation,
            names.PROVIDER: _PROVIDERS.get(call.transport, "aragora"),
            names.AGENT_ID: call.agent_id,
        }
        if call.model:
            its[names.REQUEST_MODEL] = call.model
        if call.max_tokens:
            its[names.REQUEST_MAX_TOKENS] = call.max_tokens
        about = call.model if chats and call.model else call.agent_id
        with spans.span(f"{operation} {about}", spans.Kind.CLIENT, its) as span:
            reply = await ask(call)
            span.note(names.INPUT_TOKENS, reply.input_tokens)
            span.note(names.OUTPUT_TOKENS, reply.output_tokens)
            span.note("aragora.usage.estimated", reply.estimated)
            if reply.finish_reason:
                known = reply.finish_reason in _FINISH_REASONS
                span.note(names.RESPONSE_FINISH_REASONS, [reply.finish_reason if known else "other"])
            return reply

    return asked
