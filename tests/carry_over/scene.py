"""What a build is made to leave behind, told over its public API: nothing here knows how it stores anything.

``play`` and ``play_on`` leave work in every state that has to outlive an upgrade. ``last_words`` reads the facts: what is
left, which calls are repeated later and how this build answers them, and what its API shows.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from cluster.domain.base.json_writing import canonical_json
from tests.carry_over import crew, standing
from tests.support.answering import Agents
from tests.support.crowd import crowd
from tests.support.probes import eventually

CP = "/api/control-plane"
#: Leases, calls and signs of life outlast the making of a picture and its whole test.
SETTINGS = {"ARAGORA_HEARTBEAT_TIMEOUT": "600", "ARAGORA_HTTP_TIMEOUT": "3600"}
LEASE_S = 600.0
DELAY_S = 1800.0
BACKOFF_S = 900.0
LONG_S = 86_400
CONFIG = {"options": list(crew.OPTIONS), "agents": list(crew.PANEL), "rounds": 0, "consensus": "plurality"}

Answer = dict[str, Any]


@dataclass
class Scene:
    """``repeats``: calls that a client may send again at any time, with their answers."""

    http: httpx.AsyncClient
    agents: Agents
    repeats: list[Answer] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    async def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        headers = {} if key is None else {"Idempotency-Key": key}
        response = await self.http.request(method, CP + path, json=body, headers=headers)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json()

    async def get(self, path: str) -> Any:
        return await self.call("GET", path)

    async def post(self, path: str, body: Any = None, key: str | None = None) -> Any:
        return await self.call("POST", path, body, key)

    async def repeatable(self, method: str, path: str, body: Any, key: str | None = None) -> Any:
        answer = await self.call(method, path, body, key)
        self.repeats.append({"method": method, "path": path, "body": body, "key": key, "answer": answer})
        return answer

    # --- agents and tasks ----------------------------------------------------------------------------------------

    async def agent(self, agent_id: str, *capabilities: str, **fields: Any) -> None:
        await self.post("/agents", {"agent_id": agent_id, "capabilities": list(capabilities), **fields})

    async def task(self, task_type: str, *required: str, **fields: Any) -> str:
        body = {"task_type": task_type, "required_capabilities": list(required), "payload": {"of": task_type}}
        return str((await self.post("/tasks", body | fields))["task_id"])

    async def claim(self, agent_id: str, claim_id: str) -> Answer:
        body = {"agent_id": agent_id, "claim_id": claim_id, "block_ms": 20_000}
        task = (await self.post("/tasks/claim", body))["task"]
        assert task is not None, f"no work for {agent_id}"
        return dict(task)

    async def lease(self, agent_id: str, task_id: str) -> Answer:
        """What the agent knows of its lease."""
        claim_id = f"claim-of-{task_id}"
        task = await self.claim(agent_id, claim_id)
        assert task["id"] == task_id, (task["id"], task_id)
        lease = {name: task[name] for name in ("id", "attempt", "lease_token")}
        return {**lease, "agent_id": agent_id, "claim_id": claim_id}

    async def fail(self, lease: Answer, error: str, **how: Any) -> None:
        await self.post(f"/tasks/{lease['id']}/fail", {"lease_token": lease["lease_token"], "error": error} | how)

    # --- deliberations -------------------------------------------------------------------------------------------

    async def decide(self, question: str, key: str, timeout_s: float = 600, **config: Any) -> Answer:
        body = {"content": question, "config": CONFIG | config, "timeout_seconds": timeout_s}
        return dict(await self.repeatable("POST", "/deliberations", body, key))

    async def ask(self, question: str, request_id: str, **config: Any) -> None:
        body = {"content": question, "config": CONFIG | config, "timeout_seconds": LONG_S, "async": True}
        if body["config"]["agents"] is None:
            body["required_capabilities"] = ["duel"]
        await self.repeatable("POST", "/deliberations", body | {"request_id": request_id})

    async def journal(self, request_id: str) -> list[Answer]:
        return list((await self.get(f"/deliberations/{request_id}/transcript"))["events"])


async def play(scene: Scene) -> None:
    """Up to deliberations that wait for called agents."""
    await _agents(scene)
    await _ended_tasks(scene)
    await _decided(scene)
    await _weights(scene)
    await _waiting_tasks(scene)
    await standing.leave(scene)
    await _open_deliberations(scene)


async def play_on(scene: Scene) -> None:
    """What is to be fresh when everything stops."""
    await _pullers(scene)
    await _leases(scene)
    scene.facts["open"].append("open-pull")


async def _agents(scene: Scene) -> None:
    """Pulling and called ones; one that an operator paused, one that drained itself."""
    called = [
        {
            "agent_id": name,
            "capabilities": ["debate"],
            "endpoint": scene.agents.endpoint(name),
            "max_concurrency": 64,
            "model": "m",
            "owner": f"owner-of-{name}",
            "price": {"input_per_mtok": 1.0, "output_per_mtok": 2.0},
        }
        for name in crew.PANEL
    ]
    await scene.post("/agents/batch", {"agents": called})
    for name in crew.DUEL:
        await scene.agent(name, "duel", endpoint=scene.agents.endpoint(name))
    await scene.agent(crew.PUSHED, "push", endpoint=scene.agents.endpoint(crew.PUSHED))
    for name in ("ended", "held", "left", "again", "cancelling", "line", "later", "blocked", "slot", "near", "dead"):
        await scene.agent(f"{name}-worker", name)
    for name in ("puller-answered", "puller-asked", "puller-waiting"):
        await scene.agent(name, "debate")
    body = {"agent_id": "paused-worker", "capabilities": ["rest"], "tags": ["kept"], "metadata": {"team": "a"}}
    await scene.repeatable("POST", "/agents", body, "register-paused-worker")
    await scene.post("/agents/paused-worker/pause")
    await scene.agent("drained-worker", "rest")
    await scene.post("/agents/drained-worker/heartbeat", {"status": "draining"})


async def _ended_tasks(scene: Scene) -> None:
    body = {"task_type": "ended", "required_capabilities": ["ended"], "payload": [1, {"ü": None}]}
    done = (await scene.repeatable("POST", "/tasks", body, "submit-of-ended"))["task_id"]
    lease = await scene.lease("ended-worker", done)
    await scene.post(f"/tasks/{done}/complete", {"lease_token": lease["lease_token"], "result": {"answer": 42}})
    cancelled = await scene.task("cancelled", "nobody")
    await scene.repeatable("POST", f"/tasks/{cancelled}/cancel", None, "cancel-of-cancelled")
    dead = []
    for number in range(3):
        dead.append(await scene.task(f"dead-{number}", "dead", max_retries=0, payload={"n": number}))
        await scene.fail(await scene.lease("dead-worker", dead[-1]), "broken: ä")
    await scene.repeatable("POST", f"/dead-letter/{dead[0]}/replay", {"payload_patch": {"m": 1}}, "replay-of-dead-0")
    await scene.repeatable("POST", "/dead-letter/purge", {"ids": [dead[1]]}, "purge-of-dead-1")
    scene.facts |= {"done": done, "cancelled": cancelled, "dead": dead[2]}


async def _waiting_tasks(scene: Scene) -> None:
    """The line is in no tenant's share, so that it has one order: by priority, then as moved, then by age."""
    batch = [{"task_type": f"line-{n}", "required_capabilities": ["line"], "payload": n} for n in range(4)]
    middle = (await scene.repeatable("POST", "/tasks/batch", {"tasks": batch}, "submit-of-line"))["task_ids"]
    low = await scene.task("line-low", "line", priority="low")
    urgent = await scene.task("line-urgent", "line", priority="urgent")
    raised = await scene.task("line-raised", "line")

    async def known() -> bool:
        return all([await _positioned(scene, task_id) for task_id in (*middle, low, urgent, raised)])

    await eventually(known)
    await scene.post("/queue/prioritize", {"task_id": raised, "priority": "high"})
    await scene.post("/queue/prioritize", {"task_id": middle[3], "position": 1})
    await scene.post("/queue/prioritize", {"task_id": middle[0], "position": 3})
    scene.facts["line"] = [urgent, raised, middle[3], middle[1], middle[0], middle[2], low]
    delayed = await scene.task("later", "later", delay_seconds=DELAY_S)
    by_body = {"task_type": "elsewhere", "required_capabilities": ["near"], "idempotency_key": "in-the-body"}
    regions = {"target_region": "elsewhere", "fallback_regions": ["far"]}
    strict = await scene.repeatable("POST", "/tasks", by_body | regions | {"region_routing_mode": "strict"})
    near = await scene.task("near", "near", region_routing_mode="preferred", **regions)
    excluded = await scene.task("excluded", "near", excluded_agents=["near-worker"], tenant="b", metadata={"name": "x"})
    for_paused = await scene.task("for-paused", target_agent="paused-worker", queue_timeout_seconds=LONG_S)
    stopped = await scene.task("stopped", "line", queue="stopped", total_timeout_seconds=LONG_S)
    await scene.repeatable("POST", "/queue/pause", {"kind": "queue", "name": "stopped"}, "pause-of-stopped")
    limit = {"kind": "tenant", "name": "b", "weight": 2.5}
    await scene.repeatable("PUT", "/queue/controls", limit, "weight-of-b")
    scene.facts |= {
        "delayed": delayed,
        "strict": strict["task_id"],
        "near": near,
        "excluded": excluded,
        "for_paused": for_paused,
        "stopped": stopped,
    }


