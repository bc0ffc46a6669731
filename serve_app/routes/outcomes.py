"""Routes of outcomes (which answers turned out to be right) and of the weights that are learned from them."""

from __future__ import annotations

from collections import Counter
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
from serve_app.routes.known import known_deliberation
from serve_app.schemas.fields import MAX_BATCH, ExactBody, Text

router = GuardedRouter(tags=["outcomes"])

_NOT_ASKED = "not_asked"
#: Different outcomes of one id in a batch.
MAX_OF_ONE_ID = 8


class DeliberationOutcome(ExactBody):
    """``correct`` is the right answer in the form of the agents' answers; null means that no answer was right.
    ``votes`` (answer by agent, null for none) is needed only if the deliberation recorded none."""

    correct: Any
    votes: dict[Text, Any] | None = Field(None, min_length=1)


class ImportedOutcome(ExactBody):
    """``id`` names the question, whose outcome is recorded once. Give ``options`` if the answers are a closed set. ``kind``
    says what kind of question it is; files of recorded votes call it ``c``, which is understood too."""

    id: str
    votes: dict[Text, Any] = Field(min_length=1)
    correct: Any
    options: list[Any] = Field([], max_length=64)
    kind: str | None = None
    c: str | None = None


class ImportedOutcomes(ExactBody):
    outcomes: list[ImportedOutcome] = Field(min_length=1, max_length=MAX_BATCH)


def _option(value: Any) -> str:
    """An answer as deliberations write it: a string stays itself, anything else becomes its canonical JSON."""
    check_json(value, "an answer")
    if isinstance(value, str):
        return value
    try:
        return canonical_bytes(value).decode()
    except ValueError:
        raise InvalidRequest(
            "An answer holds a number that JSON cannot carry exactly; send it as a string.", "invalid_outcome"
        ) from None


def _votes(given: Mapping[str, Any]) -> dict[str, str | None]:
    return {agent: None if vote is None else _option(vote) for agent, vote in given.items()}


# --- one deliberation -------------------------------------------------------------------------------------------------


@router.post("/deliberations/{request_id}/outcome")
@requires(Permission.DELIBERATIONS_WRITE)
async def post_outcome(
    request: Request, request_id: str, body: DeliberationOutcome, asker: Asker, _: Idempotency
) -> dict[str, Any]:
    """Records which answer was right. A repeat changes nothing. 404 (`NotFound`) if there is no such deliberation; 409
    (`Conflict`) if it has not ended (``not_ended``), recorded no votes and none are sent (``no_votes_recorded``), or has
    another outcome already (``outcome_conflict``)."""
    gate = gateway(request)
    deliberation = await known_deliberation(gate, asker, request_id)
    if deliberation.terminal is None:
        raise Conflict(f"Deliberation {request_id} has not ended; record its outcome when it has.", "not_ended")
    asked = aggregation_of(await gate.deliberations.journal(asker.workspace, deliberation.request_id))
    new = outcome_of(deliberation, asked, body, asker, gate.clock.now())
    (recorded,) = await _record(gate, asker, [new])
    if recorded.conflict:
        raise Conflict(f"Another outcome of {request_id} is recorded already.", "outcome_conflict")
    votes = new.outcome.votes
    return {
        "request_id": deliberation.request_id,
        "correct": None if new.outcome.right == NONE_RIGHT else new.outcome.right,
        "agents": {
            agent: {"vote": vote, "correct": vote == new.outcome.right if vote is not None else None}
            for agent, vote in votes.items()
        },
    }


def aggregation_of(events: Sequence[JournalEvent]) -> Aggregation | None:
    """The votes and the electorate that the decision was made from, if the journal's last event holds them."""
    ends = [event for event in events if event.kind == "ended"]
    document = ends[-1].data.get("aggregation") if ends else None
    return aggregation_from_document(document) if isinstance(document, Mapping) else None


def outcome_of(
    deliberation: Deliberation, asked: Aggregation | None, body: DeliberationOutcome, asker: Origin, now: float
) -> NewOutcome:
    """The outcome of a deliberation, with the votes of the body, else with those that were recorded (``asked``).

    Raises: `Conflict` if there are neither.
    """
    options: tuple[str, ...] = ()
    panel: tuple[str, ...] = ()
    if body.votes is not None:
        votes = _votes(body.votes)
        right = NONE_RIGHT if body.correct is None else _option(body.correct)
    elif asked is not None:
        votes = {agent: ballot.top() for agent, ballot in asked.ballots.items() if ballot.reason != _NOT_ASKED}
        options, panel = asked.electorate.options, asked.electorate.eligible
        right = _right(body.correct, deliberation.result or {}, options)
    else:
        raise Conflict(
            f"Deliberation {deliberation.request_id} recorded no votes; send them as votes.", "no_votes_recorded"
        )
    kind = deliberation.contract.get("kind")
    outcome, members = checked_outcome(votes, right, options, panel, kind if isinstance(kind, str) and kind else None)
    return NewOutcome(
        id=deliberation.request_id, origin=asker, at=now, outcome=outcome, panel=members, source="deliberation"
    )


