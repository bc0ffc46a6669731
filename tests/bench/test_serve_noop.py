"""The benches' own application takes its routes: else no bench that needs Ray starts, and only `make verify` would tell."""

from __future__ import annotations

import httpx

from bench.serve_noop import router
from serve_app.application import make_app


async def test_the_routes_that_do_nothing_are_served_by_the_products_application() -> None:
    app = make_app()
    app.include_router(router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://bench") as client:
        for path, status in (("submit", 201), ("claim", 200), ("complete", 200)):
            assert (await client.post(f"/bench/{path}")).status_code == status
