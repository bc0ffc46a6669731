"""What a request leaves in the process logs: lines with its trace id, and nothing of its body."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.telemetry.log_files import API, OWN, begin_logging, end_logging
from cluster.telemetry.log_lines import LoggedRecord
from cluster.telemetry.log_reader import MergedLogs
from tests.support.api import CP, Api
from tests.support.probes import eventually

SECRET = "a word of the payload"


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Path]:
    """The application and the actors of these tests are one process, which logs as a replica of the API does."""
    begin_logging("api", API, "debug", directory=tmp_path, most_bytes=10_000_000)
    yield tmp_path
    end_logging()


def logged(logs: Path, trace: str | None = None) -> list[LoggedRecord]:
    merged = MergedLogs()
    merged.add(logs / f"{name}.log" for name in OWN)
    return list(merged.read(trace))


async def test_each_of_many_requests_has_its_line_and_no_other(api: Api, logs: Path) -> None:
    """They share group commits, which one of them starts; what is written there is nobody's."""

    async def submit(n: int) -> None:
        headers = {"X-Request-Id": f"trace-{n}"}
        body = {"task_type": "echo", "payload": {"text": SECRET}}
        response = await api.client.post(f"{CP}/tasks?secret={n}", json=body, headers=headers)
        assert response.headers["x-trace-id"] == f"trace-{n}"

    await asyncio.gather(*(submit(n) for n in range(40)))
    for n in range(40):
        (line,) = logged(logs, f"trace-{n}")
        assert f"trace-{n} serve_app.requests: POST {CP}/tasks answered 201 in " in line.text
        assert line.text.endswith(" ms for 127.0.0.1")
    everything = "\n".join(record.text for record in logged(logs))
    assert SECRET not in everything
    assert "secret=" not in everything


@pytest.mark.parametrize("name", ["X-Forwarded-For", "x-forwarded-for"])
@pytest.mark.parametrize("said", ["203.0.113.9", "203.0.113.9, 127.0.0.1", "203.0.113.9:80"])
async def test_nobody_is_believed_about_the_client_without_trusted_proxies(
    api: Api, logs: Path, name: str, said: str
) -> None:
    """Neither by our code nor by the server before it, which believes loopback unless it is told not to."""
    await api.client.post(f"{CP}/tasks", json={"task_type": "t"}, headers={name: said, "X-Request-Id": "claims"})
    # A slow store may say something too while the call goes on.
    (line,) = [line for line in logged(logs, "claims") if " serve_app.requests: " in line.text]
    assert line.text.endswith(" for 127.0.0.1")


async def test_an_error_that_nobody_expected_is_logged_with_its_trace(api: Api, logs: Path) -> None:
    """A table that is gone, on the way of plain calls and on FastAPI's."""
    await api.stores.pool.execute("alter table controls rename to elsewhere")
    for trace, origin in (("broken-1", {}), ("broken-2", {"Origin": api.url})):
        headers = {"X-Request-Id": trace, **origin}
        response = await api.client.post(f"{CP}/queue/pause", json={"kind": "queue", "name": "q"}, headers=headers)
        assert (response.status_code, response.json()["code"]) == (500, "internal_error")
        error, line = sorted(logged(logs, trace), key=lambda record: "answered 500" in record.text)
        assert "serve_app: a request failed unexpectedly\n    Traceback" in error.text
        assert "UndefinedTableError" in error.text.split("\n")[-1]
        assert "WARNING" in line.text


async def test_a_deliberations_actor_logs_the_trace_of_its_request(api: Api, logs: Path) -> None:
    headers = {"X-Request-Id": "asked-here"}
    await api.client.post(f"{CP}/deliberations", json={"content": "Why?", "async": True}, headers=headers)

    def actors() -> list[str]:
        return [record.text for record in logged(logs, "asked-here") if " actors.deliberation.worker: " in record.text]

    await eventually(lambda: any("is run from its beginning" in text for text in actors()))
