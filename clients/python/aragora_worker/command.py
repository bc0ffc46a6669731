"""``aragora-worker``: runs functions as a worker.

Exit codes: 0 drained, 1 the control plane refused the worker, 2 wrong usage, 5 a setting is not valid, 130 interrupted."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from aragora_worker.base.errors import ControlPlaneError, InvalidRequest
from aragora_worker.loading import load, register
from aragora_worker.settings import SettingsError, load_client_settings
from aragora_worker.worker import DRAIN_S, Worker

REFUSED, USAGE, MACHINE, INTERRUPTED = 1, 2, 5, 130
#: Options of the worker that a target has which is a ``Worker`` already.
_OPTIONS = ("capabilities", "concurrency", "agent_id", "task_types", "queues", "version", "drain_seconds")


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    top = argparse.ArgumentParser(
        prog="aragora-worker",
        description="Workers of an Aragora control plane.",
        epilog="The control plane is that of ARAGORA_API_URL; calls have the key in ARAGORA_API_KEY.",
    )
    run = top.add_subparsers(dest="command", required=True, metavar="run").add_parser(
        "run",
        help="run functions as a worker",
        description="Registers an agent that claims tasks and runs a function for each. SIGTERM and Ctrl-C drain it. A Worker "
        "has its own options, so none may be given with it.",
    )
    run.add_argument(
        "target", help="module:name of a function that takes a Job, of a dict of them by task type, or of a Worker"
    )
    run.add_argument("--capabilities", type=_split, help="separated by commas")
    run.add_argument("--concurrency", type=int, help="jobs at once [ARAGORA_WORKER_CONCURRENCY]")
    run.add_argument("--agent-id", help="default: host name and process id")
    run.add_argument("--task-types", type=_split, help="separated by commas; default: all")
    run.add_argument("--queues", type=_split, help="separated by commas; default: all")
    run.add_argument("--version", help="announced to tasks that ask for a version, such as 1.4.2")
    run.add_argument("--drain-seconds", type=float, help=f"time that jobs get after SIGTERM (default: {DRAIN_S:g})")
    return top


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process with its exit code.

    Raises: `SystemExit`, always but after a drain."""
    asked = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        worker = _worker(asked)
    except InvalidRequest as error:
        _leave(error, USAGE)
    except SettingsError as error:
        _leave(error, MACHINE)
    try:
        worker.run_forever()
    except ControlPlaneError as error:
        _leave(error, REFUSED)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _worker(asked: argparse.Namespace) -> Worker:
    found = load(asked.target)
    if isinstance(found, Worker):
        given = [f"--{name.replace('_', '-')}" for name in _OPTIONS if getattr(asked, name) is not None]
        if given:
            raise InvalidRequest(
                f"{asked.target} is a Worker, which was made without {' and '.join(given)}: leave that out and set it where the "
                "Worker is made, or name a function.",
                "invalid_option",
            )
        return found
    settings = load_client_settings()
    worker = Worker(
        asked.agent_id,
        capabilities=asked.capabilities or (),
        concurrency=settings.worker_concurrency if asked.concurrency is None else asked.concurrency,
        batch=settings.batch_size,
        drain_s=DRAIN_S if asked.drain_seconds is None else asked.drain_seconds,
        queues=asked.queues or (),
        version=asked.version,
    )
    register(worker, found, asked.task_types or ())
    return worker


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _leave(error: Exception, code: int) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(code) from None
