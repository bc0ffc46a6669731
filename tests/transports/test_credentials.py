"""Credentials on the calls of agents: each way of sending, to the agent's own origin alone, with the secret of before while both
count, and struck out of what comes back."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cluster.agent_transports.a2a import A2ATransport
from cluster.agent_transports.chat import HttpTransports, Provider
from cluster.agent_transports.credentials import AgentCredentials
from cluster.domain.access.sealing import Unsealable
from cluster.domain.agents.agent import TransportKind
from cluster.domain.agents.credential_use import CredentialUse, Sending
from cluster.domain.agents.credentials import Credential
from cluster.domain.agents.message_signatures import content_digest, signature_base
from cluster.domain.base.errors import AgentNotCalled, AgentRefused, AgentUnavailable, PeerError, StoreUnavailable
from cluster.http.origins import origin_of
from tests.support.asking import LOOPBACK, question, transports
from tests.support.authorities import Issuer
from tests.support.endpoints import a2a_server, completion, serving
from tests.support.servers import serving_app

SECRET = 'planted "secret" 0123'
NOW = 1_800_000_000.0


def credential(*secrets: str, **changes: Any) -> Credential:
    times: dict[str, Any] = {"created_at": NOW, "created_by": "p", "changed_at": NOW, "changed_by": "p"}
    return Credential(workspace="w", name="c1", secrets=secrets, **times | changes)


def used(url: str, send: Sending, **fields: Any) -> CredentialUse:
    return CredentialUse(workspace="w", name="c1", send=send, origin=str(origin_of(url)), **fields)


def knowing(found: Any, **options: Any) -> HttpTransports:
    """Transports for whom every credential is this one; an error is raised."""

    async def read(names: Sequence[tuple[str, str]]) -> list[Any]:
        if isinstance(found, StoreUnavailable):
            raise found
        return [found for _ in names]

    return transports(LOOPBACK, credentials=AgentCredentials(read, clock=lambda: NOW), **options)


class Server:
    """Gives prepared answers in turn, the last one again and again, and keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = answers or (completion("yes"),)
        self.requests: list[Any] = []

    def __call__(self, request: Any) -> Any:
        self.requests.append(request)
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        return answer(request) if callable(answer) else answer


async def asked(ours: HttpTransports, url: str, use: CredentialUse, **changes: Any) -> Any:
    values = {"transport": TransportKind.OPENAI, "credential": use, "allow_incomplete": True} | changes
    try:
        return await ours.ask(question(url, **values))
    finally:
        await ours.close()


@pytest.mark.parametrize(
    ("send", "fields", "header", "value"),
    [
        (Sending.BEARER, {}, "authorization", f"Bearer {SECRET}"),
        (Sending.HEADER, {"header": "x-api-key"}, "x-api-key", SECRET),
        (Sending.BASIC, {"user": "u"}, "authorization", "Basic " + base64.b64encode(f"u:{SECRET}".encode()).decode()),
    ],
)
async def test_the_secret_is_in_its_header(send: Sending, fields: dict[str, str], header: str, value: str) -> None:
    server = Server()
    async with serving(server) as url:
        provider = Provider(base_url=url, headers={"Authorization": "Bearer of the provider", "x-other": "1"})
        await asked(knowing(credential(SECRET), providers=(provider,)), url, used(url, send, **fields))
    assert server.requests[0].headers[header] == value
    assert "x-other" not in server.requests[0].headers, "an agent with a credential gets no provider's key"


async def test_a_signature_is_of_the_call_that_arrives() -> None:
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    server = Server()
    async with serving(server) as url:
        await asked(knowing(credential(pem)), f"{url}/v1?a=%20b", used(url, Sending.SIGNATURE, key_id="k1"))
    (request,) = server.requests
    assert request.headers["content-digest"] == content_digest(await request.body())
    params = request.headers["signature-input"].removeprefix("aragora=")
    parts = {
        "@method": request.method,
        "@authority": request.headers["host"],
        "@path": request.scope["raw_path"].decode(),
        "@query": "?" + request.scope["query_string"].decode(),
    }
    covered = [name.strip('"') for name in params[1 : params.index(")")].split(" ")]
    assert {*parts, "content-type", "content-digest"} == set(covered)
    base = signature_base([(name, parts.get(name) or request.headers[name]) for name in covered], params)
    signature = base64.b64decode(request.headers["signature"].removeprefix("aragora=:").removesuffix(":"))
    private.public_key().verify(signature, base)
    assert f';created={int(NOW)};keyid="k1"' in params


