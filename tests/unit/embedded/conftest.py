"""A data directory of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.embedded.layout import Layout
from tests.support.embedded import new_layout


@pytest.fixture
def layout() -> Iterator[Layout]:
    with new_layout() as created:
        yield created