async def _positioned(scene: Scene, task_id: str) -> bool:
    response = await scene.http.get(f"{CP}/tasks/{task_id}/explain")
    return bool(response.is_success and "position" in response.json())


async def _decided(scene: Scene) -> None:
    """One of every kind of end whose journal differs."""
    both = {"agents": ["one", "two"]}
    decided = [
        await scene.decide("Plurality?", "decide-plurality"),
        await scene.decide("Debated?", "decide-debate", rounds=1, debate_on="always"),
        await scene.decide("In words?", "decide-text", options=None, consensus="agree_k"),
        await scene.decide("The judge chooses?", "decide-judge", consensus="judge", judge="three", **both),
        await scene.decide("Numbers?", "decide-numbers", options=None, answer_type="set", **both),
        await scene.decide("No majority?", "decide-split", consensus="unanimous"),
        await scene.decide("Too dear?", "decide-budget", budget={"tokens": 500}, max_tokens=64),
        await scene.decide("Nobody there?", "decide-lost", 1, agents=["one", "unknown"]),
    ]
    pullers = {"agents": ["puller-asked", "puller-waiting"]}
    asked = {"content": "Cancelled?", "config": CONFIG | pullers, "async": True, "timeout_seconds": LONG_S}
    cancelled = (await scene.repeatable("POST", "/deliberations", asked))["request_id"]
    await scene.repeatable("POST", f"/deliberations/{cancelled}/cancel", None, "cancel-of-deliberation")

    async def ended() -> bool:
        return (await scene.get(f"/deliberations/{cancelled}"))["terminal"] is not None

    await eventually(ended)
    path = f"/deliberations/{decided[0]['request_id']}/outcome"
    await scene.repeatable("POST", path, {"correct": "Postgres"})
    scene.facts["ended"] = [*(deliberation["request_id"] for deliberation in decided), cancelled]


