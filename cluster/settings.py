"""Every setting in one frozen model, whose parts have files of their own; this module is the only reader of the ``ARAGORA_*``
variables.

A composition root calls ``load_settings`` once. The environment wins over the file that ``ARAGORA_CONFIG_FILE`` names (a
JSON object of variable names and strings, mode 0600), which wins over the defaults. ``make docs`` writes
docs/configuration.md from this model.
"""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

from pydantic import SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from aragora_worker.settings import SettingsError, read_config_file
from cluster.api_settings import ApiSettings, api_does_not_fit
from cluster.domain.base.urls import without_userinfo
from cluster.region_settings import RegionSettings, regions_do_not_fit
from cluster.setting_fields import CLIENT, LATER, PROCESS, STARTUP, Words, split_words, url_problem, variable

#: Workers raise it too.
__all__ = ["SettingsError"]
#: Variables of the released client that a process of ours may find in its environment.
CLIENT_NAMES = ("ARAGORA_TIMEOUT", "ARAGORA_MAX_RETRIES", "ARAGORA_RETRY_DELAY", "ARAGORA_DEMO")


#: Schemes of the URLs of stores; all other URLs are http or https.
SCHEMES = {"database_url": ("postgresql", "postgres"), "redis_url": ("redis", "rediss", "unix")}


class Settings(ApiSettings, RegionSettings):
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

    # --- clients of the API -------------------------------------------------------------------------------------
    api_url: str | None = variable(None, "The API that the command line and workers talk to.", group="API", role=CLIENT)
    client_ca_file: Path | None = variable(None, "Authorities of the API's certificate for the command line and workers. Unset: those that httpx trusts.", group="API", role=CLIENT)
    client_cert_file: Path | None = variable(None, "Certificate that the command line and workers show.", group="API", role=CLIENT)
    client_key_file: Path | None = variable(None, "Private key of that certificate.", group="API", role=CLIENT)
    api_key: SecretStr | None = variable(None, "Key that the command line and workers send.", group="API", role=CLIENT)
    api_urls: Words = variable((), "Where the other regions' API is, separated by commas: the command line and workers make a call there if a region answers that another one is in the workspace's zone.", group="API", role=CLIENT)
    client_workspace: str | None = variable(None, "Workspace that calls of the command line and workers act in. Unset: the API chooses.", group="API", role=CLIENT)
    contexts_file: Path | None = variable(None, "Where `aragora-cp context` keeps contexts. Unset: .config/aragora/contexts.json in the home directory.", group="API", role=CLIENT)
    context: str | None = variable(None, "The context that the command line uses. Unset: the one in use, unless ARAGORA_API_URL is set.", group="API", role=CLIENT)
    credentials_file: Path | None = variable(None, "Where `aragora-cp login` keeps its sessions. Unset: .config/aragora/credentials.json in the home directory.", group="API", role=CLIENT)

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

    # fmt: on

    _words = field_validator(
        "redis_sentinel_hosts",
        "allowed_networks",
        "agent_modules",
        "api_urls",
        mode="before",
    )(split_words)

    @field_validator("database_url", "redis_url", "api_url", "openai_base_url", "anthropic_base_url")
    @classmethod
    def _url(cls, value: Any, info: ValidationInfo) -> Any:
        shown = value.get_secret_value() if isinstance(value, SecretStr) else value
        problem = None if shown is None else url_problem(shown, SCHEMES.get(str(info.field_name), ("http", "https")))
        if problem is not None:
            raise ValueError(problem)
        return value

    @field_validator("api_urls")
    @classmethod
    def _other_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        problem = next(filter(None, (url_problem(url, ("http", "https")) for url in value)), None)
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
    if (found.client_cert_file is None) != (found.client_key_file is None):
        return "ARAGORA_CLIENT_CERT_FILE and ARAGORA_CLIENT_KEY_FILE go together; set both or none."
    return api_does_not_fit(found) or regions_do_not_fit(found)


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
