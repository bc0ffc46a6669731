"""A receipt, made once for each module."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.receipts import played, receipt_of


@pytest.fixture(scope="module")
def receipt() -> dict[str, Any]:
    return receipt_of(played())