async def _weights(scene: Scene) -> None:
    outcomes = crowd({"one": 0.9, "two": 0.5, "three": 0.6}, 40, seed=1)
    items = [
        {"id": f"q{n}", "votes": dict(outcome.votes), "correct": outcome.right, "options": list(outcome.options)}
        for n, outcome in enumerate(outcomes)
    ]
    await scene.repeatable("POST", "/outcomes/batch", {"outcomes": items})

    async def fitted() -> list[Answer]:
        return list((await scene.get("/weights"))["snapshots"])

    (snapshot,) = await eventually(fitted)
    weighed = await scene.decide("Weighed?", "decide-weighed", consensus="learned")
    assert weighed["snapshot_id"] == snapshot["snapshot_id"], weighed
    scene.facts["ended"].append(weighed["request_id"])
    scene.facts["snapshot_id"] = snapshot["snapshot_id"]


async def _open_deliberations(scene: Scene) -> None:
    at_revise = {"rounds": 1, "debate_on": "always", "budget": {"tokens": 1_000_000}}
    judge = {"consensus": "judge", "agents": ["one", "two"], "judge": "three"}
    stops: dict[str, dict[str, Any]] = {
        "Stopped at the first answers?": {"consensus": "learned"},
        "Stopped at the revisions?": at_revise,
        "Stopped at the vote?": {"options": None},
        "Stopped at the judge?": judge,
        "Stopped after a replacement?": {"agents": None, "max_agents": 2},
    }
    scene.facts["open"] = [f"open-{number}" for number, _ in enumerate(stops)]
    for request_id, (question, config) in zip(scene.facts["open"], stops.items(), strict=True):
        await scene.ask(question, request_id, **config)


