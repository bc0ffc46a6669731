"""Tokens by RFC 8725: which count, and that nothing else does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import get_default_algorithms

from cluster.domain.access.token_keys import Algorithm, KeySet, TokenKey, read_keys, secret_key
from cluster.domain.access.tokens import LEEWAY_S, OWN, Claims, TokenRules, claims_of, make_token, read_token
from cluster.domain.base.errors import InvalidRequest, Unauthenticated
from tests.support.tokens import (
    OTHER_SECRET,
    SECRET,
    encoded,
    jwk,
    key_set,
    private_key,
    signed,
    signed_text,
)

NOW = 1_000_000.0
OURS = TokenRules(issuers=frozenset({OWN}), audiences=frozenset({OWN}), life_s=3600.0, strict=False)
THEIRS = TokenRules(issuers=frozenset({"https://id"}), audiences=frozenset({"cp"}), life_s=3600.0, strict=True)
CLAIMS = {"sub": "user:ann@example.com", "iat": NOW - 10, "exp": NOW + 600}
FOREIGN = {**CLAIMS, "iss": "https://id", "aud": "cp"}


def _claims(token: str, *keys: TokenKey, rules: TokenRules = OURS, now: float = NOW) -> Claims:
    return claims_of(read_token(token), keys or (secret_key(SECRET),), rules, now)


def _refused(token: str, *keys: TokenKey, rules: TokenRules = OURS, now: float = NOW) -> None:
    with pytest.raises(Unauthenticated):
        _claims(token, *keys, rules=rules, now=now)


def _without(name: str, claims: dict[str, Any] = CLAIMS) -> dict[str, Any]:
    return {key: value for key, value in claims.items() if key != name}


def test_what_we_make_says_what_was_put_in() -> None:
    claims = Claims(
        subject="user:ann@example.com",
        issued_at=NOW,
        expires_at=NOW + 60,
        jti="t1",
        groups=("ops",),
        workspaces=("w",),
        grants=("viewer",),
    )
    assert _claims(make_token(claims, SECRET)) == claims


def test_another_implementation_takes_what_we_make_and_the_reverse() -> None:
    import jwt

    ours = make_token(Claims(subject="user:a", issued_at=NOW, expires_at=2**31, jti="t"), SECRET)
    assert jwt.decode(ours, SECRET, algorithms=["HS256"], audience=OWN, issuer=OWN)["sub"] == "user:a"
    assert _claims(jwt.encode(CLAIMS, SECRET, algorithm="HS256")).subject == "user:ann@example.com"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_every_published_algorithm_counts(algorithm: str) -> None:
    keys = read_keys(key_set(jwk(algorithm, "k")))
    token = read_token(signed(FOREIGN, private_key(algorithm), algorithm, {"kid": "k"}))
    key = keys.find(token.algorithm, token.kid)
    assert key is not None
    assert claims_of(token, [key], THEIRS, NOW).subject == CLAIMS["sub"]


def test_the_newer_name_of_eddsa_counts() -> None:
    keys = read_keys(key_set(jwk("EdDSA", "k", alg="Ed25519")))
    token = read_token(signed(FOREIGN, private_key("EdDSA"), "EdDSA", {"kid": "k", "alg": "Ed25519"}))
    assert claims_of(token, keys.named.values(), THEIRS, NOW).subject == CLAIMS["sub"]


def test_the_previous_secret_counts_beside_the_current_one() -> None:
    both = (secret_key(SECRET), secret_key(OTHER_SECRET))
    assert _claims(signed(CLAIMS, OTHER_SECRET), *both).subject == CLAIMS["sub"]
    _refused(signed(CLAIMS, OTHER_SECRET), secret_key(SECRET))


# --- algorithms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", None, 5, ["HS256"], "HS384", "PS256", "hs256"])
def test_other_algorithms_are_refused(name: Any) -> None:
    header = json.dumps({"alg": name, "typ": "JWT"})
    _refused(signed_text(header, json.dumps(CLAIMS)))
    _refused(f"{encoded(header.encode())}.{encoded(json.dumps(CLAIMS).encode())}.")


def test_a_public_key_is_no_shared_secret() -> None:
    """The confusion of 2015: HS256 with the bytes of the published RSA key as the secret."""
    public = private_key("RS256").public_key()
    (key,) = read_keys(key_set(jwk("RS256", "k"))).named.values()
    for form in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1):
        for encoding in (Encoding.PEM, Encoding.DER):
            _refused(signed(FOREIGN, public.public_bytes(encoding, form), header={"kid": "k"}), key, rules=THEIRS)


@pytest.mark.parametrize("named", ["RS256", "ES256", "EdDSA", "HS256"])
def test_a_key_is_used_with_its_own_algorithm_only(named: str) -> None:
    """Also when the token names the key and another algorithm."""
    keys = read_keys(key_set(*(jwk(algorithm, algorithm) for algorithm in ("RS256", "ES256", "EdDSA"))))
    for algorithm in {"RS256", "ES256", "EdDSA"} - {named}:
        token = signed(FOREIGN, private_key(algorithm), algorithm, {"alg": named, "kid": algorithm})
        assert keys.find(Algorithm(named), algorithm) is None
        _refused(token, *keys.named.values(), secret_key(SECRET), rules=THEIRS)


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": ["unknown"], "unknown": 1},
        {"b64": False},
        {"typ": "logout+jwt"},
        {"typ": "dpop+jwt"},
        {"typ": ""},
        {"typ": 5},
        {"kid": 5},
        {"kid": "k" * 300},
    ],
    ids=str,
)
def test_headers_that_ask_for_something_else_are_refused(header: dict[str, Any]) -> None:
    _refused(signed(CLAIMS, header=header))


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt", None])
def test_types_of_access_tokens_count(kind: str | None) -> None:
    assert _claims(signed(CLAIMS, header={"typ": kind})).subject == CLAIMS["sub"]


def test_a_token_does_not_bring_its_own_key() -> None:
    """``jku``, ``x5u``, ``jwk`` and ``x5c`` are neither read nor an error (RFC 7515: ignored if not understood)."""
    brought = {"jku": "http://127.0.0.1:1/k", "x5u": "http://127.0.0.1:1/x", "jwk": jwk("EdDSA", "mine", "mine")}
    (key,) = read_keys(key_set(jwk("EdDSA", "k"))).named.values()
    _refused(signed(FOREIGN, private_key("EdDSA", "mine"), "EdDSA", {"kid": "k", **brought}), key, rules=THEIRS)
    assert _claims(signed(CLAIMS, header={**brought, "x5c": ["x"], "odd": 1})).subject == CLAIMS["sub"]


@pytest.mark.parametrize("kid", ["../../etc/passwd", "k' or '1'='1", "http://127.0.0.1/", "\x00", "K", "k "])
def test_the_name_of_a_key_is_only_a_name(kid: str) -> None:
    assert read_keys(key_set(jwk("EdDSA", "k"))).find(Algorithm.EDDSA, kid) is None


def test_without_a_name_the_only_key_of_the_algorithm_is_used() -> None:
    one = read_keys(key_set(jwk("EdDSA", None), jwk("ES256", "e")))
    assert one.find(Algorithm.EDDSA, None) is not None
    assert read_keys(key_set(jwk("EdDSA", None), jwk("EdDSA", "b", "b"))).find(Algorithm.EDDSA, None) is None


# --- claims ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sub", "iat", "exp"])
def test_our_tokens_need_subject_and_times(name: str) -> None:
    _refused(signed(_without(name)))


@pytest.mark.parametrize("name", ["sub", "iat", "exp", "iss", "aud"])
def test_tokens_of_an_issuer_need_issuer_and_audience_too(name: str) -> None:
    (key,) = read_keys(key_set(jwk("EdDSA", "k"))).named.values()
    assert _claims(signed(FOREIGN, private_key("EdDSA"), "EdDSA"), key, rules=THEIRS)
    _refused(signed(_without(name, FOREIGN), private_key("EdDSA"), "EdDSA"), key, rules=THEIRS)


@pytest.mark.parametrize(
    "change",
    [
        {"exp": NOW - LEEWAY_S},
        {"iat": NOW + LEEWAY_S + 1},
        {"nbf": NOW + LEEWAY_S + 1},
        {"exp": CLAIMS["iat"]},
        {"exp": CLAIMS["iat"] + 3601},
        {"exp": 2**60},
        {"exp": -1},
        {"exp": True},
        {"exp": str(NOW + 60)},
        {"exp": [NOW + 60]},
        {"exp": None},
        {"iat": None},
        {"nbf": "soon"},
        {"sub": ""},
        {"sub": None},
        {"sub": 5},
        {"sub": "a\x00b"},
        {"sub": "a\nb"},
        {"sub": "\ud800"},
        {"sub": "a" * 300},
        {"jti": 5},
        {"jti": ""},
        {"iss": "https://elsewhere"},
        {"iss": 5},
        {"iss": [OWN]},
        {"aud": "elsewhere"},
        {"aud": []},
        {"aud": [OWN, 5]},
        {"aud": {"aragora": 1}},
        {"groups": "ops"},
        {"groups": ["g"] * 300},
        {"groups": [5]},
        {"workspaces": {"w": 1}},
    ],
    ids=lambda change: str(change)[:60],
)
def test_claims_that_do_not_hold_are_refused(change: dict[str, Any]) -> None:
    _refused(signed({**CLAIMS, **change}))


def test_clocks_may_differ_by_the_leeway_and_no_more() -> None:
    assert LEEWAY_S <= 60
    token = signed(CLAIMS)
    expires_at = float(CLAIMS["exp"])
    assert _claims(token, now=expires_at + LEEWAY_S - 1)
    with pytest.raises(Unauthenticated, match="expired"):
        _claims(token, now=expires_at + LEEWAY_S)
    assert _claims(token, now=NOW - 10 - LEEWAY_S)
    _refused(token, now=NOW - 11 - LEEWAY_S)


@pytest.mark.parametrize("verified", [False, None, "true", 1])
def test_an_email_that_is_not_verified_is_not_read(verified: Any) -> None:
    (key,) = read_keys(key_set(jwk("EdDSA", "k"))).named.values()
    for said, email in ((verified, None), (True, "ann@example.com")):
        token = signed({**FOREIGN, "email": "ann@example.com", "email_verified": said}, private_key("EdDSA"), "EdDSA")
        assert _claims(token, key, rules=THEIRS).email == email


def test_another_issuer_grants_nothing_by_itself() -> None:
    (key,) = read_keys(key_set(jwk("EdDSA", "k"))).named.values()
    token = signed({**FOREIGN, "workspaces": ["*"], "grants": ["admin"]}, private_key("EdDSA"), "EdDSA")
    claims = _claims(token, key, rules=THEIRS)
    assert (claims.workspaces, claims.grants) == ((), ())


# --- form -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        ('{"alg":"HS256","alg":"none"}', json.dumps(CLAIMS)),
        ('{"alg":"HS256"}', json.dumps(CLAIMS)[:-1] + ', "sub": "user:root"}'),
        ('{"alg":"HS256"}', json.dumps(CLAIMS)[:-1] + ', "x": {"a": 1, "a": 2}}'),
        ('{"alg":"HS256"}', json.dumps(CLAIMS) + "x"),
        ('{"alg":"HS256"}', json.dumps(CLAIMS)[:-1]),
        ('{"alg":"HS256"} {}', json.dumps(CLAIMS)),
        ('["HS256"]', json.dumps(CLAIMS)),
        ('{"alg":"HS256"}', "[]"),
        ('{"alg":"HS256"}', "null"),
        ('{"alg":"HS256"}', '{"sub":"a","iat":1000000,"exp":NaN}'),
        ('{"alg":"HS256"}', json.dumps(CLAIMS)[:-1] + ', "x": NaN}'),
        ('{"alg":"HS256"}', '{"sub":"a","iat":1000000,"exp":1e999}'),
        ('{"alg":"HS256"}', '{"sub":"a","iat":1000000,"exp":' + "9" * 5000 + "}"),
        ('{"alg":"HS256","x":' + "[" * 3000 + "]" * 3000 + "}", json.dumps(CLAIMS)),
        ('{"alg":"HS256"}', '{"x":' + "[" * 2900 + "]" * 2900 + "}"),
        ('{"alg":"HS256","x":"' + "y" * 9000 + '"}', json.dumps(CLAIMS)),
        ("", ""),
    ],
    ids=lambda text: text[:40],
)
def test_json_that_parsers_read_differently_is_refused(header: str, payload: str) -> None:
    _refused(signed_text(header, payload))


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b", "a.b.c.d", "a.b.c=", "a b.c.d", "é.b.c", "a.b.c\n", "x" * 9000]
)
def test_what_is_no_token_is_refused(token: str) -> None:
    _refused(token)


@settings(max_examples=150)
@given(st.data())
def test_a_changed_token_never_counts(data: st.DataObject) -> None:
    """One character of a valid token is changed; what a decoder would ignore (the last bits) is left out."""
    token = signed(CLAIMS)
    index = data.draw(st.integers(0, len(token) - 1).filter(lambda at: token[at] != "." and at not in _ends(token)))
    other = data.draw(st.sampled_from("ABCDEFabcdef0123456789-_.").filter(lambda letter: letter != token[index]))
    _refused(token[:index] + other + token[index + 1 :])


def _ends(token: str) -> set[int]:
    ends = [at for at, letter in enumerate(token + ".") if letter == "."]
    return {at - 1 for at in ends}


@settings(max_examples=150)
@given(st.sampled_from([*Algorithm]), st.binary(max_size=300))
def test_no_signature_of_odd_bytes_counts_or_raises(algorithm: Algorithm, signature: bytes) -> None:
    head = encoded(json.dumps({"alg": algorithm.value}).encode()) + "." + encoded(json.dumps(FOREIGN).encode())
    keys = [secret_key(SECRET), *_ALL.named.values()]
    if signature:
        _refused(f"{head}.{encoded(signature)}", *keys, rules=THEIRS)


_ALL = read_keys(key_set(*(jwk(algorithm, algorithm) for algorithm in ("RS256", "ES256", "EdDSA"))))


# --- key sets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "AAAA"},
        {"kty": "RSA"},
        {"kty": "RSA", "n": 5, "e": "AQAB"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
        {"kty": "OKP", "crv": "Ed25519", "x": None},
        {"kty": ["RSA"]},
        {"kty": "EC", "crv": {}},
        {},
        5,
        jwk("ES256", "k", use="enc"),
        jwk("ES256", "k", alg="HS256"),
        jwk("RS256", "k", alg="PS256"),
        jwk("EdDSA", "k", d="AAAA"),
        json.loads(get_default_algorithms()["EdDSA"].to_jwk(private_key("EdDSA"))),
        json.loads(get_default_algorithms()["RS256"].to_jwk(rsa.generate_private_key(65537, 1024).public_key())),
        json.loads(get_default_algorithms()["ES512"].to_jwk(ec.generate_private_key(ec.SECP521R1()).public_key())),
        json.loads(get_default_algorithms()["EdDSA"].to_jwk(ed448.Ed448PrivateKey.generate().public_key())),
    ],
    ids=lambda entry: type(entry).__name__,  # keys are drawn anew in each process
)
def test_keys_that_cannot_be_used_are_left_out(entry: Any) -> None:
    found = read_keys(key_set(entry, jwk("EdDSA", "good")))
    assert set(found.named) == {"good"}
    assert found.unnamed == ()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"keys": {}}', b"\xff", b"[" * 100_000, b'{"keys": null}'])
def test_a_document_that_is_no_key_set_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_keys(content)


def test_keys_are_not_shown() -> None:
    assert SECRET.decode() not in repr(secret_key(SECRET))
    assert SECRET.decode() not in repr(KeySet({"k": secret_key(SECRET)}))
