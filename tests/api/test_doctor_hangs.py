"""What the doctor says while the API's PostgreSQL hangs: one cause, and nothing that it cannot know."""

from __future__ import annotations

from pathlib import Path

from actors.roles import SEALER
from cluster.cli.checks.certificates import NO_AGENTS
from cluster.cli.checks.findings import NOT_TRIED, PROBLEM
from cluster.cli.commands.doctor import examine
from cluster.postgres.migrate import migrate
from tests.support.api import Api, api_settings
from tests.support.hanging import stopped
from tests.support.stores import StoreUrls, fresh_name, own_stores

PATIENT_S = 60.0


async def test_a_database_that_hangs_is_one_cause(tmp_path: Path) -> None:
    with own_stores() as (postgres, redis):
        schema = fresh_name()
        await migrate(postgres.url, schema)
        assert postgres.process is not None
        async with Api(api_settings(StoreUrls(postgres.url, redis.url), schema)).running() as api:
            await api.start_health_monitor()
            await api.start(SEALER)
            changes = {
                "api_url": api.url,
                "data_dir": tmp_path,
                "database_url": None,
                "redis_url": None,
                "embedded": False,
            }
            settings = api.settings.model_copy(update=changes)
            with stopped(postgres.process):
                # Before and after the API has found out.
                looks = [await examine(settings, PATIENT_S), await examine(settings, PATIENT_S)]
    for found in looks:
        assert [finding.check for finding in found if finding.level == PROBLEM] == ["component Database"], found
        details = {finding.check: finding.detail for finding in found}
        assert [details[check] for check in ("breakers", "retries", "waiting tasks")] == [NOT_TRIED] * 3
        assert NO_AGENTS in {finding.detail for finding in found}
