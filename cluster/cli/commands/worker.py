"""``aragora-cp worker``: runs a function as a worker process."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import typer

from aragora_worker.loading import load, register
from aragora_worker.worker import Worker
from cluster.cli.calls import split
from cluster.cli.connection import api_tls, api_url, client_settings, settings
from cluster.cli.exit_codes import guarded
from cluster.cli.numbers import amount
from cluster.domain.base.errors import InvalidRequest

app = typer.Typer(no_args_is_help=True, help="Workers.")


@app.callback()
def workers() -> None:
    """Workers."""


def _found(target: str) -> Any:
    try:
        return load(target)
    except InvalidRequest as error:
        raise typer.BadParameter(error.message) from None


def _refuse_options(context: typer.Context, target: str) -> None:
    """Raises: `BadParameter` if options were given for a ``Worker`` that is made already: they would change nothing."""
    # By the source, not the value: whoever writes a default value wants it. By its name, since typer has a click of its own.
    sources = {name: context.get_parameter_source(name) for name in context.params if name != "target"}
    given = [f"--{name.replace('_', '-')}" for name, source in sources.items() if source and source.name != "DEFAULT"]
    if given:
        raise typer.BadParameter(
            f"{target} is a Worker, which was made without {' and '.join(given)}: leave that out and set it where the Worker is "
            "made, or name a function."
        )


@app.command()
def run(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(help="module:name of a function that takes a Job, a dict of them by task type, or a Worker."),
    ],
    capabilities: Annotated[str | None, typer.Option(help="Separated by commas.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Jobs at once [ARAGORA_WORKER_CONCURRENCY].")] = None,
    agent_id: Annotated[str | None, typer.Option(help="Default: host name and process id.")] = None,
    task_types: Annotated[str | None, typer.Option(help="Separated by commas; default: all.")] = None,
    queues: Annotated[str | None, typer.Option(help="Separated by commas; default: all.")] = None,
    version: Annotated[
        str | None, typer.Option(help="Announced to tasks that ask for a version, such as 1.4.2.")
    ] = None,
    drain_seconds: Annotated[float, amount("Time that jobs get after SIGTERM.")] = 30.0,
) -> None:
    """Register an agent that claims tasks and runs a function for each. SIGTERM and Ctrl-C drain it. A Worker has its own
    options, so none may be given with it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    found = _found(target)
    if isinstance(found, Worker):
        _refuse_options(context, target)
        guarded(found.run_forever)
        return
    ours = client_settings()
    key = None if ours.api_key is None else ours.api_key.get_secret_value()
    if key is None and settings().api_key is not None:
        raise typer.BadParameter(
            "The context in use has no token, and ARAGORA_API_KEY may be another control plane's: give the context one with "
            "`aragora-cp context add NAME --replace --url URL --token-env ARAGORA_API_KEY`."
        )
    try:
        worker = Worker(
            agent_id,
            capabilities=split(capabilities),
            concurrency=concurrency or ours.worker_concurrency,
            batch=ours.batch_size,
            base_url=api_url(ours),
            api_key=key,
            tls=api_tls(ours),
            workspace=ours.client_workspace,
            drain_s=drain_seconds,
            queues=split(queues),
            version=version,
        )
        register(worker, found, split(task_types))
    except InvalidRequest as error:
        raise typer.BadParameter(error.message) from None
    guarded(worker.run_forever)