async def test_nothing_is_sent_to_another_origin_than_the_registered() -> None:
    elsewhere, server = Server(), Server()
    async with serving(elsewhere) as other, serving(server) as url:
        server.answers = (httpx.Response(307, headers={"location": other}),)
        with pytest.raises(AgentRefused):
            await asked(knowing(credential(SECRET)), url, used(url, Sending.BEARER))
        with pytest.raises(AgentRefused, match="c1 is only sent to"):
            await asked(knowing(credential(SECRET)), other, used(url, Sending.BEARER))
        limited = knowing(credential(SECRET, origins=("https://api.example:443",)))
        with pytest.raises(AgentRefused, match="c1 may only be sent to"):
            await asked(limited, url, used(url, Sending.BEARER))
    assert (len(server.requests), elsewhere.requests) == (1, [])


async def test_the_secret_of_before_follows_one_not_known_yet() -> None:
    server = Server(httpx.Response(401), completion("yes"))
    async with serving(server) as url:
        both = credential("the new one", "the old one", overlap_until=NOW + 1)
        await asked(knowing(both), url, used(url, Sending.BEARER))
        over = credential("the new one", "the old one", overlap_until=NOW)
        server.answers = (httpx.Response(401),)
        with pytest.raises(AgentRefused):
            await asked(knowing(over), url, used(url, Sending.BEARER))
    sent = [request.headers["authorization"].removeprefix("Bearer ") for request in server.requests]
    assert sent == ["the new one", "the old one", "the new one"]


@pytest.mark.parametrize("status", [200, 400, 401, 500])
async def test_an_answer_that_quotes_the_secret_is_kept_without(status: int) -> None:
    def echo(request: Any) -> httpx.Response:
        told = f"You sent {request.headers['authorization']}"
        body = completion(told).content if status == 200 else json.dumps({"error": {"message": told}})
        return httpx.Response(status, content=body)

    for send, fields in ((Sending.BEARER, {}), (Sending.BASIC, {"user": "u"})):
        async with serving(Server(echo)) as url:
            try:
                text = (await asked(knowing(credential(SECRET)), url, used(url, send, **fields))).text
            except PeerError as error:
                text = error.message
        assert "You sent" in text
        assert "***" in text
        assert SECRET not in text
        assert base64.b64encode(f"u:{SECRET}".encode()).decode() not in text


@pytest.mark.parametrize(
    ("found", "kind", "words"),
    [
        (None, AgentRefused, "There is no credential c1"),
        (Unsealable("No key opens it."), AgentRefused, "The credential c1 cannot be opened. No key opens it."),
        (StoreUnavailable("It is away."), AgentNotCalled, "The credential c1 cannot be read now: It is away."),
        (credential("two\nlines of it"), AgentRefused, "The credential c1 cannot stand in a header"),
    ],
    ids=["missing", "sealed", "unread", "unfit"],
)
async def test_without_its_credential_an_agent_is_not_called(found: Any, kind: type[PeerError], words: str) -> None:
    server = Server()
    async with serving(server) as url:
        ours = knowing(found)
        with pytest.raises(kind, match=words):
            await ours.probe(url, used(url, Sending.BEARER))
        with pytest.raises(kind, match=words):
            await asked(ours, url, used(url, Sending.BEARER))
    assert server.requests == []


