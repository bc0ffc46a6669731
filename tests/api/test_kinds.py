"""Kinds of questions over the API: recorded with outcomes, learned, decided by, and named in receipts."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.domain.receipts.recompute import Recomputed, recompute
from tests.support.api import Api
from tests.support.crowd import crowd
from tests.support.models import models, register, vote

MATHS = {"a": 0.9, "b": 0.4, "c": 0.5}
LAW = {"a": 0.4, "b": 0.9, "c": 0.5}
ANSWERS = {"a": "Postgres", "b": "Redis", "c": "Neither"}


def _outcomes(kind: str, accuracy: dict[str, float], seed: int, name: str = "kind") -> list[dict[str, Any]]:
    return [
        {
            "id": f"{kind}-{n}",
            "votes": dict(outcome.votes),
            "correct": outcome.right,
            "options": list(outcome.options),
            name: kind,
        }
        for n, outcome in enumerate(crowd(accuracy, 150, seed=seed))
    ]


async def _record(api: Api) -> None:
    outcomes = [*_outcomes("maths", MATHS, 1), *_outcomes("law", LAW, 2, name="c")]
    await api.post("/outcomes/batch", {"outcomes": outcomes})


def _question(kind: str | None = None, tags: Any = None) -> dict[str, Any]:
    config = {
        "options": list(ANSWERS.values()),
        "agents": list(ANSWERS),
        "consensus": "learned",
        **({"kind": kind} if kind is not None else {}),
    }
    context = {"tags": tags} if tags is not None else {}
    return {"content": f"Which store? {kind} {tags}", "config": config, "decision_type": "quick", "context": context}


async def test_a_question_is_decided_by_the_weights_of_its_kind(api: Api) -> None:
    await _record(api)
    async with models(lambda model, _: vote(ANSWERS[model], "because")) as endpoint:
        await register(api, endpoint, "a", "b", "c")
        maths = await api.post("/deliberations", _question("maths"))
        law = await api.post("/deliberations", _question("law"))
        tagged = await api.post("/deliberations", _question(tags=["law", "urgent"]))
        unknown = await api.post("/deliberations", _question("history"))
    assert [found["answer"] for found in (maths, law, tagged)] == ["Postgres", "Redis", "Redis"]
    assert [found["kind"] for found in (maths, law, tagged, unknown)] == ["maths", "law", "law", None]
    assert len({found["snapshot_id"] for found in (maths, law, tagged, unknown)}) == 1
    receipt = await api.get(f"/deliberations/{law['request_id']}/receipt")
    again = recompute(receipt)
    assert again.verdict is Recomputed.EQUAL, again
    assert again.result is not None
    assert again.result["kind"] == "law"


async def test_weights_show_their_kinds(api: Api) -> None:
    await _record(api)
    (found,) = (await api.get("/weights", params={"agents": "a,b,c"}))["snapshots"]
    assert {kind: entry["earned"] for kind, entry in found["kinds"].items()} == {"maths": True, "law": True}
    whole = await api.get(f"/weights/{found['snapshot_id']}")
    assert whole["document"]["schema_version"] == 2
    assert whole["document"]["kinds"]["by_kind"]["law"]["learned"]["b"] > 1


async def test_an_outcome_can_be_sent_again_with_its_kind(api: Api) -> None:
    (first, *_) = _outcomes("maths", MATHS, 1)
    named = first.pop("kind")
    await api.post("/outcomes/batch", {"outcomes": [first]})
    again = await api.post("/outcomes/batch", {"outcomes": [{**first, "kind": named}]})
    assert again["results"] == [{"id": first["id"], "status": "recorded"}]


@pytest.mark.parametrize("kind", ["", " ", "x" * 65, "a\nb", "a\x00b", 7, ["law"]], ids=ascii)
async def test_what_is_no_name_of_a_kind_is_refused(api: Api, kind: Any) -> None:
    refused = await api.call(
        "POST", "/deliberations", _question() | {"config": {**_question()["config"], "kind": kind}}
    )
    assert refused.status_code in (400, 422), refused.text
    (first, *_) = _outcomes("maths", MATHS, 1)
    refused = await api.call("POST", "/outcomes/batch", {"outcomes": [{**first, "kind": kind}]})
    assert refused.status_code in (400, 422), refused.text
    assert (await api.get("/weights"))["snapshots"] == []


async def test_two_names_of_one_kind_contradict_each_other(api: Api) -> None:
    (first, *_) = _outcomes("maths", MATHS, 1)
    refused = await api.call("POST", "/outcomes/batch", {"outcomes": [{**first, "c": "law"}]})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_kind")


async def test_tags_that_are_no_kind_stay_free(api: Api) -> None:
    async with models(lambda model, _: vote(ANSWERS[model], "because")) as endpoint:
        await register(api, endpoint, "a", "b", "c")
        found = [await api.post("/deliberations", _question(tags=tags)) for tags in ([7], "law", [], ["x" * 65])]
    assert [answer["kind"] for answer in found] == [None] * 4
