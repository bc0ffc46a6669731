"""A search of deliberations finds what its conditions say, each once, page by page; a page reads a bounded part."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from cluster.domain.base.conditions import Search, parse_search
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.deliberation.wire import STATES_OF, status
from cluster.ports.deliberations import DeliberationQuery
from cluster.postgres import deliberation_search, deliberations
from cluster.postgres.stores import Stores
from tests.support.samples import NOW

INSERT = """
    insert into deliberations (request_id, task_id, workspace, principal, admitted_at, deadline_at, contract, contract_digest,
        mode, state, terminal, result, completed_at)
    values ($1, $1, $2, 'p', $3, $3, $4, '', 'async', $5, $6, $7, $8)
"""
CONDITIONS = (
    *("metadata.pr=17", "metadata.pr=x", "metadata.flag=true", "metadata.none=null", "tag=a", "tag=b", "tenant=t"),
    *(
        "agent=m",
        "agent=n",
        "id~0",
        "id~D",
        "id~%",
        "type~QUICK",
        "type~e",
        f"created>={NOW + 2!r}",
        f"created<{NOW + 3!r}",
    ),
    *(f"ended>={NOW + 4!r}", f"ended<{NOW + 4!r}"),
)


def _drawn(draw: random.Random, number: int) -> dict[str, Any]:
    context: dict[str, Any] = {}
    for name, values in {
        "pr": [17, "x", [17]],
        "flag": [True],
        "none": [None],
        "tags": [["a"], ["a", "b"], "a"],
    }.items():
        if draw.random() < 0.4:
            context[name] = draw.choice(values)
    if draw.random() < 0.3:
        context["tenant"] = draw.choice(["t", 1])
    at = NOW + draw.randrange(5)
    ended = draw.random() < 0.6
    return {
        "id": f"d{number:03}",
        "workspace": draw.choice(["w", "w", "v"]),
        "at": at,
        "context": context,
        "rounds": draw.choice([0, 2]),
        "state": "ENDED" if ended else draw.choice(["ADMITTED", "SCHEDULED", "VOTE"]),
        "terminal": draw.choice(["DECIDED", "NO_CONSENSUS", "QUORUM_LOST", "CANCELLED"]) if ended else None,
        "panel": draw.sample(["m", "n", "o"], draw.randrange(4)) if ended else [],
        "ended": at + draw.randrange(3) if ended else None,
    }


def _meets(row: dict[str, Any], condition: str) -> bool:
    context, at, ended = row["context"], row["at"], row["ended"]
    tags = context.get("tags") if isinstance(context.get("tags"), list) else []
    return {
        "metadata.pr=17": context.get("pr") == 17,
        "metadata.pr=x": context.get("pr") == "x",
        "metadata.flag=true": "flag" in context,
        "metadata.none=null": "none" in context,
        "tag=a": "a" in tags,
        "tag=b": "b" in tags,
        "tenant=t": context.get("tenant") == "t",
        "agent=m": "m" in row["panel"],
        "agent=n": "n" in row["panel"],
        "id~0": "0" in row["id"],
        "id~D": True,
        "id~%": False,
        "type~QUICK": row["rounds"] == 0,
        "type~e": row["rounds"] != 0,
        f"created>={NOW + 2!r}": at >= NOW + 2,
        f"created<{NOW + 3!r}": at < NOW + 3,
        f"ended>={NOW + 4!r}": ended is not None and ended >= NOW + 4,
        f"ended<{NOW + 4!r}": ended is not None and ended < NOW + 4,
    }[condition]


async def _store(stores: Stores, row: dict[str, Any]) -> None:
    result = None if row["terminal"] is None else json.dumps({"panel": row["panel"]})
    await stores.pool.execute(
        INSERT,
        row["id"],
        row["workspace"],
        row["at"],
        json.dumps({"context": row["context"], "rounds": row["rounds"]}),
        row["state"],
        row["terminal"],
        result,
        row["ended"],
    )


async def _found(stores: Stores, search: Search, name: str | None, limit: int) -> list[str]:
    """All pages of a search; a page has at most so many, and only the last may say that it is."""
    states = None if name is None else STATES_OF[name]
    before, found = None, []
    for _ in range(500):
        query = DeliberationQuery(workspace="w", search=search, states=states, limit=limit, before=before)
        page = await stores.deliberations.search(query)
        assert len(page.deliberations) <= limit
        found += [each.request_id for each in page.deliberations]
        before = page.following
        if before is None:
            return found
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize("scanned", [4_000, 3])
async def test_a_search_finds_what_its_conditions_say(
    stores: Stores, scanned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliberation_search, "SCANNED", scanned)
    monkeypatch.setattr(deliberations, "SCANNED", scanned)
    draw = random.Random(7)
    rows = [_drawn(draw, number) for number in range(60)]
    for row in rows:
        await _store(stores, row)
    rows.sort(key=lambda row: (row["at"], row["id"]), reverse=True)
    asked: list[list[str]] = [[], *([condition] for condition in CONDITIONS)]
    asked += [draw.sample(CONDITIONS, 2) for _ in range(20)]
    for conditions in asked:
        try:
            search = parse_search(conditions)
        except InvalidRequest:  # two conditions of which one would do
            continue
        name = draw.choice([None, None, *STATES_OF])
        expected = [
            row["id"]
            for row in rows
            if row["workspace"] == "w"
            and all(_meets(row, condition) for condition in conditions)
            and name in (None, status(row["state"], row["terminal"]))
        ]
        assert await _found(stores, search, name, draw.choice([1, 3, 100])) == expected, (conditions, name)


async def test_what_is_erased_or_removed_is_not_found_by_what_it_said(stores: Stores) -> None:
    draw = random.Random(1)
    row = _drawn(draw, 1) | {"workspace": "w", "context": {"pr": 17}, "state": "VOTE", "terminal": None, "ended": None}
    await _store(stores, row)
    search = parse_search(["metadata.pr=17"])
    assert await _found(stores, search, None, 10) == ["d001"]
    ended = json.dumps({"panel": ["m"]})
    await stores.pool.execute("update deliberations set terminal = 'DECIDED', state = 'ENDED', result = $1", ended)
    assert await _found(stores, parse_search(["metadata.pr=17", "agent=m"]), None, 10) == ["d001"]
    await stores.pool.execute("update deliberations set contract = $1, result = null", json.dumps({"rounds": 2}))
    assert await _found(stores, search, None, 10) == await _found(stores, parse_search(["agent=m"]), None, 10) == []
    assert await stores.pool.value("select count(*) from deliberation_terms") == 0
    await _store(stores, row | {"id": "d002"})
    await stores.pool.execute("delete from deliberations")
    assert await stores.pool.value("select count(*) from deliberation_terms") == 0
    await _store(stores, row | {"id": "d003"})
    await stores.pool.execute("truncate deliberations")
    assert await stores.pool.value("select count(*) from deliberation_terms") == 0


async def test_what_an_earlier_build_stored_cannot_break_a_commit(stores: Stores) -> None:
    draw = random.Random(1)
    for number, contract in enumerate(({}, {"context": None}, {"context": [1]}, {"context": "x"})):
        row = _drawn(draw, number)
        values = (row["id"], "w", row["at"], json.dumps(contract), "ENDED", "DECIDED", '{"panel": {"a": 1}}', row["at"])
        await stores.pool.execute(INSERT, *values)
    assert len(await _found(stores, Search(), None, 10)) == 4
