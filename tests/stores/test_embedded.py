"""The embedded stores: what they leave behind, what they find, and that two systems never meet."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis

from cluster.embedded.layout import EmbeddedError, Layout
from cluster.embedded.ports import free_ports, free_window, require_free
from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.processes import ProcessId, end, session_members, spawn
from cluster.embedded.redis import EmbeddedRedis
from cluster.embedded.run_file import RunFile, is_held, only_one, read_run_file
from cluster.embedded.secrets import store_secrets, write_private

PATH_CHARS = 120
Stores = tuple[EmbeddedPostgres, EmbeddedRedis]


@pytest.fixture
def layout() -> Iterator[Layout]:
    """A data directory whose path is longer than a socket's may be."""
    with tempfile.TemporaryDirectory(prefix="aragora-test-") as base:
        made = Layout.of(Path(base) / ("d" * (PATH_CHARS - len(base) - 1)))
        assert len(os.fsencode(made.data_dir)) == PATH_CHARS
        made.create()
        yield made
        for file in sorted(made.sockets.rglob("*"), reverse=True):
            file.unlink() if not file.is_dir() else file.rmdir()
        made.sockets.rmdir()


def _stores(layout: Layout) -> Stores:
    passwords = store_secrets(layout.secrets)
    return (
        EmbeddedPostgres(
            data=layout.postgres, sockets=layout.sockets, log=layout.logs / "pg.log", password=passwords.postgres
        ),
        EmbeddedRedis(
            data=layout.redis, sockets=layout.sockets, log=layout.logs / "redis.log", password=passwords.redis
        ),
    )


