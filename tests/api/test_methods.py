"""HEAD where load balancers send it, and what a 405 says."""

from __future__ import annotations

import pytest

from tests.support.api import CP, Api


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/health",
        "/health/live",
        "/docs",
        "/openapi.json",
        "/metrics",
        "/no/such",
        f"{CP}/health",
        f"{CP}/health/detailed",
    ],
)
async def test_head_is_answered_as_get_is_without_the_body(api: Api, path: str) -> None:
    head, get = await api.client.head(path), await api.client.get(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]


async def test_a_405_names_head_where_it_is_answered(api: Api) -> None:
    for path in ("/health", "/docs", "/openapi.json", "/metrics", f"{CP}/health", f"{CP}/health/detailed"):
        assert (await api.client.post(path)).headers["allow"] == "GET, HEAD", path


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/agents/x", "DELETE, GET"),
        ("DELETE", "/deliberations", "GET, POST"),
        ("PUT", "/tasks", "GET, POST"),
        ("PUT", "/tasks/claim", "GET, POST"),
        ("DELETE", "/tasks/x/complete", "POST"),
    ],
)
async def test_a_405_names_all_methods_of_the_path(api: Api, method: str, path: str, allowed: str) -> None:
    answer = await api.client.request(method, CP + path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.json()["code"] == "method_not_allowed"
