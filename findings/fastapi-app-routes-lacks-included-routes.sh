#!/usr/bin/env bash
# Subject: FastAPI 0.165.0 (PyPI fastapi), FastAPI.include_router and app.routes.
# A good guess: include_router copies the router's routes into the application, as it did for years. So app.routes lists every route
# (a start-up check that each APIRoute has some dependency walks it), and a route that is added to the router afterwards is not served.
# Behaviour seen: include_router keeps a reference. app.routes has one entry of a private class for the whole router and no APIRoute,
# so a check that walks app.routes passes without having looked at anything. fastapi.routing.iter_route_contexts(app.routes) yields
# all of them. A route that is added to the router after it was included, and after a first request, is served and is in the OpenAPI
# document.
# Output seen:
#   APIRoutes in app.routes: []
#   paths by iter_route_contexts: ['/api/early']
#   late route: 200, paths in the document: ['/api/early', '/api/late']
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check fastapi==0.165.0 httpx==0.28.1
cat > "$dir/run.py" <<'PY'
import asyncio

import httpx
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

router = APIRouter()


@router.get("/early")
def early() -> str:
    return "early"


app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
app.include_router(router, prefix="/api")
listed = [route.path for route in app.routes if isinstance(route, APIRoute)]
found = [context.path for context in iter_route_contexts(app.routes)]
print(f"APIRoutes in app.routes: {listed}")
print(f"paths by iter_route_contexts: {found}")


async def status(path: str) -> int:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        return (await client.get(path)).status_code


assert asyncio.run(status("/api/early")) == 200


@router.get("/late")
def late() -> str:
    return "late"


served, paths = asyncio.run(status("/api/late")), list(app.openapi()["paths"])
print(f"late route: {served}, paths in the document: {paths}")
assert listed == [], listed
assert found == ["/api/early"], found
assert (served, paths) == (200, ["/api/early", "/api/late"]), (served, paths)
PY
"$dir/venv/bin/python" "$dir/run.py"
