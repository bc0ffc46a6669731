"""The audit over HTTP: entries with their place in the chain, for those who may see them, and whether the log is sound."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from actors.roles import SEALER
from actors.sealer import Sealer
from cluster.cli.main import app as cli
from cluster.domain.audit.chain import entry_hash, row_leaf
from cluster.domain.base.log import LogRecord
from serve_app.routes import audit as audit_routes
from tests.actors.test_sealer import seal_all
from tests.support.api import Api, in_thread
from tests.support.samples import system_event
from tests.support.system import clean_environment

#: The workspace of `api_settings`.
HOME = "default"


@pytest.fixture
async def sealer(api: Api) -> Sealer:
    """The deployment's sealer; its loops stand still behind a clock of theirs."""
    keeper = await api.start(SEALER)
    await keeper.stop()
    actor: Sealer = keeper.first
    return actor


def _event(kind: str, entity: str = "e", **changes: Any) -> LogRecord:
    values: dict[str, Any] = {
        "at": datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp(),
        "workspace": HOME,
        "principal": "user:ada",
    }
    return LogRecord(kind=kind, entity=entity, **(values | changes))


async def test_an_entry_is_a_row_with_its_place_in_the_chain(api: Api, sealer: Sealer) -> None:
    await api.stores.log.append([system_event("before")])
    task_id = (await api.post("/tasks", {"task_type": "echo"}))["task_id"]
    page = await api.get("/audit?actions=task.submitted")
    (entry,) = page["entries"]
    assert (entry["resource_id"], entry["resource_type"], entry["workspace_id"]) == (task_id, "task", HOME)
    assert (entry["actor"]["type"], entry["actor"]["id"]) == ("user", "user:local-admin")
    assert (entry["entry_hash"], entry["previous_hash"]) == (None, None), "null until it is sealed"
    assert page["query"] == {"limit": 100, "offset": 0}
    await seal_all(sealer)
    sealed = await api.get(f"/audit-logs/{entry['entry_id']}")
    (row,) = [row for row in await api.stores.log.read(0, 100) if row.seq == entry["sequence_number"]]
    leaf = row_leaf(row.seq, row.at, row.v, row.digest)
    assert sealed["entry_hash"] == entry_hash(bytes.fromhex(sealed["previous_hash"]), leaf).hex()
    assert sealed | {"entry_hash": None, "previous_hash": None} == entry
    first = await api.stores.audit.entry((await api.stores.log.read(0, 1))[0].workspace, 1)
    assert first is not None
    assert (first.previous_hash, first.entry_hash is None) == (None, False), "nothing is before the first row"


async def test_entries_are_chosen_and_counted(api: Api) -> None:
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
    await api.stores.log.append(
        [
            _event("system.failed", "a", private={"error": "Out of paper."}),
            _event("test.done", "b", principal="key:k1"),
            _event("system.done", "c", at=noon + 3600),
            _event("system.done", "d", workspace="elsewhere"),
        ]
    )

    async def found(query: str) -> list[str]:
        page = await api.get(f"/audit?{query}")
        assert page["total"] == len(page["entries"])
        assert page["total_exact"]
        return [entry["resource_id"] for entry in page["entries"] if entry["resource_id"] in "abcd"]

    assert await found("limit=1000") == ["c", "b", "a"]
    assert await found("actions=system.failed,test.done") == ["b", "a"]
    assert await found("actor_types=key") == ["b"]
    assert await found("actor_ids=user:ada") == ["c", "a"]
    assert await found("resource_types=system") == ["c", "a"]
    assert await found("start_time=2026-01-31T12:30:00Z&end_time=2026-01-31T14:30:00%2B01:00") == ["c"]
    assert await found("start_time=2026-01-31T12:00:00&end_time=2026-01-31T12:00:00") == ["b", "a"]
    assert await found(f"workspace_ids={HOME}&resource_types=system") == ["c", "a"]
    second = await api.get("/audit-logs?limit=1&offset=1")
    assert [entry["resource_id"] for entry in second["entries"]] == ["b"]
    assert second["total"] == (await api.get("/audit/stats"))["total_entries"] >= 3
    failed = (await api.get("/audit?actions=system.failed"))["entries"][0]
    assert (failed["outcome"], failed["error_message"], failed["timestamp"]) == (
        "failure",
        "Out of paper.",
        "2026-01-31T12:00:00.000000+00:00",
    )


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/audit?start_time=yesterday", 400),
        ("/audit?start_time=0001-01-01T00:00:00Z", 400),
        ("/audit?end_time=9999-12-31T23:59:59-12:00", 400),
        ("/audit?limit=1001", 400),
        ("/audit?actions=" + "a," * 101, 400),
        ("/audit?actions=%00", 400),
        ("/audit?actions=%20", 400),
        ("/audit?actor_ids=,%20,", 400),
        ("/audit?action=task.failed", 400),
        ("/audit?workspace_ids=elsewhere", 403),
        ("/audit/verify?start_seq=-1", 400),
        ("/audit/verify?start_seq=5&end_seq=4", 400),
        ("/audit-logs/9999999", 404),
        ("/audit-logs/99999999999999999999", 404),
        ("/audit-logs/x", 404),
        ("/audit-logs/%D9%A1", 404),
    ],
)
async def test_bad_input_is_told(api: Api, path: str, status: int) -> None:
    answer = await api.call("GET", path)
    assert answer.status_code == status, answer.text
    assert answer.json()["code"]


