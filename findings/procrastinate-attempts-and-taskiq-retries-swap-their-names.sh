#!/usr/bin/env bash
# Subject: procrastinate 3.10.0, taskiq 0.13.0 and dramatiq 2.2.1 (PyPI): how often a task that always fails is run under a bound
# of three.
# A good guess: max_attempts=3 is three runs, the first included; max_retries=3 is three more after the first, so four.
# Behaviour seen: it is the other way round in two of them. procrastinate's max_attempts=3 (and retry=3) is four runs, taskiq's
# max_retries=3 is three, with both of its middlewares; max_retries=1 is no retry at all. dramatiq's max_retries=3 is four, as it
# says. A bound that is copied from one to another is off by one, which counts where each run is a paid call.
# Output seen:
#   procrastinate: max_attempts=3: 4 runs, max_attempts=1: 2 runs
#   taskiq: max_retries=3: 3 runs (simple), 3 runs (smart); max_retries=1: 1 run
#   dramatiq: max_retries=3: 4 runs
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check procrastinate==3.10.0 taskiq==0.13.0 dramatiq==2.2.1
cat > "$dir/run.py" <<'PY'
import asyncio
import logging

import dramatiq
import procrastinate
from dramatiq.brokers.stub import StubBroker
from procrastinate.testing import InMemoryConnector
from taskiq import InMemoryBroker, SimpleRetryMiddleware, SmartRetryMiddleware, TaskiqMiddleware

logging.disable()


def of_procrastinate(attempts: int) -> int:
    app, runs = procrastinate.App(connector=InMemoryConnector()), []

    @app.task(retry=procrastinate.RetryStrategy(max_attempts=attempts))
    async def fail() -> None:
        runs.append(1)
        raise RuntimeError

    async def work() -> None:
        async with app.open_async():
            await fail.defer_async()
            before = -1
            while before != len(runs):
                before = len(runs)
                await app.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)

    asyncio.run(work())
    return len(runs)


def of_taskiq(middleware: TaskiqMiddleware, retries: int) -> int:
    # The broker runs a task where it is sent, so all of its runs are over when the first call returns.
    broker, runs = InMemoryBroker(await_inplace=True).with_middlewares(middleware), []

    @broker.task(retry_on_error=True, max_retries=retries)
    async def fail() -> None:
        runs.append(1)
        raise RuntimeError

    async def work() -> None:
        await broker.startup()
        await fail.kiq()
        await broker.wait_all()
        await broker.shutdown()

    asyncio.run(work())
    return len(runs)


def of_dramatiq(retries: int) -> int:
    broker, runs = StubBroker(), []
    dramatiq.set_broker(broker)

    @dramatiq.actor(max_retries=retries, min_backoff=1, max_backoff=2)
    def fail() -> None:
        runs.append(1)
        raise RuntimeError

    worker = dramatiq.Worker(broker, worker_timeout=50)
    worker.start()
    fail.send()
    broker.join("default", fail_fast=False, timeout=30_000)
    worker.join()
    worker.stop()
    return len(runs)


def told(runs: int) -> str:
    return f"{runs} run" + "s" * (runs != 1)


simple, smart = SimpleRetryMiddleware(), SmartRetryMiddleware(default_delay=0, use_jitter=False)
got = [
    f"procrastinate: max_attempts=3: {told(of_procrastinate(3))}, max_attempts=1: {told(of_procrastinate(1))}",
    f"taskiq: max_retries=3: {told(of_taskiq(simple, 3))} (simple), {told(of_taskiq(smart, 3))} (smart); "
    f"max_retries=1: {told(of_taskiq(SimpleRetryMiddleware(), 1))}",
    f"dramatiq: max_retries=3: {told(of_dramatiq(3))}",
]
print("\n".join(got))
assert got == [
    "procrastinate: max_attempts=3: 4 runs, max_attempts=1: 2 runs",
    "taskiq: max_retries=3: 3 runs (simple), 3 runs (smart); max_retries=1: 1 run",
    "dramatiq: max_retries=3: 4 runs",
], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py"
