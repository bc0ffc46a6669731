"""Patterns that somebody else wrote: what they match, and that their time is bounded."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.patterns import BadPattern, Pattern

PIECES = (
    "a",
    "b",
    "[ab]",
    "[^a]",
    ".",
    "(a|b)",
    "(?:ab)+",
    "(a+)*",
    "b?",
    "a{2}",
    "b{1,3}",
    "(a*)*",
    "(|a)",
    "a*?",
    "\\w",
)
rows = st.lists(st.sampled_from((*PIECES, "\\b", "^", "$")), max_size=5).map("".join)
patterns = rows | st.tuples(rows, st.sampled_from("*+?"), rows).map(lambda parts: f"({parts[0]}){parts[1]}{parts[2]}")


def _found(pattern: str, text: str) -> bool:
    return Pattern(pattern).found_in(text, lambda steps: None)


@given(patterns, st.text("abx ", max_size=8))
def test_a_pattern_matches_what_re_matches(pattern: str, text: str) -> None:
    assert _found(pattern, text) == bool(re.search(pattern.replace("$", "\\Z"), text, re.ASCII))


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "^(.*)*x$", "^(a?){30}a{30}$"])
def test_what_makes_re_backtrack_for_ever_takes_bounded_steps(pattern: str) -> None:
    spent = []
    assert not Pattern(pattern).found_in("a" * 300 + "!", spent.append)
    assert sum(spent) < 301 * Pattern(pattern).states * 2


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^[a-z0-9]+(?:-[a-z0-9]+)*$", "a-b2-c"),
        ("^\\d{4}-\\d{2}$", "2024-11"),
        ("a{", "a{"),
        ("[+\\-\\d]+", "-5"),
        ("\\/x", "/x"),
        ("(?<year>\\d)", "7"),
        ("^\\u00e9$", "é"),
        ("", "x"),
    ],
)
def test_patterns_are_read_as_schemas_write_them(pattern: str, text: str) -> None:
    assert _found(pattern, text)


WRONG = ["(", ")", "*", "[a", "a**", "a{2,1}", "(?=a)", "(?<!a)b", "(a)\\1", "\\p{L}", "(?i)a", "\\u{110000}"]
LARGE = ["a{9999}", "((){999}){999}", "(a{50}){99}", "a" * 2000, "(" * 400 + ")" * 400]


@pytest.mark.parametrize("pattern", [*WRONG, *LARGE])
def test_what_is_wrong_or_cannot_be_bounded_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        Pattern(pattern)
