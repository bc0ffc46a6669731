"""The fold of ended tasks names a bounded number of task types: the same ones wherever a process begins to read."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.tasks.tally import ENDS, Tally, TallyRow
from cluster.domain.tasks.task import OTHER_TYPES, TaskStatus

KEPT = 3
rows = st.lists(
    st.builds(
        TallyRow,
        at=st.just(1_700_000_000.0),
        workspace=st.sampled_from(["v", "w"]),
        kind=st.sampled_from(sorted(ENDS)),
        data=st.sampled_from([*"abcdef", "", OTHER_TYPES]).map(lambda name: {"task_type": name, "priority": 50}),
    ),
    max_size=40,
)


def _folded(tally: Tally, log: list[TallyRow]) -> Tally:
    for row in log:
        tally.apply(row)
    return tally


def _stored(tally: Tally) -> Tally:
    return Tally.restore(json.loads(json.dumps(tally.snapshot())), KEPT)


def _grouped(log: list[TallyRow], workspace: str) -> dict[str, int]:
    types = [str(row.data["task_type"]) for row in log if row.workspace == workspace]
    kept = list(dict.fromkeys(name for name in types if name != OTHER_TYPES))[:KEPT]
    return dict(Counter(name if name in kept else OTHER_TYPES for name in types))


@given(log=rows, cut=st.integers(0, 40), again=st.integers(0, 40))
def test_whoever_begins_anywhere_keeps_the_same_types(log: list[TallyRow], cut: int, again: int) -> None:
    whole = _folded(Tally(types_kept=KEPT), log)
    begun = _folded(_stored(_folded(Tally(types_kept=KEPT), log[:cut])), log[cut:])
    twice = _folded(_stored(_folded(_stored(_folded(Tally(types_kept=KEPT), log[:again])), log[again:])), [])
    for workspace in ("v", "w"):
        counts = whole.counts(workspace, ())
        assert counts["by_type"] == _grouped(log, workspace)
        assert counts["total"] == sum(row.workspace == workspace for row in log)
        assert begun.counts(workspace, ()) == twice.counts(workspace, ()) == counts
        assert begun.kept(workspace) == whole.kept(workspace)


@given(ended=st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 9), max_size=12))
def test_a_stored_fold_with_too_many_types_is_folded(ended: dict[str, int]) -> None:
    """As the first one, which a scan made: the most frequent are kept, and nothing is lost."""
    stored: dict[str, Any] = {"ended": [["w", "completed", name, 50, tasks] for name, tasks in ended.items()]}
    tally = Tally.restore(stored, KEPT)
    counts = tally.counts("w", ())
    assert counts["total"] == counts["by_status"].get(TaskStatus.COMPLETED, 0) == sum(ended.values())
    assert len(set(counts["by_type"]) - {OTHER_TYPES}) <= KEPT
    most = sorted(ended, key=lambda name: (-ended[name], name))[:KEPT]
    assert all(counts["by_type"][name] == ended[name] for name in most if name != OTHER_TYPES)
