"""Settings: one sentence for a bad value, the nearest name for an unknown one, a private file, every promised variable."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cluster.settings import Settings, SettingsError, load_settings, unknown_names, variable_name

GUIDE = Path(__file__).resolve().parents[3] / "shared" / "guide.md"
GUIDE_TEXT = GUIDE.read_text() if GUIDE.exists() else None
VARIABLES = {variable_name(name, info) for name, info in Settings.model_fields.items()}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ARAGORA_HTTP_PORT", "eighty"),
        ("ARAGORA_HTTP_PORT", "70000"),
        ("ARAGORA_HEARTBEAT_TIMEOUT", "0"),
        ("ARAGORA_HEARTBEAT_TIMEOUT", "nan"),
        ("ARAGORA_MAX_TASK_RETRIES", "-1"),
        ("ARAGORA_LOG_LEVEL", "loud"),
        ("ARAGORA_ENABLE_METRICS", "perhaps"),
        ("ARAGORA_ALLOWED_NETWORKS", "10.0.0.0/8,here"),
        ("ARAGORA_DATABASE_SCHEMA", "Robert'); drop table"),
        ("ARAGORA_DEPLOYMENT_ID", "Ä"),
        ("ARAGORA_WORKSPACE", "a b"),
    ],
)
def test_a_bad_value_is_one_sentence_that_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({name: value})
    sentence = str(refused.value)
    assert sentence.startswith(f"{name}=")
    assert value in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


STORES = ("ARAGORA_DATABASE_URL", "ARAGORA_REDIS_URL")


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("mysql://u:sesame@h/x", "its scheme is mysql, but it must begin with "),
        ("sqlite:///x.db", "its scheme is sqlite"),
        ("http://h", "its scheme is http"),
        ("postgresql+asyncpg://h/x", "its scheme is postgresql+asyncpg"),
        ("u:sesame@h/db", "it has no scheme; it must begin with "),
        ("localhost:5432", "it has no scheme"),
        ("postgres:/h/x", "it has no scheme"),
        ("SCHEME://u:p@localhost:x/0", "its port is not a number from 1 to 65535"),
        ("SCHEME://u:p@localhost:99999/0", "its port is not a number"),
        ("SCHEME://u:p@localhost:0/0", "its port is not a number"),
        ("SCHEME://u:p@localhost:/0", "its port is not a number"),
        ("SCHEME://u:sesame/open@h/0", "its port is not a number from 1 to 65535; write characters like @ : / # ?"),
        ("SCHEME://[::1/0", "it cannot be parsed"),
        ("SCHEME://", "it names no host"),
    ],
)
def test_a_wrong_url_of_a_store_says_what_is_wrong(name: str, value: str, said: str) -> None:
    scheme = "postgresql" if name == STORES[0] else "redis"
    with pytest.raises(SettingsError) as refused:
        load_settings({name: value.replace("SCHEME", scheme)})
    assert str(refused.value).startswith(f"{name}=*** is not accepted: ")
    assert said in str(refused.value)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ARAGORA_DATABASE_URL", "postgres://h/x"),
        ("ARAGORA_DATABASE_URL", "postgresql://u:p%40@h1:1,h2:65535/x?target_session_attrs=primary"),
        ("ARAGORA_DATABASE_URL", "postgresql://u:p@/x?host=/run/pg&port=5432"),
        ("ARAGORA_DATABASE_URL", "postgresql://[::1]:5432/x"),
        ("ARAGORA_REDIS_URL", "rediss://:p@h:6380/1"),
        ("ARAGORA_REDIS_URL", "redis://[fe80::1]"),
        ("ARAGORA_REDIS_URL", "unix://:p@/run/r.sock?db=0"),
        ("ARAGORA_API_URL", "https://h:8443/prefix"),
    ],
)
def test_urls_in_all_their_forms_are_taken(name: str, value: str) -> None:
    load_settings({name: value})


@given(
    st.sampled_from(STORES), st.text(alphabet="@:/#?[]%,xyz0 ", min_size=1, max_size=12), st.sampled_from(["", ":7"])
)
def test_a_password_that_is_not_encoded_is_never_shown(name: str, noise: str, port: str) -> None:
    scheme = "postgresql" if name == STORES[0] else "redis"
    said = ""
    try:
        load_settings({name: f"{scheme}://user:{noise}sesame{noise}@host{port}/x"})
    except SettingsError as refused:
        said = str(refused)
    assert "sesame" not in said


@pytest.mark.parametrize("name", ["ARAGORA_API_URL", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"])
@pytest.mark.parametrize("value", ["localhost:8080", "127.0.0.1", "ftp://h", "http://h:port", "http://"])
def test_a_url_without_scheme_or_host_says_so(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}='{value}' is not accepted: it"):
        load_settings({name: value})


def test_a_secret_is_never_shown() -> None:
    settings = load_settings({"ARAGORA_DATABASE_URL": "postgresql://u:hunter2@h/d", "OPENAI_API_KEY": "sk-hunter2"})
    assert "hunter2" not in repr(settings) + str(settings)
    assert "hunter2" not in settings.model_dump_json()


def test_the_environment_wins_over_the_file_and_empty_is_unset(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"ARAGORA_HTTP_PORT": "1234", "ARAGORA_REGION": "eu", "OPENAI_API_KEY": "k"}))
    file.chmod(0o600)
    settings = load_settings({"ARAGORA_CONFIG_FILE": str(file), "ARAGORA_HTTP_PORT": "99", "ARAGORA_REGION": ""})
    assert (settings.http_port, settings.region) == (99, "eu")
    assert settings.openai_api_key is not None
    assert settings.openai_api_key.get_secret_value() == "k"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "config.json"
    file.write_text("{}")
    file.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        load_settings({"ARAGORA_CONFIG_FILE": str(file)})


@pytest.mark.parametrize("content", ["", "[]", '{"ARAGORA_HTTP_PORT": 1}', "{", "\xff"])
def test_a_file_of_another_shape_is_one_sentence(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(content.encode("latin-1"))
    file.chmod(0o600)
    with pytest.raises(SettingsError, match=r"^ARAGORA_CONFIG_FILE .*\.$"):
        load_settings({"ARAGORA_CONFIG_FILE": str(file)})
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings({"ARAGORA_CONFIG_FILE": str(tmp_path / "absent")})


values = st.fixed_dictionaries(
    {},
    optional={
        "ARAGORA_DATABASE_URL": st.just("postgresql://u:p@h/d"),
        "ARAGORA_HTTP_PORT": st.integers(1, 65_535).map(str),
        "ARAGORA_HEARTBEAT_TIMEOUT": st.floats(0.1, 1e6).map(str),
        "ARAGORA_ENABLE_METRICS": st.sampled_from(["true", "false", "1", "0"]),
        "ARAGORA_CORS_ORIGINS": st.sampled_from(["*", "https://a.example", "https://a.example, https://b.example"]),
        "ARAGORA_LOG_LEVEL": st.sampled_from(["info", "WARNING", "Debug"]),
        "ARAGORA_DATA_DIR": st.just("/tmp/somewhere else"),
        "OPENAI_API_KEY": st.just("sk-1"),
    },
)


@given(values)
def test_a_written_file_reads_back_as_the_same_settings(
    tmp_path_factory: pytest.TempPathFactory, given: dict[str, str]
) -> None:
    settings = load_settings(given)
    file = tmp_path_factory.mktemp("s") / "config.json"
    settings.to_config_file(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = load_settings({"ARAGORA_CONFIG_FILE": str(file)})
    assert (again, again.fingerprint()) == (settings, settings.fingerprint())


def test_the_fingerprint_follows_only_settings_that_actors_use() -> None:
    base = load_settings({})
    assert load_settings({"ARAGORA_HEARTBEAT_TIMEOUT": "31"}).fingerprint() != base.fingerprint()
    assert load_settings({"OPENAI_API_KEY": "k"}).fingerprint() != base.fingerprint()
    for name, value in (("ARAGORA_API_URL", "http://x"), ("ARAGORA_API_KEY", "k"), ("ARAGORA_DATA_DIR", "/x")):
        assert load_settings({name: value}).fingerprint() == base.fingerprint()


def test_an_unknown_name_is_warned_about_with_the_nearest_one() -> None:
    environ = {"ARAGORA_HEARTBEAT_TIMEOUTS": "1", "ARAGORA_ZZZ": "1", "PATH": "x", "ARAGORA_TIMEOUT": "30"}
    near, far = unknown_names(environ)
    assert near == "ARAGORA_HEARTBEAT_TIMEOUTS is not a setting; did you mean ARAGORA_HEARTBEAT_TIMEOUT?"
    assert far.startswith("ARAGORA_ZZZ is not a setting")
    assert unknown_names(dict.fromkeys(VARIABLES, "x")) == []


def test_an_unknown_name_of_the_file_is_warned_about_too(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"ARAGORA_HTTP_PROT": "1", "OPENAI_API_KEYS": "k", "ARAGORA_HTTP_PORT": "2"}))
    file.chmod(0o600)
    assert unknown_names({"ARAGORA_CONFIG_FILE": str(file)}) == [
        f"ARAGORA_HTTP_PROT (in {file}) is not a setting; did you mean ARAGORA_HTTP_PORT?",
        f"OPENAI_API_KEYS (in {file}) is not a setting; did you mean OPENAI_API_KEY?",
    ]


@pytest.mark.parametrize("odd", [8080, None, True, ["x"]])
def test_a_value_of_the_file_that_is_no_string_is_named(tmp_path: Path, odd: object) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"ARAGORA_REGION": "r", "ARAGORA_HTTP_PORT": odd}))
    file.chmod(0o600)
    with pytest.raises(SettingsError, match=r"put the value of ARAGORA_HTTP_PORT in quotes\.$"):
        load_settings({"ARAGORA_CONFIG_FILE": str(file)})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings({}).http_port = 1  # type: ignore[misc]


def test_every_field_is_described() -> None:
    for name, info in Settings.model_fields.items():
        assert info.description, name
        assert isinstance(info.json_schema_extra, dict), name
        assert info.json_schema_extra["group"], name


@pytest.mark.skipif(GUIDE_TEXT is None, reason="the deployment guide is not beside this checkout")
def test_every_variable_of_the_guide_is_a_setting() -> None:
    named = set(re.findall(r"ARAGORA_[A-Z][A-Z_]*[A-Z]", GUIDE_TEXT or ""))
    assert len(named) > 30
    assert named - VARIABLES == set()


def _environments_of_the_guide() -> tuple[dict[str, str], dict[str, str]]:
    """What the compose file and the Deployment give the control plane; the URLs that a Secret has are the compose file's."""
    blocks = re.findall(r"(?ms)^```yaml\n# (\S+)\n(.*?)^```", GUIDE_TEXT or "")
    files = {name: list(yaml.safe_load_all(block)) for name, block in blocks if "control-plane" in name}
    compose = files["docker-compose.control-plane.yml"][0]["services"]["control-plane"]["environment"]
    pod = files["control-plane-deployment.yaml"][0]["spec"]["template"]["spec"]
    entries = pod["containers"][0]["env"]
    return compose, {entry["name"]: entry.get("value", compose[entry["name"]]) for entry in entries}


