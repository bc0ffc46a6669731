"""Commits that the database refuses are counted by the class of their SQLSTATE; other statements are not."""

from __future__ import annotations

import pytest

from cluster.postgres.failed_commits import COMMITS, FailedCommits
from cluster.postgres.stores import Stores

#: Which builds call that are replaced while others run. Migration 58 made one function of them.
OF_EARLIER_BUILDS = {"decide_tasks", "decide_questions", "decide_spending", "decide_parked"}


async def test_every_function_that_appends_to_the_log_is_a_commit(stores: Stores) -> None:
    rows = await stores.pool.rows(
        "select proname from pg_proc where pronamespace = current_schema()::regnamespace and "
        "(proname = 'log_append' or prosrc ~ "
        "'(log_append|put_workspace|drop_cursors_and_segment|from submit_(asking_)?tasks|from register_agents|"
        "from decide_(tasks|questions|spending)|from record_outcomes)[(]')"
    )
    assert {row["proname"] for row in rows} - OF_EARLIER_BUILDS == set(COMMITS)


@pytest.mark.parametrize(
    ("state", "counted"), [("23514", {"23": 1}), ("53100", {"53": 1}), ("AG001", {"AG": 1}), ("AG003", {})]
)
async def test_a_refused_commit_is_counted_once(stores: Stores, state: str, counted: dict[str, int]) -> None:
    pool = stores.pool
    for sql in ("select log_append($1)", "select other($1)"):
        name = sql.split("(")[0].split()[1]
        await pool.execute(
            f"create function {name}(x text) returns void language plpgsql as "
            f"$$ begin raise exception 'refused' using errcode = '{state}'; end $$"
        )
        with pytest.raises(Exception, match=r"refused|again|used"):
            await pool.value(sql, "x")
    assert dict(pool.failed_commits.take()) == counted
    assert not pool.failed_commits.take()


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(), UnicodeError()])
def test_a_commit_without_an_answer_has_no_class(error: Exception) -> None:
    failed = FailedCommits()
    failed.count("select * from submit_tasks($1)", error)
    failed.count("select * from tasks", error)
    assert dict(failed.take()) == {"none": 1}
