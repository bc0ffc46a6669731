"""The doctor on systems that are sound and that are not: every check is seen in both."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from actors.roles import SEALER
from cluster.cli.checks.api import check_breakers
from cluster.cli.checks.certificates import check_certificates, servers
from cluster.cli.checks.findings import OK, PROBLEM, WARNING, Finding
from cluster.cli.checks.ray import HARD_STOP, check_hard_stop
from cluster.cli.checks.stores import LEAST_FREE, check_audit_key, check_growth
from cluster.cli.commands.doctor import examine
from cluster.cli.connection import client
from cluster.domain.agents.breaker import Breaker, BreakerState
from cluster.domain.base.errors import StoreUnavailable
from cluster.embedded.layout import Layout
from cluster.ports.breakers import StoredBreaker
from cluster.process.stopgap import CURRENT
from cluster.process.waits import HAPROXY_HARD_STOP_S, LONGEST_CALL_S
from cluster.settings import Settings, load_settings
from serve_app.components import Components
from serve_app.replica import make_ingress
from tests.actors.test_sealer import seal_all
from tests.api.test_worker import submit
from tests.support.api import Api, api_settings
from tests.support.certificates import self_signed, silent_server, tls_server
from tests.support.documented import Witness
from tests.support.probes import eventually
from tests.support.stores import StoreUrls
from tests.support.system import clean_environment

GIB = 1024**3
#: The API of these tests shares its event loop with the doctor, and the machine with other tests.
PATIENT_S = 60.0


def _settings(api: Api, tmp_path: Path, **changes: Any) -> Settings:
    return api.settings.model_copy(update={"api_url": api.url, "data_dir": tmp_path, **changes})


async def test_the_doctor_names_tasks_that_no_agent_can_take(api: Api, tmp_path: Path) -> None:
    settings = _settings(api, tmp_path)
    sound = {"API", "database", "redis", "retries", "waiting tasks", "breakers", "tables", "certificates", "hard stop"}

    async def all_is_well() -> bool:
        levels = {finding.check: finding.level for finding in await examine(settings, PATIENT_S)}
        problems = {check for check, level in levels.items() if level == PROBLEM}
        return problems <= {"component health-monitor-0", "component sealer-0"} and {
            levels.get(check) for check in sound
        } == {OK}

    await eventually(all_is_well, PATIENT_S)  # on a busy machine the first look may find that the API is slow
    await submit(api)
    found = {finding.check: finding for finding in await examine(settings, PATIENT_S)}["waiting tasks"]
    assert (found.level, "x" in found.detail, found.advice != "") == (WARNING, True, True)


async def test_the_doctor_says_what_to_do_about_missing_parts(tmp_path: Path) -> None:
    settings = load_settings(
        {
            "ARAGORA_API_URL": "http://127.0.0.1:1",
            "ARAGORA_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            "ARAGORA_REDIS_URL": "redis://127.0.0.1:1/0",
            "ARAGORA_DATA_DIR": str(tmp_path),
        }
    )
    found = {finding.check: finding for finding in await examine(settings)}
    for check in ("API", "database", "redis"):
        assert found[check].level == PROBLEM, check
        assert found[check].advice, check


async def test_a_database_that_is_away_is_said_once(api: Api, tmp_path: Path) -> None:
    """It may be away as seen from here, and as seen by the API: each has a row."""
    database = SecretStr("postgresql://nobody@127.0.0.1:1/none")
    not_tried = "not tried: the database does not answer"

    async def looked() -> dict[str, Finding]:
        return {
            found.check: found for found in await examine(_settings(api, tmp_path, database_url=database), PATIENT_S)
        }

    found = await looked()
    assert (found["database"].level, found["tables"].detail) == (PROBLEM, not_tried)
    assert found["retries"].level == OK  # the API has another address of it

    async def refuses() -> None:
        raise StoreUnavailable("PostgreSQL does not answer; try again.")

    api.gateway.components = Components({"Database": refuses})
    found = await looked()
    assert found["component Database"].level == PROBLEM
    assert [found[check].detail for check in ("tables", "retries", "waiting tasks")] == [not_tried] * 3


async def test_a_breaker_that_is_not_closed_is_named(api: Api, tmp_path: Path) -> None:
    states = {"a-open": BreakerState.OPEN, "a-half": BreakerState.HALF_OPEN, "a-fine": BreakerState.CLOSED}
    stored = [
        StoredBreaker(
            workspace="default",
            agent_id=None,
            breaker=Breaker(name=f"health_{name}", state=state, failures=3, changed_at=time.time()),
        )
        for name, state in states.items()
    ]
    await api.stores.breakers.save(stored, [])
    async with client(_settings(api, tmp_path)) as calls:
        found = await check_breakers(calls)
    assert [(finding.level, finding.detail.split()[0]) for finding in found] == [
        (WARNING, "health_a-half"),
        (WARNING, "health_a-open"),
    ]


# --- tables ------------------------------------------------------------------------------------------------------


#: Room on the disk, what the doctor makes of it, and what it says. An empty schema of some 600 KiB was made within the hour.
_ROOM = (
    (LEAST_FREE - 1, PROBLEM, "full now"),
    (LEAST_FREE + 10, PROBLEM, "full in 0 hours"),
    (LEAST_FREE + 20_000_000, PROBLEM, "hours at that rate"),
    (LEAST_FREE + 150_000_000, WARNING, "days at that rate"),
    (100 * GIB, OK, "100 GiB are free"),
)


async def test_tables_that_fill_the_disk_soon_are_said(api: Api, tmp_path: Path) -> None:
    for _ in range(3):
        await submit(api)
    for free, level, said in _ROOM:
        (found,) = await check_growth(_settings(api, tmp_path), lambda _, free=free: free)  # type: ignore[misc]
        assert (found.level, said in found.detail) == (level, True), found
        assert "tasks" in found.detail
        assert "aragora-cp retention show" in found.detail + found.advice


async def test_growth_counts_the_rows_of_the_last_hour_only(api: Api, tmp_path: Path) -> None:
    from cluster.postgres.growth import looking

    for _ in range(8):
        await submit(api)
    pool, settings = api.stores.pool, _settings(api, tmp_path)
    assert settings.database_url is not None

    async def rows() -> tuple[int, int]:
        async with looking(settings.database_url.get_secret_value(), settings.database_schema) as looker:
            growth = await looker.growth()
        return growth.rows_hourly, growth.hourly

    head = await api.stores.log.head()
    assert (await rows())[0] == head
    for old in (1, head // 2, head - 1, head):
        await pool.execute(
            f"update log set at = at - 7200 where seq <= {old} and at > extract(epoch from now()) - 3600"
        )
        assert (await rows())[0] == head - old
    assert (await rows())[1] == 0
    (found,) = await check_growth(settings, lambda _: LEAST_FREE + 1)
    assert found.level == OK, "what does not grow does not fill the disk"


async def test_a_key_of_the_audit_in_its_own_database_is_named(api: Api, tmp_path: Path) -> None:
    settings = _settings(api, tmp_path)
    assert await check_audit_key(settings) == [], "nothing is sealed yet"
    keeper = await api.start(SEALER)
    await keeper.stop()
    await submit(api)
    await seal_all(keeper.first)
    (found,) = await check_audit_key(settings)
    assert (found.level, "ARAGORA_AUDIT_SIGNING_KEY" in found.advice) == (WARNING, True)
    assert "audit key" in {finding.check for finding in await examine(settings, PATIENT_S)}
    assert await check_audit_key(settings.model_copy(update={"database_url": None})) == [], (
        "an embedded one has no other"
    )
    for head in ("replace(head, '\"self_signed\":true', '\"self_signed\":false')", "'damaged'", "'[]'"):
        await api.stores.pool.execute(f"update audit_checkpoints set head = {head}")
        assert await check_audit_key(settings) == [], head


async def test_a_table_of_mostly_dead_rows_is_named(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.cli.checks import stores

    monkeypatch.setattr(stores, "DEAD_ROWS", 5)
    settings = _settings(api, tmp_path)
    assert len(await check_growth(settings)) == 1
    pool = api.stores.pool
    await pool.execute("create table worn (n int) with (autovacuum_enabled = false)")
    await pool.execute("insert into worn select generate_series(1, 50)")
    await pool.execute("delete from worn where n > 10")
    await pool.execute("select pg_stat_force_next_flush()")
    await pool.execute("analyze worn")
    _, found = await check_growth(settings)
    assert (found.level, "worn has 40 dead rows and 10 living" in found.detail) == (WARNING, True), found


# --- certificates ------------------------------------------------------------------------------------------------


async def _certificates(api: Api, settings: Settings) -> list[Finding]:
    async with client(settings) as calls:
        return await check_certificates(settings, calls)


async def test_certificates_of_agents_are_seen_before_they_expire(api: Api, tmp_path: Path) -> None:
    for days, level, said in ((-1, PROBLEM, "has expired"), (3, WARNING, "expires at"), (15, OK, "1 seen")):
        async with tls_server(timedelta(days=days)) as port:
            for name in ("b", "a"):
                body = {"agent_id": name, "endpoint": f"https://127.0.0.1:{port}/{name}", "capabilities": [name]}
                await api.post("/agents", body)
            (found,) = await _certificates(api, _settings(api, tmp_path))
        assert (found.level, said in found.detail) == (level, True), found
        assert level == OK or f"agent a at 127.0.0.1:{port}" in found.detail


async def test_certificates_of_stores_and_of_the_file_are_seen_too(api: Api, tmp_path: Path) -> None:
    key, file = tmp_path / "cert.key", tmp_path / "cert.pem"
    for each, text in zip((key, file), self_signed(timedelta(days=-2)), strict=True):
        each.write_bytes(text)
    async with (
        tls_server(timedelta(days=-3), is_postgres=True) as postgres,
        tls_server(timedelta(days=5)) as redis,
        silent_server() as silent,
    ):
        await api.post("/agents", {"agent_id": "mute", "endpoint": f"https://127.0.0.1:{silent}/"})
        settings = _settings(
            api,
            tmp_path,
            tls_enabled=True,
            tls_cert_file=file,
            tls_key_file=key,
            database_url=SecretStr(f"postgresql://u:p@127.0.0.1:{postgres}/d"),
            redis_url=SecretStr(f"rediss://127.0.0.1:{redis}/0"),
        )
        found = [(finding.level, finding.detail.split(" at ")[0]) for finding in await _certificates(api, settings)]
        own = f"ARAGORA_TLS_CERT_FILE {file}"
        for each, text in zip((key, file), self_signed(timedelta(days=9)), strict=True):
            each.write_bytes(text)
        soon = [finding for finding in await _certificates(api, settings) if finding.detail.startswith(own)]
        file.unlink()
        gone = [finding for finding in await _certificates(api, settings) if "cannot be read" in finding.detail]
    assert [(finding.level, finding.advice) for finding in soon] == [(WARNING, "Renew it.")]
    assert [finding.level for finding in gone] == [PROBLEM]
    found = [(level, "own" if detail.startswith(f"{own} has expired") else detail) for level, detail in found]
    assert set(found) == {
        (PROBLEM, "own"),
        (PROBLEM, "that of PostgreSQL"),
        (WARNING, "that of Redis"),
    }


@pytest.mark.parametrize(
    ("url", "places"),
    [
        ("https://a", ["a:443"]),
        ("https://u:p@[::1]:8443/x?y", ["::1:8443"]),
        ("http://a", []),
        ("redis://a", []),
        ("rediss://:p@a/0", ["a:6379"]),
        ("postgresql://u@a,b:6000/d", ["a:5432", "b:6000"]),
        ("postgres://u@a/d?sslmode=disable", []),
        ("postgresql:///d?host=/run/postgresql", []),
        ("https://[", []),
        ("https://a:99999", []),
        ("", []),
    ],
)
def test_the_servers_of_a_url_that_may_show_a_certificate(url: str, places: list[str]) -> None:
    assert [f"{server.host}:{server.port}" for server in servers(url, "x")] == places


# --- HAProxy's hard stop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "level"),
    [
        ({}, OK),
        ({HARD_STOP: str(HAPROXY_HARD_STOP_S)}, OK),
        ({HARD_STOP: str(LONGEST_CALL_S)}, OK),
        ({HARD_STOP: "30"}, PROBLEM),
        ({HARD_STOP: "5"}, PROBLEM),
        ({HARD_STOP: "soon"}, OK),
    ],
)
async def test_a_hard_stop_below_the_longest_call_is_a_problem(
    tmp_path: Path, environment: Mapping[str, str], level: str
) -> None:
    settings = load_settings({"ARAGORA_DATA_DIR": str(tmp_path)})
    (found,) = await check_hard_stop(settings, environment)
    assert (found.level, bool(found.advice)) == (level, level == PROBLEM)


@pytest.mark.parametrize(("running", "level"), [(True, PROBLEM), (False, OK)])
async def test_the_hard_stop_of_an_haproxy_that_runs_counts(tmp_path: Path, running: bool, level: str) -> None:
    settings = load_settings({"ARAGORA_DATA_DIR": str(tmp_path)})
    layout = Layout.of(settings.data_dir)
    layout.create()
    node = layout.sockets / "h" / "node"
    node.mkdir(parents=True)
    (node / "haproxy.cfg").write_text("global\n    hard-stop-after 5s\n")
    (node / CURRENT).write_text(str(os.getpid() if running else 2**22 + 1))
    (found,) = await check_hard_stop(settings, {HARD_STOP: "40"})
    assert (found.level, " is 5," in found.detail) == (level, running)


@pytest.mark.parametrize(("hard_stop_s", "warns"), [(30, True), (40, False)])
async def test_the_api_warns_of_the_hard_stop_of_its_own_haproxy(
    store_urls: StoreUrls, schema: str, hard_stop_s: int, warns: bool
) -> None:
    api = Api(api_settings(store_urls, schema))
    api.app = make_ingress(api.settings, api._resolve, api.deaths.append, hard_stop_s=hard_stop_s)
    api.witness = Witness(api.app)
    async with api.running(()):
        components = (await api.client.get("/health/detailed")).json()["components"]
        assert (await api.client.get("/health")).status_code == 200
    found = [warning for part in components if part["name"] == "HAProxy" for warning in part["warnings"]]
    assert [HARD_STOP in warning for warning in found] == [True] * warns


# --- the command -------------------------------------------------------------------------------------------------


async def _run(*words: str, **environment: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(Path(sys.executable).with_name("aragora-cp"), "doctor", *words),
        stdout=asyncio.subprocess.PIPE,
        env=clean_environment(**environment),
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, out.decode()


async def test_a_doctor_whose_stores_and_api_hang_ends_and_says_so(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        api, database, redis = [await stack.enter_async_context(silent_server()) for _ in range(3)]
        code, out = await _run(
            "--json",
            ARAGORA_API_URL=f"http://127.0.0.1:{api}",
            ARAGORA_DATABASE_URL=f"postgresql://u:p@127.0.0.1:{database}/d",
            ARAGORA_REDIS_URL=f"redis://127.0.0.1:{redis}/0",
            ARAGORA_DATA_DIR=str(tmp_path),
        )
    found = {finding["check"]: finding for finding in json.loads(out)}
    assert code == 4
    assert found["tables"]["detail"] == "not tried: the database does not answer"
    for check in ("API", "database", "redis"):
        assert found[check]["level"] == PROBLEM, check
        assert "answer" in found[check]["detail"], found[check]
        assert found[check]["advice"]


async def test_a_sound_system_has_exit_code_0_in_both_forms(api: Api, tmp_path: Path) -> None:
    await api.start_health_monitor()
    await api.start(SEALER)
    assert api.settings.database_url is not None
    assert api.settings.redis_url is not None
    environment = {
        "ARAGORA_API_URL": api.url,
        "ARAGORA_DATABASE_URL": api.settings.database_url.get_secret_value(),
        "ARAGORA_DATABASE_SCHEMA": api.settings.database_schema,
        "ARAGORA_REDIS_URL": api.settings.redis_url.get_secret_value(),
        "ARAGORA_DATA_DIR": str(tmp_path),
    }
    (code, out), (plain_code, plain) = await asyncio.gather(_run("--json", **environment), _run(**environment))
    found = json.loads(out)
    assert (code, plain_code) == (0, 0), (out, plain)
    assert all(finding["check"] in plain for finding in found)
