"""Every setting in one frozen model; this module is the only reader of the ``ARAGORA_*`` variables.

A composition root calls ``load_settings`` once. The environment wins over the file that ``ARAGORA_CONFIG_FILE`` names (a
JSON object of variable names and strings, mode 0600), which wins over the defaults. ``make docs`` writes
docs/configuration.md from this model.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import ipaddress
import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

from pydantic import AwareDatetime, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from aragora_worker.settings import SettingsError, read_config_file
from cluster.domain.access.roles import ROLES
from cluster.domain.access.secret_quality import is_example, weakness
from cluster.domain.base.urls import LOOPBACK_HOSTS, without_userinfo
from cluster.region_settings import RegionSettings, regions_do_not_fit
from cluster.setting_fields import CLIENT, LATER, PROCESS, STARTUP, Words, split_words, variable

#: Workers raise it too.
__all__ = ["SettingsError"]
#: Variables of the released client that a process of ours may find in its environment.
CLIENT_NAMES = ("ARAGORA_TIMEOUT", "ARAGORA_MAX_RETRIES", "ARAGORA_RETRY_DELAY", "ARAGORA_DEMO")


#: Schemes of the URLs of stores; all other URLs are http or https.
SCHEMES = {"database_url": ("postgresql", "postgres"), "redis_url": ("redis", "rediss", "unix")}


def _url_problem(value: str, schemes: tuple[str, ...]) -> str | None:
    """Why a value is no URL of one of these schemes. It quotes nothing that may be part of a password."""
    beginnings = " or ".join(f"{scheme}://" for scheme in schemes)
    scheme, separator, rest = value.partition("://")
    if not separator:
        return f"it has no scheme; it must begin with {beginnings}"
    if scheme not in schemes:
        return f"its scheme is {scheme[:32]}, but it must begin with {beginnings}"
    hint = "write characters like @ : / # ? in a password as %40 %3A %2F %23 %3F"
    try:
        hosts = urlsplit(f"x://{rest}").netloc.rpartition("@")[2].split(",")  # PostgreSQL takes several
    except ValueError:
        return f"it cannot be parsed; {hint}, and an IPv6 address in brackets"
    ports = [host.rpartition("]")[2].rpartition(":")[2] for host in hosts if ":" in host.rpartition("]")[2]]
    if not all(port.isdecimal() and port.isascii() and 0 < int(port[:6]) <= 65_535 for port in ports):
        return f"its port is not a number from 1 to 65535; {hint}"
    return None if any(hosts) or "/" in rest else f"it names no host; {hint}"


def _is_private(url: str) -> bool:
    """Whether what is sent to a URL is encrypted or leaves no machine."""
    return not url.startswith("http://") or urlsplit(url).hostname in LOOPBACK_HOSTS


def _is_origin(value: str) -> bool:
    """Whether a text is a scheme, a host and perhaps a port, and nothing else."""
    return re.fullmatch(r"[a-z][a-z0-9+.-]*://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?", value) is not None


class Settings(RegionSettings):
    model_config = SettingsConfigDict(
        env_prefix="ARAGORA_", frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True
    )

    # fmt: off
    # --- stores ------------------------------------------------------------------------------------------------
    database_url: SecretStr | None = variable(
        None, "PostgreSQL connection URL. Unset: an embedded PostgreSQL is started.", group="Stores"
    )
    redis_url: SecretStr | None = variable(
        None, "Redis connection URL. Unset: an embedded Valkey is started.", group="Stores"
    )
    database_schema: str = variable(
        "aragora",
        "Postgres schema that holds this deployment's tables.",
        group="Stores",
        pattern=r"^[a-z_][a-z0-9_]{0,62}$",
    )
    redis_prefix: str = variable("aragora", "Prefix of every Redis key and channel.", group="Stores")
    redis_sentinel_master: str | None = variable(None, "Sentinel master name.", group="Stores", role=LATER)
    redis_sentinel_hosts: Words = variable((), "Sentinel hosts, host:port separated by commas.", group="Stores", role=LATER)
    pool_min_connections: int = variable(
        5, "Redis connections kept open.", group="Stores", unit="connections", role=LATER, ge=0
    )
    pool_max_connections: int = variable(50, "Redis connections per process.", group="Stores", unit="connections", ge=1)
    pool_idle_timeout: float = variable(
        300, "Idle Redis connections are closed after this.", group="Stores", unit="seconds", role=LATER, gt=0
    )
    data_dir: Path = variable(
        Path(".aragora"), "Where the embedded stores and run.json live.", group="Stores", role=STARTUP
    )

    # --- tasks and agents --------------------------------------------------------------------------------------
    heartbeat_timeout: float = variable(
        30, "An agent without a heartbeat or other activity for this long is offline.", group="Tasks and agents", unit="seconds", gt=0
    )
    agent_expiry: float = variable(
        86_400, "An agent that is gone for this long (silent, or its endpoint cannot be reached) is removed.", group="Tasks and agents", unit="seconds", gt=0
    )
    task_timeout: float = variable(
        300, "How long an attempt may run, if its task names no timeout.", group="Tasks and agents", unit="seconds", gt=0
    )
    max_task_retries: int = variable(
        3, "Retries after the first attempt, if the task names no number.", group="Tasks and agents", ge=0, le=100
    )
    cleanup_interval: float = variable(
        60, "Longest time between two sweeps of the fleet.", group="Tasks and agents", unit="seconds", gt=0
    )
    idempotency_window: float = variable(
        86_400, "How long an Idempotency-Key is remembered.", group="Tasks and agents", unit="seconds", gt=0
    )
    worker_concurrency: int = variable(
        10, "Tasks that one worker process runs at once.", group="Tasks and agents", role=CLIENT, ge=1
    )
    batch_size: int = variable(50, "Tasks that a worker claims at once.", group="Tasks and agents", role=CLIENT, ge=1)
    agent_hosts: int = variable(
        1, "Actors that call agents with an endpoint.", group="Tasks and agents", unit="actors", ge=1, le=1000
    )
    deliberation_workers: int = variable(
        1, "Actors that run deliberations.", group="Tasks and agents", unit="actors", ge=1, le=1000
    )
    api_replicas: int = variable(
        1, "API replicas that `aragora-cp up` starts.", group="Tasks and agents", unit="replicas", role=STARTUP, ge=1, le=16
    )
    actor_memory_mb: int = variable(
        4096, "An actor's process that uses more memory is restarted; agents' own actors are not.", group="Tasks and agents", unit="MiB", ge=128
    )
    api_memory_mb: int = variable(
        4096, "An API replica whose process uses more memory finishes its calls and is replaced.", group="Tasks and agents", unit="MiB", ge=128
    )
    agents_per_replica: int = variable(10_000, "Claims that may wait at one API replica.", group="Tasks and agents", ge=1)
    workspace: str = variable(
        "default",
        "Workspace of requests while authentication is off.",
        group="Tasks and agents",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$",
    )

    # --- calling agents ----------------------------------------------------------------------------------------
    http_pool_size: int = variable(
        20, "HTTP connections to one agent's server.", group="Calling agents", unit="connections", ge=1
    )
    http_timeout: float = variable(
        60, "Longest single call to an agent's endpoint, from its request to the last byte of its answer.", group="Calling agents", unit="seconds", gt=0
    )
    allowed_networks: Words = variable(
        (), "Private networks (CIDR, separated by commas) in which agents' endpoints may be.", group="Calling agents"
    )
    agent_selection: Literal["least_loaded", "round_robin", "random", "lowest_latency", "scored"] = variable(
        "least_loaded", "Which of several called agents gets the next task.", group="Calling agents"
    )
    agent_modules: Words = variable(
        (), "Python modules (with their submodules) whose classes may run as agents.", group="Calling agents"
    )
    openai_api_key: SecretStr | None = variable(
        None, "Key sent to OPENAI_BASE_URL, and nowhere else.", group="Calling agents", env="OPENAI_API_KEY"
    )
    openai_base_url: str = variable(
        "https://api.openai.com/v1",
        "Base URL of the OpenAI-compatible provider.",
        group="Calling agents",
        env="OPENAI_BASE_URL",
    )
    anthropic_api_key: SecretStr | None = variable(
        None, "Key sent to ANTHROPIC_BASE_URL, and nowhere else.", group="Calling agents", env="ANTHROPIC_API_KEY"
    )
    anthropic_base_url: str = variable(
        "https://api.anthropic.com", "Base URL of the Anthropic API.", group="Calling agents", env="ANTHROPIC_BASE_URL"
    )
    openai_model: str = variable(
        "gpt-4o-mini", "Model that `aragora-cp demo` asks at OPENAI_BASE_URL.", group="Calling agents", env="OPENAI_MODEL", role=STARTUP
    )
    anthropic_model: str = variable(
        "claude-3-5-haiku-latest", "Model that `aragora-cp demo` asks at ANTHROPIC_BASE_URL.", group="Calling agents", env="ANTHROPIC_MODEL", role=STARTUP
    )

    # --- API ---------------------------------------------------------------------------------------------------
    http_host: str = variable("127.0.0.1", "Address that the API and the metrics listen on.", group="API")
    http_port: int = variable(8080, "Port of the API.", group="API", ge=1, le=65_535)
    max_body_bytes: int = variable(1_048_576, "Largest request body.", group="API", unit="bytes", ge=1024)
    cors_origins: Words = variable(
        ("*",),
        "Allowed CORS origins. * never comes with credentials, and while authentication is off it admits no page.",
        group="API",
    )
    mcp_enabled: bool = variable(False, "Serve tools for language models (MCP) at /mcp; needs the extra `mcp`.", group="API")
    a2a_enabled: bool = variable(False, "Take tasks and deliberations from agents of others (A2A) at /a2a; needs the extra `a2a`.", group="API")
    rate_limit: int = variable(600_000, "Calls of one principal, all replicas together, without heartbeats and claims; the calls of ten seconds may come at once. 0: no limit.", group="API", unit="calls per minute", ge=0, le=6_000_000)
    rate_limit_heartbeats: int = variable(600_000, "Heartbeats of one principal. 0: no limit.", group="API", unit="calls per minute", ge=0, le=6_000_000)
    rate_limit_claims: int = variable(600_000, "Claims of one principal. 0: no limit.", group="API", unit="calls per minute", ge=0, le=6_000_000)
    api_url: str | None = variable(None, "The API that the command line and workers talk to.", group="API", role=CLIENT)
    client_ca_file: Path | None = variable(None, "Authorities of the API's certificate for the command line and workers. Unset: those that httpx trusts.", group="API", role=CLIENT)
    client_cert_file: Path | None = variable(None, "Certificate that the command line and workers show.", group="API", role=CLIENT)
    client_key_file: Path | None = variable(None, "Private key of that certificate.", group="API", role=CLIENT)
    api_key: SecretStr | None = variable(None, "Key that the command line and workers send.", group="API", role=CLIENT)
    api_urls: Words = variable((), "Where the other regions' API is, separated by commas: the command line and workers make a call there if a region answers that another one is in the workspace's zone.", group="API", role=CLIENT)
    client_workspace: str | None = variable(None, "Workspace that calls of the command line and workers act in. Unset: the API chooses.", group="API", role=CLIENT)

    # --- metrics and logs --------------------------------------------------------------------------------------
    enable_metrics: bool = variable(True, "Serve Prometheus metrics.", group="Metrics and logs")
    prometheus_port: int = variable(9090, "Port of the metrics.", group="Metrics and logs", ge=1, le=65_535)
    log_level: Literal["debug", "info", "warn", "error"] = variable("info", "Log level.", group="Metrics and logs")
    log_dir: Path | None = variable(
        None, "Directory of the log files of API and actors; `aragora-cp up` sets it. Unset: they log to stderr.", group="Metrics and logs", role=PROCESS
    )
    log_max_bytes: int = variable(
        10_485_760, "Most bytes of one log of a run, its older half included.", group="Metrics and logs", unit="bytes", role=PROCESS, ge=65_536
    )
    debug_sql: bool = variable(False, "Log SQL statements at debug level.", group="Metrics and logs", role=LATER)
    debug_redis: bool = variable(False, "Log Redis commands at debug level.", group="Metrics and logs", role=LATER)

    # --- deployment --------------------------------------------------------------------------------------------
    deployment_id: str = variable(
        "aragora", "Prefix of the Ray actors' names.", group="Deployment", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$"
    )
    embedded: bool = variable(
        False, "Set by `aragora-cp up` for the processes that it starts: agents on loopback are allowed.", group="Deployment"
    )

    # --- security ----------------------------------------------------------------------------------------------
    auth_enabled: bool = variable(True, "Require authentication. `aragora-cp up` turns it off if it runs its embedded stores on loopback and this is not set; while it is off, only loopback is listened on.", group="Security")
    jwt_secret: SecretStr | None = variable(None, "HS256 secret of tokens, at least 32 bytes. Unset, without ARAGORA_JWT_JWKS_URL: one is made and kept sealed in the database.", group="Security")
    jwt_secret_previous: SecretStr | None = variable(None, "The secret before a rotation; its tokens count until ARAGORA_JWT_SECRET_PREVIOUS_UNTIL.", group="Security")
    jwt_secret_previous_until: AwareDatetime | None = variable(None, "When the previous secret stops counting, such as 2026-03-01T12:00:00Z.", group="Security")
    jwt_expiry: float = variable(3600, "Longest life of a token, whoever issued it.", group="Security", unit="seconds", gt=0, le=2_592_000)
    jwt_jwks_url: str | None = variable(None, "Key set of another issuer, whose tokens (EdDSA, ES256, RS256) count too.", group="Security")
    jwt_issuer: str | None = variable(None, "What its tokens must have as `iss`.", group="Security", min_length=1, max_length=256)
    jwt_audience: str | None = variable(None, "What its tokens must have in `aud`.", group="Security", min_length=1, max_length=256)
    secrets_key: SecretStr | None = variable(None, "Key that seals secrets in the database: 32 bytes in base64. `aragora-cp up` makes one in the data directory.", group="Security")
    secrets_key_previous: SecretStr | None = variable(None, "The key before a rotation; `aragora-cp secrets rotate` seals anew what it has sealed.", group="Security")
    oauth_enabled: bool = variable(False, "Let people log in with an OIDC provider.", group="Security")
    oauth_provider: str = variable("google", "`google`, or the URL of an issuer, whose discovery document says the rest.", group="Security", max_length=256)
    oauth_client_id: str | None = variable(None, "Client id, as the provider shows it.", group="Security", max_length=256)
    oauth_client_secret: SecretStr | None = variable(None, "Client secret. Unset: the provider has none for this client.", group="Security")
    oauth_scopes: Words = variable(("openid", "email"), "Scopes that a login asks for, separated by commas. openid is always among them.", group="Security")
    oauth_groups_claim: str = variable("groups", "Claim of the ID token or userinfo with a person's groups. Each is a subject of role bindings, group:NAME.", group="Security", min_length=1, max_length=64)
    oauth_group_roles: Words = variable((), "Roles of groups in ARAGORA_WORKSPACE, GROUP=ROLE separated by commas.", group="Security")
    oauth_allowed_domains: Words = variable((), "Domains of the e-mail addresses that may log in, separated by commas. Unset: whoever the provider knows; from google only those that have a role.", group="Security")
    oauth_session_life: float = variable(28_800, "How long a login lasts.", group="Security", unit="seconds", ge=300, le=604_800)
    contexts_file: Path | None = variable(None, "Where `aragora-cp context` keeps contexts. Unset: .config/aragora/contexts.json in the home directory.", group="API", role=CLIENT)
    context: str | None = variable(None, "The context that the command line uses. Unset: the one in use, unless ARAGORA_API_URL is set.", group="API", role=CLIENT)
    credentials_file: Path | None = variable(None, "Where `aragora-cp login` keeps its sessions. Unset: .config/aragora/credentials.json in the home directory.", group="API", role=CLIENT)
    rbac_enabled: bool = variable(True, "Check roles. If false, whoever is authenticated may do everything in its workspaces.", group="Security")
    admin_users: Words = variable(
        (), "E-mail addresses of administrators of all workspaces, separated by commas. An issuer must have verified them.", group="Security"
    )
    rbac_default_role: str = variable("viewer", "Role, in ARAGORA_WORKSPACE, of users that have none.", group="Security")
    trusted_proxies: Words = variable((), "Networks (CIDR, separated by commas) of the proxies in front, such as an Ingress, whose X-Forwarded-For and X-Forwarded-Proto count. Unset: nobody's do.", group="Security")
    public_url: str | None = variable(None, "URL by which clients reach the API, such as https://control.example.com. Redirects and the API's description name it. Unset: they name paths only.", group="Security")
    tls_enabled: bool = variable(False, "Serve HTTPS and WSS, TLS 1.2 or newer, on ARAGORA_HTTP_PORT.", group="Security")
    tls_cert_file: Path | None = variable(None, "Certificate of the API as PEM, its own first, then those that issued it. A changed file is served within a second.", group="Security", role=PROCESS)
    tls_key_file: Path | None = variable(None, "Private key of that certificate.", group="Security", role=PROCESS)
    tls_ca_file: Path | None = variable(None, "Authorities of agents' certificates. With it, agents need one.", group="Security")
    tls_trust_domain: str = variable("aragora", "An agent's certificate names spiffe://TRUST_DOMAIN/agent/ID.", group="Security", pattern=r"^[a-z0-9._-]{1,255}$")
    receipt_signing_key: SecretStr | None = variable(
        None,
        "Ed25519 seed that signs receipts: 32 bytes in base64. Unset: one is made and kept in the database.",
        group="Security",
    )
    audit_signing_key: SecretStr | None = variable(
        None,
        "Ed25519 seed that signs checkpoints of the audit: 32 bytes in base64. Unset: the one that signs receipts.",
        group="Security",
    )

    # fmt: on

    _words = field_validator(
        "redis_sentinel_hosts",
        "allowed_networks",
        "agent_modules",
        "cors_origins",
        "api_urls",
        "admin_users",
        "trusted_proxies",
        "oauth_scopes",
        "oauth_group_roles",
        "oauth_allowed_domains",
        mode="before",
    )(split_words)

    @field_validator("database_url", "redis_url", "api_url", "openai_base_url", "anthropic_base_url")
    @classmethod
    def _url(cls, value: Any, info: ValidationInfo) -> Any:
        shown = value.get_secret_value() if isinstance(value, SecretStr) else value
        problem = None if shown is None else _url_problem(shown, SCHEMES.get(str(info.field_name), ("http", "https")))
        if problem is not None:
            raise ValueError(problem)
        return value

    @field_validator("api_urls")
    @classmethod
    def _other_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        problem = next(filter(None, (_url_problem(url, ("http", "https")) for url in value)), None)
        if problem is not None:
            raise ValueError(f"each must be a URL: {problem}")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _level(cls, value: Any) -> Any:
        return {"warning": "warn"}.get(value.lower(), value.lower()) if isinstance(value, str) else value

    @field_validator("allowed_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network)
        return value

    @field_validator("tls_cert_file", "tls_key_file", "tls_ca_file", "log_archive_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        """Ray's processes have another working directory than `up`."""
        return None if value is None else value.absolute()

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(ipaddress.ip_network(network).prefixlen == 0 for network in value):
            raise ValueError(
                "a network of all addresses would let every caller choose its own; name those of the proxies"
            )
        return value

    @field_validator("public_url")
    @classmethod
    def _public(cls, value: str | None) -> str | None:
        problem = None if value is None else _url_problem(value, ("https", "http"))
        if problem is None and value is not None and not _is_origin(value.removesuffix("/")):
            problem = "it must be a scheme and a host, and a port if it needs one, without a path or a user"
        if problem is not None:
            raise ValueError(problem)
        return None if value is None else value.removesuffix("/")

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        origins = tuple(origin if origin == "*" else origin.removesuffix("/").lower() for origin in value)
        if not all(origin == "*" or _is_origin(origin) for origin in origins):
            raise ValueError(
                "each must be * or a scheme and a host, such as https://board.example:8443, as browsers send them"
            )
        return origins

    @field_validator("receipt_signing_key", "audit_signing_key", "secrets_key", "secrets_key_previous")
    @classmethod
    def _seed(cls, value: SecretStr | None) -> SecretStr | None:
        try:
            fits = value is None or len(base64.b64decode(value.get_secret_value(), validate=True)) == 32
        except ValueError:
            fits = False
        if not fits:
            raise ValueError("it must be 32 bytes in base64, as `openssl rand -base64 32` prints them")
        return value

    @field_validator("jwt_secret", "jwt_secret_previous")
    @classmethod
    def _strong(cls, value: SecretStr | None) -> SecretStr | None:
        problem = None if value is None else weakness(value.get_secret_value())
        if problem is not None:
            raise ValueError(f"{problem}; make one with `aragora-cp secrets generate`")
        return value

    @field_validator("admin_users")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(address.count("@") == 1 for address in value):
            raise ValueError("it must be e-mail addresses, separated by commas")
        return tuple(address.lower() for address in value)

    @field_validator("rbac_default_role")
    @classmethod
    def _known_role(cls, value: str) -> str:
        if value not in ROLES:
            raise ValueError(f"it must be one of {', '.join(ROLES)}")
        return value

    @field_validator("jwt_jwks_url")
    @classmethod
    def _issuers_keys(cls, value: str | None) -> str | None:
        problem = None if value is None else _url_problem(value, ("https", "http"))
        host = "" if value is None or problem else urlsplit(value).hostname or ""
        if problem is None and value is not None and value.startswith("http://") and host not in LOOPBACK_HOSTS:
            problem = "keys that came unencrypted could be anybody's; it must begin with https://"
        if problem is not None:
            raise ValueError(problem)
        return value

    @field_validator("oauth_provider")
    @classmethod
    def _provider(cls, value: str) -> str:
        problem = None if value == "google" else _url_problem(value, ("https", "http"))
        if problem is not None:
            problem = f"{problem}; it is google or the URL of an issuer"
        elif not _is_private(value):
            problem = "whoever is on the way could log in as anybody; it must begin with https://"
        elif not {"?", "#", "@"}.isdisjoint(value):
            problem = "an issuer has neither user, query nor fragment"
        if problem is not None:
            raise ValueError(problem)
        return value

    @field_validator("oauth_client_secret")
    @classmethod
    def _clients_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and is_example(value.get_secret_value()):
            raise ValueError("it is an example from some documentation; take the one that the provider shows")
        return value

    @field_validator("oauth_scopes")
    @classmethod
    def _scopes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"[!#-\[\]-~]+", scope) for scope in value):
            raise ValueError("each must be a scope, without spaces and quotes")
        return tuple(dict.fromkeys(("openid", *value)))

    @field_validator("oauth_group_roles")
    @classmethod
    def _roles_of_groups(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            group, _, role = entry.rpartition("=")
            if not group or role not in ROLES:
                raise ValueError(f"each must be GROUP=ROLE, with a role of {', '.join(ROLES)}")
        return value

    @field_validator("oauth_allowed_domains")
    @classmethod
    def _domains(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"[A-Za-z0-9.-]+", domain) for domain in value):
            raise ValueError("each must be a domain, such as example.com")
        return tuple(domain.lower() for domain in value)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # load_settings hands over what it read, so that tests need no environment

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            if isinstance(value, tuple):
                value = tuple(without_userinfo(each) if isinstance(each, str) else each for each in value)
            yield name, without_userinfo(value) if isinstance(value, str) else value

    def secrets(self) -> list[str]:
        """What must not be in a log: keys, and URLs with a password, also the password alone. Each as it is, and as a URL has
        it."""
        found = [value.get_secret_value() for _, value in self if isinstance(value, SecretStr)]
        # Every URL may have a password, also one whose setting is not held to be secret.
        urls = [
            each
            for _, value in self
            for each in (value if isinstance(value, tuple) else (value,))
            if isinstance(each, str)
        ]
        passwords = [_password(value) for value in (*found, *urls) if "://" in value]
        plain = [*found, *passwords, *map(unquote, passwords)]
        return [*plain, *(quote(secret, safe="") for secret in plain)]

    def listens_on_loopback(self) -> bool:
        """Whether only its own machine can reach the API."""
        try:
            return self.http_host == "localhost" or ipaddress.ip_address(self.http_host).is_loopback
        except ValueError:
            return False

    def public_origin(self) -> str:
        """The URL by which browsers reach the API: scheme, host and port."""
        scheme = "https" if self.tls_enabled else "http"
        return self.public_url or f"{scheme}://{self.http_host}:{self.http_port}"

    def sealing_keys(self) -> list[bytes]:
        """The keys of sealed secrets, the current one first."""
        keys = (self.secrets_key, self.secrets_key_previous)
        return [base64.b64decode(key.get_secret_value()) for key in keys if key is not None]

    def may_import(self, path: str) -> bool:
        """Whether the class ``module:name`` may run as an agent."""
        module = path.partition(":")[0]
        return any(
            module == agent_module or module.startswith(f"{agent_module}.") for agent_module in self.agent_modules
        )

    def fingerprint(self) -> str:
        """A hash of the settings that running actors and replicas use. Actors with another fingerprint are replaced."""
        relevant = {
            name: _plain(getattr(self, name))
            for name, info in type(self).model_fields.items()
            if role_of(info) not in (CLIENT, STARTUP, PROCESS)
        }
        return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]

    def to_config_file(self, path: Path) -> None:
        """Writes the settings as a file for ``ARAGORA_CONFIG_FILE``. Its mode is 0600 before anything is written."""
        values = {
            variable_name(name, info): _as_text(getattr(self, name))
            for name, info in type(self).model_fields.items()
            if getattr(self, name) is not None and getattr(self, name) != info.default
        }
        temporary = path.with_name(path.name + ".new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(values, file, indent=2, sort_keys=True)
        temporary.replace(path)


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""


def role_of(info: Any) -> str:
    return str(info.json_schema_extra["role"])


def variable_name(field: str, info: Any) -> str:
    """The environment variable of a field."""
    return str(info.validation_alias) if info.validation_alias else f"ARAGORA_{field.upper()}"


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return hashlib.sha256(value.get_secret_value().encode()).hexdigest()
    return str(value) if isinstance(value, Path | datetime) else value


def _as_text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)


