"""What turned out to be right, and the weights that are learned from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import Field

from cluster.domain.access.permissions import Permission
from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.errors import Conflict, InvalidRequest, NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import check_json
from cluster.domain.base.log import Origin
from cluster.domain.consensus.aggregate import Aggregation, aggregation_from_document
from cluster.domain.consensus.learning import (
    NONE_RIGHT,
    NewOutcome,
    RecordedOutcome,
    StoredSnapshot,
    alarm_json,
    checked_outcome,
)
from cluster.domain.deliberation.stored import Deliberation, JournalEvent
from serve_app.auth.admission import Asker, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import Idempotency
from serve_app.schemas.fields import MAX_BATCH, Body, Text

router = GuardedRouter(tags=["outcomes"])

_NOT_ASKED = "not_asked"


class DeliberationOutcome(Body):
    """``correct`` is the right answer as the agents would give it; null says that none of the answers was right.
    ``votes`` (answer by agent, null for none) is needed only where the deliberation recorded none."""

    correct: Any
    votes: dict[Text, Any] | None = Field(None, min_length=1)


class ImportedOutcome(Body):
    """``id`` names the question: sent again it is recorded once. ``options`` where the answers are a closed set."""

    id: str
    votes: dict[Text, Any] = Field(min_length=1)
    correct: Any
    options: list[Any] = Field([], max_length=64)


class ImportedOutcomes(Body):
    outcomes: list[ImportedOutcome] = Field(min_length=1, max_length=MAX_BATCH)


def _option(value: Any) -> str:
    """A string is itself, any other answer its canonical JSON, as the deliberation writes it."""
    check_json(value, "an answer")
    if isinstance(value, str):
        return value
    try:
        return canonical_bytes(value).decode()
    except ValueError:
        raise InvalidRequest("An answer is a number that JSON cannot carry exactly.", "invalid_outcome") from None


def _votes(given: Mapping[str, Any]) -> dict[str, str | None]:
    return {agent: None if vote is None else _option(vote) for agent, vote in given.items()}


# --- one deliberation -------------------------------------------------------------------------------------------------


@router.post("/deliberations/{request_id}/outcome")
@requires(Permission.DELIBERATIONS_WRITE)
async def post_outcome(
    request: Request, request_id: str, body: DeliberationOutcome, asker: Asker, _: Idempotency
) -> dict[str, Any]:
    """Says what was right; repeating it changes nothing, another answer is 409 ``outcome_conflict``."""
    gate = gateway(request)
    one = await gate.deliberations.get(asker.workspace, check_id(request_id, "request_id"))
    if one is None:
        raise NotFound(f"There is no deliberation {request_id}.", "deliberation_not_found")
    if one.terminal is None:
        raise Conflict(f"Deliberation {request_id} has not ended.", "not_ended")
    asked = aggregation_of(await gate.deliberations.journal(request_id))
    new = outcome_of(one, asked, body, asker, gate.clock.now())
    (recorded,) = await _record(gate, asker, [new])
    if recorded.conflict:
        raise Conflict(f"Another outcome of {request_id} is recorded already.", "outcome_conflict")
    votes = new.outcome.votes
    return {
        "request_id": request_id,
        "correct": None if new.outcome.right == NONE_RIGHT else new.outcome.right,
        "agents": {
            agent: {"vote": vote, "correct": vote == new.outcome.right if vote is not None else None}
            for agent, vote in votes.items()
        },
    }


def aggregation_of(events: Sequence[JournalEvent]) -> Aggregation | None:
    """What the decision was made from, where the journal's end says so."""
    ends = [event for event in events if event.kind == "ended"]
    document = ends[-1].data.get("aggregation") if ends else None
    return aggregation_from_document(document) if isinstance(document, Mapping) else None


def outcome_of(
    one: Deliberation, asked: Aggregation | None, body: DeliberationOutcome, asker: Origin, now: float
) -> NewOutcome:
    options: tuple[str, ...] = ()
    panel: tuple[str, ...] = ()
    if body.votes is not None:
        votes = _votes(body.votes)
        right = NONE_RIGHT if body.correct is None else _option(body.correct)
    elif asked is not None:
        votes = {agent: ballot.top() for agent, ballot in asked.ballots.items() if ballot.reason != _NOT_ASKED}
        options, panel = asked.electorate.options, asked.electorate.eligible
        right = _right(body.correct, one.result or {}, options)
    else:
        raise Conflict(f"Deliberation {one.request_id} recorded no votes; send them as votes.", "no_votes_recorded")
    outcome, members = checked_outcome(votes, right, options, panel)
    return NewOutcome(id=one.request_id, origin=asker, at=now, outcome=outcome, panel=members, source="deliberation")


