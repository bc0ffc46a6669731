"""``aragora-cp``: starts a control plane on one machine, and talks to one over HTTP.

Exit codes: 0 done (a decision was reached), 1 the control plane refused or failed, 2 wrong usage, 3 the deliberation
ended without consensus, 4 the control plane cannot be reached or is not ready, 5 this machine does not allow it,
6 a receipt is valid but its decision cannot be made again, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from aragora_worker.api import ControlPlaneClient
from cluster.cli.calls import Json, Words
from cluster.cli.calls import call as _call
from cluster.cli.calls import print_json as _print_json
from cluster.cli.calls import split as _split
from cluster.cli.commands import (
    agents,
    audit,
    batch,
    budgets,
    ca,
    context,
    credentials,
    deliberations,
    dlq,
    doctor,
    erase,
    evaluate,
    events,
    hooks,
    keys,
    login,
    logs,
    metrics,
    notifications,
    outcomes,
    policies,
    questions,
    queue,
    quotas,
    receipts,
    region,
    regions,
    retention,
    roles,
    schedules,
    secrets,
    story,
    tasks,
    tokens,
    top,
    worker,
    workflows,
    workspaces,
)
from cluster.cli.commands.deliberate import DEMO_OPTIONS, DEMO_QUESTION, person_config, register_personas, show_result
from cluster.cli.commands.deliberate import deliberate as _deliberate
from cluster.cli.connection import api_tls, client_settings, ray_variables, running_system
from cluster.cli.connection import client as _client
from cluster.cli.connection import settings as _settings
from cluster.cli.contexts import named_context
from cluster.cli.exit_codes import NO_CONSENSUS, UNREACHABLE, guarded
from cluster.cli.numbers import amount
from cluster.cli.output import console, listing, plain, staged, working
from cluster.cli.uniform import answered, finish
from cluster.embedded.layout import Layout
from cluster.embedded.model_server import MODEL
from cluster.embedded.run_file import read_run_file
from cluster.embedded.safety import OFF
from cluster.settings import Settings
from cluster.version import VERSION

#: Between two looks at the processes that ``up`` has started.
LOOK_S = 0.5

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)
app.add_typer(context.app, name="context")
app.add_typer(agents.app, name="agents")
app.add_typer(worker.app, name="worker")
app.command()(doctor.doctor)
app.command()(login.login)
app.command()(login.logout)
app.command()(logs.logs)
app.add_typer(tasks.app, name="tasks")
app.command()(story.story)
app.command()(top.top)
app.command()(events.events)
app.command()(roles.whoami)
app.add_typer(dlq.app, name="dlq")
app.add_typer(queue.app, name="queue")
app.add_typer(metrics.app, name="metrics")
app.add_typer(questions.app, name="questions")
app.add_typer(credentials.app, name="credentials")
app.add_typer(policies.app, name="policies")
app.add_typer(budgets.app, name="budgets")
app.add_typer(quotas.app, name="quotas")
app.add_typer(schedules.app, name="schedules")
app.add_typer(workflows.app, name="workflows")
app.add_typer(hooks.app, name="hooks")
app.add_typer(notifications.app, name="notifications")
app.add_typer(batch.app, name="batch")
app.add_typer(deliberations.app, name="deliberations")
app.add_typer(receipts.app, name="receipts")
app.add_typer(region.app, name="region")
app.add_typer(regions.app, name="regions")
app.add_typer(workspaces.app, name="workspaces")
app.add_typer(workspaces.members_app, name="members")
app.add_typer(roles.app, name="roles")
app.add_typer(keys.app, name="keys")
app.command("evaluate")(evaluate.evaluate)
app.add_typer(outcomes.app, name="outcomes")
app.add_typer(audit.app, name="audit")
app.command("erase")(erase.erase)
app.add_typer(retention.app, name="retention")
app.add_typer(secrets.app, name="secrets")
app.add_typer(tokens.app, name="tokens")
app.add_typer(ca.app, name="ca")
app.add_typer(outcomes.weights_app, name="weights")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def aragora_cp(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version of this command."),
    ] = False,
    context_name: Annotated[
        str | None, typer.Option("--context", help="Talk to this control plane (aragora-cp context list).")
    ] = None,
) -> None:
    """Aragora control plane."""
    named_context.set(context_name or None)


def _announce(layout: Layout) -> None:
    running = read_run_file(layout)
    assert running is not None
    console.print(f"API:            {running.api_url}")
    console.print(f"API docs:       {running.docs_url}")
    console.print(f"Metrics:        {running.metrics_url}")
    if running.dashboard_url:
        token = f"  (asks for a token: cat {running.ray_token_path})" if running.ray_token_path else ""
        console.print(f"Ray dashboard:  {running.dashboard_url}{token}")
    console.print(f"Logs:           {running.logs}  (aragora-cp logs)")
    sys.stdout.flush()


@app.command()
def up(
    without_ray: Annotated[
        bool,
        typer.Option(
            "--without-ray",
            help="Run API and actors in one process instead: for several regions on one machine. It has no dedicated agents, no "
            "`batch submit` and no HTTPS.",
        ),
    ] = False,
) -> None:
    """Start the control plane and keep it in the foreground until Ctrl-C. Embedded stores that die are started again.

    \f
    Raises: `EmbeddedError` if a process of the control plane has ended that is not started again.
    """
    from cluster.cli.system import running
    from cluster.embedded.ray_cluster import ExistingRay

    settings = _settings()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _interrupt(stop))
    existing = None if without_ray else ExistingRay.of(os.environ)  # noqa: TID251 - Ray's names
    started = running(settings, staged, without_ray=without_ray, existing=existing)
    with working("Starting the control plane"), started as system:
        _announce(system.layout)
        if not system.settings.auth_enabled:
            console.print(f"[bold yellow]{OFF}[/]")
        console.print("Ready. Ctrl-C stops it.")
        _ready.set()
        sys.stdout.flush()
        while not stop.wait(LOOK_S):
            for sentence in system.look():
                console.print(plain(sentence))
                sys.stdout.flush()
    console.print("Stopped.")


def _interrupt(stop: threading.Event) -> None:
    """Handles a signal. The first one asks a running system to stop; a second one, or one during the start, interrupts."""
    if stop.is_set() or not _ready.is_set():
        stop.set()
        raise KeyboardInterrupt
    stop.set()


_ready = threading.Event()


@app.command()
def down(
    delete_data: Annotated[bool, typer.Option("--delete-data", help="Also delete the data directory.")] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Another data directory, or the folder of `regions demo`.")
    ] = None,
) -> None:
    """Stop the control plane that runs on the data directory, also one that was left behind."""
    from cluster.cli.region_group import stop_regions
    from cluster.cli.system import stop_other

    settings = _settings()
    layout = Layout.of(settings.data_dir if data_dir is None else data_dir)
    found = stop_regions(layout.data_dir, settings.log_max_bytes) or stop_other(layout, settings.log_max_bytes)
    answered({"stopped": bool(found), "data_dir": str(layout.data_dir), "deleted": delete_data})
    console.print("Stopped." if found else f"Nothing runs on {layout.data_dir}.")
    if delete_data and layout.data_dir.exists():
        shutil.rmtree(layout.data_dir)
        console.print(f"Deleted {layout.data_dir}.")


@app.command()
def status(as_json: Json = False) -> None:
    """Show every component with its status and latency. Exits 4 if one is not healthy.

    \f
    Raises: `Exit` if a component is not healthy.
    """
    report = _call("GET", "//health/detailed")
    if as_json:
        _print_json(report)
    else:
        rows = (
            (component["name"], component["status"], component.get("latency_ms", component.get("error")))
            for component in report["components"]
        )
        console.print(f"{report['status']}, version {report['version']}, up {report['uptime_seconds']} s")
        listing(("component", "status", "ms or error"), rows)
    if report["status"] != "healthy":
        raise typer.Exit(UNREACHABLE)


@app.command()
def deliberate(
    question: str,
    options: Words = None,
    agents: Words = None,
    answer_type: Annotated[
        str | None, typer.Option("--type", help="choice, number, boolean, set, json or text.")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Unit of a number.")] = None,
    tolerance: Annotated[float | None, amount("Numbers this close are one answer.")] = None,
    rounds: Annotated[
        int | None, typer.Option(min=0, help="Most debate rounds; 0 decides by the first answers.")
    ] = None,
    consensus: Annotated[str | None, typer.Option(help="agree_k, plurality, majority, unanimous, judge, ...")] = None,
    judge: Annotated[str | None, typer.Option(help="The agent that judges (consensus judge).")] = None,
    max_agents: Annotated[int | None, typer.Option(min=1, help="Most agents on the panel.")] = None,
    effort: Annotated[
        str | None, typer.Option(help="least, default or all: how many calls a decision is worth.")
    ] = None,
    budget_tokens: Annotated[int | None, typer.Option(min=0, help="Most tokens that the deliberation may use.")] = None,
    budget_usd: Annotated[float | None, amount("Most US dollars that the deliberation may cost.")] = None,
    timeout: Annotated[float | None, amount("Seconds until the deliberation must end.")] = None,
    ask_person: Annotated[
        str | None,
        typer.Option(help="Ask a person at the end: no_consensus, always, or below which confidence (0.8)."),
    ] = None,
    answerers: Annotated[
        str, typer.Option(help="Who may answer: role:NAME, group:NAME, user:EMAIL, with commas.")
    ] = "",
    answer_time: Annotated[float | None, amount("Seconds that the person has.")] = None,
    default_answer: Annotated[str | None, typer.Option(help="The answer that applies after these seconds.")] = None,
    as_json: Json = False,
) -> None:
    """Put a question to several agents. Exits 0 with a decision, 3 without consensus.

    \f
    Raises: `Exit` if no decision was reached.
    """
    budget = {name: value for name, value in (("tokens", budget_tokens), ("usd", budget_usd)) if value is not None}
    more = (_split(answerers), answer_time, default_answer)
    person = person_config(ask_person or "no_consensus", *more) if ask_person or any(more) else None
    config = {
        name: value
        for name, value in (
            ("options", _split(options)),
            ("agents", _split(agents)),
            ("answer_type", answer_type),
            ("unit", unit),
            ("tolerance", tolerance),
            ("rounds", rounds),
            ("consensus", consensus),
            ("judge", judge),
            ("max_agents", max_agents),
            ("effort", effort),
            ("budget", budget),
            ("ask_person", person),
        )
        if value not in (None, [], {})
    }

    async def work() -> dict[str, Any]:
        async with _client(client_settings()) as client:
            return await _deliberate(client, question, config, timeout_s=timeout, live=not as_json)

    record = asyncio.run(work())
    if as_json:
        _print_json(record)
    else:
        show_result(record)
    if not record["result"]["consensus_reached"]:
        raise typer.Exit(NO_CONSENSUS)


@app.command()
def demo(
    question: Annotated[str, typer.Argument()] = DEMO_QUESTION,
    options: Words = DEMO_OPTIONS,
) -> None:
    """Start everything, put one question to three agents that are language models, print the decision, stop.

    \f
    Raises: `Exit` if no decision was reached.
    """
    from cluster.cli.system import running
    from cluster.embedded.ray_cluster import ExistingRay

    settings = _settings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = running(settings, staged, existing=ExistingRay.of(os.environ))  # noqa: TID251 - Ray's names
    with working("Starting the control plane"), started as system:
        endpoint, model, transport, provider = _demo_model(settings, system.start_model)
        if model == MODEL:
            console.print(
                f"The agents are three personas of {MODEL}, a language model of 135 million parameters. Its opinions are "
                "worth little: what you see is the machinery. Set OPENAI_API_KEY or ANTHROPIC_API_KEY for real ones."
            )

        async def work() -> dict[str, Any]:
            key = settings.api_key.get_secret_value() if settings.api_key is not None else None
            async with ControlPlaneClient(system.api_url, key, tls=api_tls(settings)) as client:
                ids = await register_personas(client, endpoint, model, transport, provider)
                console.print(f"agents registered: {', '.join(ids)}")
                console.print(f"\n[bold]Question:[/] {plain(question)}")
                config = {
                    "options": _split(options),
                    "agents": list(ids),
                    "max_tokens": 96,
                    "rounds": 1,
                    "consensus": "majority",
                }
                return await _deliberate(client, question, config, timeout_s=120.0, live=True)

        record = asyncio.run(work())
        show_result(record)
        console.print()
        _announce(system.layout)
    console.print("Stopped. `make up` starts it again with the same state and leaves it running.")
    if not record["result"]["consensus_reached"]:
        raise typer.Exit(NO_CONSENSUS)


def _demo_model(settings: Settings, start_model: Any) -> tuple[str, str, str, str]:
    """(endpoint, model, transport, provider) of the demo's agents: as the settings name them, else the local model."""
    custom = settings.openai_base_url != type(settings).model_fields["openai_base_url"].default
    if settings.openai_api_key is not None or custom:
        return settings.openai_base_url, settings.openai_model, "openai", "openai"
    if settings.anthropic_api_key is not None:
        return settings.anthropic_base_url, settings.anthropic_model, "anthropic", "anthropic"
    return start_model(), MODEL, "openai", "local"


@app.command()
def env() -> None:
    """Print the variables that other processes need, as shell lines: eval "$(aragora-cp env)"."""
    running = running_system(_settings())
    variables = {**ray_variables(running), "ARAGORA_API_URL": running.api_url}
    answered(variables)
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")
    typer.echo(f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH")


@app.command()
def version() -> None:
    """Print the version of this command."""
    answered({"version": VERSION})
    typer.echo(VERSION)


finish(app)


def main() -> None:
    """Entry point of ``aragora-cp``."""
    guarded(app)


if __name__ == "__main__":
    main()
