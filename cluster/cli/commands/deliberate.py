"""A deliberation on the command line: asks over the API, shows events as they arrive, then the result."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from aragora_worker.api import ControlPlaneClient, StreamEvent
from cluster.cli.output import console, counted, plain
from cluster.domain.base.ids import path_segment

_BEGINS = {
    "PROPOSE": "more agents are asked",
    "CRITIQUE": "the answers differ: a debate round begins",
    "REVISE": "the answers are revised",
    "VOTE": "the vote begins",
    "JUDGE": "the judge is asked",
}
_ENDS = ("deliberation_completed", "deliberation_failed", "deliberation_cancelled")


async def deliberate(
    client: ControlPlaneClient, question: str, config: Mapping[str, Any], *, timeout_s: float | None, live: bool
) -> dict[str, Any]:
    """Runs a deliberation to its end; returns its record."""
    after = int((await client.get("/stream"))["last_event_id"])
    body: dict[str, Any] = {"content": question, "config": dict(config), "async": True}
    if timeout_s is not None:
        body["timeout_seconds"] = timeout_s
    admitted = await client.post("/deliberations", body)
    request_id = str(admitted["request_id"])
    if live:
        console.print(f"Deliberation: {plain(request_id)}")
    stream: Any = client.events(after=after, deliberation_id=request_id)
    async with aclosing(stream) as events:
        async for event in events:
            if live:
                show(event)
            if event.type in _ENDS:
                break
    return dict(await client.get(f"/deliberations/{path_segment(request_id)}"))


def show(event: StreamEvent) -> None:
    line = _line(event.type, event.data)
    if line:
        console.print(line)


def _line(kind: str, data: Mapping[str, Any]) -> str:
    def field(name: str) -> str:
        return plain(str(data.get(name) or ""))

    lines: dict[str, Callable[[], str]] = {
        "deliberation_started": lambda: f"panel: {plain(', '.join(data.get('agents', [])))}",
        "deliberation_agent_proposal": lambda: (
            f"[bold]{field('agent')}[/] proposes: {field('proposal_preview')}\n    {field('rationale_preview')}"
        ),
        "deliberation_round_start": lambda: _BEGINS.get(str(data.get("phase")), ""),
        "deliberation_agent_critique": lambda: (
            f"[bold]{field('agent')}[/] on {field('target')}: {field('issues_preview')}"
            if data.get("issue_count")
            else f"[bold]{field('agent')}[/] finds no defect"
        ),
        "deliberation_agent_revision": lambda: (
            f"[bold]{field('agent')}[/] {'changes to' if data.get('changed') else 'keeps'}: {field('proposal_preview')}"
            f"\n    {field('rationale_preview')}"
        ),
        "deliberation_sla_warning": lambda: f"{data.get('pct_used')} % of the time is used up",
        "deliberation_sla_critical": lambda: f"{data.get('pct_used')} % of the time is used up",
        "deliberation_vote": lambda: (
            f"[bold]{field('agent')}[/] votes: {field('choice')} ({field('confidence')})\n    {field('reasoning_preview')}"
        ),
        "deliberation_agent_error": lambda: f"[bold]{field('agent')}[/] abstains ({field('fault')}: {field('detail')})",
        "deliberation_input_required": lambda: (
            f"a person is asked; answer with `aragora-cp questions approve|reject|answer {field('task_id')}`"
        ),
        "deliberation_input_answered": lambda: (
            f"[bold]{field('answered_by')}[/]: {field('verdict')} {field('choice')}"
            if data.get("verdict")
            else f"no person has answered ({field('ended_as')})"
        ),
        "deliberation_recovery_attempted": lambda: f"[bold]{field('agent')}[/] is asked again: {field('problem')}",
    }
    line = lines.get(kind)
    return line() if line is not None else ""


#: Shown instead of words that the caller may not read.
WITHHELD = "(withheld: this takes the permission controlplane:payloads.read)"


def show_result(record: Mapping[str, Any]) -> None:
    result = record["result"]
    reached = result["consensus_reached"]
    console.print()
    if reached:
        console.print(f"[bold]Decision:[/] {plain(str(result.get('answer', WITHHELD)))}")
    else:
        console.print(f"No decision: {_why(result)}")
        if result.get("tally"):
            votes = ", ".join(f"{option} {weight:g}" for option, weight in result["tally"].items())
            console.print(f"Votes: {plain(votes)}")
    if not reached and result.get("answer"):
        console.print(f"Best so far (not a decision): {plain(str(result['answer']))}")
    person = result.get("person")
    if person is not None:
        console.print(f"Person: {plain(_person(person))}")
    note = "" if result["confidence_calibrated"] else " (share of the panel; not calibrated)"
    console.print(f"Confidence: {result['confidence']:.2f}{note}")
    for dissent in result.get("dissent", ()):
        console.print(f"Dissent: {plain(dissent['agent'])} for {plain(str(dissent['answer']))}")
    for abstention in result["abstained"]:
        console.print(f"Abstained: {plain(abstention['agent'])} ({plain(abstention.get('reason', WITHHELD))})")
    if result.get("dissent") == []:
        console.print("Dissent: none")
    delta = result.get("debate_delta")  # none if the control plane could not continue it
    if delta is not None and delta["calls"]:
        changed = f"changed it from {delta['round_0']}" if delta["changed"] else "did not change it"
        console.print(f"Debate: {counted(delta['calls'], 'call')}; {plain(changed)}")
    money = f", {result['total_cost_usd']:.4f} USD" if result["total_cost_usd"] else ""
    console.print(
        f"Cost: {counted(result['agent_calls'], 'call')}, {counted(result['total_tokens'], 'token')}{money},"
        f" {result['duration_seconds']:.1f} s"
    )
    console.print(f"Deliberation: {plain(result['request_id'])}")


def _person(person: Mapping[str, Any]) -> str:
    """What came of asking a person, and how the agents had ended."""
    agents = f"the agents ended {person['agents']['terminal']}"
    if person["verdict"] is None:
        return f"no answer ({person['ended_as'] or 'cancelled'}); {agents}"
    reason = f" ({person['rationale']})" if person.get("rationale") else ""
    return f"{person['verdict']} by {person['answered_by']}{reason}; {agents}"


def person_config(
    when: str, answerers: Sequence[str], time_limit_s: float | None, default: str | None
) -> dict[str, Any]:
    """``config.ask_person``. ``when``: as there, or the confidence below which a person is asked."""
    asked: dict[str, Any] = {"when": when}
    if re.fullmatch(r"[01]?\.?[0-9]+", when):
        asked = {"when": "below_confidence", "confidence": float(when)}
    more = {"answerers": list(answerers), "time_limit_seconds": time_limit_s, "default": default}
    return asked | {name: value for name, value in more.items() if value not in (None, [])}


def _why(result: Mapping[str, Any]) -> str:
    """How the deliberation ended, and the reason that the control plane gives."""
    terminal, reason = str(result["terminal"]), str(result.get("error") or "")
    return plain(terminal if reason in ("", terminal) else f"{terminal}: {reason}")


PERSONAS = {
    "pragmatist": "You are a pragmatic engineer. You prefer what is simple and works today.",
    "skeptic": "You are a careful skeptic. You look for what could go wrong before you choose.",
    "visionary": "You are a long-term thinker. You care about what still holds in five years.",
}
DEMO_QUESTION = "A team of five engineers starts a new product. How should they build the backend?"
DEMO_OPTIONS = "Monolith,Microservices,Serverless"


async def register_personas(
    client: ControlPlaneClient, endpoint: str, model: str, transport: str, provider: str
) -> Sequence[str]:
    ids = [f"demo-{name}" for name in PERSONAS]
    agents = [
        {
            "agent_id": agent_id,
            "capabilities": ["debate", "deliberation"],
            "model": model,
            "provider": provider,
            "transport": transport,
            "endpoint": endpoint,
            "max_concurrency": 2,
            "metadata": {"persona": persona},
        }
        for agent_id, persona in zip(ids, PERSONAS.values(), strict=True)
    ]
    await client.post("/agents/batch", {"agents": agents})
    return ids
