"""``aragora-cp audit verify`` over archives: what has gone from the database is checked as far as its files are there."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.postgres.stores import Stores
from tests.actors.test_sealer import seal_all, sealer
from tests.stores.test_audit_command import Command
from tests.support.log_segments import all_read, log_keeper, short_segments
from tests.support.samples import system_event
from tests.support.stores import StoreUrls


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    return tmp_path / "archives"


@pytest.fixture
async def command(
    stores: Stores, store_urls: StoreUrls, schema: str, tmp_path: Path, archives: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Of a log of 38 rows, 30 of which are in archives."""
    monkeypatch.chdir(tmp_path)
    await short_segments(stores)
    for n in range(35):
        await stores.log.append([system_event(f"e{n}")])
    await seal_all(sealer(stores, batch=7))
    await all_read(stores)
    assert await log_keeper(stores, archives).look() == 3
    await seal_all(sealer(stores, batch=7))
    return Command(
        {
            "ARAGORA_DATABASE_URL": store_urls.database,
            "ARAGORA_DATABASE_SCHEMA": schema,
            "ARAGORA_REGION": "test-region",
            "ARAGORA_LOG_ARCHIVE_DIR": str(archives),
        }
    )


def _archives(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


async def test_archives_are_verified_with_what_is_left(command: Command, archives: Path) -> None:
    report = await command.verified()
    assert (report["valid"], report["checked_from"], report["checked_through"]) == (True, 1, 38)
    await command.done("checkpoint", "push", "kept")
    assert (await command.verified("--checkpoint", "kept"))["checked_from"] == 1


async def test_an_archive_that_is_not_there_is_no_fault_and_is_said(command: Command, archives: Path) -> None:
    _archives(archives)[1].unlink()
    report = await command.verified()
    assert (report["valid"], report["checked_from"], report["checked_through"]) == (True, 21, 38)
    assert "Rows before 21 have gone from the database" in " ".join((await command.run("verify")).output.split())
    _archives(archives)[1].unlink()
    report = await command.verified()
    assert (report["valid"], report["checked_from"]) == (True, 31)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _packed_anew(path: Path) -> None:
    text = gzip.decompress(path.read_bytes()).decode().replace('"entity":"e12"', '"entity":"forged"')
    path.write_bytes(gzip.compress(text.encode()))


@pytest.mark.parametrize("change", [_flip, _cut, _packed_anew])
async def test_an_archive_that_was_changed_is_named(
    command: Command, archives: Path, change: Callable[[Path], None]
) -> None:
    change(_archives(archives)[1])
    report = await command.verified()
    assert (report["valid"], report["first_bad_seq"]) == (False, 11)
    assert _archives(archives)[1].name in report["reason"]


async def test_an_archive_with_a_forged_digest_is_found_by_the_chain(
    stores: Stores, command: Command, archives: Path
) -> None:
    path = _archives(archives)[1]
    _packed_anew(path)
    await stores.pool.execute("update log_archives set digest = sha256($1) where first_seq = 11", path.read_bytes())
    report = await command.verified()
    assert (report["valid"], report["first_bad_seq"]) == (False, 13)


async def test_an_archive_is_an_export_that_verifies_by_itself(
    command: Command, archives: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows").write_bytes(gzip.decompress(_archives(archives)[1].read_bytes()))
    report = await command.verified("--export", "rows", offline=True)
    assert (report["valid"], report["checked_through"]) == (True, 20)


async def test_an_export_after_the_removal_says_where_it_begins(command: Command, tmp_path: Path) -> None:
    await command.done("export", "--out", "rows")
    assert json.loads((tmp_path / "rows").read_text().splitlines()[0])["after"] == 30
    report = await command.verified("--export", "rows", offline=True)
    assert (report["valid"], report["checked_from"], report["checked_through"]) == (True, 31, 38)
