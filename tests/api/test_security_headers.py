"""Headers for browsers on every answer: of each route, of each error, of pages, streams and refused WebSockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re

import httpx
import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from cluster.process.front import SECURITY_HEADERS
from cluster.telemetry.observations import HttpObservations
from serve_app.application import add_middleware, make_app
from serve_app.auth.clients import Clients
from tests.support.api import CP, Api

PAGES = ("/docs", "/redoc", "/docs/oauth2-redirect")
PATHS = sorted(
    {
        (method, re.sub(r"\{[^}]*\}", "x1", context.path or ""))
        for context in iter_route_contexts(make_app().routes)
        for method in (
            context.original_route.methods or () if isinstance(context.original_route, APIRoute) else ("GET",)
        )
        if "/api/v1/" not in (context.path or "") and context.path not in PAGES
    }
)


def is_secured(headers: httpx.Headers) -> bool:
    """Exactly once each: a browser takes the strictest of several policies, and of other headers anything."""
    return all(headers.get_list(name) == [value] for name, value in SECURITY_HEADERS.items())


async def answers(api: Api, method: str, path: str) -> list[httpx.Response]:
    """On the fast path, and through FastAPI."""
    body = {"json": {}} if method not in ("GET", "HEAD") else {}
    page = {"Origin": api.url}
    return [
        await api.client.request(method, path, **body),
        await api.client.request(method, path, headers=page, **body),
    ]


async def test_every_route_answers_with_them(api: Api) -> None:
    assert len(PATHS) > 50
    calls = await asyncio.gather(*(answers(api, method, path) for method, path in PATHS))
    found = [(*PATHS[at], answer) for at, both in enumerate(calls) for answer in both]
    assert [(method, path) for method, path, answer in found if not is_secured(answer.headers)] == []
    assert {answer.status_code // 100 for _, _, answer in found} >= {2, 4}
    assert not any("strict-transport-security" in answer.headers for _, _, answer in found)


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/nothing", {}, 404),
        ("DELETE", "/health", {}, 405),
        ("HEAD", "/health", {}, 200),
        ("GET", CP + "/agents/", {}, 307),
        ("POST", CP + "/tasks", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ("POST", CP + "/tasks", {"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
        ("POST", CP + "/tasks", {"content": b"x" * 2_000_000}, 413),
        ("GET", CP + "/agents", {"headers": {"Origin": "https://elsewhere.example"}}, 403),
        (
            "OPTIONS",
            CP + "/agents",
            {"headers": {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}},
            200,
        ),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_refusals_and_preflights_have_them(
    api: Api, method: str, path: str, options: dict[str, object], status: int
) -> None:
    answer = await api.client.request(method, path, **options)
    assert answer.status_code == status
    assert is_secured(answer.headers)


@pytest.mark.parametrize("path", PAGES)
async def test_pages_run_their_own_scripts_only(api: Api, path: str) -> None:
    answer = await api.client.get(path)
    assert answer.headers["content-type"].startswith("text/html")
    (policy,) = answer.headers.get_list("content-security-policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    allowed = rules["script-src"].split()
    assert rules["default-src"] == rules["frame-ancestors"] == "'none'"
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "https:"} & set(allowed)
    for script in re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in allowed
    for source in re.findall(r'<script src="([^"]+)"', answer.text):
        assert any(source.startswith(package) for package in allowed)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-length"] == str(len(answer.content))


async def test_streams_and_refused_websockets_have_them(api: Api) -> None:
    async with api.client.stream("GET", CP + "/stream", headers={"Accept": "text/event-stream"}) as answer:
        assert answer.status_code == 200
        assert is_secured(answer.headers)
    with pytest.raises(InvalidStatus) as refused:
        await connect(api.url.replace("http", "ws") + "/ws/control-plane", origin="https://elsewhere.example")
    headers = refused.value.response.headers
    assert {name: headers.get_all(name) for name in SECURITY_HEADERS} == {
        name: [value] for name, value in SECURITY_HEADERS.items()
    }


def bare(
    public_url: str | None = None, cors: tuple[str, ...] = ("*",), trusted: tuple[str, ...] = ()
) -> httpx.AsyncClient:
    """A client of the application without its stores, which has what is public."""
    app = make_app(public_url)
    add_middleware(
        app,
        max_body_bytes=1024,
        cors_origins=cors,
        observations=HttpObservations(),
        clients=Clients(trusted),
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


@pytest.mark.parametrize(
    ("trusted", "protocol", "told"),
    [
        (("127.0.0.0/8",), "https", ["max-age=31536000"]),
        (("127.0.0.0/8",), "http", []),
        (("127.0.0.0/8",), "https, http", []),
        (("10.0.0.0/8",), "https", []),
        ((), "https", []),
    ],
)
async def test_only_encrypted_calls_are_told_to_stay_encrypted(
    trusted: tuple[str, ...], protocol: str, told: list[str]
) -> None:
    async with bare(trusted=trusted) as client:
        answer = await client.get("/nothing", headers={"X-Forwarded-Proto": protocol})
    assert answer.headers.get_list("strict-transport-security") == told


@pytest.mark.parametrize("path", [CP + "/agents/?limit=2", "/docs/", "/openapi.json/"])
@pytest.mark.parametrize("public_url", [None, "https://cp.example:8443"])
async def test_redirects_do_not_name_the_host_that_was_called(path: str, public_url: str | None) -> None:
    async with bare(public_url) as client:
        answer = await client.get(path, headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    right = path.replace("/?", "?").removesuffix("/")
    assert (answer.status_code, answer.headers["location"]) == (307, (public_url or "") + right)


@pytest.mark.parametrize("path", ["//evil.example/", "//evil.example/docs/", "/nothing/", "//"])
async def test_what_is_no_route_is_not_redirected(path: str) -> None:
    async with bare() as client:
        answer = await client.get(httpx.URL("http://localhost").copy_with(raw_path=path.encode()))
    assert answer.status_code == 404


async def test_the_description_names_the_public_url() -> None:
    async with bare("https://cp.example") as public, bare() as without:
        assert (await public.get("/openapi.json")).json()["servers"] == [{"url": "https://cp.example"}]
        assert "servers" not in (await without.get("/openapi.json")).json()


@pytest.mark.parametrize(
    ("origins", "origin", "allowed", "with_credentials"),
    [
        (("*",), "https://a.example", "*", False),
        (("*", "https://a.example"), "https://a.example", "*", False),
        (("https://a.example",), "https://a.example", "https://a.example", True),
        (("https://a.example",), "https://b.example", None, None),
        (("https://a.example",), "https://a.example.evil", None, None),
        (("https://a.example",), "null", None, None),
    ],
)
async def test_all_origins_never_come_with_credentials(
    origins: tuple[str, ...], origin: str, allowed: str | None, with_credentials: bool | None
) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    async with bare(cors=origins) as client:
        for answer in (
            await client.get("/openapi.json", headers={"Origin": origin}),
            await client.options(CP + "/tasks", headers=asked),
        ):
            assert answer.headers.get("access-control-allow-origin") == allowed
            if allowed is not None:
                assert ("access-control-allow-credentials" in answer.headers) is with_credentials
