"""Deliberations and their journals on Postgres."""

from __future__ import annotations

from dataclasses import replace

from cluster.domain.base.log import record_for
from cluster.domain.deliberation.stored import JournalAppend, JournalEvent, NewDeliberation
from cluster.domain.tasks.task import IdempotencyKey
from cluster.postgres.stores import Stores
from tests.support.samples import ASKER, NOW


def _key(key: str, body: bytes = b"body", route: str = "tasks") -> IdempotencyKey:
    return IdempotencyKey(route=route, key=key, body_digest=body)


def _admission(request_id: str, digest: bytes = b"d", key: IdempotencyKey | None = None) -> NewDeliberation:
    return NewDeliberation(
        request_id=request_id,
        task_id=f"task-{request_id}",
        origin=ASKER,
        admitted_at=NOW,
        deadline_at=NOW + 60,
        contract={"question": "q"},
        contract_digest=digest,
        mode="async",
        idempotency=key,
    )


async def test_one_request_id_is_one_deliberation(stores: Stores) -> None:
    (first,) = await stores.deliberations.admit([_admission("r1")])
    (again, other) = await stores.deliberations.admit([_admission("r1"), _admission("r1", b"x")])
    assert (first.replayed, again.replayed, again.conflict) == (False, True, False)
    assert other.conflict
    key = _key("k", route="deliberations")
    (first, second) = await stores.deliberations.admit([_admission("r2", key=key), _admission("r3", key=key)])
    assert (first.request_id, second.request_id, second.replayed) == ("r2", "r2", True)
    assert [row.entity for row in await stores.log.read(0, 10)] == ["r1", "r2"]


async def test_a_repeat_under_its_key_and_request_id_keeps_the_key(stores: Stores) -> None:
    key = _key("k", route="deliberations")
    first = _admission("r1", key=key)
    await stores.deliberations.admit([first])
    (again,) = await stores.deliberations.admit([replace(first, admitted_at=NOW + 1)])
    assert (again.request_id, again.replayed) == ("r1", True)
    other = replace(_admission("r2", key=_key("k", b"other", "deliberations")), admitted_at=NOW + 2)
    (refused,) = await stores.deliberations.admit([other])
    assert refused.conflict


async def test_a_journal_grows_only_under_its_newest_fence_and_without_gaps(stores: Stores) -> None:
    await stores.deliberations.admit([_admission("r1")])
    (first,) = await stores.deliberations.take(["r1"], "worker-old")
    (second, nobody) = await stores.deliberations.take(["r1", "unknown"], "worker-new")
    assert first is not None
    assert second is not None
    assert nobody is None
    old, new = first.deliberation.fence, second.deliberation.fence
    event = JournalEvent(n=1, at=NOW, kind="scheduled", data={"agents": ["a"]})
    append = JournalAppend(
        request_id="r1",
        workspace="w",
        fence=new,
        events=(event,),
        log=((0, "deliberation.started", {"agents": ["a"]}, {"task_preview": "Which?"}),),
        state="PROPOSE",
    )
    assert await stores.deliberations.append([replace(append, fence=old)]) == [False]
    assert await stores.deliberations.append([append]) == [True]
    assert await stores.deliberations.append([append]) == [False]
    (third,) = await stores.deliberations.take(["r1"], "worker-new")
    assert third is not None
    assert third.journal == (event,)
    append = replace(append, fence=third.deliberation.fence)
    gap = replace(append, events=(replace(event, n=3),))
    assert await stores.deliberations.append([gap]) == [False]
    end = replace(
        append,
        events=(replace(event, n=2, kind="ended"),),
        state="DECIDED",
        terminal="DECIDED",
        result={"answer": "a"},
        completed_at=NOW + 5,
    )
    assert await stores.deliberations.append([end]) == [True]
    assert [event.n for event in await stores.deliberations.journal("w", "r1")] == [1, 2]
    assert await stores.deliberations.journal("v", "r1") == []
    record = await stores.deliberations.get("w", "r1")
    assert record is not None
    assert (record.state, record.terminal, record.result, record.events) == ("DECIDED", "DECIDED", {"answer": "a"}, 2)
    assert await stores.deliberations.take(["r1"], "late") == [None]
    assert await stores.deliberations.open() == []
    assert not await stores.deliberations.cancel(
        "w", "r1", record_for(ASKER, NOW, "deliberation.cancel_requested", "r1")
    )


async def test_cancelling_a_deliberation_is_asked_once(stores: Stores) -> None:
    await stores.deliberations.admit([_admission("r1")])
    record = record_for(ASKER, NOW, "deliberation.cancel_requested", "r1")
    assert await stores.deliberations.cancel("w", "r1", record)
    assert await stores.deliberations.cancel("w", "r1", record)
    assert not await stores.deliberations.cancel("x", "r1", record)
    assert (await stores.deliberations.get_any("r1")).cancel_requested  # type: ignore[union-attr]
    kinds = [row.kind for row in await stores.log.read(0, 10)]
    assert kinds == ["deliberation.admitted", "deliberation.cancel_requested"]
