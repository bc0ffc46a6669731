"""A check that the API refuses for its key is not told to look at a log."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cluster.cli.checks.findings import Finding, run_all
from cluster.domain.base.errors import ControlPlaneError, Forbidden, StoreUnavailable, Unauthenticated


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (Unauthenticated("Send an API key."), ""),
        (Forbidden("No."), ""),
        (StoreUnavailable("Away."), "See the log of the API."),
    ],
    ids=["no key", "not permitted", "another error"],
)
async def test_a_refused_key_is_not_looked_for_in_the_log(error: ControlPlaneError, advice: str) -> None:
    async def check() -> Sequence[Finding]:
        raise error

    (found,) = await run_all({"API": check})
    assert (found.detail, found.advice) == (str(error), advice)
