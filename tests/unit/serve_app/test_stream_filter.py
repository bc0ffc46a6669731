"""Which events a subscriber to one agent gets."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.domain.base.log import LogRow
from serve_app.streams.hub import StreamFilter


def _row(entity: str, data: dict[str, Any]) -> LogRow:
    return LogRow(
        seq=1, at=0.0, workspace="w", kind="k", entity=entity, attempt=None, principal="p", data=data, digest=b""
    )


@pytest.mark.parametrize(
    ("entity", "data", "matches"),
    [
        ("c", {}, True),
        ("t", {"agent_id": "c"}, True),
        ("d", {"agent": "c"}, True),
        ("d", {"agent": "b", "agents": ["b", "c"]}, True),
        ("d", {"agents": ["b"]}, False),
        ("d", {"agents": "abc"}, False),
        ("d", {"agent": "b"}, False),
    ],
    ids=["itself", "its task", "its answer", "one of several", "others", "a text", "another"],
)
def test_an_agents_events_are_those_in_which_it_takes_part(entity: str, data: dict[str, Any], matches: bool) -> None:
    assert StreamFilter(workspace="w", agent_id="c").matches(_row(entity, data)) is matches
    assert StreamFilter(workspace="w").matches(_row(entity, data))
