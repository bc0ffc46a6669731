"""docs/regions.md says what the code does."""

from __future__ import annotations

from cluster.domain.replication.batch import Refusal
from regions.replication.source import MOST_BYTES, MOST_ROWS
from scripts.docs.regions_page import with_tables
from tests.support.docs import ROOT

PAGE = ROOT / "docs" / "regions.md"


def test_the_tables_on_the_page_are_those_of_the_declaration() -> None:
    page = PAGE.read_text()
    assert with_tables(page) == page, "run make docs"


def test_bounds_and_codes_on_the_page_are_those_of_the_code() -> None:
    page = PAGE.read_text()
    assert f"at most {MOST_ROWS:,} rows and {MOST_BYTES // 2**20} MB" in page
    unnamed = [refusal for refusal in Refusal if f"`{refusal.value}`" not in page]
    assert unnamed == [Refusal.NOT_COPYING], "an error between the two ends that no operator sees"