@pytest.mark.skipif(GUIDE_TEXT is None, reason="the deployment guide is not beside this checkout")
def test_the_guides_compose_file_and_manifest_are_accepted_as_printed() -> None:
    """tests/e2e/test_guide_stack.py starts the compose file's; the manifest's has nothing that it has not."""
    compose, manifest = _environments_of_the_guide()
    assert {"ARAGORA_DATABASE_URL", "ARAGORA_REDIS_URL"} <= set(manifest)
    assert manifest.items() <= compose.items()
    for environment in (compose, manifest):
        settings = load_settings(environment)
        assert unknown_names(environment) == []
        assert settings.database_url is not None
        assert settings.database_url.get_secret_value() == compose["ARAGORA_DATABASE_URL"]


# --- security ---------------------------------------------------------------------------------------------------------

GOOD = "Zx81kqPw0mVbN7tYc3RsLd9fGh2jQe5u"
LATER_ON = "2030-01-01T00:00:00Z"
TLS = {"ARAGORA_TLS_ENABLED": "true", "ARAGORA_TLS_CERT_FILE": "/c", "ARAGORA_TLS_KEY_FILE": "/k"}
OAUTH = {"ARAGORA_OAUTH_ENABLED": "true", "ARAGORA_OAUTH_CLIENT_ID": "c1"}


