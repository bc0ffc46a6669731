"""A check that the API refuses for its key is not told to look at a log."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from aragora_worker.errors import ApiError
from cluster.cli.checks.findings import Finding, run_all
from cluster.domain.base.errors import ControlPlaneError, StoreUnavailable


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ApiError("Send an API key.", "unauthenticated", 401), ""),
        (ApiError("No.", "forbidden", 403), ""),
        (ApiError("The body is no JSON.", "invalid_body", 400), "See the log of the API."),
        (StoreUnavailable("Away."), "See the log of the API."),
    ],
    ids=["no key", "not permitted", "another refusal", "another error"],
)
async def test_a_refused_key_is_not_looked_for_in_the_log(error: ControlPlaneError, advice: str) -> None:
    async def check() -> Sequence[Finding]:
        raise error

    (found,) = await run_all({"API": check})
    assert (found.detail, found.advice) == (str(error), advice)
