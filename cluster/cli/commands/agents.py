"""``aragora-cp agents``: list, register, pause, drain, resume and remove agents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cluster.cli.calls import Json, Words, call, given, path_segment, print_json, split
from cluster.cli.lines import Lines, send_lines
from cluster.cli.output import console, counted, listing, plain, utc
from cluster.cli.uniform import answered
from cluster.domain.agents.agent import Health, Liveness

app = typer.Typer(no_args_is_help=True, help="Agents.")

#: What is wrong with an agent. A status of another name hides it: one that is paused and lost is ``paused``.
_MARKS = frozenset({Liveness.SUSPECT, Liveness.OFFLINE, Liveness.DEAF, Health.DEGRADED, Health.FAILED})


def marked_status(agent: Mapping[str, Any]) -> str:
    """An agent's status with what is wrong with it, such as ``paused (offline)``."""
    status = agent["status"]
    marks = [fact for fact in (agent["liveness"], agent["health"]) if fact in _MARKS and fact != status]
    return f"{status} ({', '.join(marks)})" if marks else str(status)


@app.command("list")
def list_agents(
    capability: Annotated[str | None, typer.Option(help="Only agents that have this capability.")] = None,
    status: Annotated[str | None, typer.Option(help="ready, busy, paused, offline, ...")] = None,
    as_json: Json = False,
) -> None:
    """List agents, including those that take no work."""
    found = call("GET", "/agents", available="false", capability=capability, status=status)
    if as_json:
        print_json(found)
        return
    rows = (
        (
            agent["agent_id"],
            marked_status(agent),
            agent["running_tasks"],
            agent["tasks_completed"],
            agent["tasks_failed"],
            agent["model"],
            ",".join(agent["capabilities"]),
        )
        for agent in found["agents"]
    )
    listing(("agent", "status", "running", "done", "failed", "model", "capabilities"), rows)


@app.command()
def register(
    agent_id: str,
    capabilities: Words = None,
    model: Annotated[
        str, typer.Option(help="The server's name for the model; openai and anthropic need it.")
    ] = "unknown",
    provider: str = "unknown",
    endpoint: Annotated[
        str | None, typer.Option(help="URL at which the agent is called; without it the agent claims its work.")
    ] = None,
    transport: Annotated[str | None, typer.Option(help="openai, anthropic, http or a2a.")] = None,
    import_path: Annotated[str | None, typer.Option(help="module:Class, to run the agent in the cluster.")] = None,
    max_concurrency: Annotated[int, typer.Option(min=1)] = 1,
    credential: Annotated[
        str | None, typer.Option(help="The name of the credential that is sent with calls (aragora-cp credentials).")
    ] = None,
    send: Annotated[
        str | None, typer.Option(help="How it is sent: bearer, header, basic, signature or certificate.")
    ] = None,
    header: Annotated[str | None, typer.Option(help="The header in which it is sent.")] = None,
    user: Annotated[str | None, typer.Option(help="The user whose password it is, for basic.")] = None,
    key_id: Annotated[str | None, typer.Option(help="Its name in signatures; the credential's if left out.")] = None,
) -> None:
    """Register an agent, or replace its description.

    \f
    Raises: `BadParameter` if it is said how a credential is sent, and not which one.
    """
    choice = given(send=send, header=header, user=user, key_id=key_id)
    if choice and credential is None:
        raise typer.BadParameter(f"--{next(iter(choice)).replace('_', '-')} needs --credential NAME.")
    body: dict[str, Any] = {
        "agent_id": agent_id,
        "capabilities": split(capabilities),
        "model": model,
        "provider": provider,
        "endpoint": endpoint,
        "transport": transport,
        "import_path": import_path,
        "max_concurrency": max_concurrency,
        "credential": None if credential is None else {"name": credential, **choice},
    }
    print_json(call("POST", "/agents", {key: value for key, value in body.items() if value is not None}))


@app.command()
def show(agent_id: str) -> None:
    """Print one agent with its health and metrics, as JSON."""
    agent, health = call("GET", f"/agents/{path_segment(agent_id)}"), call("GET", f"/health/{path_segment(agent_id)}")
    print_json({"agent": agent, "health": health, "metrics": call("GET", f"/agents/{path_segment(agent_id)}/metrics")})


@app.command()
def health(as_json: Json = False) -> None:
    """Show the health of the fleet and of every agent in it, as probes and heartbeats have it."""
    found = call("GET", "/health")
    if as_json:
        print_json(found)
        return
    console.print(f"{found['status']}, {counted(len(found['agents']), 'agent')}")
    rows = (
        (
            agent_id,
            agent["status"],
            agent["metadata"]["liveness"],
            agent["latency_ms"],
            utc(agent["timestamp"]),
            agent["error"],
        )
        for agent_id, agent in found["agents"].items()
    )
    listing(("agent", "status", "liveness", "ms", "last sign of life (UTC)", "error"), rows)


@app.command()
def breakers(as_json: Json = False) -> None:
    """List the breakers of agents and of the control plane's own dependencies. One that has never counted a failure is not
    listed."""
    found = call("GET", "/breakers")
    if as_json:
        print_json(found)
        return
    names = ("name", "state", "failure_count", "success_count")
    rows = ([breaker[name] for name in names] for breaker in found["breakers"])
    listing(("breaker", "state", "failures", "successes"), rows)
    if found.get("stale"):
        console.print("The database is away: agents' breakers are as they were last read.")


@app.command("import")
def import_(file: Lines) -> None:
    """Register agents from a file, in batches of 1,000: each line is a body of POST /agents. Print their ids."""
    total: list[str] = []
    for answer in send_lines(file, "/agents/batch", "agents", "agents"):
        ids = [agent["agent_id"] for agent in answer["agents"]]
        total += ids
        answered({"agent_ids": total, "total": len(total)})
        for agent_id in ids:
            console.print(plain(agent_id))


@app.command()
def pause(agent_id: str) -> None:
    """Give an agent no new work until it is resumed."""
    console.print(call("POST", f"/agents/{path_segment(agent_id)}/pause")["status"])


@app.command()
def drain(agent_id: str) -> None:
    """Give an agent no new work, but let it finish the tasks that it holds."""
    answer = call("POST", f"/agents/{path_segment(agent_id)}/drain")
    console.print("drained" if answer["drained"] else f"draining, {answer['running_tasks']} running")


@app.command()
def resume(agent_id: str) -> None:
    """End a pause or a drain that an operator set."""
    answer = call("POST", f"/agents/{path_segment(agent_id)}/resume")
    console.print(answer["status"])
    if "notice" in answer:
        console.print(answer["notice"])


@app.command()
def remove(agent_id: str) -> None:
    """Remove an agent; the tasks that it holds go back to the queue."""
    call("DELETE", f"/agents/{path_segment(agent_id)}")
    console.print("removed")