async def _pullers(scene: Scene) -> None:
    """Turns of agents that pull are tasks: one has answered, one has a lease on its turn, one has not asked yet."""
    pullers = ["puller-answered", "puller-asked", "puller-waiting"]
    await scene.ask("Answered by those who pull?", "open-pull", agents=pullers)
    first = await scene.claim("puller-answered", "turn-1")
    body = {"answer": "Redis", "rationale": "pulled", "confidence": "high"}
    done = {
        "lease_token": first["lease_token"],
        "result": {"text": json.dumps(body), "input_tokens": 5, "output_tokens": 7},
    }
    await scene.post(f"/tasks/{first['id']}/complete", done)
    asked = await scene.claim("puller-asked", "turn-2")
    scene.facts["turn"] = {name: asked[name] for name in ("id", "attempt", "lease_token")} | {
        "agent_id": "puller-asked"
    }


async def _leases(scene: Scene) -> None:
    """Last, because a grace of ten seconds runs from a cancel on."""
    held = await scene.task("held", "held")
    blocked = await scene.task("blocked", "blocked", after=[held])
    both = [{"id": scene.facts["dead"], "when_failed": "run_anyway"}, {"id": held}]
    blocked_twice = await scene.task("blocked-twice", "blocked", after=both)
    left = await scene.task("left", "left", max_retries=3)
    again = await scene.task("again", "again", max_retries=3)
    slots = [await scene.task("slot", "slot", concurrency_key="printer") for _ in range(2)]
    pushed = await scene.task("pushed", "push", max_retries=3)
    leases = {"held": await scene.lease("held-worker", held), "left": await scene.lease("left-worker", left)}
    await scene.fail(await scene.lease("again-worker", again), "once")
    body = {"agent_id": "again-worker", "claim_id": "second", "block_ms": 20_000}
    second = (await scene.post("/tasks/claim", body))["task"]
    leases["again"] = {n: second[n] for n in ("id", "attempt", "lease_token")} | {"agent_id": "again-worker"}
    assert leases["again"]["attempt"] == 2, second
    leases["slot"] = await scene.lease("slot-worker", slots[0])
    resting = await scene.task("resting", "again", max_retries=3)
    backing_off = await scene.task("backing-off", "ended", max_retries=3)
    slowly = {"error_class": "rate_limited", "retry_after_seconds": BACKOFF_S}
    await scene.fail(await scene.lease("ended-worker", backing_off), "too many", **slowly)
    stops = await scene.task("cancelling", "cancelling")
    leases["cancelling"] = await scene.lease("cancelling-worker", stops)
    await scene.post("/agents/again-worker/pause")
    scene.facts |= {"leases": leases, "slots": slots, "pushed": pushed, "resting": resting, "backing_off": backing_off}
    scene.facts["blocked"] = [blocked, blocked_twice]


