"""A whole system in one process, without Ray: ``python -m bench.parts.whole on|off SCHEMA DATA_DIR HTTP METRICS``.

``on``: callers are authenticated and authorised, and the log is sealed. ``off``: none of it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import jwt
from pydantic import SecretStr

from actors.roles import SEALER, Role, desired_roles
from bench.parts.loop import Handlers, run
from cluster.settings import Settings
from serve_app import one_process

ADMIN = "bench@example.org"
START_S = 120.0


def _settings(secured: bool, schema: str, data_dir: str, http: str, metrics: str, secret: str) -> Settings:
    return Settings(
        database_url=SecretStr(os.environ["BENCH_DATABASE_URL"]),
        redis_url=SecretStr(os.environ["BENCH_REDIS_URL"]),
        database_schema=schema,
        redis_prefix=schema,
        data_dir=Path(data_dir),
        http_host="127.0.0.1",
        http_port=int(http),
        prometheus_port=int(metrics),
        embedded=True,
        auth_enabled=secured,
        admin_users=(ADMIN,) if secured else (),
        jwt_secret=SecretStr(secret) if secured else None,
    )


async def _started(url: str) -> None:
    """Raises: `TimeoutError` if the API does not answer in time."""
    async with asyncio.timeout(START_S), httpx.AsyncClient() as client:
        while True:
            try:
                if (await client.get(f"{url}/health")).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


async def _key(url: str, secret: str) -> dict[str, Any]:
    """A new key of an operator."""
    now = int(time.time())
    token = jwt.encode({"sub": f"user:{ADMIN}", "iat": now, "exp": now + 600}, secret, "HS256")
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as client:
        answer = await client.post(f"{url}/api/control-plane/keys", json={"name": "bench", "grants": ["operator"]})
    return {"key": answer.raise_for_status().json()["token"]}


def _unsealed(settings: Settings) -> tuple[Role, ...]:
    return tuple(role for role in desired_roles(settings) if role.kind != SEALER)


async def handlers() -> Handlers:
    mode, schema, data_dir, http, metrics = sys.argv[1:]
    secret, url = secrets.token_hex(32), f"http://127.0.0.1:{http}"
    if mode == "off":
        one_process.desired_roles = _unsealed  # type: ignore[attr-defined]
    serving = asyncio.create_task(one_process.serve(_settings(mode == "on", schema, data_dir, http, metrics, secret)))
    await asyncio.wait({serving, started := asyncio.create_task(_started(url))}, return_when=asyncio.FIRST_COMPLETED)
    await started

    async def key() -> dict[str, Any]:
        return await _key(url, secret)

    async def close() -> dict[str, Any]:
        serving.cancel()
        await asyncio.wait({serving})
        return {}

    return {"key": key, "close": close}


if __name__ == "__main__":
    run(handlers)