async def test_an_a2a_agent_gets_its_credential_with_card_and_message() -> None:
    urls: list[str] = []
    told = {"message": {"messageId": "1", "role": "ROLE_AGENT", "parts": [{"text": f"heard {SECRET}"}]}}
    server = Server(a2a_server(urls, lambda body: told))
    elsewhere = Server()
    async with serving(server) as url, serving(elsewhere) as other:
        urls.append(url)
        ours = knowing(credential(SECRET))
        a2a = A2ATransport(ours.client, client_for=ours.client_for)
        # The library is imported with the first question.
        values = {"transport": TransportKind.A2A, "timeout_s": 60.0, "allow_incomplete": True}
        ask = question(url, credential=used(url, Sending.BEARER), **values)
        assert (await a2a.ask(ask)).text == "heard ***"
        # A card that leads to another server.
        urls[:] = [other]
        moved = A2ATransport(ours.client, client_for=ours.client_for)
        with pytest.raises(AgentRefused, match="c1 is only sent to"):
            await moved.ask(ask)
        await ours.close()
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {SECRET}"}
    assert elsewhere.requests == []


async def test_a_client_certificate_is_shown_to_the_agent_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Issuer()
    certificate, key = authority.issue().write(tmp_path, "server")
    monkeypatch.setenv("SSL_CERT_FILE", authority.file(tmp_path))
    pair = _pair(*authority.issue(common_name="caller").write(tmp_path, "client"))
    mixed = _pair(certificate, str(tmp_path / "client.key"))
    tls = {"ssl_certfile": certificate, "ssl_keyfile": key, "ssl_ca_certs": str(tmp_path / "ca.pem")}
    async with serving_app(_yes, lifespan="off", ssl_cert_reqs=ssl.CERT_REQUIRED, **tls) as server:
        url = f"https://127.0.0.1:{server.port}"
        use = used(url, Sending.CERTIFICATE)
        assert (await asked(knowing(credential(pair)), url, use)).text == "yes"
        ours = knowing(credential(pair))
        await ours.probe(url, use)
        with pytest.raises(AgentUnavailable):
            await ours.ask(question(url, transport=TransportKind.OPENAI))
        await ours.close()
        with pytest.raises(AgentRefused, match="c1 do not belong together"):
            await asked(knowing(credential(mixed)), url, use)


def _pair(*files: str) -> str:
    return "".join(Path(file).read_text() for file in files)


async def _yes(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": completion("yes").content})


#: How encoders write the same text: PHP escapes slashes, .NET and Go other characters, and JSON in JSON has backslashes doubled.
ENCODERS = {
    "slashes": lambda text: text.replace("/", "\\/"),
    "units": lambda text: text.replace("+", "\\u002B").replace("/", "\\u002f"),
    "nested": lambda text: json.dumps(json.dumps(text).replace("/", "\\/"))[1:-1],
}
QUOTED = "planted/secret+0123"


@pytest.mark.parametrize("encoder", ENCODERS)
async def test_a_quoted_secret_is_found_whatever_escapes_it_has(encoder: str) -> None:
    body = f'{{"result": "You sent {ENCODERS[encoder](QUOTED)}.\\n"}}'
    async with serving(Server(httpx.Response(200, content=body))) as url:
        ours, task = knowing(credential(QUOTED)), {"id": "t", "payload": {}}
        text = (await asked(ours, url, used(url, Sending.BEARER), transport=TransportKind.HTTP, task=task)).text
    assert json.loads(text)["result"].replace('"', "") == "You sent ***.\n"


@pytest.mark.parametrize("cut", [1, 5, 18])
async def test_a_secret_that_a_stream_splits_reaches_nobody(cut: int) -> None:
    pieces = ["Not plan", "ned: ", QUOTED[:cut], QUOTED[cut:], " and planted"]

    def stream(request: Any) -> Any:
        deltas = ({"choices": [{"delta": {"content": piece}}]} for piece in pieces)
        return iter([*(f"data: {json.dumps(delta)}\n\n" for delta in deltas), "data: [DONE]\n\n"])

    told: list[str] = []
    async with serving(Server(stream)) as url:
        use = used(url, Sending.BEARER)
        text = (await asked(knowing(credential(QUOTED)), url, use, options={"stream": True}, told=told.append)).text
    assert text == "".join(told) == "Not planned: *** and planted"
    assert told[0] == "Not ", "what may begin a secret waits, and nothing else"