def _sql(postgres: EmbeddedPostgres, statement: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(postgres.url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def _kill(process: ProcessId | None) -> None:
    """kill -9 of one process, whatever its children do."""
    assert process is not None
    process.signal(signal.SIGKILL)
    end([process])


@pytest.mark.slow
def test_stores_survive_kill_and_are_adopted_while_healthy(layout: Layout) -> None:
    postgres, valkey = _stores(layout)
    try:
        assert (postgres.start(), valkey.start()) == (True, True)
        _sql(postgres, "create table kept as select 1 as n")
        with redis.Redis(unix_socket_path=str(valkey.socket), password=valkey.password) as client:
            client.set("kept", "1")
        with redis.Redis(unix_socket_path=str(valkey.socket)) as stranger, pytest.raises(redis.RedisError):
            stranger.get("kept")
        for setting, expected in (("fsync", "on"), ("synchronous_commit", "on"), ("listen_addresses", "")):
            assert _sql(postgres, f"show {setting}") == expected
        adopting, also = _stores(layout)
        assert (adopting.start(), also.start()) == (False, False)
        assert (adopting.process, also.process) == (postgres.process, valkey.process)
        for store in (postgres, valkey):
            _kill(store.process)
        again, later = _stores(layout)
        assert (again.start(), later.start()) == (True, True)
        assert _sql(again, "select count(*) from kept") == 1
        again.stop()
        later.stop()
        assert not any(one.alive() for one in (again.process, later.process, postgres.process) if one is not None)
    finally:
        for store in (*_stores(layout),):
            store.stop()


@pytest.mark.slow
def test_a_stale_pid_file_of_somebody_elses_process_harms_nobody(layout: Layout) -> None:
    postgres, valkey = _stores(layout)
    bystander = spawn(["sleep", "600"], log=layout.logs / "sleep.log")
    try:
        postgres.start()
        valkey.start()
        for store in (postgres, valkey):
            _kill(store.process)
        lines = (layout.postgres / "postmaster.pid").read_text().splitlines()
        (layout.postgres / "postmaster.pid").write_text("\n".join([str(bystander.pid), *lines[1:]]))
        socket_lock = layout.sockets / ".s.PGSQL.5432.lock"
        lines = socket_lock.read_text().splitlines()
        socket_lock.write_text("\n".join([str(bystander.pid), *lines[1:], ""]))
        (layout.redis / "valkey.pid").write_text(str(bystander.pid))
        again, later = _stores(layout)
        assert (later.start(), bystander.alive()) == (True, True)
        assert (again.start(), bystander.alive()) == (True, True)
        assert _sql(again, "select 1") == 1
    finally:
        for store in _stores(layout):
            store.stop()
        end([bystander])
    assert not bystander.alive()


def test_directories_and_files_are_private(layout: Layout) -> None:
    store_secrets(layout.secrets)
    write_private(layout.ray_token, "token")
    for directory in (layout.data_dir, layout.logs, layout.sockets):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for file in (layout.secrets, layout.ray_token):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_secrets_are_made_once_and_differ_between_systems(layout: Layout, tmp_path: Path) -> None:
    made = store_secrets(layout.secrets)
    assert store_secrets(layout.secrets) == made
    other = store_secrets(tmp_path / "other.json")
    assert len({made.postgres, made.redis, other.postgres, other.redis}) == 4


def test_a_private_file_replaces_one_that_was_open_to_others(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("old")
    file.chmod(0o644)
    (tmp_path / "f.new").write_text("left by a crash")
    write_private(file, "new")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("new", 0o600)


def test_socket_paths_are_short_private_and_of_one_data_directory(layout: Layout, tmp_path: Path) -> None:
    assert len(os.fsencode(layout.sockets)) + len("/ray/session_latest/sockets/plasma_store") < 107
    assert Layout.of(layout.data_dir / ".." / layout.data_dir.name).sockets == layout.sockets
    assert Layout.of(tmp_path / "other").sockets != layout.sockets
    link = tmp_path / "link"
    link.symlink_to(layout.data_dir)
    assert Layout.of(link) == layout


def test_a_socket_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    made = Layout(tmp_path / "data", tmp_path / "sockets")
    (tmp_path / "elsewhere").mkdir()
    made.sockets.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EmbeddedError, match="belongs to somebody else"):
        made.create()


def _run_file(**changes: object) -> RunFile:
    names = ("api_url", "docs_url", "metrics_url", "dashboard_url", "ray_address", "ray_token_path")
    return RunFile(**{**{name: f"http://{name}" for name in names}, **changes})  # type: ignore[arg-type]


def test_only_one_runs_on_a_data_directory_and_the_second_is_told_where(layout: Layout) -> None:
    assert read_run_file(layout) is None
    assert not is_held(layout.lock_file)
    with only_one(layout):
        _run_file(api_url="http://127.0.0.1:8080").write(layout)
        assert is_held(layout.lock_file)
        with pytest.raises(EmbeddedError, match=r"http://127\.0\.0\.1:8080"), only_one(layout):
            pass
    assert not is_held(layout.lock_file)
    with only_one(layout):
        pass


def test_the_run_file_says_what_it_was_told_and_a_damaged_one_is_named(layout: Layout) -> None:
    me = ProcessId.of(os.getpid())
    assert me is not None
    written = _run_file(processes={"up": me.to_json()}, ports={"http": 1})
    written.write(layout)
    assert stat.S_IMODE(layout.run_file.stat().st_mode) == 0o600
    read = read_run_file(layout)
    assert read == written
    assert read.process("up") == me
    assert read.process("ray") is None
    for content in ("{", json.dumps({"nothing": 1}), "[]"):
        layout.run_file.write_text(content)
        with pytest.raises(EmbeddedError, match="damaged"):
            read_run_file(layout)


def test_a_recycled_pid_is_not_taken_for_the_process(layout: Layout) -> None:
    child = spawn(["sleep", "600"], log=layout.logs / "sleep.log")
    try:
        impostor = ProcessId(pid=child.pid, started=child.started - 100)
        assert child.alive()
        assert not impostor.alive()
        impostor.signal(signal.SIGKILL)
        assert session_members(impostor) == []
        assert child.alive()
        assert session_members(child) == [child]
    finally:
        end([child])
    assert not child.alive()


def test_what_has_been_ended_leaves_no_zombie(layout: Layout) -> None:
    """One would pass for a living process wherever only its number is asked for."""
    for _ in range(5):
        children = [spawn(["sleep", "600"], log=layout.logs / "sleep.log") for _ in range(40)]
        end(children, first=signal.SIGKILL)
        assert [child for child in children if psutil.pid_exists(child.pid)] == []


def test_a_taken_port_is_named_with_the_variable_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=f"Port {port} .*ARAGORA_HTTP_PORT"):
            require_free("127.0.0.1", port, "ARAGORA_HTTP_PORT")
        assert port not in free_ports(5)
    require_free("127.0.0.1", port, "ARAGORA_HTTP_PORT")
    assert len(set(free_ports(10))) == 10
    assert 11_000 <= free_window(50) <= 29_950
