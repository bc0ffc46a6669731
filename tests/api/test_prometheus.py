"""A real Prometheus scrapes a control plane that has worked: no rule and no panel asks for what is not there.

Whether an alert fires is tried with promtool (tests/repository/test_alerts.py). Here a query is right if it returns data: that of
a panel as it is, and of an alert each of its selectors, as the rest of it is empty while nothing is wrong. Only what has no
series in a region without peers and without TLS may be missing.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from actors.roles import TELEMETRY
from cluster.domain.base.log import LogRecord
from cluster.domain.metrics import Increment
from cluster.embedded.ports import free_ports
from scripts.docs.metrics_page import rules
from tests.support.api import Api
from tests.support.docs import ROOT
from tests.support.probes import eventually
from tests.support.task_api import TaskApi

PROMETHEUS = shutil.which("prometheus")
pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="Prometheus is not installed (Debian's package prometheus)")
_SELECTOR = re.compile(r"\b(?:aragora_\w+|up)(?:\{[^}]*\})?")
#: What only a region with peers, or a front with TLS, has.
ABSENT = {
    "aragora_cp_region_in_sync",
    "aragora_cp_replication_lag_rows",
    "aragora_cp_replication_silent_seconds",
    "aragora_cp_certificate_not_after_seconds",
}


class Prometheus:
    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.url = url
        self._client = client

    async def get(self, path: str, **query: str) -> Any:
        answer = await self._client.get(f"{self.url}{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def query(self, expression: str) -> list[Any]:
        found = (await self.get("/api/v1/query", query=expression))["result"]
        assert isinstance(found, list)
        return found

    async def scraped(self, times: int) -> bool:
        """Whether the control plane was scraped so often."""
        (count,) = await self.query("count_over_time(up[5m])") or [{"value": (0, "0")}]
        return int(count["value"][1]) >= times

    async def is_ready(self) -> bool:
        try:
            return (await self._client.get(f"{self.url}/-/ready")).status_code == 200
        except httpx.TransportError:
            return False


def _started(directory: Path, target: str, port: int) -> subprocess.Popen[bytes]:
    """One that scrapes the target every second, by the configuration that we ship, and has loaded its rules."""
    monitoring = ROOT / "docs" / "monitoring"
    config = yaml.safe_load((monitoring / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(monitoring / file) for file in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    assert PROMETHEUS is not None
    options = {
        "config.file": directory / "prometheus.yml",
        "storage.tsdb.path": directory / "data",
        "web.listen-address": f"127.0.0.1:{port}",
        "log.level": "warn",
    }
    words = [PROMETHEUS, *(f"--{name}={value}" for name, value in options.items())]
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(words, stdout=log, stderr=log)


@asynccontextmanager
async def prometheus(directory: Path, target: str) -> AsyncIterator[Prometheus]:
    (port,) = free_ports(1)
    process = _started(directory, target, port)
    try:
        async with httpx.AsyncClient(timeout=20, verify=False) as client:
            running = Prometheus(f"http://127.0.0.1:{port}", client)
            await eventually(running.is_ready, what="Prometheus is ready")
            yield running
    finally:
        process.kill()
        process.wait()


async def _work(api: Api) -> None:
    """Something of everything that is counted."""
    tasks = TaskApi(api)
    await tasks.agent("a1", capabilities=["x"])
    await tasks.submit("t")
    await tasks.complete(await tasks.claim_one("a1"))
    await tasks.submit("t", max_retries=0)
    await tasks.fail(await tasks.claim_one("a1"))
    ended = {"status": "completed", "consensus_reached": True, "duration_seconds": 7.0, "sla_level": "compliant"}
    for kind, data in {"admitted": {"mode": "sync"}, "completed": {**ended, "confidence": 0.9}}.items():
        record = LogRecord(
            at=api.resources.clock.now(), workspace="default", kind=f"deliberation.{kind}", entity="d1",
            principal="system", data=data,
        )  # fmt: skip
        await api.stores.log.append([record])
    await tasks.submit("waits")
    telemetry = api.actor(TELEMETRY)
    await telemetry.push([Increment(name="aragora_cp_commit_failures_total", labels=("53",))])
    await telemetry.show("aragora_cp_actor_memory_bytes", {("scheduler-0",): 1e8})
    await telemetry.measure()


def _panels() -> list[str]:
    dashboard = json.loads((ROOT / "docs" / "dashboards" / "control-plane.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def _names(expression: str) -> set[str]:
    return {selector.partition("{")[0] for selector in _SELECTOR.findall(expression)}


async def test_every_panel_and_alert_finds_its_metrics(api: Api, tmp_path: Path) -> None:
    await _work(api)
    async with prometheus(tmp_path, api.url.removeprefix("http://")) as running:
        await eventually(lambda: running.scraped(3), what="three scrapes")
        (up,) = await running.query("up")
        assert up["value"][1] == "1", await running.get("/api/v1/targets")
        empty = []
        for expression in _panels():
            if not await running.query(expression.replace("$__rate_interval", "1m")):
                empty.append(expression)
        for selector in {each for rule in rules() for each in _SELECTOR.findall(rule["expr"])}:
            if not await running.query(selector):
                empty.append(selector)
        assert not [expression for expression in empty if not _names(expression) <= ABSENT]
        assert set().union(*map(_names, empty)) == ABSENT
        assert await running.query("max(aragora_cp_dead_letters)")

        async def evaluated() -> list[Any]:
            loaded = [rule for group in (await running.get("/api/v1/rules"))["groups"] for rule in group["rules"]]
            return loaded if loaded and all(rule["health"] != "unknown" for rule in loaded) else []

        loaded = await eventually(evaluated, what="all rules were evaluated")
        assert {rule["name"]: rule["health"] for rule in loaded} == {rule["alert"]: "ok" for rule in rules()}
        assert not [rule["name"] for rule in loaded if rule["state"] == "firing"]
