"""The state of earlier builds goes on with this one: nothing is lost, paid for twice or shown differently."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.roles import REGION_LEADER, SCHEDULER, SEALER, TELEMETRY
from cluster.domain.receipts.recompute import Recomputed, recompute
from cluster.domain.receipts.verify import parse, verify
from cluster.domain.tasks.rules import PREFERENCE_S
from cluster.domain.tasks.task import LeaseToken
from cluster.embedded.safety import sealing_key
from cluster.embedded.secrets import store_secrets
from tests.api.test_batch import Batch
from tests.carry_over import crew, standing
from tests.carry_over.later import Later, later, restored
from tests.carry_over.picture import Picture, stored
from tests.carry_over.scene import BACKOFF_S, CONFIG, DELAY_S, LEASE_S, journal_digest, shown
from tests.support.api import STARTED
from tests.support.hooks import send
from tests.support.probes import eventually
from tests.support.stores import StoreUrls

_QUOTAS = ("agents", "queued_tasks", "running_tasks", "submits_per_minute")
#: Without those that go on with deliberations and calls of agents.
STILL = (TELEMETRY, REGION_LEADER, SCHEDULER)
Start = Callable[..., AbstractAsyncContextManager[Later]]


#: Each migration meets the earliest picture, and what was released last is what most people upgrade.
_FIRST, *_BETWEEN, _LAST = stored()
PICTURES = [_FIRST, *(pytest.param(picture, marks=pytest.mark.longer) for picture in _BETWEEN), _LAST]


@pytest.fixture(scope="module", params=PICTURES, ids=lambda picture: picture.path.name)
def picture(request: pytest.FixtureRequest) -> Picture:
    found: Picture = request.param
    return found


@pytest.fixture(scope="module")
def template(shared_stores: StoreUrls, picture: Picture) -> str:
    return restored(shared_stores, picture)


@pytest.fixture
def start(store_urls: StoreUrls, picture: Picture, template: str) -> Start:
    def started(*kinds: str) -> AbstractAsyncContextManager[Later]:
        return later(store_urls, picture, template, *([kinds] if kinds else []))

    return started


def changed(before: Any, now: Any, where: str = "") -> list[str]:
    """Where ``now`` does not say what ``before`` said. It may say more: a later build may add fields."""
    if isinstance(before, dict) and isinstance(now, dict):
        missing = [f"{where}.{name} is gone" for name in before if name not in now]
        common = [name for name in before if name in now]
        return missing + [change for name in common for change in changed(before[name], now[name], f"{where}.{name}")]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return [change for n, (old, new) in pairs for change in changed(old, new, f"{where}[{n}]")]
    return [] if before == now else [f"{where}: {before!r} is now {now!r}"]


def test_the_passwords_of_the_stores_are_read_as_they_were_written(picture: Picture, tmp_path: Path) -> None:
    written = json.loads(picture.secrets.read_text())
    found = store_secrets(Path(shutil.copy(picture.secrets, tmp_path)))
    assert (found.postgres, found.redis) == (written["postgres"], written["redis"])


def test_the_key_that_sealed_secrets_is_read_and_not_made_anew(picture: Picture, tmp_path: Path) -> None:
    if not picture.sealing_key.exists():
        assert picture.path.name in ("0.1.0", "0.1.1", *(f"0.{n}.0" for n in range(2, 8))), "later builds seal secrets"
        return
    kept = Path(shutil.copy(picture.sealing_key, tmp_path))
    assert sealing_key(kept).get_secret_value() == picture.sealing_key.read_text()


async def test_everything_is_shown_as_it_was_and_repeats_are_answered_alike(start: Start) -> None:
    async with start(*STILL) as it:

        async def loaded() -> bool:
            return bool(await it.tasks.has_reason(it.facts["delayed"], "delayed"))

        await eventually(loaded)
        now = it.at_its_addresses(await shown(it.scene))
        assert changed(it.facts["shown"], now) == []
        before = await it.api.stores.log.head()
        for call in it.facts["repeats"]:
            response = await it.repeat(call)
            assert response.is_success, (call, response.text)
            assert changed(call["answer"], response.json()) == [], call
        written = await it.api.stores.log.read(before, 100)
        assert [row.kind for row in written] == ["agent.registered"], "it says again what it is, as it always did"
        (known,) = [call for call in it.facts["repeats"] if call["key"] == "submit-of-ended"]
        other = await it.repeat({**known, "body": {**known["body"], "payload": "another"}})
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")


async def test_the_log_is_sealed_from_its_first_row_on(start: Start) -> None:
    async with start(*STILL, SEALER) as it:

        async def sealed() -> bool:
            return (await it.api.stores.seals.sealed())[0] >= it.facts["log"]["rows"]

        await eventually(sealed)
        (first, *_) = await it.api.stores.seals.checkpoints(0, 1)
        assert first.first_seq == 1
        report = await it.api.get("/audit/verify")
        assert report["valid"], report
        assert report["end_seq"] >= it.facts["log"]["rows"]


async def test_receipts_verify_and_the_log_continues_without_a_gap(start: Start) -> None:
    async with start(*STILL) as it:
        before = await it.log()
        whole = hashlib.sha256(b"".join(row.digest for row in before)).hexdigest()
        assert {"rows": len(before), "digest": whole} == it.facts["log"]
        assert changed(it.facts["keys"], await it.api.get("/receipts/keys")) == []
        files = {file.stem: file.read_bytes() for file in it.picture.receipts.iterdir()}
        assert set(files) == set(it.facts["ended"])
        for request_id, content in files.items():
            issued = (await it.api.call("GET", f"/deliberations/{request_id}/receipt")).content
            kept, now = [
                await _verified(it, receipt, it.facts["verdicts"][request_id]) for receipt in (content, issued)
            ]
            assert now["head"] == kept["head"]
        submitted = await it.tasks.submit()
        after = await it.log()
        # Nothing else is asked for, but an agent may be found silent meanwhile.
        assert [row.seq for row in after] == list(range(1, len(after) + 1))
        assert after[: len(before)] == before
        assert submitted in {row.entity for row in after[len(before) :]}
        assert [row for row in after if not row.verifies()] == []


async def _verified(it: Later, content: bytes, verdict: str = Recomputed.EQUAL) -> Any:
    """The receipt. ``verdict``: nothing can be computed where nobody voted, and the earlier build said so."""
    keys = [bytes.fromhex(key["public_key"]) for key in (await it.api.get("/receipts/keys"))["keys"]]
    receipt = parse(content)
    report = verify(receipt, keys)
    assert (report.valid, report.trusted, report.failed) == (True, True, ()), report
    computed = recompute(receipt)
    assert computed.verdict == verdict, computed
    return receipt


async def test_leases_in_use_are_kept_extended_and_reported_by_their_holders(start: Start) -> None:
    async with start() as it:
        leases, tasks = it.facts["leases"], it.tasks
        held = leases["held"]
        again = await tasks.claim("held-worker", claim_id=held["claim_id"])
        assert (again["id"], again["attempt"], again["redelivered"]) == (held["id"], 1, True)
        assert again["lease_token"] == held["lease_token"]
        extended = await tasks.post(f"/tasks/{held['id']}/extend", {"lease_token": held["lease_token"]})
        assert extended["lease_expires_at"] > it.clock.now()
        assert {await it.detail(task_id) for task_id in it.facts["blocked"]} == {"blocked"}
        await tasks.complete(held)
        await tasks.agent("blocked-worker", capabilities=["blocked"], max_concurrency=2)
        assert {(await tasks.claim_one("blocked-worker"))["id"] for _ in range(2)} == set(it.facts["blocked"])

        second = leases["again"]
        first = replace(LeaseToken.decode(second["lease_token"]), attempt=1).encode()
        zombie = await it.api.call("POST", f"/tasks/{second['id']}/complete", {"lease_token": first})
        assert (zombie.status_code, zombie.json()["code"]) == (409, "lease_lost")
        await tasks.complete(second)
        assert (await tasks.get(f"/tasks/{second['id']}"))["attempt"] == 2

        await tasks.agent("slot-other", capabilities=["slot"])
        assert await tasks.claim("slot-other") is None, "its slot is taken"
        await tasks.complete(leases["slot"])
        assert (await tasks.claim_one("slot-other"))["id"] == it.facts["slots"][1]

        stopping = leases["cancelling"]
        told = await tasks.post("/agents/heartbeats", {"heartbeats": [{"agent_id": "cancelling-worker"}]})
        assert told["cancelling"] == [{"agent_id": "cancelling-worker", "task_id": stopping["id"]}]
        await tasks.post(f"/tasks/{stopping['id']}/stopped", {"lease_token": stopping["lease_token"]})
        await it.becomes(stopping["id"], "cancelled")


async def test_waiting_tasks_are_claimed_in_order_by_the_agents_they_name(start: Start) -> None:
    async with start() as it:
        facts, tasks = it.facts, it.tasks
        claimed = []
        for _ in facts["line"]:
            lease = await tasks.claim_one("line-worker")
            claimed.append(lease["id"])
            await tasks.complete(lease)
        assert claimed == facts["line"]
        assert await tasks.claim("line-worker") is None, "its queue is paused"
        await tasks.post("/queue/resume", {"kind": "queue", "name": "stopped"})
        assert (await tasks.claim_one("line-worker"))["id"] == facts["stopped"]

        await tasks.complete(facts["leases"]["again"])
        for agent, task in (("paused-worker", "for_paused"), ("again-worker", "resting")):
            assert await tasks.claim(agent) is None, "it is paused"
            await tasks.post(f"/agents/{agent}/resume")
            assert (await tasks.claim_one(agent))["id"] == facts[task]

        drained = "/agents/drained-worker"
        assert (await tasks.get(drained))["intent_by"] == "agent", "it drained itself"
        await tasks.post(f"{drained}/drain")
        await tasks.post(f"{drained}/heartbeat", {"status": "ready"})
        assert (await tasks.get(drained))["intent"] == "draining", "an operator says so now"

        dead = facts["dead"]
        answers = [await tasks.post(f"/dead-letter/{dead}/replay", {"payload_patch": {"k": 1}}) for _ in range(2)]
        assert answers[0] == answers[1]
        await tasks.agent("dead-worker", capabilities=["dead"], max_concurrency=2)
        leases = [await tasks.claim_one("dead-worker") for _ in range(2)]
        assert [lease["payload"] for lease in leases] == [{"n": 0, "m": 1}, {"n": 2, "k": 1}]
        assert leases[1]["id"] == answers[0]["replayed_as"]


async def test_delayed_and_retried_tasks_come_at_their_time(start: Start) -> None:
    async with start() as it:
        facts, tasks = it.facts, it.tasks
        it.clock.advance(PREFERENCE_S + 1)
        lease = await tasks.claim_one("near-worker")
        assert lease["id"] == facts["near"]
        await tasks.complete(lease)
        assert await tasks.claim("near-worker") is None, "what is left is for others"
        await tasks.agent("far-worker", capabilities=["near"], region_id="far", max_concurrency=2)
        assert {(await tasks.claim_one("far-worker"))["id"] for _ in range(2)} == {facts["strict"], facts["excluded"]}

        left = facts["leases"]["left"]
        assert await it.detail(left["id"]) == "running"
        it.clock.advance(LEASE_S)
        await it.becomes(left["id"], "retrying")
        late = await it.api.call("POST", f"/tasks/{left['id']}/complete", {"lease_token": left["lease_token"]})
        assert (late.status_code, late.json()["code"]) == (409, "lease_lost")
        assert await tasks.claim("ended-worker") is None, "it backs off"
        it.clock.advance(BACKOFF_S - LEASE_S)
        for agent, task_id in (("left-worker", left["id"]), ("ended-worker", facts["backing_off"])):
            lease = await tasks.claim_one(agent)
            assert (lease["id"], lease["attempt"]) == (task_id, 2)
            await tasks.complete(lease)
        assert await tasks.claim("later-worker") is None, "it is delayed"
        it.clock.advance(DELAY_S - BACKOFF_S)
        assert (await tasks.claim_one("later-worker"))["id"] == facts["delayed"]


async def test_deliberations_continue_without_paying_twice_and_with_the_stored_weights(start: Start) -> None:
    async with start() as it:
        turn = it.facts["turn"]
        reply = {"answer": "Redis", "rationale": "pulled", "confidence": "high"}
        await it.tasks.post(f"/tasks/{turn['id']}/complete", {"lease_token": turn["lease_token"], "result": reply})
        last = await it.tasks.claim_one("puller-waiting")
        await it.tasks.post(f"/tasks/{last['id']}/complete", {"lease_token": last["lease_token"], "result": reply})
        ended = {request_id: await it.ended(request_id) for request_id in it.facts["journals"]}
        assert {request_id: deliberation["terminal"] for request_id, deliberation in ended.items()} == dict.fromkeys(
            ended, "DECIDED"
        )
        await it.becomes(it.facts["pushed"], "completed")
        calls = Counter(it.agents.calls)
        assert set(calls.values()) == {1}
        assert {tuple(call) for call in it.facts["asked"]} <= set(calls), "what was in flight is asked under its key"
        assert {key for agent, key in calls if agent == crew.PUSHED} == {it.facts["pushed_key"]}
        for request_id, journal in it.facts["journals"].items():
            events = await it.scene.journal(request_id)
            assert journal_digest(events[: journal["events"]]) == journal["digest"], "what was journalled stays"
            assert not {key for _, key in calls} & set(journal["paid"])
            await _verified(it, (await it.api.call("GET", f"/deliberations/{request_id}/receipt")).content)

        wanted = it.facts["snapshot_id"]
        assert ended["open-0"]["result"]["snapshot_id"] == wanted
        (panel,) = (await it.api.get(f"/weights?agents={','.join(crew.PANEL)}"))["snapshots"]
        body = {"content": "Weighed later?", "config": CONFIG | {"consensus": "learned"}}
        result = await it.api.post("/deliberations", body)
        assert (panel["snapshot_id"], result["snapshot_id"], result["terminal"]) == (wanted, wanted, "DECIDED")


async def test_schedules_runs_questions_rules_and_budgets_go_on(start: Start, picture: Picture) -> None:
    if "standing" not in picture.facts:
        assert picture.path.name in ("0.1.0", "0.1.1", *(f"0.{n}.0" for n in range(2, 9))), "later builds have them"
        return
    async with start(*STARTED, SEALER) as it:
        facts, tasks = it.facts["standing"], it.tasks
        await _runs_go_on(it)
        answer = {"verdict": "answer", "answer": {"tier": 2}}
        await tasks.post(f"/tasks/{facts['asking']}/answer", answer)
        assert (await tasks.get(f"/tasks/{facts['asking']}"))["result"] == {"tier": 2}
        listed = (await it.api.get("/questions"))["questions"]
        assert [question["task_id"] for question in listed] == [facts["open_question"]]

        denied = await it.api.call("POST", "/tasks", {"task_type": "risky", "target_agent": "builder"})
        assert (denied.status_code, denied.json()["code"]) == (403, "policy_denied")
        assert denied.json()["policy_id"] == facts["policy"]
        sent = await send(it.api, facts["hook"], {"n": 1}, at=it.clock.now())
        assert sent.status_code == 201, sent.text
        hooked = await tasks.claim_one("hook-worker")
        assert (hooked["id"], hooked["payload"]) == (sent.json()["task_id"], {"n": 1})
        await tasks.complete(hooked)
        rotated = await it.api.post("/credentials/provider/rotate", {"secret": "the next one of them"})
        assert rotated["name"] == "provider"

        steady = facts["steady"]
        known = await tasks.get(f"/tasks/{steady['id']}")
        assert (known["progress"]["percent"], known["checkpoint"]) == (40, standing.CHECKPOINT)
        it.clock.advance(LEASE_S + 1)
        await it.becomes(steady["id"], "retrying")
        it.clock.advance(standing.RETRY["initial_seconds"])
        checkpoints = {}
        for _ in range(2):
            lease = await tasks.claim_one("steady-worker")
            checkpoints[lease["id"]] = lease.get("checkpoint")
            await tasks.complete(lease)
        assert checkpoints == {steady["id"]: standing.CHECKPOINT, facts["retried"]: None}

        due = (await it.api.get(f"/schedules/{facts['schedule']}"))["next_run_at"]
        it.clock.advance(due - it.clock.now() + 1)
        night = await tasks.claim_one("night-worker")
        assert night["payload"] == {"of": "the night"}
        await tasks.complete(night)
        assert (await it.api.get(f"/schedules/{facts['schedule']}"))["next_run_at"] > due
        listed = (await tasks.get("/tasks", task_type="nightly"))["tasks"]
        assert [task["id"] for task in listed] == [night["id"]], "it was due once"


async def test_a_parked_task_comes_back_with_its_children_and_quotas_hold(start: Start, picture: Picture) -> None:
    facts = picture.facts.get("standing", {})
    if "parked" not in facts:
        assert picture.path.name in ("0.1.0", "0.1.1", *(f"0.{n}.0" for n in range(2, 10))), "later builds have one"
        return
    async with start() as it:
        parent, children = facts["parked"]["parent"], facts["parked"]["children"]
        assert await it.detail(parent) == "waiting_children"
        assert (await it.api.get("/quotas"))["quotas"] == {**dict.fromkeys(_QUOTAS), **standing.QUOTAS}
        lease = await it.tasks.claim_one("child-worker")
        assert (lease["id"], lease["payload"]) == (children[1], 1)
        await it.tasks.complete(lease)
        again = await it.tasks.claim_one("parent-worker")
        assert (again["id"], again["checkpoint"]) == (parent, standing.CHECKPOINT)
        assert [(child["task_id"], child["status"]) for child in again["children"]] == [
            (child, "completed") for child in children
        ]
        assert again["children"][0]["result"] == "early"
        await it.tasks.complete(again)
        await it.becomes(parent, "completed")


async def test_a_fan_out_goes_on_and_a_schedule_starts_another(start: Start, picture: Picture) -> None:
    facts = picture.facts.get("standing", {})
    if "spread" not in facts:
        assert picture.path.name in ("0.1.0", "0.1.1", *(f"0.{n}.0" for n in range(2, 11))), "later builds have one"
        return
    async with start(*STARTED, SEALER) as it:
        spread = facts["spread"]
        await _gives(it, spread["held"])
        await _spreads(it, len(standing.ITEMS) - 3)
        run = await it.ended_run(spread["run"])
        assert run["steps"][0]["result"] == [item * 10 for item in standing.ITEMS]
        due = (await it.api.get(f"/schedules/{spread['schedule']}"))["next_run_at"]
        it.clock.advance(due - it.clock.now() + 1)
        await _spreads(it, 1)
        earlier = {spread["run"], facts["waiting"], facts["building"]}
        (started,) = {run["run_id"] for run in (await it.api.get("/workflow-runs"))["runs"]} - earlier
        assert (await it.ended_run(started))["steps"][0]["result"] == [70]


async def _gives(it: Later, lease: dict[str, Any]) -> None:
    done = {"lease_token": lease["lease_token"], "result": lease["payload"]["x"] * 10}
    await it.tasks.post(f"/tasks/{lease['id']}/complete", done)


async def _spreads(it: Later, items: int) -> None:
    for _ in range(items):
        lease = await it.tasks.claim_one("spreader")
        await _gives(it, lease)


async def _runs_go_on(it: Later) -> None:
    """The paid build is not done again; what it cost still counts."""
    facts, tasks = it.facts["standing"], it.tasks
    await tasks.post(f"/workflow-runs/{facts['waiting']}/signals/approved", {"value": {"by": "ann"}})
    build = {"lease_token": facts["build"]["lease_token"], "result": {"built": 2}}
    await tasks.post(f"/tasks/{facts['build']['id']}/complete", build)
    await tasks.post(f"/workflow-runs/{facts['building']}/signals/approved", {"value": {"by": "bob"}})
    payloads = []
    for _ in range(2):
        lease = await tasks.claim_one("builder")
        payloads.append(lease["payload"])
        await tasks.complete(lease)
    payloads.sort(key=lambda payload: payload["by"])
    assert payloads == [{"built": {"built": 1}, "by": "ann"}, {"built": {"built": 2}, "by": "bob"}]

    async def ended() -> bool:
        runs = [await it.api.get(f"/workflow-runs/{facts[name]}") for name in ("waiting", "building")]
        return {run["status"] for run in runs} == {"completed"}

    await eventually(ended, what="both runs to end")
    (budget,) = (await it.api.get("/budgets"))["budgets"]
    assert (budget["id"], budget["usage"]["attempts"]) == (facts["budget"], 4)
    assert float(budget["usage"]["spent_usd"]) == 1.55, "1.25 before, and an estimate for each of the others"


async def test_an_interrupted_batch_is_resumed_and_asks_nothing_twice(start: Start, tmp_path: Path) -> None:
    async with start() as it:
        batch = Batch(tmp_path, it.api.url)
        shutil.copy(it.picture.batch_in, batch.input)
        shutil.copy(it.picture.batch_out, batch.out)
        written = batch.lines()
        assert [line["id"] for line in written] == it.facts["batch"]["written"]
        code, _, errors = await batch.run("--resume", "--concurrency", str(crew.BATCH_AT_ONCE))
        assert code == 0, errors
        lines = batch.lines()
        assert lines[: len(written)] == written
        assert sorted(line["id"] for line in lines) == sorted(f"q{n}" for n in range(crew.BATCH_ITEMS))
        assert {line["status"] for line in lines} == {"decided"}
        asked = Counter(call for call in it.agents.calls if call[1].startswith("batch-"))
        assert set(asked.values()) == {1}
        in_flight, unasked = len(it.facts["batch"]["open"]), crew.BATCH_ITEMS - len(written) - crew.BATCH_AT_ONCE
        assert len(asked) == in_flight + unasked * len(crew.PANEL), "one answer was open of each that was in flight"
        total = (await it.api.get("/deliberations?limit=1000"))["deliberations"]
        assert (
            len([deliberation for deliberation in total if deliberation["request_id"].startswith("batch-")])
            == crew.BATCH_ITEMS
        )
