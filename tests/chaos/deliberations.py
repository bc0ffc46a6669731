"""``python -m tests.chaos.deliberations``: the deliberation worker is killed with -9, again and again, amid deliberations.

Agents are HTTP servers of this process that write down every call. Each question is first decided without kills; every
later deliberation of it must end in the same decision, no call may be made again once its answer is journalled, and calls
that were in flight are repeated under the same key and counted. Exit code 1 if anything differs. The same ``--seed`` gives
the same answers and pauses between kills.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.nemesis import Nemesis, Planned
from tests.chaos.page import kills_table, machine, spread
from tests.chaos.target import running_target
from tests.support.answering import Agents, phase_of, registrations, reply
from tests.support.probes import eventually

PANEL = ("ada", "bob", "cyn")
OPTIONS = ("A", "B", "C")
QUESTIONS = 6
#: What a decision is: all of it must be the same, whatever died on the way.
DECISION = ("terminal", "answer", "confidence", "tally", "supporters", "dissenting_views", "rounds_completed")
Row = dict[str, Any]
_JOURNALLED = ("answered", "faulted", "late")


@dataclass(slots=True)
class Crowd:
    """Agents whose answers depend on the question and the round alone, and that take 200 ms for each.

    ``arrivals``: for each idempotency key, when its calls came.
    """

    seed: int
    agents: Agents = field(default_factory=Agents)
    arrivals: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.agents.answering = dict.fromkeys(PANEL, self._say)
        self.agents.delay_s = 0.2

    def _say(self, agent: str, body: Mapping[str, Any]) -> str:
        key = str(body["idempotency_key"])
        question = str(body["messages"][1]["content"]).split("\n")[0]
        rng = random.Random(f"{self.seed}|{question}|{agent}|{key.split('/', 1)[1]}")
        if phase_of(dict(body)) != "CRITIQUE":
            return reply(rng.choice(OPTIONS), because="own_error")
        targets = body["schema"]["properties"]["critiques"]["items"]["properties"]["target"]["enum"]
        return json.dumps({"critiques": [{"target": rng.choice(targets), "defect": "wrong", "severity": "high"}]})

    def arrived(self) -> None:
        """Times of the calls since the last look; the look comes every few milliseconds."""
        known = sum(len(times) for times in self.arrivals.values())
        for _, key in self.agents.calls[known:]:
            self.arrivals.setdefault(key, []).append(time.time())


@dataclass(slots=True)
class Load:
    """Keeps ``at_once`` deliberations going until it is told to stop."""

    http: httpx.AsyncClient
    at_once: int
    asked: dict[str, int] = field(default_factory=dict)
    records: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    async def ask(self, number: int) -> str:
        """Repeated until it is answered: the same id is the same deliberation."""
        question = number % QUESTIONS
        request_id = f"kills-{number}"
        self.asked[request_id] = question
        config: dict[str, Any] = {"options": list(OPTIONS), "agents": list(PANEL), "consensus": "majority"}
        config |= {"debate_on": "always", "rounds": 2, "seed": str(question)}
        body = {"content": f"Question {question}?", "config": config, "request_id": request_id, "async": True}
        await self._call("POST", "/deliberations", {**body, "timeout_seconds": 600})
        return request_id

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        while True:
            response = await self.http.request(method, path, json=body)
            if response.status_code < 500:
                return response.raise_for_status().json()
            await asyncio.sleep(0.2)

    async def end_of(self, request_id: str) -> Mapping[str, Any]:
        async def ended() -> Any:
            await asyncio.sleep(0.1)
            record = await self._call("GET", f"/deliberations/{request_id}")
            return record if record["terminal"] else None

        self.records[request_id] = await eventually(ended, timeout_s=300, what=f"the end of {request_id}")
        return self.records[request_id]

    async def run(self, stop: asyncio.Event) -> None:
        numbers = iter(range(QUESTIONS, 1_000_000))

        async def one_after_another() -> None:
            while not stop.is_set():
                await self.end_of(await self.ask(next(numbers)))

        await asyncio.gather(*(one_after_another() for _ in range(self.at_once)))

    async def journal(self, request_id: str) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = (await self._call("GET", f"/deliberations/{request_id}/transcript"))["events"]
        return found


def decision_of(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record["result"][name] for name in DECISION}


def check(
    request_id: str,
    record: Mapping[str, Any],
    expected: Mapping[str, Any],
    journal: Sequence[Mapping[str, Any]],
    arrivals: Mapping[str, Sequence[float]],
) -> tuple[list[str], int]:
    """What is wrong with one deliberation, and how many of its calls were repeated."""
    wrong = []
    decided = decision_of(record)
    if decided != expected:
        wrong.append(f"{request_id}: decided {decided}, without kills {expected}")
    copies: Counter[str] = Counter()
    settled: dict[str, float] = {}
    for event in journal:
        data = event["data"]
        for call in data.get("calls", ()):
            where = {"phase": data.get("phase"), "round": data.get("round"), "attempt": data.get("attempt"), **call}
            copies[_key(request_id, where)] += 1
        if event["kind"] in _JOURNALLED:
            settled[_key(request_id, data)] = datetime.fromisoformat(event["at"]).timestamp()
    for key, times in arrivals.items():
        if len(times) > copies[key]:
            wrong.append(f"{key}: {len(times)} calls for {copies[key]} in the journal")
        if key in settled and max(times) > settled[key] + LOOK_S:
            wrong.append(f"{key}: called again after its answer was journalled")
    made = sum(copies.values())
    if record["result"]["agent_calls"] != made:
        wrong.append(f"{request_id}: {record['result']['agent_calls']} calls are counted, {made} are in the journal")
    return wrong, made - len(copies)


#: Arrivals are seen at most this long after they came.
LOOK_S = 0.04


def _key(request_id: str, where: Mapping[str, Any]) -> str:
    return f"{request_id}/{where['phase']}/{where['round']}/{where['agent']}/{where['attempt']}"


async def _looking(crowd: Crowd) -> None:
    while True:
        crowd.arrived()
        await asyncio.sleep(0.005)


#: Kills the worker and returns when its successor is there: how long that took, and what to print of it.
Strike = Callable[[], Awaitable[tuple[float, str]]]


async def amid(http: httpx.AsyncClient, crowd: Crowd, strike: Strike, count: int, ends: float, at_once: int) -> Row:
    """The row of a run, with everything that was violated. No kill begins after ``ends`` (monotonic)."""
    (await http.post("/agents/batch", json=registrations(crowd.agents, *PANEL))).raise_for_status()
    load, stop = Load(http, at_once), asyncio.Event()
    looking = asyncio.create_task(_looking(crowd))
    expected = [decision_of(await load.end_of(await load.ask(number))) for number in range(QUESTIONS)]
    running = asyncio.create_task(load.run(stop))
    healed: list[float] = []
    under_way = 0
    while len(healed) < count and time.monotonic() < ends and not running.done():
        under_way += len(set(load.asked) - set(load.records))
        seconds, detail = await strike()
        healed.append(seconds)
        print(f"{len(healed):4d} {seconds:5.1f} s  {detail}  {len(load.records)} ended", flush=True)
    stop.set()
    await running
    looking.cancel()
    crowd.arrived()
    wrong, repeated = [], 0
    for request_id, question in load.asked.items():
        mine = {key: times for key, times in crowd.arrivals.items() if key.startswith(f"{request_id}/")}
        journal = await load.journal(request_id)
        found, again = check(request_id, load.records[request_id], expected[question], journal, mine)
        wrong += found
        repeated += again
    return {
        "name": "chaos/deliberations",
        "kills": len(healed),
        "under_way": under_way,
        "deliberations": len(load.records),
        "calls": sum(len(times) for times in crowd.arrivals.values()),
        "repeated": repeated,
        "healed_s": spread(healed),
        "violations": wrong,
    }


async def kills(seed: int, count: int, seconds: float, at_once: int) -> Row:
    """Against a whole system on stores of its own."""
    rng = random.Random(f"{seed}/kills")
    crowd = Crowd(seed)
    async with AsyncExitStack() as stack:
        manager = running_target(ARAGORA_ALLOWED_NETWORKS="127.0.0.0/8")
        target = await asyncio.to_thread(manager.__enter__)
        stack.push_async_callback(asyncio.to_thread, manager.__exit__, None, None, None)
        await stack.enter_async_context(crowd.agents.running())
        base = f"{target.system.api_url}/api/control-plane"
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=base, timeout=60))
        nemesis = Nemesis(target)

        async def strike() -> tuple[float, str]:
            planned = Planned(name="kill-deliberation", wait_s=rng.uniform(0.0, 1.5), hold_s=0.0)
            fault = await nemesis.strike(planned)
            return fault.healed - fault.began, fault.detail

        return await amid(http, crowd, strike, count, time.monotonic() + seconds, at_once)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.deliberations", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None, help="repeats a run")
    parser.add_argument("--seconds", type=float, default=1500.0, help="no kill after this")
    parser.add_argument("--at-once", type=int, default=4, help="deliberations under way at any time")
    parser.add_argument("--json", type=Path, default=None, help="where to write the row")
    options = parser.parse_args(arguments)
    seed = random.randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}, up to {options.kills} kills within {options.seconds:g} s", flush=True)
    row = asyncio.run(kills(seed, options.kills, options.seconds, options.at_once))
    print("\n".join(["", machine(), *kills_table(row)]))
    for violation in row["violations"][:40]:
        print(f"  {violation}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"seed": seed, "machine": machine(), "row": row}, indent=1))
    return 1 if row["violations"] or not row["kills"] else 0


if __name__ == "__main__":
    sys.exit(main())
