"""``aragora-cp audit``: what has left the database tells what was done to it, offline and with no secret."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import Result
from starlette.requests import Request
from typer.testing import CliRunner

from cluster.cli.main import app
from cluster.domain.base.errors import InvalidRequest, PeerError
from cluster.postgres.stores import Stores
from tests.actors.test_sealer import seal_all, sealer, write
from tests.support.endpoints import serving
from tests.support.receipts import OTHER, SIGNER
from tests.support.samples import system_event
from tests.support.stores import StoreUrls


class Kept:
    """The file that the tests push the checkpoints to, in the directory that the command runs in."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def text(self) -> str:
        return self._path.read_text()

    def put(self, text: str) -> None:
        self._path.write_text(text)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "kept")


class Command:
    """Runs the command with the settings of the stores, or with none."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    async def run(self, *words: str, offline: bool = False) -> Result:
        environment = dict.fromkeys(self._environment) if offline else self._environment
        return await asyncio.to_thread(CliRunner().invoke, app, ["audit", *words], env=environment)

    async def said(self, *words: str) -> str:
        """What another command than ``audit`` says."""
        result = await asyncio.to_thread(CliRunner().invoke, app, list(words), env=self._environment)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    async def done(self, *words: str) -> str:
        result = await self.run(*words)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    async def verified(self, *words: str, offline: bool = False) -> dict[str, Any]:
        result = await self.run("verify", "--json", *words, offline=offline)
        assert result.output, result.exception
        report: dict[str, Any] = json.loads(result.output)
        assert result.exit_code == (0 if report["valid"] else 1)
        return report


@pytest.fixture
def command(store_urls: StoreUrls, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(
        {
            "ARAGORA_DATABASE_URL": store_urls.database,
            "ARAGORA_DATABASE_SCHEMA": schema,
            "ARAGORA_REGION": "test-region",
        }
    )


async def _sealed(stores: Stores, *counts: int) -> None:
    for count in counts:
        await write(stores, count)
        await seal_all(sealer(stores))


async def test_what_was_pushed_is_on_the_disk(
    stores: Stores, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[Path, int]] = []

    def fsync(descriptor: int, to_disk: Callable[[int], None] = os.fsync) -> None:
        to_disk(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        written.append((path, path.stat().st_size if path.is_file() else 0))

    monkeypatch.setattr(os, "fsync", fsync)
    for _ in range(2):
        await _sealed(stores, 3)
        await command.done("checkpoint", "push", "kept")
        kept = tmp_path / "kept"
        assert written == [(kept, kept.stat().st_size), (kept.parent, 0)]
        written.clear()


async def test_an_export_verifies_offline_and_says_what_is_not_covered(stores: Stores, command: Command) -> None:
    await _sealed(stores, 10, 5)
    await command.done("checkpoint", "push", "kept")
    await _sealed(stores, 4)
    await write(stores, 2)
    await command.done("export", "--out", "rows")
    report = await command.verified("--export", "rows", "--checkpoint", "kept", offline=True)
    assert report == {
        "valid": True,
        "first_bad_seq": None,
        "reason": None,
        "checked_from": 1,
        "checked_through": 21,
        "covered_from": 1,
        "uncovered_from": 16,
        "forks": [],
        "against": "kept",
        "self_signed": False,
        "key_ids": [SIGNER.key_id],
        "erased": 0,
    }
    assert (await command.verified("--export", "rows", offline=True))["uncovered_from"] == 20
    assert (await command.verified("--checkpoint", "kept"))["valid"], "also from the database"
    words = (await command.run("verify")).output
    assert "could have rewritten these checkpoints too" in " ".join(words.split())


@pytest.mark.parametrize(
    ("damage", "bad"),
    [
        ("update log set entity = 'E3' where seq = 4", 4),
        ("delete from log where seq = 15", 15),
        ("delete from log where seq > 10; delete from audit_checkpoints where last_seq > 10", 11),
    ],
)
async def test_damage_is_named_against_what_has_left(stores: Stores, command: Command, damage: str, bad: int) -> None:
    await _sealed(stores, 10, 5)
    await command.done("checkpoint", "push", "kept")
    await stores.pool.execute(damage)
    await write(stores, 8, "later")
    await seal_all(sealer(stores))
    await command.done("export", "--out", "rows")
    for words in (("--export", "rows"), ()):
        report = await command.verified("--checkpoint", "kept", *words, offline=bool(words))
        assert (report["valid"], report["first_bad_seq"]) == (False, bad)
    assert f"row {bad}" in (await command.run("verify", "--checkpoint", "kept")).output


async def test_a_file_that_was_changed_proves_nothing(stores: Stores, command: Command, kept: Kept) -> None:
    await _sealed(stores, 3)
    await command.done("checkpoint", "push", "kept")
    line = kept.text()
    kept.put(line.replace('"epoch":1', '"epoch":2'))
    assert (await command.verified("--checkpoint", "kept"))["first_bad_seq"] == 1
    kept.put(line[:-20])
    result = await command.run("verify", "--checkpoint", "kept")
    assert result.exit_code != 0
    assert "Line 1 of kept" in str(result.exception)


@pytest.mark.parametrize("name", ["rows", "kept"])
async def test_a_byte_that_is_no_text_is_named_with_its_line(
    stores: Stores, command: Command, tmp_path: Path, name: str
) -> None:
    await _sealed(stores, 3)
    await command.done("checkpoint", "push", "kept")
    await command.done("export", "--out", "rows")
    whole = (tmp_path / name).read_bytes()
    at = whole.index(b'"zone":"') + len(b'"zone":"')
    (tmp_path / name).write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
    result = await command.run("verify", "--export", "rows", "--checkpoint", "kept", offline=True)
    assert isinstance(result.exception, InvalidRequest), result.exception
    assert ("Line 1 of kept" if name == "kept" else "audit checkpoint") in str(result.exception)


@pytest.mark.parametrize(
    "change",
    [
        "head = 'x'",
        "head = repeat('[', 100000)",
        "entries = ''",
        "(head, entries) = (select head, entries from audit_checkpoints where last_seq = 3)",
        "last_seq = 9223372036854775807",
    ],
    ids=["words", "deep", "empty", "another", "elsewhere"],
)
async def test_a_damaged_checkpoint_is_named_by_every_command(
    stores: Stores, command: Command, tmp_path: Path, change: str
) -> None:
    await _sealed(stores, 3, 3)
    await command.done("checkpoint", "push", "kept")
    await stores.pool.execute(f"update audit_checkpoints set {change} where last_seq = 6")
    for words in ((), ("--checkpoint", "kept")):
        report = await command.verified(*words)
        assert (report["first_bad_seq"], report["reason"]) == (4, "its checkpoint has lost its form")
    for words in (("export", "--format", "csv"), ("checkpoint", "push", "kept"), ("checkpoint", "push", "new")):
        result = await command.run(*words)
        assert isinstance(result.exception, InvalidRequest), result.exception
        assert "The stored checkpoint of the rows 4 to " in str(result.exception)
    await stores.pool.execute("update log set entity = 'E3' where seq = 2")
    assert (await command.verified())["first_bad_seq"] == 2, "what comes before it is still checked"


async def test_a_damaged_checkpoint_of_an_export_is_named_by_its_line(
    stores: Stores, command: Command, tmp_path: Path
) -> None:
    await _sealed(stores, 3, 3)
    await command.done("export", "--out", "rows")
    rows = tmp_path / "rows"
    lines = rows.read_text().splitlines()
    rows.write_text("\n".join([*lines[:2], '{"checkpoint":{}}', *lines[3:]]))
    result = await command.run("verify", "--export", "rows", offline=True)
    assert isinstance(result.exception, InvalidRequest), result.exception
    assert "Line 3 of the export" in str(result.exception)


async def test_a_key_is_trusted_or_not(stores: Stores, command: Command) -> None:
    await _sealed(stores, 3)
    assert (await command.verified("--key", SIGNER.public_key.hex()))["valid"]
    assert not (await command.verified("--key", OTHER.public_key.hex()))["valid"]
    assert (await command.run("verify", "--key", "zz")).exit_code == 2


async def test_a_push_appends_what_is_new_and_refuses_a_fork(stores: Stores, command: Command, kept: Kept) -> None:
    await _sealed(stores, 3)
    assert "1 checkpoint pushed" in await command.done("checkpoint", "push", "kept")
    await _sealed(stores, 2)
    assert "up to 5" in " ".join((await command.done("checkpoint", "push", "kept")).split())
    before = kept.text()
    assert len(before.splitlines()) == 2
    assert "0 checkpoints pushed" in await command.done("checkpoint", "push", "kept")
    await stores.pool.execute("delete from audit_checkpoints where last_seq = 5")
    await stores.pool.execute("delete from log where seq = 5")
    await write(stores, 1, "restored")
    await seal_all(sealer(stores))
    await write(stores, 1)
    await seal_all(sealer(stores))
    result = await command.run("checkpoint", "push", "kept")
    assert result.exit_code != 0
    assert "do not follow" in str(result.exception)
    assert kept.text() == before


async def test_a_push_to_a_url_sends_lines_and_tells_a_refusal(stores: Stores, command: Command, kept: Kept) -> None:
    await _sealed(stores, 3, 2)
    bodies: list[bytes] = []
    statuses = iter((204, 204, 507))

    async def take(request: Request) -> httpx.Response:
        bodies.append(await request.body())
        return httpx.Response(next(statuses))

    async with serving(take) as url:
        await command.done("checkpoint", "push", f"{url}/kept")
        kept.put(bodies[0].decode())
        assert (await command.verified("--checkpoint", "kept"))["uncovered_from"] == 6
        await command.done("checkpoint", "push", f"{url}/kept", "--after", "3")
        assert bodies[1].count(b"\n") == 1
        assert "507" in str((await command.run("checkpoint", "push", f"{url}/kept")).exception)
    assert isinstance((await command.run("checkpoint", "push", f"{url}/kept")).exception, PeerError)


async def test_words_are_exported_unless_they_are_left_out(stores: Stores, command: Command) -> None:
    await stores.log.append([replace(system_event("=a"), private={"summary": "Plain words."})])
    await seal_all(sealer(stores))
    for format in ("json", "csv", "syslog"):
        assert "Plain words." in await command.done("export", "--format", format)
        without = await command.done("export", "--format", format, "--without-words")
        assert "Plain words." not in without
        assert "system.test" in without
    assert "'=a" in await command.done("export", "--format", "csv")
    await command.done("export", "--out", "rows", "--without-words")
    assert (await command.verified("--export", "rows"))["valid"]


async def test_an_export_that_fails_leaves_the_last_one(stores: Stores, command: Command, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    await stores.log.append([system_event("e")])
    await command.done("export", "--out", "rows")
    assert rows.stat().st_mode & 0o777 == 0o600, "it holds what people wrote"
    rows.chmod(0o640)
    kept = rows.read_text()
    await stores.pool.execute("alter table log rename to away")
    for name in ("rows", "new"):
        assert (await command.run("export", "--out", name)).exit_code != 0
    assert (os.listdir(tmp_path), rows.read_text()) == (["rows"], kept)
    await stores.pool.execute("alter table away rename to log")
    await stores.log.append([system_event("e")])
    await command.done("export", "--out", "rows")
    assert len(rows.read_text()) > len(kept)
    assert rows.stat().st_mode & 0o777 == 0o640, "whoever has chosen another mode keeps it"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    _, read = await asyncio.gather(command.done("export", "--out", "fifo"), asyncio.to_thread(fifo.read_text))
    assert len(read.splitlines()) == len(rows.read_text().splitlines())


async def test_an_export_of_later_rows_verifies_too(stores: Stores, command: Command) -> None:
    await _sealed(stores, 10, 5)
    await command.done("checkpoint", "push", "kept")
    for after in ("4", "10"):
        await command.done("export", "--out", "rows", "--after", after)
        assert (await command.verified("--export", "rows", "--checkpoint", "kept"))["valid"]
    await stores.pool.execute("update log set entity = 'E3' where seq = 14")
    await command.done("export", "--out", "rows", "--after", "10")
    assert (await command.verified("--export", "rows", "--checkpoint", "kept"))["first_bad_seq"] == 14


async def _lost_to_another_region(stores: Stores, seq: int) -> None:
    """The database of a region that had the rows up to this one when it became primary."""
    await stores.pool.execute(f"delete from log where seq > {seq}; truncate audit_checkpoints")
    await stores.region.raise_epoch("another-region")


async def test_a_failover_that_lost_rows_is_told_from_a_rewritten_tail(stores: Stores, command: Command) -> None:
    await _sealed(stores, 4, 6)
    await command.done("checkpoint", "push", "kept")
    await _lost_to_another_region(stores, 7)
    assert (await command.verified("--checkpoint", "kept"))["first_bad_seq"] == 8, "nothing has declared it yet"
    assert (
        await command.done("checkpoint", "push", "kept")
        == "0 checkpoints pushed to kept, which covers the rows up to 10.\n"
    )
    await _sealed(stores, 1)
    report = await command.verified("--checkpoint", "kept")
    assert report["valid"]
    assert report["forks"] == [{"seq": 7, "epoch": 2, "dropped_through": 10}]
    assert report["uncovered_from"] == 8
    assert "fork declared at seq 7 by epoch 2" in (await command.run("verify", "--checkpoint", "kept")).output
    await command.done("checkpoint", "push", "kept")
    await command.done("export", "--out", "rows")
    report = await command.verified("--export", "rows", "--checkpoint", "kept", offline=True)
    assert (report["valid"], report["uncovered_from"], len(report["forks"])) == (True, 10, 1)
    await stores.pool.execute("update log set at = at + 1 where seq = 5")
    assert (await command.verified("--checkpoint", "kept"))["first_bad_seq"] == 5
