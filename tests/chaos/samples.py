"""What a running system takes of its machine: memory, open files, threads, asyncio tasks, connections, disk.

``python -m tests.chaos.samples ADDRESS`` answers each line of its input with the number of asyncio tasks of each actor, as
JSON. It is a process of its own, because a driver of Ray takes its environment and its threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
from redis.exceptions import RedisError

from cluster.cli.connection import ray_variables
from cluster.embedded.processes import ProcessId
from cluster.redis.pool import connect
from tests.chaos.target import Target
from tests.support.system import clean_environment

#: (figure, what): what is measured, of what.
Key = tuple[str, str]
ANSWER_S = 20.0


@dataclass(slots=True)
class Samples:
    """Points (seconds since the start, value) by key, as they came."""

    points: dict[Key, list[tuple[float, float]]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def add(self, values: Mapping[Key, float]) -> None:
        at = time.monotonic() - self.began
        for key, value in values.items():
            self.points.setdefault(key, []).append((at, value))


def of_processes(titles: Mapping[int, str], processes: Mapping[str, list[ProcessId]]) -> dict[Key, float]:
    """Private memory, open files and threads, summed up by the title of a process: those of a pool come and go."""
    found: Counter[Key] = Counter()
    for group, members in processes.items():
        for member in members:
            with contextlib.suppress(psutil.Error, OSError):
                process = psutil.Process(member.pid)
                title = titles.get(member.pid) or title_of(group, process)
                # Not the resident size: it has the shared buffers of the database, which fill.
                found["memory", title] += process.memory_full_info().uss
                found["files", title] += process.num_fds()
                found["threads", title] += process.num_threads()
    return dict(found)


def title_of(group: str, process: psutil.Process) -> str:
    """By what people know a process that is no actor of ours."""
    if group != "ray":
        return group
    words = process.cmdline() or [process.name()]
    if words[0].startswith("ray::"):
        return "ray: " + re.split(r"[.:#(]", words[0].removeprefix("ray::"))[0]
    names = [Path(word).name for word in words[:3] if not word.startswith("-")]
    return "ray: " + next((name for name in names if not name.startswith("python")), names[0])


def role_of_actor(name: str) -> str:
    """An actor's name without what differs between runs: "aragora-scheduler-0-1f2e…" is "scheduler-0"."""
    if "#" in name:
        return name.split("#")[-2]
    found = re.match(r"aragora-(.+?)-[0-9a-f]{12}$", name)
    return found[1] if found else name.split(":")[0]


async def of_stores(target: Target) -> dict[Key, float]:
    """Connections by the name of who opened them; none of a store that does not answer at once, as on a crowded machine."""
    found: dict[Key, float] = {}
    with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError):
        found |= await _of_postgres(target)
    with contextlib.suppress(RedisError):
        redis = connect(target.redis.url)
        try:
            found["connections", "redis"] = (await redis.info("clients"))["connected_clients"]
        finally:
            await redis.aclose()
    return found


async def _of_postgres(target: Target) -> dict[Key, float]:
    found: dict[Key, float] = {}
    connection = await asyncpg.connect(target.postgres.url, timeout=5)
    try:
        rows = await connection.fetch(
            "select application_name, count(*) from pg_stat_activity where application_name like 'aragora%' group by 1"
        )
        # A replica's or an actor's name has its process's id or fingerprint in it.
        for name, count in rows:
            key = ("connections", "postgres: " + re.sub(r"-[0-9a-f]{12}.*$", "", name))
            found[key] = found.get(key, 0) + count
        found["tables", "postgres"] = await connection.fetchval("select pg_database_size(current_database())")
    finally:
        await connection.close()
    return found


def of_disk(target: Target) -> dict[Key, float]:
    """By directory of the data, and of the database what is not tables (they grow) and not its log (it is recycled)."""
    places = {path.name: path for path in target.system.data_dir.iterdir() if path.is_dir()}
    found: dict[Key, float] = {("disk", name): size_of(path) for name, path in places.items()}
    found["disk", "redis"] = size_of(target.redis.data)
    others = [path for path in target.postgres.data.iterdir() if path.name not in ("base", "pg_wal")]
    found["disk", "postgres, without tables"] = sum(size_of(path) for path in others)
    return found


def size_of(path: Path) -> float:
    if path.is_file():
        return path.stat().st_size
    total = 0
    for directory, _, files in os.walk(path):
        for file in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(directory, file)).st_blocks * 512
    return total


# --- asyncio tasks, which only the process itself can count -----------------------------------------------------------


@dataclass(slots=True)
class TaskCounter:
    process: subprocess.Popen[str]

    def ask(self) -> dict[Key, float]:
        """Empty if the process has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            return {("tasks", name): count for name, count in json.loads(self.process.stdout.readline()).items()}
        return {}


@contextmanager
def task_counter(target: Target) -> Iterator[TaskCounter]:
    run = target.system.run_file
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, run.ray_address],
        env=clean_environment(**ray_variables(run)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield TaskCounter(process)
    finally:
        process.kill()
        process.communicate()


def _count_tasks(_: Any) -> int:
    """Of all event loops of the process: Ray calls this in a thread that has none, where `asyncio.all_tasks` refuses."""
    return sum(not task.done() for task in list(asyncio.tasks._all_tasks))  # type: ignore[attr-defined]


def answer_lines(address: str) -> None:
    """One line of JSON for each line of the input."""
    import ray
    from ray.util import list_named_actors

    from actors.runtime import join

    join(address)
    for _ in sys.stdin:
        found: Counter[str] = Counter()
        for entry in list_named_actors(all_namespaces=True):
            if entry["name"].startswith("aragora-") or "#Api#" in entry["name"] or "#Supervisor#" in entry["name"]:
                with contextlib.suppress(Exception):
                    actor = ray.get_actor(entry["name"], namespace=entry["namespace"])
                    count = ray.get(actor.__ray_call__.remote(_count_tasks), timeout=ANSWER_S)
                    found[role_of_actor(entry["name"])] += count
        print(json.dumps(found), flush=True)


def named_processes(target: Target) -> dict[int, str]:
    """Process id → role, of the actors that live now; empty while Ray's dashboard does not answer."""
    with contextlib.suppress(httpx.HTTPError):
        return {pid: role_of_actor(name) for name, pid in target.system.actors().items()}
    return {}


if __name__ == "__main__":
    answer_lines(sys.argv[1])
