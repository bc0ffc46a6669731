"""docs/tasks.md says what the code does."""

from __future__ import annotations

import re

from cluster.domain.scheduling import ready_queue
from cluster.domain.tasks import retries, rules
from scripts.docs.tasks_page import with_table
from serve_app.schemas.tasks import CreateTask
from tests.support.docs import ROOT

PAGE = ROOT / "docs" / "tasks.md"


def test_the_table_of_states_is_the_machines() -> None:
    page = PAGE.read_text()
    assert with_table(page) == page, "run make docs"


def test_every_field_of_a_submit_is_described_and_nothing_else_is() -> None:
    section = PAGE.read_text().split("## Submit")[1].split("\n## ")[0]
    described = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert described == set(CreateTask.model_fields)


def test_numbers_on_the_page_are_those_of_the_code() -> None:
    page = PAGE.read_text()
    policy = retries.RetryPolicy()
    assert f"every {ready_queue.AGEING_S:g} seconds" in page
    assert f"{3 * ready_queue.AGEING_S:g} seconds" in page
    assert f"first {rules.PREFERENCE_S:g} seconds" in page
    assert f"{policy.cancel_grace_s:g} seconds to stop" in page
    assert f"| `retryable` | {policy.retryable.base_s:g} s, doubling, at most {policy.retryable.cap_s:g} s" in page
    limited = policy.rate_limited
    assert f"| `rate_limited` | {limited.base_s:g} s, doubling, at most {limited.cap_s:g} s" in page
