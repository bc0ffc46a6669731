"""Calls of resident workspaces at a region outside of their zone: what it answers, and that nothing of them is forwarded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from cluster.domain.base.log import Origin
from cluster.domain.replication.batch import CopyBeginning, LogPosition
from cluster.domain.residency import RegionZones
from cluster.log.access_directory import AccessDirectory
from cluster.postgres.replica import PostgresReplica
from cluster.postgres.stores import Stores
from cluster.process import front
from serve_app.auth.clients import Clients
from serve_app.http.fast_path import DirectApp
from serve_app.http.zones import ResidentCalls
from tests.support.access import a_workspace
from tests.support.gates import ZONE
from tests.support.principals import TokenTable, bearer, principal
from tests.support.probes import eventually
from tests.support.secondaries import EAST, WEST, Secondary, a_secondary
from tests.support.servers import serving_app

CP = "/api/control-plane"
ASKER = Origin(workspace="default", principal="user:tester")
NORTH = "north"
#: Of tokens: each acts in the workspace that it is called after.
WORKSPACES = ("w", "eu-w", "us-w")
SUBMIT = f"{CP}/tasks"


@dataclass
class Primary:
    """Remembers what was forwarded to it."""

    requests: list[Request] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        await request.body()
        self.requests.append(request)
        await Response(b'{"by": "west"}', media_type="application/json")(scope, receive, send)


@dataclass
class Zoned:
    secondary: Secondary
    primary: Primary
    http: httpx.AsyncClient
    access: AccessDirectory
    #: Of the primary.
    url: str
    caught_up: int = 0

    async def call(
        self, method: str, path: str, token: str | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """A call with a body, but of reads."""
        sent = {**({} if token is None else bearer(token)), **(headers or {})}
        content = None if method == "GET" else b'{"words": "secret"}'
        return await self.http.request(method, self.secondary.url + path, headers=sent, content=content)


Opened = Callable[..., Any]


@pytest.fixture
def opened(stores: Stores) -> Opened:
    """Opens region ``east``, whose zone is ``east_zone``, with the primary ``west`` in ``west_zone``; ``north`` is in eu."""

    @asynccontextmanager
    async def open_region(east_zone: str | None, west_zone: str | None) -> AsyncIterator[Zoned]:
        for workspace in (a_workspace("w"), a_workspace("eu-w", zone="eu"), a_workspace("us-w", zone="us")):
            await stores.access.create_workspace(ASKER, workspace)
        access = AccessDirectory(stores.access)
        await access.load()
        application = DirectApp(openapi_url=None)
        for name in ("throttle", "tickets", "sessions", "denials"):
            setattr(application.state, name, None)
        application.state.resolver = TokenTable({name: principal("p", name) for name in WORKSPACES})
        given = {EAST: east_zone, WEST: west_zone, NORTH: "eu"}
        zones = RegionZones(
            region=EAST, zones={name: zone for name, zone in given.items() if zone}, regions=frozenset(given)
        )
        primary = Primary()
        found: list[Zoned] = []

        async def catch_up() -> None:
            found[0].caught_up += 1

        async with serving_app(primary, lifespan="off") as server, httpx.AsyncClient(timeout=20) as http:
            urls = {WEST: server.url, NORTH: "https://north.example.com/cp"}

            def around(inner: Any) -> Any:
                return ResidentCalls(
                    inner, application, zones, urls, lambda: found[0].secondary.region.gate, lambda: access, catch_up
                )

            async with a_secondary(stores, urls, clients=Clients(), around=around) as secondary:
                await secondary.region.tell(1, await stores.log.head(), primary=WEST)
                found.append(Zoned(secondary, primary, http, access, server.url))
                yield found[0]

    return open_region


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


WRONG = (421, "wrong_zone")
LINEARIZABLE = {"X-Aragora-Consistency": "linearizable"}


async def test_a_region_outside_says_where_to_call_and_forwards_nothing(opened: Opened) -> None:
    async with opened("us", "eu") as zoned:
        for method, path in (("POST", SUBMIT), ("GET", SUBMIT), ("PATCH", f"{CP}/policies/p"), ("POST", "/mcp")):
            answer = await zoned.call(method, path, "eu-w")
            assert refusal(answer) == WRONG, (method, path)
            named = {name: answer.json()[name] for name in ("zone", "region", "url")}
            assert named == {"zone": "eu", "region": "west", "url": zoned.url}
        assert zoned.primary.requests == []
        assert (await zoned.call("POST", SUBMIT, "w")).json() == {"by": "west"}
        assert (await zoned.call("GET", SUBMIT, "w")).json() == {"by": "east"}
        (forwarded,) = zoned.primary.requests
        assert forwarded.headers["authorization"] == "Bearer w"


async def test_the_answer_comes_before_the_body_is_read(opened: Opened) -> None:
    async with opened("us", "eu") as zoned:
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(zoned.secondary.url).port)
        head = f"POST {SUBMIT} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer eu-w\r\nContent-Length: 9\r\n"
        writer.write(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert (await reader.readline()).split()[1] == b"421", "100 would ask for the body"
        writer.close()


async def test_the_zones_own_regions_forward_as_always(opened: Opened) -> None:
    async with opened("eu", "eu") as zoned:
        assert (await zoned.call("POST", SUBMIT, "eu-w")).json() == {"by": "west"}
        assert (await zoned.call("GET", SUBMIT, "eu-w")).json() == {"by": "east"}


async def test_nothing_is_forwarded_to_a_primary_outside(opened: Opened) -> None:
    async with opened("eu", "us") as zoned:
        answer = await zoned.call("POST", SUBMIT, "eu-w")
        assert (refusal(answer), "Retry-After" in answer.headers) == ((503, "zone_without_primary"), True)
        for path, headers in ((SUBMIT, LINEARIZABLE), (f"{CP}/tasks/t/chunks", {})):
            assert refusal(await zoned.call("GET", path, "eu-w", headers)) == (503, "zone_without_primary")
        assert (await zoned.call("GET", SUBMIT, "eu-w")).json() == {"by": "east"}
        assert refusal(await zoned.call("POST", SUBMIT, "us-w")) == WRONG
        assert zoned.primary.requests == []


async def test_whose_caller_is_unknown_is_not_forwarded(opened: Opened) -> None:
    """It may have been made a moment ago, for a workspace that this region must not see."""
    async with opened(None, "eu") as zoned:
        assert refusal(await zoned.call("POST", SUBMIT, "nobody's")) == (401, "unauthenticated")
        assert zoned.caught_up == 1, "a key that was just made counts"
        assert refusal(await zoned.call("GET", SUBMIT, "nobody's", LINEARIZABLE)) == (401, "unauthenticated")
        shown = {front.CERTIFICATE: "of an agent"}
        assert refusal(await zoned.call("POST", SUBMIT, headers=shown)) == (401, "unauthenticated")
        assert zoned.primary.requests == []
        assert (await zoned.call("POST", SUBMIT)).json() == {"by": "west"}, "without a credential it is nobody's call"
        assert (await zoned.call("POST", f"{CP}/auth/logout", "nobody's")).json() == {"by": "west"}


async def test_while_a_region_is_copied_it_forwards_nothing(opened: Opened, stores: Stores) -> None:
    async with opened("us", "eu") as zoned:
        region, replica = zoned.secondary.region, PostgresReplica(stores.pool, ZONE)
        assert await replica.set_role("secondary", 1, None)
        schema = (await replica.state()).schema_version
        tail = LogPosition(epoch=2, seq=9, digest="x")
        await replica.begin_copy(CopyBeginning(zone=ZONE, schema_version=schema, epoch=2, tail=tail))
        await eventually(lambda: region.gate.is_copied)
        assert (await zoned.call("POST", SUBMIT, "w")).status_code == 503
        assert zoned.primary.requests == []


async def test_paths_that_name_a_workspace_count_too(opened: Opened) -> None:
    async with opened("us", "eu") as zoned:
        assert refusal(await zoned.call("POST", f"{CP}/hooks/h?workspace_id=eu-w")) == WRONG
        assert refusal(await zoned.call("PATCH", f"{CP}/workspaces/eu-w", "w")) == WRONG
        for method, path in (("POST", f"{CP}/hooks/h?workspace_id=w"), ("DELETE", f"{CP}/workspaces/eu-w")):
            assert (await zoned.call(method, path, "w")).json() == {"by": "west"}


@pytest.mark.parametrize(
    ("zone", "code"), [("eu", "wrong_zone"), ("us", None), ("xx", "unknown_zone"), ("", "unknown_zone")]
)
async def test_a_header_may_name_the_zone(opened: Opened, zone: str, code: str | None) -> None:
    async with opened("us", "us") as zoned:
        answer = await zoned.call("POST", SUBMIT, "w", {"X-Aragora-Zone": zone})
        assert answer.json().get("code") == code
        assert len(zoned.primary.requests) == (code is None)


async def test_how_a_replica_is_it_always_says(opened: Opened) -> None:
    async with opened("us", "eu") as zoned:
        assert (await zoned.call("GET", "/health/live", "eu-w")).json() == {"by": "east"}
