"""The log is the audit trail: each call that changes something leaves rows that name its caller and the call."""

from __future__ import annotations

from dataclasses import replace

from cluster.domain.access.permissions import ALL
from tests.support.api import Api
from tests.support.changes import CHANGES
from tests.support.principals import TokenTable, bearer, principal

#: What leaves no row, and why.
WITHOUT_ROWS = {
    ("POST", "/agents/heartbeats"): "that an agent lives is kept in Redis; when it is lost or back is a row",
    ("POST", "/agents/{agent_id}/heartbeat"): "as above",
    ("POST", "/tasks/{task_id}/extend"): "the end of a lease is kept in the shard's memory; when it was lost is a row",
    (
        "POST",
        "/tasks/{task_id}/chunks",
    ): "output is stored beside the log, with its attempt; its end is that of the attempt",
    ("POST", "/policies/dry-run"): "it changes nothing",
    ("POST", "/auth/ticket"): "a ticket is worth what its credential is, for 30 seconds",
}
#: What has to be done before, that the call changes something: the end of the path, and the body.
BEFORE = {
    ("POST", "/agents/{agent_id}/resume"): ("POST", "pause", None),
    ("POST", "/hooks/{hook_name}/resume"): ("POST", "pause", None),
    ("POST", "/schedules/{schedule_id}/resume"): ("POST", "pause", None),
    ("POST", "/policies/{policy_id}/rollback"): ("PUT", "", {"priority": 5}),
}


async def test_each_change_is_a_row_of_its_caller_and_its_call(api: Api) -> None:
    names = ("maker", "ann")
    api.app.state.resolver = TokenTable({name: replace(principal(name, "default"), everywhere=ALL) for name in names})
    api.client.headers.update(bearer("maker"))
    wrong = []
    for number, ((method, template), prepare) in enumerate(CHANGES.items()):
        path, body = await prepare(api)
        if (method, template) in BEFORE:
            before, end, given = BEFORE[method, template]
            made = await api.call(before, f"{path.rpartition('/')[0]}/{end}".rstrip("/"), given)
            assert made.is_success, f"{method} {template}: {made.text}"
        answer = await api.call(method, path, body, headers={**bearer("ann"), "X-Request-Id": f"call-{number}"})
        assert answer.is_success, f"{method} {template}: {answer.text}"
        principals = {row.principal for row in await api.rows() if row.cause == f"call-{number}"}
        if principals != (set() if (method, template) in WITHOUT_ROWS else {"user:ann"}):
            wrong.append(f"{method} {template}: rows of {sorted(principals)}")
    assert not wrong, "\n".join(wrong)
    assert CHANGES.keys() >= WITHOUT_ROWS.keys() | BEFORE.keys()
