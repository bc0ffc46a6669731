"""``aragora-cp region scan-residency`` on the files of real servers, with a payload that was planted there and without it."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from cluster.domain.base.log import Origin
from cluster.embedded.postgres import EmbeddedPostgres, _binaries
from cluster.ports.tasks import SubmitItem
from cluster.postgres.migrate import migrate
from cluster.postgres.stores import Stores, open_stores
from regions.scanner.pages import CHUNK
from tests.support.access import a_workspace
from tests.support.samples import new_task
from tests.support.stores import own_stores
from tests.support.system import clean_environment

SCHEMA = "aragora"
ASKER = Origin(workspace="eu-w", principal="user:tester")
#: Where each is planted → its text.
PLANTED = {
    "small": "the first patient is told on Monday",
    "compressed": 'the second "patient" is told on Tüsday',
    "chunks": "the third patient is told on Wednesday",
    "compressed chunks": "the fourth patient is told on Thursday",
}


@asynccontextmanager
async def region(postgres: EmbeddedPostgres) -> AsyncIterator[Stores]:
    await migrate(postgres.url, SCHEMA)
    stores = await open_stores(postgres.url, SCHEMA, "eu-1")
    try:
        await stores.access.create_workspace(ASKER, a_workspace("eu-w", name="eu", zone="eu"))
        await submit(stores, "t0", {"text": "what may be anywhere, and is in no list of markers"})
        yield stores
    finally:
        await stores.close()


async def submit(stores: Stores, task_id: str, payload: dict[str, Any]) -> None:
    await stores.tasks.submit([SubmitItem(task=new_task(id=task_id, origin=ASKER, payload=payload))])


async def plant(stores: Stores, url: str) -> None:
    """Each text in one value, which the server keeps in another form each."""
    await submit(stores, "t1", {"text": PLANTED["small"]})
    await submit(stores, "t2", {"text": "lorem ipsum dolor " * 200 + PLANTED["compressed"] + "sit amet " * 200})
    chance = random.Random(5)
    noise = base64.b64encode(chance.randbytes(9000)).decode()
    words = " ".join(
        f"{chance.choice(('red', 'green', 'blue', 'white'))} {chance.randrange(10**6)}" for _ in range(9000)
    )
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("create table odd (chunks text storage external, words text)")
        at = 2 * CHUNK - len(PLANTED["chunks"]) // 2
        await connection.execute(
            "insert into odd values ($1, $2)",
            noise[:at] + PLANTED["chunks"] + noise[at:],
            words[:99_000] + PLANTED["compressed chunks"] + words[99_000:],
        )
        found = await connection.fetchrow(
            "select pg_column_compression(words), pg_column_size(words), pg_column_compression(chunks) from odd"
        )
        assert (found[0], found[1] > 10 * CHUNK, found[2]) == ("pglz", True, None)
    finally:
        await connection.close()


async def checkpoint(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("checkpoint")
    finally:
        await connection.close()


async def scan(*words: str | Path, url: str = "postgresql://nobody@localhost:1/none") -> tuple[int, dict[str, Any]]:
    environment = {**clean_environment(), "ARAGORA_DATABASE_URL": url, "ARAGORA_DATABASE_SCHEMA": SCHEMA}
    command = [sys.executable, "-m", "cluster.cli.main", "region", "scan-residency", "--json", *map(str, words)]
    ran = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in ran.stderr, ran.stderr
    for text in PLANTED.values():
        assert text not in ran.stdout + ran.stderr
    return ran.returncode, json.loads(ran.stdout or "{}")


def dumped(url: str, form: str, to: Path) -> None:
    command = [str(_binaries() / "pg_dump"), f"--format={form}", "-f", str(to), url]
    subprocess.run(command, check=True, capture_output=True)


async def test_data_directories_and_dumps_are_clean_without_payloads(tmp_path: Path) -> None:
    markers = tmp_path / "markers.jsonl"
    markers.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in PLANTED.items()))
    sought = ("--markers", markers)
    with own_stores() as (postgres, _):
        async with region(postgres) as stores:
            await checkpoint(postgres.url)
            code, report = await scan(postgres.data, *sought)
            assert (code, report["found"], report["unread"]) == (0, [], [])
            assert (report["clean"], report["files"] > 900, report["bytes"] > 10**7) == (True, True, True)

            await plant(stores, postgres.url)
            await checkpoint(postgres.url)
            code, report = await scan(postgres.data, *sought)
            assert code == 1
            assert kinds(report, f"{postgres.data}/base/") == {
                ("small", None),
                ("compressed", "compressed value"),
                ("chunks", "value in chunks"),
                ("compressed chunks", "value in chunks"),
            }
            assert {marker for marker, _ in kinds(report, f"{postgres.data}/pg_wal/")} >= {"small", "compressed"}

            for form, inside in (("plain", None), ("custom", "pg_dump"), ("tar", "3")):
                dump = tmp_path / f"dump.{form}"
                dumped(postgres.url, form, dump)
                code, report = await scan(dump, *sought)
                assert (code, {found["marker"] for found in report["found"]}) == (1, set(PLANTED)), form
                if form != "tar":
                    assert {found["inside"] for found in report["found"]} == {inside}

            code, report = await scan(tmp_path / "dump.custom", "--zone", "eu", url=postgres.url)
            assert (code, {found["marker"] for found in report["found"]}) == (
                1,
                {"t0 payload 1", "t1 payload 1", "t2 payload 1"},
            )


def kinds(report: dict[str, Any], under: str) -> set[tuple[str, str | None]]:
    return {(found["marker"], found["inside"]) for found in report["found"] if found["file"].startswith(under)}


async def test_a_zone_without_samples_here_is_refused(tmp_path: Path) -> None:
    with own_stores() as (postgres, _):
        async with region(postgres):
            code, report = await scan(tmp_path, "--zone", "us", url=postgres.url)
            assert (code, report) == (1, {})
            code, _report = await scan(tmp_path, "--zone", "eu", url=postgres.url)
            assert code == 0


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--marker", "short"),
        ("--markers", "missing.txt"),
        ("--markers", "odd.jsonl"),
        ("--marker", "long enough to be looked for", "--samples", "0"),
    ],
)
async def test_wrong_usage_exits_2_and_searches_nothing(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "odd.jsonl").write_text('{"id": 3, "text": "the number is no id"}\n')
    given = [str(tmp_path / word) if word.startswith(("missing", "odd")) else word for word in words]
    assert await scan(tmp_path, *given) == (2, {})
    assert (await scan(tmp_path / "missing", "--marker", "long enough to be looked for"))[0] == 2


async def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")  # a mode without permissions keeps root from nothing
    code, report = await scan(tmp_path, "--marker", "long enough to be looked for")
    assert (code, [Path(each["file"]).name for each in report["unread"]]) == (5, ["a"])