def _right(correct: Any, result: Mapping[str, Any], options: tuple[str, ...]) -> str:
    """The option that ``correct`` means: itself, or the candidate whose text it is."""
    if correct is None:
        return NONE_RIGHT
    given = _option(correct)
    candidates = result.get("candidates")
    if given in options or not isinstance(candidates, Mapping):
        return given
    return next((str(option) for option, text in candidates.items() if text == given), given)


# --- import -----------------------------------------------------------------------------------------------------------


@router.post("/outcomes/batch")
@requires(Permission.DELIBERATIONS_WRITE)
async def import_outcomes(request: Request, body: ImportedOutcomes, asker: Asker, _: Idempotency) -> dict[str, Any]:
    """Recorded history: votes and right answers, each id once. Sending it again answers alike; ``conflict`` is another
    outcome under a known id, which changes nothing."""
    gate = gateway(request)
    now = gate.clock.now()
    new = [_imported(item, index, asker, now) for index, item in enumerate(body.outcomes)]
    done = await _record(gate, asker, new)
    conflicts = sum(one.conflict for one in done)
    return {
        "results": [{"id": one.id, "status": "conflict" if one.conflict else "recorded"} for one in done],
        "recorded": len(done) - conflicts,
        "conflict": conflicts,
    }


def _imported(item: ImportedOutcome, index: int, asker: Origin, now: float) -> NewOutcome:
    try:
        outcome, panel = checked_outcome(
            _votes(item.votes),
            NONE_RIGHT if item.correct is None else _option(item.correct),
            tuple(dict.fromkeys(_option(option) for option in item.options)),
        )
        outcome_id = check_id(item.id, "id")
    except InvalidRequest as error:
        raise InvalidRequest(f"outcomes[{index}]: {error}", error.code) from None
    return NewOutcome(id=outcome_id, origin=asker, at=now, outcome=outcome, panel=panel, source="import")


async def _record(gate: Gateway, asker: Origin, new: list[NewOutcome]) -> list[RecordedOutcome]:
    done = await gate.outcomes.record(new)
    gate.learner.refresh(asker.workspace)
    return done


# --- weights ----------------------------------------------------------------------------------------------------------


@router.get("/weights")
@requires(Permission.DELIBERATIONS_READ)
async def get_weights(
    request: Request, asker: Asker, agents: Annotated[str | None, Query(max_length=8192)] = None
) -> dict[str, Any]:
    """The newest snapshot of every panel, the largest first; with ``agents=a,b`` the one that this panel would use."""
    gate = gateway(request)
    if agents is None:
        gate.learner.refresh(asker.workspace)
        return {"snapshots": [_summary(one) for one in await gate.outcomes.newest(asker.workspace)]}
    names = [check_id(name.strip(), "agents") for name in agents.split(",") if name.strip()]
    if not names:
        raise InvalidRequest("agents must name at least one agent.", "invalid_panel")
    snapshot = await gate.learner.snapshot_for(asker.workspace, names)
    found = None if snapshot is None else await gate.outcomes.snapshot(asker.workspace, snapshot.id)
    return {"snapshots": [] if found is None else [_summary(found)]}


@router.get("/weights/alarms")
@requires(Permission.DELIBERATIONS_READ)
async def get_alarms(request: Request, asker: Asker) -> dict[str, Any]:
    """Agents that became worse or unbelievably better, and pairs whose errors coincide; as of now."""
    return {"alarms": [alarm_json(alarm) for alarm in await gateway(request).learner.alarms(asker.workspace)]}


@router.get("/weights/{snapshot_id}")
@requires(Permission.DELIBERATIONS_READ)
async def get_snapshot(request: Request, snapshot_id: str, asker: Asker) -> dict[str, Any]:
    """One snapshot with its calibration; ``snapshot_id`` is the hash of ``document``."""
    check_id(snapshot_id, "snapshot_id")
    found = await gateway(request).outcomes.snapshot(asker.workspace, snapshot_id)
    if found is None:
        raise NotFound(f"There is no snapshot {snapshot_id}.", "snapshot_not_found")
    return {**_summary(found), "document": found.snapshot.document()}


def _summary(one: StoredSnapshot) -> dict[str, Any]:
    snapshot = one.snapshot
    document = snapshot.document()
    return {
        "snapshot_id": one.head.id,
        "version": one.head.version,
        "created_at": one.created_at,
        "agents": list(one.head.panel),
        **{name: document[name] for name in ("outcomes", "gate", "learned", "log_odds", "accuracy", "owner_cap")},
        "calibrated": sorted(document["calibration"]),
        "alarms": list(one.alarms),
    }
