"""Bearer tokens: who is let in, as whom, and that nothing else is."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from cluster.domain.access.identity import AccessPolicy
from cluster.domain.access.principal import Principal
from cluster.domain.access.tokens import LEEWAY_S, Claims, make_token
from cluster.domain.base.errors import CallerError, Forbidden, InvalidRequest, StoreUnavailable, Unauthenticated
from cluster.http.key_sets import IssuerKeys, fetch_from
from cluster.process.clock import ManualClock
from serve_app.auth.bearer import BearerTokens, Proof
from serve_app.auth.key_uses import WRITE_S, KeyUses
from serve_app.auth.token_checks import SharedSecrets, TrustedIssuer
from tests.support.bearer_tables import Tables, bearer_tokens, claims, own_token
from tests.support.issuers import Issuer, connections
from tests.support.probes import eventually
from tests.support.tokens import OTHER_SECRET, SECRET, private_key, signed, signed_text

CLOCK = ManualClock()


def connection(*headers: tuple[str, str], path: str = "/", query: str = "", kind: str = "http") -> HTTPConnection:
    sent = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return HTTPConnection(
        {"type": kind, "method": "GET", "path": path, "headers": sent, "query_string": query.encode()}
    )


async def resolve(resolver: BearerTokens, token: str, workspace: str | None = None) -> Principal:
    named = [("X-Aragora-Workspace", workspace)] if workspace is not None else []
    return await resolver.resolve(connection(("Authorization", f"Bearer {token}"), *named))


async def test_a_key_acts_in_its_own_workspaces_only() -> None:
    tables = Tables()
    token = tables.add_key("k", "viewer", ("v", "w"))
    resolver = bearer_tokens(tables)
    first = await resolve(resolver, token)
    assert (first.id, first.workspace) == (f"key:{token.split('_')[1]}", "v")
    assert (await resolve(resolver, token, "w")).workspace == "w"
    with pytest.raises(Forbidden):
        await resolve(resolver, token, "elsewhere")


async def proven(resolver: BearerTokens, token: str) -> Proof:
    asked = connection(("Authorization", f"Bearer {token}"))
    await resolver.resolve(asked)
    proof: Proof = asked.scope["state"]["proof"]
    return proof


async def test_an_unknown_key_reads_and_costs_like_a_wrong_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    real = hmac.compare_digest

    def counting(left: Any, right: Any) -> bool:
        compared.append(len(left))
        return real(left, right)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    tables = Tables()
    good = tables.add_key("k")
    answers = []
    for token in (good[:-1] + ("0" if good[-1] != "0" else "1"), "ara_" + "z" * 26 + good[30:], "ara_nonsense"):
        compared.clear()
        with pytest.raises(Unauthenticated) as refused:
            await resolve(bearer_tokens(tables), token)
        answers.append((str(refused.value), refused.value.code, list(compared)))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][2] == [32]


@pytest.mark.parametrize("change", [{"revoked_at": 1.0}, {"expires_at": 1.0}], ids=str)
async def test_a_key_that_ended_is_refused(change: dict[str, Any]) -> None:
    tables = Tables()
    token = tables.add_key("k")
    assert await resolve(bearer_tokens(tables), token)
    tables.change_key(token, **change)
    with pytest.raises(Unauthenticated):
        await resolve(bearer_tokens(tables), token)


async def test_a_user_has_what_its_bindings_give() -> None:
    tables = Tables()
    tables.bind("user:ann@example.com", "viewer")
    tables.bind("group:ops", "operator", "v")
    resolver = bearer_tokens(tables, clock=CLOCK)
    assert (await resolve(resolver, own_token(CLOCK, "Ann@Example.com"))).workspace == "w"
    both = own_token(CLOCK, groups=["ops"])
    with pytest.raises(InvalidRequest, match="X-Aragora-Workspace"):
        await resolve(resolver, both)
    assert (await resolve(resolver, both, "v")).id == "user:ann@example.com"
    with pytest.raises(Forbidden):
        await resolve(resolver, own_token(CLOCK, "user:eve@example.com"))


async def test_a_token_can_be_restricted_to_a_workspace() -> None:
    policy = AccessPolicy(home="w", admins=frozenset({"user:ann@example.com"}))
    resolver = bearer_tokens(Tables(), policy=policy, clock=CLOCK)
    assert (await resolve(resolver, own_token(CLOCK), "v")).workspace == "v"
    with pytest.raises(Forbidden):
        await resolve(resolver, own_token(CLOCK, workspaces=["w"], grants=["viewer"]), "v")


@pytest.mark.parametrize("subject", ["key:abc", "group:ops", "user:", ":", "root:me", "user:a:b", "a:user:x"])
async def test_a_token_names_users_and_agents_only(subject: str) -> None:
    with pytest.raises(Unauthenticated):
        await resolve(bearer_tokens(Tables(), policy=_all(), clock=CLOCK), own_token(CLOCK, subject))


def _all() -> AccessPolicy:
    """Everybody who is known has a role."""
    return AccessPolicy(home="w", default_role="admin")


async def test_revoked_tokens_are_refused() -> None:
    tables = Tables()
    resolver = bearer_tokens(tables, policy=_all(), clock=CLOCK)
    token = own_token(CLOCK)
    assert await resolve(resolver, token)
    tables.revoked.add("t1")
    with pytest.raises(Unauthenticated, match="revoked"):
        await resolve(resolver, token)
    tables.revoked.clear()
    tables.since["user:ann@example.com"] = CLOCK.now()
    with pytest.raises(Unauthenticated, match="revoked"):
        await resolve(resolver, token)
    assert await resolve(resolver, own_token(CLOCK, iat=CLOCK.now()))
    assert await resolve(resolver, own_token(CLOCK, "user:bob@example.com"))


async def test_a_token_that_is_made_after_a_revocation_counts_at_once() -> None:
    tables, now, name = Tables(), CLOCK.now(), "user:ann@example.com"
    tables.since[name] = now + 0.25
    resolver = bearer_tokens(tables, policy=_all(), clock=CLOCK)

    def made(issued_at: float) -> str:
        return make_token(Claims(subject=name, issued_at=issued_at, expires_at=now + 600, jti="t2"), SECRET)

    assert (await resolve(resolver, made(now + 0.5))).id == name
    with pytest.raises(Unauthenticated, match="revoked"):
        await resolve(resolver, made(now + 0.125))


async def test_the_previous_secret_counts_until_its_end() -> None:
    clock = ManualClock()
    secrets = SharedSecrets(current=SECRET, previous=OTHER_SECRET, previous_until=clock.now() + 60)
    resolver = bearer_tokens(Tables(), policy=_all(), clock=clock, secrets=secrets)
    token = signed(claims(clock), OTHER_SECRET)
    proof, newer = await proven(resolver, token), await proven(resolver, own_token(clock))
    assert (proof.holds(), proof.ends_at()) == (True, secrets.previous_until)
    await clock.advance(60)
    with pytest.raises(Unauthenticated):
        await resolve(resolver, token)
    assert (proof.holds(), newer.holds()) == (False, True), "what was opened with it ends then too"


async def test_a_proof_holds_until_key_or_token_ends() -> None:
    clock, tables = ManualClock(), Tables()
    key = tables.add_key("k")
    resolver = bearer_tokens(tables, policy=_all(), clock=clock)
    token = own_token(clock)
    proofs = [await proven(resolver, text) for text in (key, token)]
    assert [proof.holds() for proof in proofs] == [True, True]
    tables.change_key(key, revoked_at=1.0)
    tables.revoked.add("t1")
    assert [proof.holds() for proof in proofs] == [False, False]
    tables.revoked.clear()
    await clock.advance(600 + LEEWAY_S - 1)
    late = await proven(resolver, token)
    assert proofs[1].holds(), "a new call is let in, so an open one stays"
    assert late.ends_at() > clock.now()
    await clock.advance(1)
    assert not proofs[1].holds()
    with pytest.raises(Unauthenticated, match="expired"):
        await resolve(resolver, token)


# --- another issuer ---------------------------------------------------------------------------------------------------


def _theirs(clock: Any, **more: Any) -> dict[str, Any]:
    return claims(clock, "u1", iss="https://id", aud="cp", **more)


async def test_tokens_of_an_issuer_name_verified_addresses_only() -> None:
    policy = AccessPolicy(home="w", admins=frozenset({"user:ann@example.com"}), default_role="viewer")
    async with Issuer().running() as issuer, connections() as pool:
        trusted = TrustedIssuer(
            keys=IssuerKeys(fetch_from(issuer.url, pool), time.monotonic), issuer="https://id", audience="cp"
        )
        resolver = bearer_tokens(Tables(), issuer=trusted, policy=policy, clock=CLOCK)
        ann = {"email": "Ann@Example.com", "email_verified": True}
        assert (await resolve(resolver, issuer.token(_theirs(CLOCK, **ann)))).id == "user:ann@example.com"
        for sent in (
            {**ann, "email_verified": False},
            {"sub": "ann@example.com"},
            {"sub": "user:ann@example.com"},
            {"sub": "local-admin", "grants": ["admin"]},
            {"email": "ann@example.com/x@y", "email_verified": True},
        ):
            found = await resolve(resolver, issuer.token({**_theirs(CLOCK), **sent}))
            assert found.id.startswith("user:subject/"), sent
            assert "@" not in found.id, sent
            assert "controlplane:tasks.write" not in found.permissions, sent
        for wrong in ({"iss": "aragora"}, {"aud": "aragora"}, {"aud": ["cp2"]}):
            with pytest.raises(Unauthenticated):
                await resolve(resolver, issuer.token({**_theirs(CLOCK), **wrong}))
        with pytest.raises(Unauthenticated):
            await resolve(resolver, issuer.token(_theirs(CLOCK), key="another"))


async def test_an_issuer_that_is_away_is_no_way_in() -> None:
    async with Issuer().running() as issuer, connections() as pool:
        issuer.status = 500
        trusted = TrustedIssuer(
            keys=IssuerKeys(fetch_from(issuer.url, pool), time.monotonic), issuer="https://id", audience="cp"
        )
        resolver = bearer_tokens(Tables(), issuer=trusted, policy=_all(), clock=CLOCK)
        with pytest.raises(StoreUnavailable):
            await resolve(resolver, issuer.token(_theirs(CLOCK)))


async def test_without_issuer_or_secret_their_algorithms_count_for_nothing() -> None:
    token = signed(_theirs(CLOCK), private_key("EdDSA"), "EdDSA", {"kid": "k"})
    with pytest.raises(Unauthenticated):
        await resolve(bearer_tokens(Tables(), policy=_all(), clock=CLOCK), token)
    with pytest.raises(Unauthenticated):
        await resolve(bearer_tokens(Tables(), policy=_all(), clock=CLOCK, secrets=None), own_token(CLOCK))


# --- the request ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "path", "accept", "counts"),
    [
        ("websocket", "/ws/control-plane", "", True),
        ("http", "/api/control-plane/stream", "text/event-stream", False),
        ("http", "/api/control-plane/stream", "application/json", False),
        ("http", "/api/control-plane/tasks", "text/event-stream", False),
    ],
)
async def test_a_query_holds_a_token_for_sockets_only(kind: str, path: str, accept: str, counts: bool) -> None:
    tables = Tables()
    token = tables.add_key("k")
    asked = connection(("Accept", accept), path=path, kind=kind, query=f"token={token}")
    if counts:
        assert (await bearer_tokens(tables).resolve(asked)).workspace == "w"
    else:
        with pytest.raises(Unauthenticated):
            await bearer_tokens(tables).resolve(asked)


async def test_two_tokens_are_none() -> None:
    tables = Tables()
    one, two = (("Authorization", f"Bearer {tables.add_key(name)}") for name in ("k", "l"))
    assert await bearer_tokens(tables).resolve(connection(one))
    with pytest.raises(Unauthenticated):
        await bearer_tokens(tables).resolve(connection(one, two))


async def test_uses_of_keys_are_written_together_and_never_lost() -> None:
    clock, tables = ManualClock(), Tables()
    uses = KeyUses(tables, clock)  # type: ignore[arg-type]
    running = asyncio.ensure_future(uses.run())
    await asyncio.sleep(0)
    uses.note("a", 1.0)
    uses.note("b", 2.0)
    uses.note("a", 3.0)
    tables.away = True
    await clock.advance(WRITE_S)
    assert tables.writes == []
    tables.away = False
    uses.note("b", 4.0)
    await clock.advance(WRITE_S)
    await eventually(lambda: tables.writes == [[("a", 3.0), ("b", 4.0)]])
    await clock.advance(WRITE_S)
    assert len(tables.writes) == 1
    running.cancel()


# --- fuzz -------------------------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_NAMES = st.sampled_from(["alg", "typ", "kid", "crit", "jku", "jwk", "b64", "x5u", "zip", "enc"])
_CLAIM = st.sampled_from(["sub", "iat", "exp", "nbf", "iss", "aud", "jti", "groups", "email", "email_verified"])
_ALGORITHMS = st.sampled_from(["HS256", "none", "RS256", "ES256", "EdDSA", "HS512", "Ed25519", ""])


@st.composite
def _tokens(draw: st.DrawFn) -> str:
    """Tokens of any form, signed with a secret that is not ours, or not signed at all."""
    header = {"alg": draw(_ALGORITHMS), **draw(st.dictionaries(_NAMES, _JSON, max_size=3))}
    content = {**claims(CLOCK), **draw(st.dictionaries(_CLAIM, _JSON, max_size=4))}
    token = signed_text(json.dumps(header), json.dumps(content), OTHER_SECRET)
    return token if draw(st.booleans()) else token.rpartition(".")[0] + "."


_HEADER_TEXT = st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=200)
_SENT = st.one_of(
    _HEADER_TEXT,
    _HEADER_TEXT.map(lambda text: f"Bearer {text}"),
    _HEADER_TEXT.map(lambda text: f"Bearer ara_{text}"),
    _tokens().map(lambda token: f"Bearer {token}"),
    st.binary(max_size=60).map(lambda content: f"Bearer ara_{content.hex()[:26]}_{content.hex()[26:58]}"),
)


@settings(max_examples=200)
@given(st.lists(_SENT, max_size=2), st.lists(_HEADER_TEXT, max_size=2), st.sampled_from(["http", "websocket"]))
@example(["Bearer " + "a" * 100_000], [], "http")
def test_whatever_is_sent_is_refused_as_the_callers_fault(sent: list[str], named: list[str], kind: str) -> None:
    tables = Tables()
    tables.add_key("k", workspaces=("*",))
    resolver = bearer_tokens(tables, policy=_all(), clock=CLOCK)
    asked = connection(
        *(("Authorization", text) for text in sent), *(("X-Aragora-Workspace", text) for text in named), kind=kind
    )
    with pytest.raises(CallerError):
        asyncio.run(resolver.resolve(asked))


@settings(max_examples=150)
@given(st.lists(_HEADER_TEXT, min_size=1, max_size=2))
def test_a_workspace_that_is_sent_is_one_or_is_refused(named: list[str]) -> None:
    tables = Tables()
    token = tables.add_key("k", workspaces=("w",))
    asked = connection(("Authorization", f"Bearer {token}"), *(("X-Aragora-Workspace", text) for text in named))
    try:
        assert asyncio.run(bearer_tokens(tables).resolve(asked)).workspace == "w"
        assert named == ["w"]
    except CallerError:
        pass
