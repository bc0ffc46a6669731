"""One recorded client: every try of every call goes into the history, and an operation is tried until it is answered.

Trying again is safe, because a submit carries its idempotency key, a claim its claim id and a report its lease token.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.history import Answer, Beat, Call, Claimed, History, Leased, Outcome, Reported, ReportKind, Submit

CP = "/api/control-plane"
TRY_AGAIN_S = 0.2
#: Longer than any long poll, and than the API holds a call.
CALL_TIMEOUT_S = 30.0


def classify(status: int, retry_after: str | None) -> Answer:
    if status < 400:
        return Answer.OK
    if status < 500:
        return Answer.REFUSED
    return Answer.TRY_LATER if status == 503 and retry_after is not None and retry_after.isdigit() else Answer.BROKEN


@dataclass(slots=True)
class Client:
    """``stopping`` set: an unanswered operation is given up instead of tried again."""

    http: httpx.AsyncClient
    history: History
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def once(
        self, name: str, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> tuple[Call, httpx.Response | None]:
        sent = time.monotonic()
        response: httpx.Response | None = None
        try:
            response = await self.http.post(f"{CP}{path}", json=body, headers=headers, timeout=CALL_TIMEOUT_S)
            answer = classify(response.status_code, response.headers.get("retry-after"))
            detail = "" if answer is Answer.OK else f"{response.status_code} {response.text[:160]}"
        except httpx.HTTPError as error:
            answer, detail = Answer.CUT, repr(error)
        call = Call(name=name, sent=sent, ended=time.monotonic(), answer=answer, detail=detail)
        self.history.calls.append(call)
        return call, response

    async def until_answered(
        self, name: str, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> tuple[Call, httpx.Response | None]:
        """The last try. Its response is None if the run ended first."""
        while True:
            call, response = await self.once(name, path, body, headers)
            if call.answer in (Answer.OK, Answer.REFUSED):
                return call, response
            if self.stopping.is_set():
                return call, None
            await asyncio.sleep(TRY_AGAIN_S)

    async def register(self, agent: str, capability: str, slots: int) -> None:
        body = {"agent_id": agent, "capabilities": [capability], "max_concurrency": slots}
        await self.until_answered("register", "/agents", body)

    async def submit(self, key: str, group: str, body: Mapping[str, Any]) -> str | None:
        metadata = {"key": key, "group": group}
        call, response = await self.until_answered(
            "submit", "/tasks", {**body, "metadata": metadata}, {"Idempotency-Key": key}
        )
        task_id = None if response is None or call.answer is not Answer.OK else str(response.json()["task_id"])
        answered = None if task_id is None else call.ended
        self.history.submits.append(Submit(key=key, group=group, sent=call.sent, answered=answered, task_id=task_id))
        return task_id

    async def claim(self, agent: str, claim_id: str, max_tasks: int, block_ms: int) -> list[Leased]:
        body = {"agent_id": agent, "claim_id": claim_id, "max_tasks": max_tasks, "block_ms": block_ms}
        call, response = await self.until_answered("claim", "/tasks/claim", body)
        if response is None or call.answer is not Answer.OK:
            return []
        leases = [
            Leased(task_id=t["id"], attempt=t["attempt"], token=t["lease_token"], redelivered=t["redelivered"])
            for t in response.json()["tasks"]
        ]
        if leases:
            claimed = Claimed(agent=agent, claim_id=claim_id, sent=call.sent, answered=call.ended, leases=leases)
            self.history.claims.append(claimed)
        return leases

    async def report(self, agent: str, lease: Leased, kind: ReportKind) -> Outcome:
        body: dict[str, Any] = {"lease_token": lease.token}
        if kind is ReportKind.FAIL:
            body |= {"error": "as planned", "error_class": "retryable"}
        call, response = await self.until_answered("report", f"/tasks/{lease.task_id}/{kind.value}", body)
        outcome = Outcome.UNKNOWN
        if response is not None:
            outcome = Outcome.OK if call.answer is Answer.OK else Outcome(response.json()["code"])
        self.history.reports.append(
            Reported(
                kind=kind,
                task_id=lease.task_id,
                attempt=lease.attempt,
                agent=agent,
                sent=call.sent,
                answered=None if response is None else call.ended,
                outcome=outcome,
            )
        )
        return outcome

    async def beat(self, agent: str) -> None:
        call, response = await self.until_answered("heartbeat", f"/agents/{agent}/heartbeat", {})
        if response is not None and call.answer is Answer.OK:
            self.history.beats.append(Beat(agent=agent, sent=call.sent, answered=call.ended))