async def test_an_entry_of_another_workspace_is_not_there(api: Api) -> None:
    (seq,) = await api.stores.log.append([_event("system.done", workspace="elsewhere")])
    assert (await api.call("GET", f"/audit-logs/{seq}")).status_code == 404


async def test_verify_says_how_far_and_names_the_first_bad_row(api: Api, sealer: Sealer) -> None:
    await api.stores.log.append([system_event(f"e{n}") for n in range(20)])
    await seal_all(sealer)
    stats = await api.get("/audit/stats")
    head = stats["sealed_through"]
    assert head == await api.stores.log.head()
    report = await api.get("/audit/verify")
    assert (report["valid"], report["end_seq"], report["first_bad_seq"]) == (True, head, None)
    assert report["self_signed"], "the embedded key is in the database"
    for path in (
        "/audit/verify?start_seq=7",
        "/audit/verify?start_seq=3&end_seq=9",
        f"/audit/verify?start_seq={head + 1}",
    ):
        assert (await api.get(path))["valid"], path
    await api.stores.pool.execute("update log set principal = 'forged' where seq = 9")
    for path in ("/audit/verify", "/audit/verify?start_seq=7"):
        report = await api.get(path)
        assert (report["valid"], report["first_bad_seq"]) == (False, 9)
        assert "Row 9" in report["message"]
    assert (await api.get("/audit/verify?start_seq=10"))["valid"]
    await api.stores.pool.execute("delete from log where seq = $1", head)
    assert (await api.get("/audit/verify?start_seq=10"))["first_bad_seq"] == head


async def test_verify_knows_that_the_log_was_cut_before_a_checkpoint(api: Api, sealer: Sealer) -> None:
    await api.stores.log.append([system_event(f"e{n}") for n in range(3)])
    await seal_all(sealer)
    head = await api.stores.log.head()
    await api.stores.log.append([system_event("last")])
    await seal_all(sealer)
    await api.stores.pool.execute("delete from log where seq > $1", head)
    report = await api.get("/audit/verify")
    assert (report["valid"], report["first_bad_seq"], report["end_seq"]) == (False, head + 1, head)
    assert (await api.get(f"/audit/verify?end_seq={head}"))["valid"]


@pytest.mark.parametrize(
    "change",
    ["head = 'x'", "entries = ''", "first_seq = -9223372036854775808", "last_seq = 9223372036854775807"],
    ids=["words", "empty", "early", "late"],
)
async def test_a_damaged_checkpoint_fails_no_read(api: Api, sealer: Sealer, change: str) -> None:
    for entity in ("a", "b", "c"):
        await api.stores.log.append([_event("system.done", entity)])
        await seal_all(sealer)
    head = await api.stores.log.head()
    await api.stores.pool.execute(f"update audit_checkpoints set {change} where first_seq = $1", head)
    report = await api.get("/audit/verify")
    assert (report["valid"], report["end_seq"]) == (False, head)
    assert "its checkpoint has lost its form" in report["message"]
    assert (await api.get(f"/audit/verify?end_seq={head - 1}"))["valid"], "another one covers these"
    listed = (await api.get("/audit"))["entries"]
    assert [entry["resource_id"] for entry in listed][:3] == ["c", "b", "a"]
    assert (await api.get("/audit/stats"))["sealed_through"] >= head
    exported = await api.call("GET", "/audit/export")
    assert [json.loads(line) for line in exported.text.splitlines()] == listed[::-1]