_BY_VARIABLE = {variable_name(name, info): name for name, info in Settings.model_fields.items()}


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process.

    Raises: `SettingsError` if a variable or the file is not valid; its sentence names the variable.
    """
    environ = os.environ if environ is None else environ  # noqa: TID251 - the one reader
    merged = {**read_config_file(environ), **{name: value for name, value in environ.items() if value != ""}}
    values = {field: merged[variable] for variable, field in _BY_VARIABLE.items() if variable in merged}
    # pydantic fills a field that has an alias by that alias only.
    keyed = {_key(field): value for field, value in values.items()}
    try:
        found = Settings.model_validate(keyed)
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from None
    problem = _do_not_fit(found)
    if problem is not None:
        raise SettingsError(problem)
    return found


def _do_not_fit(found: Settings) -> str | None:
    """What is wrong with settings that are valid one by one."""
    if found.secrets_key is None and found.secrets_key_previous is not None:
        return "ARAGORA_SECRETS_KEY_PREVIOUS is set without ARAGORA_SECRETS_KEY; set the current key too."
    if (found.jwt_secret_previous is None) != (found.jwt_secret_previous_until is None):
        return "ARAGORA_JWT_SECRET_PREVIOUS and ARAGORA_JWT_SECRET_PREVIOUS_UNTIL go together; set both or none."
    issuer = (found.jwt_jwks_url, found.jwt_issuer, found.jwt_audience)
    if any(issuer) and not all(issuer):
        return (
            "ARAGORA_JWT_JWKS_URL, ARAGORA_JWT_ISSUER and ARAGORA_JWT_AUDIENCE go together; a key set alone would let in "
            "tokens that its issuer made for others."
        )
    return _tls_does_not_fit(found) or _oauth_does_not_fit(found) or regions_do_not_fit(found)


def _oauth_does_not_fit(found: Settings) -> str | None:
    if not found.oauth_enabled:
        return None
    if found.oauth_client_id is None:
        return (
            "ARAGORA_OAUTH_ENABLED is true, but ARAGORA_OAUTH_CLIENT_ID is not set; set the id that the provider shows."
        )
    if not found.auth_enabled and "auth_enabled" in found.model_fields_set:
        return "ARAGORA_OAUTH_ENABLED is true, but ARAGORA_AUTH_ENABLED is false, so nobody would log in; unset one."
    if found.public_url is None and not found.listens_on_loopback():
        return (
            "ARAGORA_OAUTH_ENABLED is true, but ARAGORA_PUBLIC_URL is not set; set the URL to which the provider leads browsers "
            "back, such as https://control.example.com."
        )
    if not _is_private(found.public_origin()):
        return "ARAGORA_OAUTH_ENABLED is true, but ARAGORA_PUBLIC_URL is not https, so sessions could be read on the way; use https."
    return None


def _tls_does_not_fit(found: Settings) -> str | None:
    if (found.client_cert_file is None) != (found.client_key_file is None):
        return "ARAGORA_CLIENT_CERT_FILE and ARAGORA_CLIENT_KEY_FILE go together; set both or none."
    files = {
        "ARAGORA_TLS_CERT_FILE": found.tls_cert_file,
        "ARAGORA_TLS_KEY_FILE": found.tls_key_file,
        "ARAGORA_TLS_CA_FILE": found.tls_ca_file,
    }
    given = [name for name, file in files.items() if file is not None]
    if given and not found.tls_enabled:
        return f"{given[0]} is set, but ARAGORA_TLS_ENABLED is not true, so calls would not be encrypted; set both or none."
    missing = [name for name in list(files)[:2] if found.tls_enabled and name not in given]
    if missing:
        return f"{missing[0]} is not set, but ARAGORA_TLS_ENABLED is true; name the certificate and its key."
    if found.tls_ca_file is not None and not found.auth_enabled and "auth_enabled" in found.model_fields_set:
        return "ARAGORA_TLS_CA_FILE is set, but ARAGORA_AUTH_ENABLED is false, so nobody would need a certificate; unset one."
    return None


def _key(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias
    return str(alias) if alias else field


def _sentence(error: ValidationError) -> str:
    item = error.errors()[0]
    where = str(item["loc"][0]) if item["loc"] else ""
    field = next((f for f in Settings.model_fields if where in (f, _key(f))), where)
    info = Settings.model_fields[field]
    shown = "***" if "Secret" in str(info.annotation) else without_userinfo(repr(item["input"]))
    reason = without_userinfo(str(item["msg"]).removeprefix("Value error, "))
    return f"{variable_name(field, info)}={shown} is not accepted: {reason[0].lower()}{reason[1:]}."


def unknown_names(environ: Mapping[str, str]) -> list[str]:
    """A warning for each ``ARAGORA_`` name that is not a setting, and for each such name of the file, which holds nothing else,
    with the nearest known name.

    Raises: `SettingsError` if the file is not valid."""
    known = {*_BY_VARIABLE, *CLIENT_NAMES, "ARAGORA_CONFIG_FILE"}
    of_ours = [name for name in environ if name.startswith("ARAGORA_")]
    warnings = []
    for names, where in ((of_ours, ""), (read_config_file(environ), f" (in {environ.get('ARAGORA_CONFIG_FILE')})")):
        for name in sorted(set(names) - known):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            warnings.append(f"{name}{where} is not a setting{hint}")
    return warnings
