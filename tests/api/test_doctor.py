"""The doctor on systems that are sound and that are not."""

from __future__ import annotations

from pathlib import Path

from cluster.cli.commands.doctor import OK, PROBLEM, WARNING, examine
from tests.api.test_worker import submit
from tests.support.api import Api


async def test_the_doctor_names_tasks_that_no_agent_can_take(api: Api, tmp_path: Path) -> None:
    settings = api.settings.model_copy(update={"api_url": api.url, "data_dir": tmp_path})
    levels = {finding.check: finding.level for finding in await examine(settings)}
    assert {check for check, level in levels.items() if level == PROBLEM} <= {"component health-monitor-0"}
    assert {levels[check] for check in ("API", "database", "redis", "retries", "waiting tasks")} == {OK}
    await submit(api)
    found = {finding.check: finding for finding in await examine(settings)}["waiting tasks"]
    assert (found.level, "x" in found.detail, found.advice != "") == (WARNING, True, True)


async def test_the_doctor_says_what_to_do_about_missing_parts(tmp_path: Path) -> None:
    from cluster.settings import load_settings

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