async def test_verify_of_a_long_log_goes_on_where_it_stopped(
    api: Api, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.log.audit.ROWS_MAX", 8)
    for n in range(6):
        await api.stores.log.append([system_event(f"e{n}{m}") for m in range(5)])
        await seal_all(sealer)
    head, start, calls = await api.stores.log.head(), 0, 0
    while start <= head:
        report = await api.get(f"/audit/verify?start_seq={start}")
        assert report["valid"]
        calls += 1
        start = report["end_seq"] + 1
    assert calls > 2
    assert report["message"] == "The rows are valid against the checkpoints in the database."


async def test_the_released_client_reads_the_audit(api: Api, sealer: Sealer) -> None:
    await api.stores.log.append([_event("system.done")])
    await seal_all(sealer)
    audit = api.sdk().control_plane
    entry = (await in_thread(audit.get_audit))["entries"][0]
    assert (await in_thread(audit.get_audit_logs, limit=1))["entries"] == [entry]
    assert await in_thread(audit.get_audit_log, entry["entry_id"]) == entry
    assert (await in_thread(audit.get_audit_stats))["last_hash"] == (await api.stores.seals.sealed())[1]
    assert (await in_thread(audit.verify_audit))["valid"]


async def test_the_command_lists_entries(api: Api, sealer: Sealer) -> None:
    await api.stores.log.append([_event("test.done", "one"), _event("system.done", "two")])
    await seal_all(sealer)
    environment = clean_environment(ARAGORA_API_URL=api.url)

    async def run(*words: str) -> str:
        result = await in_thread(CliRunner().invoke, cli, ["audit", "list", *words], env=environment)
        assert result.exit_code == 0, result.output
        return result.output

    entries = json.loads(await run("--json", "--limit", "2"))["entries"]
    assert [entry["resource_id"] for entry in entries] == ["two", "one"]
    shown = await run("--actions", "test.done", "--actors", "user:ada", "--since", "2026-01-01T00:00:00Z")
    assert entries[1]["entry_hash"][:8] in shown
    assert "system.done" not in shown


async def test_an_export_has_every_entry_in_each_form(
    api: Api, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_routes, "EXPORT_ROWS", 3)
    events = [_event("system.done", f"e{n}", private={"note": f"words {n}"}) for n in range(10)]
    await api.stores.log.append([*events, _event("system.done", "theirs", workspace="elsewhere")])
    await seal_all(sealer)
    listed = (await api.get("/audit?limit=1000"))["entries"][::-1]

    async def lines(query: str) -> list[str]:
        answer = await api.call("GET", f"/audit/export?{query}")
        assert answer.status_code == 200, answer.text
        assert "theirs" not in answer.text
        return answer.text.splitlines()

    assert [json.loads(line) for line in await lines("format=json")] == listed
    rows = list(csv.DictReader(await lines("format=csv")))
    assert [row["seq"] for row in rows] == [entry["entry_id"] for entry in listed]
    assert [row["entry_hash"] for row in rows] == [entry["entry_hash"] for entry in listed]
    syslog = await lines("format=syslog")
    assert all(f'seq="{entry["entry_id"]}"' in line for entry, line in zip(listed, syslog, strict=True))
    assert [json.loads(line) for line in await lines(f"after={listed[-2]['entry_id']}")] == listed[-1:]
    assert await lines("start_time=2100-01-01") == [], "rows that are passed over do not end it"
    wrong = await api.call("GET", "/audit/export?start_time=never")
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_start_time")


@pytest.mark.parametrize(
    "change", ["data = '[1]'", "data = '7'", "private = 'nonsense'", "private = '[]'", "at = 'NaN'", "at = 1e300"]
)
async def test_a_row_that_somebody_changed_is_shown_as_such(api: Api, change: str) -> None:
    await api.stores.log.append([_event("system.done", f"e{n}", private={"note": "n"}) for n in range(3)])
    await api.stores.pool.execute(f"update log set {change} where entity = 'e1'")
    answer = await api.call("GET", "/audit?actions=system.done")
    assert answer.status_code == 200, answer.text
    entries = {entry["resource_id"]: entry for entry in answer.json()["entries"]}
    assert "audit verify" in entries["e1"]["error_message"]
    assert entries["e1"]["details"] == {}
    assert entries["e0"]["details"] == entries["e2"]["details"] == {"note": "n"}
    assert (await api.get(f"/audit-logs/{entries['e1']['entry_id']}")) == entries["e1"]
    for form in ("json", "csv", "syslog"):
        exported = (await api.call("GET", f"/audit/export?format={form}")).text
        assert [name in exported for name in ("e0", "e1", "e2")] == [True, True, True]


async def test_an_export_ends_whatever_number_somebody_gave_a_row(api: Api) -> None:
    await api.stores.log.append([_event("system.done", f"e{n}") for n in range(3)])
    await api.stores.pool.execute("update log set seq = 99999 where entity = 'e2'")
    lines = (await api.call("GET", "/audit/export")).text.splitlines()
    assert [json.loads(line)["resource_id"] for line in lines][-3:] == ["e0", "e1", "e2"]
