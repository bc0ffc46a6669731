"""The jobs that a worker has: started from the tasks that it claims, until their reports have an outcome."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aragora_worker.asking import answer_of
from aragora_worker.base.errors import CallerError
from aragora_worker.base.ids import path_segment
from aragora_worker.base.json_values import MAX_ERROR_CHARS, shown_text
from aragora_worker.base.progress import Progress
from aragora_worker.calls import CHILDREN, WorkerCalls
from aragora_worker.children import outcomes_in, parked_before, with_ids
from aragora_worker.emitting import Emitter
from aragora_worker.errors import OutcomeUnknown
from aragora_worker.job_progress import JobProgress
from aragora_worker.jobs import Handler, Job, RunningJob, Stop
from aragora_worker.reports import LOST, EncodedReport, Report, ReportQueue, encoded
from aragora_worker.trace_context import traceparent_of

_logger = logging.getLogger(__name__)

#: How long a draining worker still repeats reports after the time that its jobs had.
LAST_REPORTS_S = 10.0
#: How long the report of a failure waits for the job's progress to be acknowledged, which the API may hold for a second each.
LAST_PROGRESS_S = 5.0


class JobsAtHand:
    """``handlers``: task type → its handler; None for every other type. All but the handlers runs on the session's loop."""

    #: The loop of the handlers; set before the first job starts.
    handlers_loop: asyncio.AbstractEventLoop

    def __init__(
        self, agent_id: str, concurrency: int, handlers: Mapping[str | None, Handler], calls: WorkerCalls
    ) -> None:
        self._agent_id = agent_id
        self._concurrency = concurrency
        self._handlers = handlers
        self._calls = calls
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix=f"job-{agent_id}")
        #: By lease token, with the session's task that waits until the job is over and its report has an outcome. Not by task id:
        #: a task may come again in another attempt while the report of the last one is still on its way.
        self._jobs: dict[str, tuple[RunningJob, asyncio.Task[None]]] = {}
        #: Set when a job ends.
        self._slot = asyncio.Event()
        self._reports = ReportQueue(self._send_reports, calls.patience, calls.outage)

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def free(self) -> int:
        """How many more jobs may start."""
        return self._concurrency - len(self._jobs)

    @property
    def task_ids(self) -> list[str]:
        """The ids of the tasks."""
        return [running.job.id for running, _ in list(self._jobs.values())]

    async def job_ended(self) -> None:
        """Waits until a job ends."""
        self._slot.clear()
        await self._slot.wait()

    def start_all(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Starts a job for each task. One that has been started already is left as it is."""
        for task in tasks:
            if task["lease_token"] not in self._jobs:
                self.cancel(task["id"])  # an earlier attempt of the task has lost its lease
                self._start(task)

    def cancel(self, task_id: str) -> None:
        """Tells the jobs of a task to stop, because nobody waits for the result any more."""
        for running, _ in list(self._jobs.values()):
            if running.job.id == task_id:
                running.stop(Stop.CANCELLED)

    async def finish(self, drain_s: float) -> bool:
        """Waits for the jobs. Those that do not end in time are told to stop; the tasks of those that do go back to the queue.
        Reports are repeated a little longer. Returns whether the control plane has taken all."""
        jobs = dict(self._jobs)
        last_s = asyncio.get_running_loop().time() + drain_s + LAST_REPORTS_S
        if jobs:
            await asyncio.wait([reported for _, reported in jobs.values()], timeout=drain_s)
            late = [(running, reported) for running, reported in jobs.values() if not reported.done()]
            for running, _ in late:
                running.stop(Stop.DRAINED)
            if late:
                await asyncio.wait([reported for _, reported in late], timeout=LAST_REPORTS_S)
        left = await self._reports.drain(last_s - asyncio.get_running_loop().time())
        for task_id in left:
            _logger.error("task %s: the worker ends, and the control plane has not taken its outcome", task_id)
        return not left

    def abandon(self) -> Sequence[Report]:
        """Tells all jobs to stop. Returns the reports that give back the tasks whose code could not be ended; they must not be
        sent while it runs."""
        for running, _ in self._jobs.values():
            running.stop(Stop.DRAINED)
        left = [running.last_report() for running, _ in self._jobs.values() if not running.over.done()]
        self._threads.shutdown(wait=False, cancel_futures=True)
        for report in left:
            _logger.error("task %s does not stop: it goes back to the queue after this process", report["task_id"])
        return left

    def _start(self, task: Mapping[str, Any]) -> None:
        patience = self._calls.patience
        progress = JobProgress(functools.partial(self._send_progress, task), patience)
        job = Job(
            id=task["id"],
            task_type=task["task_type"],
            payload=task["payload"],
            metadata=task["metadata"],
            attempt=task["attempt"],
            timeout_s=task["timeout_seconds"],
            lease_token=task["lease_token"],
            checkpoint=task.get("checkpoint"),
            answer=answer_of(task),
            children=outcomes_in(task),
            traceparent=traceparent_of(task),
            reports=progress.put,
            emitter=Emitter(task["id"], functools.partial(self._send_chunks, task), patience),
        )
        running = RunningJob(job, self._agent_id)
        due = time.monotonic() + job.timeout_s
        reported = asyncio.create_task(self._until_reported(running, progress, due, parked_before(task)))
        self._jobs[job.lease_token] = (running, reported)
        reported.add_done_callback(functools.partial(self._ended, job.lease_token))
        handler = self._handlers.get(job.task_type) or self._handlers.get(None)
        if handler is None:
            running.fail(LookupError(f"this worker has no handler for {job.task_type}"))
        elif inspect.iscoroutinefunction(handler):
            running.start_coroutine(functools.partial(handler, job), self.handlers_loop)
        else:
            running.start_plain(handler, self._threads, self.handlers_loop)

    def _ended(self, lease_token: str, _: asyncio.Task[None]) -> None:
        self._jobs.pop(lease_token, None)
        self._slot.set()

    async def _until_reported(self, running: RunningJob, progress: JobProgress, due: float, waited_in: int) -> None:
        """Ends when the job's report has an outcome and its code has ended. (Shielded: the futures are not ours to cancel.)"""
        report = await asyncio.shield(asyncio.wrap_future(running.report))
        if "result" not in report[0]:  # the next attempt goes on from the last checkpoint
            await progress.settle(LAST_PROGRESS_S)
        await progress.close()
        if running.job.emitter is not None:
            await running.job.emitter.flush()  # after the report the lease is over
        if "park" in report[0]:
            report = await self._with_children(report[0], running.job, due, waited_in)
        taken = await self._reports.put(report, due)
        if not taken["ok"]:
            _logger.warning("the report of task %s was refused: %s", running.job.id, taken.get("error"))
        await asyncio.shield(asyncio.wrap_future(running.over))

    async def _with_children(self, report: Report, job: Job, due: float, waited_in: int) -> EncodedReport:
        """The report of a job that waits, once its children are submitted. If they are refused, or the job's time is over, the
        attempt has failed."""

        async def submit(tasks: Sequence[Mapping[str, Any]], key: str) -> Sequence[str]:
            ids: Sequence[str] = await self._calls.patiently(
                CHILDREN, lambda: self._calls.submit(job.id, job.lease_token, tasks, key, job.traceparent)
            )
            return ids

        try:
            left_s = max(0.0, due - time.monotonic())
            park = await asyncio.wait_for(with_ids(report["park"], submit, job.id, waited_in, job.attempt), left_s)
        except CallerError as refused:
            reason, code = f"its children were refused: {refused.message}", refused.code
        except asyncio.TimeoutError:
            reason, code = "its children could not be submitted in time", "children_not_submitted"
        else:
            return encoded({**report, "park": park})
        kept = {name: value for name, value in report.items() if name not in ("park", "released")}
        return encoded({**kept, "error": shown_text(reason, MAX_ERROR_CHARS), "error_code": code, "requeue": True})

    async def _send_progress(self, task: Mapping[str, Any], progress: Progress) -> None:
        """Renews a job's lease with its progress. A job that holds the lease no more is told to stop."""
        lease_token = task["lease_token"]
        checkpoint = None if progress.checkpoint_json is None else json.loads(progress.checkpoint_json)
        body = {
            "lease_token": lease_token,
            "percent": progress.percent,
            "message": progress.message,
            "checkpoint": checkpoint,
        }
        try:
            path = f"/tasks/{path_segment(task['id'])}/extend"
            await self._calls.post(path, body, has={"extended": bool}, traceparent=traceparent_of(task))
        except CallerError as refused:
            if refused.code in LOST and lease_token in self._jobs:
                self._jobs[lease_token][0].stop(Stop.CANCELLED)
            raise

    async def _send_chunks(self, task: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        path = f"/tasks/{path_segment(task['id'])}/chunks"
        body = {**body, "lease_token": task["lease_token"]}
        await self._calls.post(path, body, has={"next": int}, traceparent=traceparent_of(task))

    async def _send_reports(self, reports: Sequence[bytes]) -> Sequence[Mapping[str, Any]]:
        body = b'{"reports":[' + b",".join(reports) + b"]}"
        options = {"has": {"results": list}, "traceparent": self._traceparent(reports)}
        answer = await self._calls.post("/tasks/complete", body, **options)
        results: list[Mapping[str, Any]] = answer["results"]
        if not all(isinstance(result, dict) and isinstance(result.get("ok"), bool) for result in results):
            raise OutcomeUnknown("What answered the reports is not the control plane.")
        return results

    def _traceparent(self, reports: Sequence[bytes]) -> str | None:
        """That of a report that is sent alone. A call has one context: reports of several tasks are linked with their traces by
        the control plane."""
        traced = {token: running.job.traceparent for token, (running, _) in self._jobs.items()}
        if len(reports) != 1 or not any(traced.values()):
            return None
        return traced.get(json.loads(reports[0])["lease_token"])