@pytest.mark.parametrize("name", ["ARAGORA_JWT_SECRET", "ARAGORA_JWT_SECRET_PREVIOUS"])
@pytest.mark.parametrize("secret", ["your-256-bit-secret", "short", "a" * 64])
def test_a_weak_secret_stops_the_start_and_is_not_quoted(name: str, secret: str) -> None:
    others = {"ARAGORA_JWT_SECRET_PREVIOUS_UNTIL": LATER_ON} if name.endswith("PREVIOUS") else {}
    with pytest.raises(SettingsError, match="secrets generate") as refused:
        load_settings({name: secret, **others})
    assert secret not in str(refused.value)
    assert load_settings({name: GOOD, **others})


@pytest.mark.parametrize(
    "environment",
    [
        {"ARAGORA_JWT_SECRET_PREVIOUS": GOOD},
        {"ARAGORA_JWT_SECRET_PREVIOUS_UNTIL": LATER_ON},
        {"ARAGORA_JWT_SECRET_PREVIOUS": GOOD, "ARAGORA_JWT_SECRET_PREVIOUS_UNTIL": "2030-01-01T00:00:00"},
        {"ARAGORA_JWT_JWKS_URL": "https://id/keys"},
        {"ARAGORA_JWT_JWKS_URL": "https://id/keys", "ARAGORA_JWT_ISSUER": "https://id"},
        {"ARAGORA_JWT_ISSUER": "https://id", "ARAGORA_JWT_AUDIENCE": "cp"},
        {"ARAGORA_JWT_JWKS_URL": "http://id/keys", "ARAGORA_JWT_ISSUER": "https://id", "ARAGORA_JWT_AUDIENCE": "cp"},
        {"ARAGORA_JWT_EXPIRY": "99999999"},
        {"ARAGORA_SECRETS_KEY": "c2hvcnQ="},
        {"ARAGORA_SECRETS_KEY_PREVIOUS": "b29vb29vb29vb29vb29vb29vb29vb29vb29vb29vb28="},
        {"ARAGORA_ADMIN_USERS": "ann"},
        {"ARAGORA_RBAC_DEFAULT_ROLE": "king"},
        {"ARAGORA_OAUTH_ENABLED": "true"},
        {**OAUTH, "ARAGORA_AUTH_ENABLED": "false"},
        {**OAUTH, "ARAGORA_HTTP_HOST": "0.0.0.0"},
        {**OAUTH, "ARAGORA_PUBLIC_URL": "http://control.example.com"},
        {**OAUTH, "ARAGORA_OAUTH_PROVIDER": "http://id.example.com"},
        {**OAUTH, "ARAGORA_OAUTH_PROVIDER": "https://user@id.example.com"},
        {**OAUTH, "ARAGORA_OAUTH_PROVIDER": "https://id.example.com?x=1"},
        {**OAUTH, "ARAGORA_OAUTH_PROVIDER": "okta"},
        {**OAUTH, "ARAGORA_OAUTH_CLIENT_SECRET": "your-client-secret"},
        {**OAUTH, "ARAGORA_OAUTH_GROUP_ROLES": "builders=king"},
        {**OAUTH, "ARAGORA_OAUTH_GROUP_ROLES": "builders"},
        {**OAUTH, "ARAGORA_OAUTH_ALLOWED_DOMAINS": "@example.com"},
        {**OAUTH, "ARAGORA_OAUTH_SCOPES": "open id"},
        {**OAUTH, "ARAGORA_OAUTH_SESSION_LIFE": "31536000"},
        {"ARAGORA_TLS_ENABLED": "true"},
        {"ARAGORA_TLS_ENABLED": "true", "ARAGORA_TLS_CERT_FILE": "/c"},
        {"ARAGORA_TLS_ENABLED": "true", "ARAGORA_TLS_KEY_FILE": "/k"},
        {"ARAGORA_TLS_CERT_FILE": "/c", "ARAGORA_TLS_KEY_FILE": "/k"},
        {"ARAGORA_TLS_CA_FILE": "/a"},
        {**TLS, "ARAGORA_TLS_CA_FILE": "/a", "ARAGORA_AUTH_ENABLED": "false"},
        {**TLS, "ARAGORA_TLS_TRUST_DOMAIN": "A/b"},
        {"ARAGORA_CLIENT_KEY_FILE": "/k"},
    ],
    ids=str,
)
def test_security_that_would_only_pretend_stops_the_start(environment: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(environment)
    assert str(refused.value).startswith("ARAGORA_")
    assert GOOD not in str(refused.value)


@pytest.mark.parametrize(
    "environment",
    [
        OAUTH,
        {**OAUTH, "ARAGORA_OAUTH_PROVIDER": "http://127.0.0.1:3000/realm"},
        {**OAUTH, "ARAGORA_HTTP_HOST": "0.0.0.0", "ARAGORA_PUBLIC_URL": "https://control.example.com/"},
        {**OAUTH, "ARAGORA_PUBLIC_URL": "http://localhost:9000", "ARAGORA_OAUTH_SCOPES": "email,groups"},
        {
            **OAUTH,
            "ARAGORA_OAUTH_GROUP_ROLES": "cn=ops=auditor,b=operator",
            "ARAGORA_OAUTH_ALLOWED_DOMAINS": "Example.com",
        },
    ],
    ids=str,
)
def test_logins_that_are_safe_start(environment: dict[str, str]) -> None:
    found = load_settings(environment)
    assert found.oauth_scopes[0] == "openid"
    assert not found.public_origin().endswith("/")
    assert all(domain == "example.com" for domain in found.oauth_allowed_domains)


def test_settings_of_security_survive_the_file(tmp_path: Path) -> None:
    environment = {
        "ARAGORA_AUTH_ENABLED": "false",
        "ARAGORA_JWT_SECRET": GOOD,
        "ARAGORA_JWT_SECRET_PREVIOUS": GOOD[::-1],
        "ARAGORA_JWT_SECRET_PREVIOUS_UNTIL": LATER_ON,
        "ARAGORA_ADMIN_USERS": "Ann@Example.com,bob@example.com",
    }
    found = load_settings(environment)
    found.to_config_file(tmp_path / "config.json")
    again = load_settings({"ARAGORA_CONFIG_FILE": str(tmp_path / "config.json")})
    assert (again, again.fingerprint()) == (found, found.fingerprint())
    assert found.admin_users == ("ann@example.com", "bob@example.com")
    assert GOOD not in repr(found)


@pytest.mark.parametrize(
    ("variable", "value", "found"),
    [
        (
            "ARAGORA_TRUSTED_PROXIES",
            "10.0.0.0/8, 2001:db8::/32,192.0.2.7",
            ("10.0.0.0/8", "2001:db8::/32", "192.0.2.7"),
        ),
        ("ARAGORA_TRUSTED_PROXIES", "0.0.0.0/0", None),
        ("ARAGORA_TRUSTED_PROXIES", "10.0.0.0/8,::/0", None),
        ("ARAGORA_TRUSTED_PROXIES", "10.0.0.1/8", None),
        ("ARAGORA_TRUSTED_PROXIES", "*", None),
        ("ARAGORA_TRUSTED_PROXIES", "ingress.example", None),
        ("ARAGORA_PUBLIC_URL", "https://cp.example:8443/", "https://cp.example:8443"),
        ("ARAGORA_PUBLIC_URL", "http://[::1]:8080", "http://[::1]:8080"),
        ("ARAGORA_PUBLIC_URL", "cp.example", None),
        ("ARAGORA_PUBLIC_URL", "ftp://cp.example", None),
        ("ARAGORA_PUBLIC_URL", "https://cp.example/prefix", None),
        ("ARAGORA_PUBLIC_URL", "https://cp.example?x", None),
        ("ARAGORA_PUBLIC_URL", "https://user:pass@cp.example", None),
        ("ARAGORA_PUBLIC_URL", "https://cp.example:99999", None),
        ("ARAGORA_CORS_ORIGINS", "*", ("*",)),
        ("ARAGORA_CORS_ORIGINS", "https://A.example/,app://x", ("https://a.example", "app://x")),
        ("ARAGORA_CORS_ORIGINS", "null", None),
        ("ARAGORA_CORS_ORIGINS", "https://*.example", None),
        ("ARAGORA_CORS_ORIGINS", "https://a.example/path", None),
        ("ARAGORA_CORS_ORIGINS", "a.example", None),
        ("ARAGORA_RATE_LIMIT", "0", 0),
        ("ARAGORA_RATE_LIMIT", "-1", None),
        ("ARAGORA_RATE_LIMIT_CLAIMS", "6000001", None),
    ],
    ids=str,
)
def test_settings_of_the_door_are_checked(variable: str, value: str, found: object) -> None:
    if found is None:
        with pytest.raises(SettingsError, match=variable):
            load_settings({variable: value})
    else:
        assert getattr(load_settings({variable: value}), variable.removeprefix("ARAGORA_").lower()) == found
