"""The nearest known name: whatever its case and the order of its words; none if nothing is like it."""

from __future__ import annotations

import pytest

from cluster.domain.base.nearest import hint, nearest

_KNOWN = ("name", "grants", "workspaces", "expires_in_seconds", "dry_run")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("expires_days", "expires_in_seconds"),
        ("expiresInSeconds", "expires_in_seconds"),
        ("seconds-expires-in", "expires_in_seconds"),
        ("Workspace", "workspaces"),
        ("dryRun", "dry_run"),
        ("", ""),
        ("\ud800", ""),
        ("zzzz" * 1000, ""),
    ],
    ids=["part", "camel case", "order", "case and number", "two words", "empty", "half a pair", "long"],
)
def test_the_nearest_name_is_found_or_none(written: str, meant: str) -> None:
    assert nearest(written, _KNOWN) == meant


_FILTERS = (
    "agent_id",
    "created_after",
    "created_before",
    "cursor",
    "error_contains",
    "ended_after",
    "limit",
    "task_type",
)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("page", ""),
        ("sort", ""),
        ("format", ""),
        ("order", ""),
        ("error", "error_contains"),
        ("after", "ended_after"),
        ("created", "created_after"),
        ("cursr", "cursor"),
        ("curso", "cursor"),
        ("agentId", "agent_id"),
        ("type", "task_type"),
        ("id", ""),
    ],
)
def test_likeness_by_chance_is_no_guess_and_a_part_is_one(written: str, meant: str) -> None:
    assert nearest(written, _FILTERS) == meant


def test_a_sentence_ends_with_the_nearest_name_or_with_all() -> None:
    assert hint("grant", _KNOWN) == "did you mean grants?"
    assert hint("zzzz", ("b", "a")) == "use a, b."
    assert hint("zzzz", ()) == "leave it out."
