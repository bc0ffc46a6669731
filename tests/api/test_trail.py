"""The log is the audit trail: each call that changes something leaves a row that names its caller and the call."""

from __future__ import annotations

from dataclasses import replace

from cluster.domain.access.permissions import ALL
from tests.support.api import Api
from tests.support.changes import CHANGES
from tests.support.principals import TokenTable, bearer, principal


async def test_each_change_is_a_row_of_its_caller_and_its_call(api: Api) -> None:
    api.app.state.resolver = TokenTable(
        {
            "ann": replace(principal("user:ann", "default"), everywhere=ALL),
            "maker": replace(principal("maker", "default"), everywhere=ALL),
        }
    )
    api.client.headers.update(bearer("maker"))
    without = []
    for number, ((method, template), prepare) in enumerate(CHANGES.items()):
        path, body = await prepare(api)
        trace = f"call-{number}"
        answer = await api.call(method, path, body, headers={**bearer("ann"), "X-Request-Id": trace})
        assert answer.is_success, f"{method} {template}: {answer.text}"
        rows = [row for row in await api.rows() if row.cause == trace]
        if not rows or {row.principal for row in rows} != {"user:ann"}:
            without.append(f"{method} {template} {[(row.kind, row.principal) for row in rows]}")
    assert not without, "\n".join(without)
