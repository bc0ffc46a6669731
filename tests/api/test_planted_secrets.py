"""A secret of each setting is planted in a running system, and everything that it prints and writes is searched for it.

The settings that are searched for are those of the model: a new secret is planted, or fails this test until it can be.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cluster.process.clock import SystemClock
from cluster.settings import Settings, SettingsError, load_settings
from cluster.telemetry.log_files import API, begin_logging, end_logging
from tests.support.api import CP, Api, api_settings
from tests.support.bearer_tables import claims
from tests.support.planted import SECRETS, STORES, planted, planted_variables, variable, written_forms
from tests.support.principals import bearer
from tests.support.stores import StoreUrls
from tests.support.tokens import signed

ADMIN = "root@example.com"
#: Settings with a URL that is not held to be secret as a whole. Whoever puts a password into one expects it to be kept.
URLS = ("openai_base_url", "anthropic_base_url", "api_url", "jwt_jwks_url", "public_url")
#: Every setting in which somebody may write a URL, be it meant for one or not.
TEXTS = sorted(name for name, info in Settings.model_fields.items() if "str" in str(info.annotation))


@dataclass(frozen=True)
class Planted:
    api: Api
    logs: Path

    def found_in(self, text: str, where: str) -> list[str]:
        """The settings whose secret is in a text, in any form in which it is written."""
        return [f"{name} in {where}" for name, needle in needles(self.api.settings) if needle in text]


def needles(settings: Settings) -> list[tuple[str, str]]:
    found = []
    for name, value in settings:
        text = value.get_secret_value() if name in SECRETS and value is not None else value
        if name in SECRETS and value is not None and name not in STORES:
            found += [(name, form) for form in written_forms(text)]
        elif isinstance(text, str) and "://" in text and (password := urlsplit(text).password):
            found.append((name, password))
    return found


def whole_settings(store_urls: StoreUrls, schema: str) -> Settings:
    """Every secret, and a password in every URL."""
    values: dict[str, Any] = {name: planted(name) for name in SECRETS if name not in STORES}
    values |= {name: f"https://someone:planted-{name}@provider.example/v1" for name in URLS[:3]}
    values |= {"jwt_secret_previous_until": "2099-01-01T00:00:00Z", "auth_enabled": True, "admin_users": (ADMIN,)}
    return api_settings(store_urls, schema, **values)


@pytest.fixture
async def system(store_urls: StoreUrls, schema: str, tmp_path: Path) -> AsyncIterator[Planted]:
    settings = whole_settings(store_urls, schema)
    begin_logging("api", API, "debug", directory=tmp_path, most_bytes=10_000_000, secrets=settings.secrets())
    try:
        async with Api(settings).running() as api:
            yield Planted(api, tmp_path)
    finally:
        end_logging()


def test_every_secret_is_planted() -> None:
    settings = load_settings(planted_variables())
    assert {name for name, _ in needles(settings)} == set(SECRETS) - set(STORES)


async def test_answers_logs_and_rows_hold_no_secret(system: Planted) -> None:
    api = system.api
    token = {**bearer(signed(claims(SystemClock(), ADMIN), planted("jwt_secret").encode())), "X-Request-Id": "planted"}
    seen: list[str] = []
    for path in ("/stats", "/metrics", "/health", "/agents", "/keys", "/queue", "/nothing"):
        answer = await api.call("GET", path, headers=token)
        seen += system.found_in(answer.text + str(answer.headers), path)
    for path in ("/health/detailed", "/health", "/openapi.json", CP + "/stream"):
        answer = await api.client.get(path, headers=token)
        seen += system.found_in(answer.text + str(answer.headers), path)
    for bad in (planted("api_key"), "ara_" + planted("jwt_secret"), "a.b." + planted("jwt_secret")):
        answer = await api.call("GET", "/agents", headers=bearer(bad))
        assert answer.status_code == 401
        seen += system.found_in(answer.text + str(answer.headers), "a refusal")
    # Errors that quote what they were about, as drivers do.
    everything = " ".join(needle for _, needle in needles(api.settings))
    await api.stores.pool.execute("alter table controls rename to elsewhere")
    broken = await api.call("POST", "/queue/pause", {"kind": "queue", "name": "q"}, headers=token)
    assert broken.status_code == 500
    seen += system.found_in(broken.text, "a failure")
    _fail_with(everything)
    rows = await api.stores.pool.rows("select * from log")
    seen += system.found_in(str(rows), "rows of the log")
    written = {file.name: file.read_text() for file in system.logs.iterdir()}
    assert "the driver says" in "".join(written.values())
    for name, text in written.items():
        seen += system.found_in(text, name)
    assert seen == []


def _fail_with(text: str) -> None:
    try:
        raise RuntimeError(f"the driver says {text}")
    except RuntimeError:
        logging.getLogger("serve_app").exception("it failed with %s", text)
        logging.getLogger("asyncpg").exception("a library says %s", text)


def test_dumps_of_the_settings_hold_no_secret(store_urls: StoreUrls) -> None:
    settings = whole_settings(store_urls, "s")
    dumps = [repr(settings), str(settings), f"{settings.__dict__}", settings.fingerprint()]
    held = [name for name, needle in needles(settings) for dump in dumps[:2] if needle in dump]
    assert held == []
    assert [name for name, needle in needles(settings) if name in SECRETS and needle in dumps[2]] == []


@pytest.mark.parametrize("field", [*SECRETS, *TEXTS])
@pytest.mark.parametrize(
    "form", ["x://someone:{}@host:99999/v1", "https://someone:a/{}@host", "{}\n", "https://u:{}@h?q"]
)
def test_a_refused_setting_does_not_quote_its_secret(field: str, form: str) -> None:
    if "@" not in form and field in TEXTS:
        return  # a text without a user is no URL with a password
    needle = "planted0in0it"
    try:
        settings = load_settings({variable(field): form.format(needle)})
        assert needle not in repr(settings)
    except SettingsError as error:
        told = str(error) + "".join(traceback.format_exception(error))
        assert needle not in told


@pytest.mark.parametrize("command", [["doctor"], ["status"], ["keys", "list"], ["logs"], ["down"]], ids=" ".join)
async def test_commands_print_no_secret(store_urls: StoreUrls, tmp_path: Path, command: list[str]) -> None:
    settings = whole_settings(store_urls, "s")
    environ = planted_variables() | {variable(name): getattr(settings, name) for name in URLS[:2]}
    environ |= {
        "ARAGORA_DATABASE_URL": "postgresql://someone:planted-database_url@127.0.0.1:1/db",
        "ARAGORA_REDIS_URL": "redis://:planted-redis_url@127.0.0.1:1/0",
        "ARAGORA_API_URL": "http://someone:planted-api_url@127.0.0.1:1",
        "ARAGORA_DATA_DIR": str(tmp_path / "data"),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from cluster.cli.main import main; main()", *command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COLUMNS": "400", **environ},
    )
    output = (await process.communicate())[0].decode()
    assert output
    found = [name for name, needle in needles(settings) if needle in output]
    found += [name for name in (*STORES, *URLS) if f"planted-{name}" in output]
    assert found == [], output