async def last_words(scene: Scene, written: Sequence[str]) -> None:
    """Right before the kill: everything that was going to happen has, then the facts are read. ``written``: items that
    the batch is through with."""
    stopping = scene.facts["leases"]["cancelling"]["id"]
    await _settled(scene)
    await scene.post(f"/tasks/{stopping}/cancel")
    open_ones = [deliberation for deliberation in await _deliberations(scene) if deliberation["terminal"] is None]
    facts = scene.facts
    facts["batch"] = {
        "written": list(written),
        "open": sorted(
            deliberation["request_id"] for deliberation in open_ones if deliberation["request_id"].startswith("batch-")
        ),
    }
    found, wanted = (
        {deliberation["request_id"] for deliberation in open_ones},
        {*facts["open"], *facts["batch"]["open"]},
    )
    assert found == wanted, f"ended already: {[await scene.journal(request_id) for request_id in wanted - found]}"
    journals = {
        deliberation["request_id"]: await scene.journal(deliberation["request_id"]) for deliberation in open_ones
    }
    facts["asked"] = _asked(scene.agents, journals)
    (facts["pushed_key"],) = {key for agent, key in scene.agents.calls if agent == crew.PUSHED}
    facts["journals"] = {
        request_id: {"events": len(events), "digest": journal_digest(events), "paid": sorted(paid(request_id, events))}
        for request_id, events in journals.items()
    }
    # As this build answers a repeat: of a registration that is the agent as it is by then.
    for repeat in scene.repeats:
        repeat["answer"] = await scene.call(repeat["method"], repeat["path"], repeat["body"], repeat["key"])
    facts["repeats"] = scene.repeats
    facts["keys"] = await scene.get("/receipts/keys")
    facts["shown"] = await shown(scene)


async def _settled(scene: Scene) -> None:
    """The shard has read every submit, and nobody writes any more."""

    async def written() -> int:
        return int((await scene.get("/stream"))["last_event_id"])

    while True:
        before = await written()
        await asyncio.sleep(1.0)  # nothing is asserted about it: a picture that was taken too early fails to be one
        if await written() == before:
            return


async def _deliberations(scene: Scene) -> Sequence[Answer]:
    return list((await scene.get("/deliberations?limit=1000"))["deliberations"])


def journal_digest(events: Sequence[Answer]) -> str:
    return hashlib.sha256(canonical_json(events).encode()).hexdigest()


def paid(request_id: str, events: Sequence[Answer]) -> set[str]:
    """Keys of calls that are paid for: the journal has what came of them."""
    turns = [event["data"] for event in events if event["kind"] in ("answered", "faulted", "late")]
    return {f"{request_id}/{turn['phase']}/{turn['round']}/{turn['agent']}/{turn['attempt']}" for turn in turns}


def _asked(agents: Agents, journals: dict[str, list[Answer]]) -> list[list[str]]:
    """(agent, key) of calls that were out."""
    over = {key for request_id, events in journals.items() for key in paid(request_id, events)}
    calls = {(agent, key) for agent, key in agents.calls if key.split("/")[0] in journals}
    return [[agent, key] for agent, key in sorted(calls) if key not in over]


#: Of these answers every field that was there must be there again: the first wave of an upgrade changes nothing.
async def shown(scene: Scene) -> dict[str, Any]:
    paths = ["/tasks?limit=1000", "/tasks/history?limit=1000", "/dead-letter?replayed=true", "/queue/controls"]
    paths += ["/deliberations?limit=1000", "/weights", "/agents?available=false", "/queue?limit=1000"]
    facts = scene.facts
    waiting = [
        *facts["line"],
        facts["delayed"],
        *facts["blocked"],
        facts["strict"],
        facts["excluded"],
        facts["stopped"],
    ]
    waiting += [facts["for_paused"], facts["slots"][1], facts["resting"], facts["backing_off"]]
    paths += [f"/tasks/{task_id}/explain" for task_id in waiting]
    paths += [f"/tasks/{facts[name]}/events" for name in ("done", "cancelled", "dead")]
    if "standing" in facts:  # builds before 0.9.0 had none of it
        paths += standing.shown(facts["standing"])
    return {path: timeless(await scene.get(path)) for path in paths}


#: Fields that say how late it is, what Redis heard last, or where a tenant stands in its turns: nobody promises to keep
#: them.
_OF_THE_MOMENT = {
    "last_heartbeat",
    "last_heartbeat_by_region",
    "summary",
    "message",
    "dispatches_until_turn",
    "forecast_usd",
}


def timeless(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {name: timeless(value) for name, value in answer.items() if name not in _OF_THE_MOMENT}
    return [timeless(item) for item in answer] if isinstance(answer, list) else answer