def _right(correct: Any, result: Mapping[str, Any], options: tuple[str, ...]) -> str:
    """The option that ``correct`` names: the option itself, or the candidate whose text it is."""
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
    """Imports outcomes: votes and right answers, each id once. A repeat gets the same answer. An outcome that differs from
    the recorded one of its id changes nothing and is answered with ``conflict``. 400 (`InvalidRequest`) if an outcome is not
    valid, or if more than 8 different ones are of one id (``too_many_outcomes``); then none is recorded."""
    gate = gateway(request)
    now = gate.clock.now()
    new = [_imported(item, index, asker, now) for index, item in enumerate(body.outcomes)]
    different = _different(new)
    answers = dict(zip(different, await _record(gate, asker, list(different.values())), strict=True))
    done = [answers[outcome.id, outcome.digest()] for outcome in new]
    conflicts = sum(outcome.conflict for outcome in done)
    return {
        "results": [{"id": outcome.id, "status": "conflict" if outcome.conflict else "recorded"} for outcome in done],
        "recorded": len(done) - conflicts,
        "conflict": conflicts,
    }


def _different(new: Sequence[NewOutcome]) -> dict[tuple[str, bytes], NewOutcome]:
    """The outcomes without those that are there again. Those of one id are a transaction each, one after the other, and a
    thousand of them would hold up everybody's outcomes.

    Raises: `InvalidRequest` if one id has more than `MAX_OF_ONE_ID`."""
    different: dict[tuple[str, bytes], NewOutcome] = {}
    for outcome in new:
        different.setdefault((outcome.id, outcome.digest()), outcome)
    of_ids = Counter(id for id, _ in different)
    often = next((id for id, count in of_ids.items() if count > MAX_OF_ONE_ID), None)
    if often is not None:
        raise InvalidRequest(
            f"outcomes has {of_ids[often]} different outcomes of {often}, and an id has one; send the right one, or at most "
            f"{MAX_OF_ONE_ID} at a time.",
            "too_many_outcomes",
        )
    return different


def _kind(item: ImportedOutcome) -> str | None:
    if item.kind is not None and item.c is not None and item.kind != item.c:
        raise InvalidRequest("kind and c name different kinds; send kind alone.", "invalid_kind")
    return item.kind if item.kind is not None else item.c


def _imported(item: ImportedOutcome, index: int, asker: Origin, now: float) -> NewOutcome:
    try:
        outcome, panel = checked_outcome(
            _votes(item.votes),
            NONE_RIGHT if item.correct is None else _option(item.correct),
            tuple(dict.fromkeys(_option(option) for option in item.options)),
            kind=_kind(item),
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
    """The newest snapshot of every panel, the largest panel first; with ``agents=a,b`` the snapshot that this panel would
    use. 400 (`InvalidRequest`) if ``agents`` names none."""
    gate = gateway(request)
    if agents is None:
        gate.learner.refresh(asker.workspace)
        return {"snapshots": [_summary(snapshot) for snapshot in await gate.outcomes.newest(asker.workspace)]}
    names = [check_id(name.strip(), "agents") for name in agents.split(",") if name.strip()]
    if not names:
        raise InvalidRequest("agents must name at least one agent.", "invalid_panel")
    head = await gate.learner.snapshot_for(asker.workspace, names)
    found = None if head is None else await gate.outcomes.snapshot(asker.workspace, head.id)
    return {"snapshots": [] if found is None else [_summary(found)]}


@router.get("/weights/alarms")
@requires(Permission.DELIBERATIONS_READ)
async def get_alarms(request: Request, asker: Asker) -> dict[str, Any]:
    """Agents that now answer much worse or improbably better than before, and pairs of agents whose errors coincide."""
    return {"alarms": [alarm_json(alarm) for alarm in await gateway(request).learner.alarms(asker.workspace)]}


@router.get("/weights/{snapshot_id}")
@requires(Permission.DELIBERATIONS_READ)
async def get_snapshot(request: Request, snapshot_id: str, asker: Asker) -> dict[str, Any]:
    """One snapshot with its calibration; ``snapshot_id`` is the hash of ``document``. 404 (`NotFound`) if there is no such
    snapshot."""
    check_id(snapshot_id, "snapshot_id")
    found = await gateway(request).outcomes.snapshot(asker.workspace, snapshot_id)
    if found is None:
        raise NotFound(f"There is no snapshot {snapshot_id}.", "snapshot_not_found")
    return {**_summary(found), "document": found.snapshot.document()}


def _summary(stored: StoredSnapshot) -> dict[str, Any]:
    document = stored.snapshot.document()
    return {
        "snapshot_id": stored.head.id,
        "version": stored.head.version,
        "created_at": stored.created_at,
        "agents": list(stored.head.panel),
        **{name: document[name] for name in ("outcomes", "gate", "learned", "log_odds", "accuracy", "owner_cap")},
        "calibrated": sorted(document["calibration"]),
        "kinds": {
            kind: {name: value[name] for name in ("earned", "outcomes", "gain", "gain_se", "learned")}
            for kind, value in (document.get("kinds") or {"by_kind": {}})["by_kind"].items()
        },
        "alarms": list(stored.alarms),
    }
