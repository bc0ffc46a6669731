"""Which texts name a kind of question."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.consensus.kind_names import checked_kind


@pytest.mark.parametrize("kind", ["law", "computer science", "x" * 64, "Überweisung"])
def test_a_readable_name_is_taken_as_it_is(kind: str) -> None:
    assert checked_kind(kind, "kind") == kind


@pytest.mark.parametrize("kind", ["", " ", "x" * 65, "a\nb", "\x00", "\ud800", 7, ["law"], True], ids=ascii)
def test_anything_else_is_refused_in_one_sentence(kind: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"config\.kind must"):
        checked_kind(kind, "config.kind")


def test_no_kind_is_none() -> None:
    assert checked_kind(None, "kind") is None
