"""An OIDC provider that says whatever a test wants, and a browser that keeps its cookies.

`tests/support/real_provider.py` has a real one. This one answers what no real provider would.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.support.api import CP, Api
from tests.support.authenticated import Authenticated, authenticated
from tests.support.listening import listening, port_of
from tests.support.stores import StoreUrls
from tests.support.tokens import jwk, key_set, private_key, signed

ORIGIN = "https://control.test"
CLIENT, CLIENT_SECRET = "c1", "s+cret/%41"
SESSION, LOGIN = "__Host-aragora-session", "__Host-aragora-login"


class OddProvider:
    """``claims`` and ``userinfo`` are what it says of whoever logs in, ``answers`` replace what it says at a path (status
    and body), ``hangs`` are paths at which it never answers. ``asked`` are the forms that its token endpoint has got."""

    def __init__(self) -> None:
        self.url = ""
        self.claims: dict[str, Any] = {
            "sub": "1",
            "email": "ann@example.com",
            "email_verified": True,
            "groups": ["builders"],
        }
        self.userinfo: dict[str, Any] = {}
        self.nonce: str | None = None
        self.key = private_key("ES256", "of the provider")
        self.algorithm = "ES256"
        self.header: dict[str, Any] = {"kid": "k1"}
        self.token: str | None = None
        self.document: dict[str, Any] = {}
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.hangs: set[str] = set()
        self.asked: list[tuple[dict[str, str], dict[str, str]]] = []

    def id_token(self, now: float) -> str:
        nonce = {} if self.nonce is None else {"nonce": self.nonce}
        claims = {"iss": self.url, "aud": CLIENT, "iat": int(now) - 1, "exp": int(now) + 60, **nonce, **self.claims}
        return signed({k: v for k, v in claims.items() if v is not None}, self.key, self.algorithm, self.header)

    def _body(self, path: str, now: float) -> tuple[int, bytes]:
        if path == "/.well-known/openid-configuration":
            urls = {
                "authorization_endpoint": "/authorize",
                "token_endpoint": "/token",
                "jwks_uri": "/keys",
                "userinfo_endpoint": "/userinfo",
                "device_authorization_endpoint": "/device",
            }
            document = {
                "issuer": self.url,
                "authorization_response_iss_parameter_supported": True,
                **{name: self.url + path for name, path in urls.items()},
                **self.document,
            }
            return 200, json.dumps(document).encode()
        if path == "/keys":
            return 200, key_set(jwk("ES256", "k1", "of the provider"))
        if path == "/token":
            answer = {"access_token": "at", "token_type": "Bearer", "id_token": self.token or self.id_token(now)}
            return 200, json.dumps(answer).encode()
        if path == "/userinfo":
            return 200, json.dumps(self.userinfo).encode()
        device = {"device_code": "d1", "user_code": "ABCD", "verification_uri": f"{self.url}/confirm", "interval": 1}
        return 200, json.dumps(device).encode()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            content = await reader.readexactly(int(headers.get("content-length", 0)))
            path = lines[0].split()[1].partition("?")[0]
            if path in ("/token", "/device"):
                form = {name: values[0] for name, values in parse_qs(content.decode()).items()}
                self.asked.append((form, headers))
            if path in self.hangs:
                await reader.read()
                return
            status, body = self.answers.get(path) or self._body(path, time.time())
            writer.write(
                f"HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            )
            await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[OddProvider]:
        async with listening(self._talk) as server:
            self.url = f"http://127.0.0.1:{port_of(server)}"
            yield self


@dataclass
class Browser:
    """A browser at ``ORIGIN``, which is the API. It keeps cookies as they are set."""

    api: Api
    cookies: dict[str, str] = field(default_factory=dict)
    set_cookies: list[str] = field(default_factory=list)

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """``path`` under the API's prefix."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await self.api.client.request(method, CP + path, json=body, headers=sent)
        for text in answer.headers.get_list("set-cookie"):
            self.set_cookies.append(text)
            name, _, value = text.partition(";")[0].partition("=")
            value = value.strip('"')
            self.cookies.pop(name, None)
            if value:
                self.cookies[name] = value
        return answer

    async def begin(self, query: str = "") -> dict[str, str]:
        """Begins a login; the parameters with which the provider is asked."""
        answer = await self.call("GET", f"/auth/login{query}")
        assert answer.status_code == 303, answer.text
        return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}

    async def finish(self, issuer: str | None, **answer: str) -> httpx.Response:
        query = {"code": "code", **({} if issuer is None else {"iss": issuer}), **answer}
        return await self.call("GET", f"/auth/callback?{httpx.QueryParams(query)}")

    async def log_in(self, provider: OddProvider, query: str = "") -> httpx.Response:
        asked = await self.begin(query)
        provider.nonce = asked["nonce"]
        return await self.finish(provider.url, state=asked["state"])

    async def csrf(self) -> str:
        return str((await self.call("GET", "/auth/session")).json()["csrf_token"])


@dataclass
class Ground:
    """A control plane in which people log in with ``provider``."""

    door: Authenticated
    provider: OddProvider

    @property
    def api(self) -> Api:
        return self.door.api

    def browser(self) -> Browser:
        return Browser(self.api)

    async def failures(self) -> int:
        """Failed logins that the log has."""
        await self.api.app.state.throttle.write()
        return sum(row.data["failures"] for row in await self.api.rows() if row.kind == "auth.failed")


def login_settings(issuer: str, **changes: Any) -> dict[str, Any]:
    return {
        "oauth_enabled": True,
        "oauth_provider": issuer,
        "oauth_client_id": CLIENT,
        "oauth_client_secret": CLIENT_SECRET,
        "public_url": ORIGIN,
        **changes,
    }


@contextlib.asynccontextmanager
async def login_ground(store_urls: StoreUrls, **changes: Any) -> AsyncIterator[Ground]:
    provider = OddProvider()
    async with provider.running(), authenticated(store_urls, **login_settings(provider.url, **changes)) as door:
        yield Ground(door, provider)
