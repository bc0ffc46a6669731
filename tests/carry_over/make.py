"""``python -m tests.carry_over.make --checkout DIR``: takes the picture of an earlier build.

DIR is a checkout of that build with its own ``.venv`` (``make setup`` there). The build is started as a user starts it,
``aragora-cp up`` with a new data directory, and left with work in every state that has to outlive an upgrade; then all of
its processes are killed (-9) at once. What is durable is stored below this directory, under the build's version.

Postgres's own data directory would be 5 MB and of one release of Postgres on one kind of machine, so the picture has its
dump, made by the ``pg_dump`` beside the embedded server, after that server has recovered from the kill. Redis holds
nothing durable, so nothing of it is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gzip
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from cluster.embedded.layout import Layout
from cluster.embedded.postgres import EmbeddedPostgres, _binaries
from cluster.embedded.secrets import store_secrets
from tests.carry_over import crew
from tests.carry_over.picture import HERE, Picture, log_facts
from tests.carry_over.scene import CONFIG, CP, LONG_S, SETTINGS, Scene, last_words, play, play_on
from tests.support.probes import eventually
from tests.support.system import RunningSystem, clean_environment, kill

#: pg_dump writes a random one else, and no two dumps were alike.
RESTRICT_KEY = "carryover"


class Build:
    """An earlier build: a checkout, and the programs of its own environment."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout.resolve()
        self.python = self.checkout / ".venv/bin/python"
        self.command = self.checkout / ".venv/bin/aragora-cp"
        if not self.command.exists():
            raise SystemExit(f"{self.checkout} has no .venv; run `make setup` there.")
        self.commit = self._said("git", "rev-parse", "--short", "HEAD")
        self.version = self._said(str(self.python), "-c", "from cluster.version import VERSION; print(VERSION)")

    def _said(self, *command: str) -> str:
        return subprocess.run(command, cwd=self.checkout, capture_output=True, text=True, check=True).stdout.strip()

    def verdict(self, receipt: Path) -> str:
        """What came of deciding again, by this build's own command."""
        command = [str(self.command), "receipts", "verify", str(receipt), "--recompute", "--json"]
        said = subprocess.run(command, cwd=self.checkout, capture_output=True, text=True, check=False)
        report = json.loads(said.stdout)
        assert report["valid"], report
        return str(report["recompute"]["verdict"])


async def make(build: Build, picture: Picture) -> None:
    base = Path(tempfile.mkdtemp(prefix="carry-"))
    system = RunningSystem(base / "data", dict(SETTINGS), command=str(build.command), start_s=500)
    try:
        await asyncio.to_thread(system.start)
        async with crew.crew(talks=False) as agents, _client(system) as http:
            scene = Scene(http, agents)
            assert (await scene.get("/health/detailed"))["version"] == build.version, "another build answers"
            await play(scene)
            await _resumed_once(system, scene)
            await play_on(scene)
            facts = await _stopped(build, picture, system, scene)
        _store(picture, system.layout, {**facts, "endpoint": agents.url})
    finally:
        await asyncio.to_thread(system.clean_up)
        shutil.rmtree(base, ignore_errors=True)


@contextlib.asynccontextmanager
async def _client(system: RunningSystem) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=system.api_url, timeout=60) as http:
        yield http


async def _resumed_once(system: RunningSystem, scene: Scene) -> None:
    """The worker of the open deliberations is killed, so that their journals tell of a worker before."""
    silent = [
        (agent, f"{request_id}/{phase}/")
        for request_id, (phase, agents) in zip(scene.facts["open"], crew.STOP_REASONS.values(), strict=True)
        for agent in agents
    ]

    def asked(times: int) -> bool:
        return all(
            sum(who == agent and key.startswith(start) for who, key in scene.agents.calls) >= times
            for agent, start in silent
        )

    await eventually(lambda: asked(1), timeout_s=60, what="everything to come to its stop")
    actors = await asyncio.to_thread(system.actors)
    (pid,) = [pid for name, pid in actors.items() if "-deliberation-" in name]
    await asyncio.to_thread(kill, pid)
    await eventually(lambda: asked(2), timeout_s=120, what="what is open to be asked again")


async def _stopped(build: Build, picture: Picture, system: RunningSystem, scene: Scene) -> dict[str, Any]:
    """A batch is interrupted, the facts are read, and then everything is killed."""
    items = [
        {"id": f"q{n}", "content": crew.batch_question(n), "config": CONFIG, "timeout_seconds": LONG_S}
        for n in range(crew.BATCH_ITEMS)
    ]
    picture.batch_in.write_text("".join(json.dumps(item) + "\n" for item in items))
    command = [str(build.python), "-m", "cluster.batch", "run", str(picture.batch_in), "--out", str(picture.batch_out)]
    command += ["--resume", "--concurrency", str(crew.BATCH_AT_ONCE)]
    environment = clean_environment(ARAGORA_API_URL=system.api_url, ARAGORA_DATA_DIR=str(system.data_dir))
    driver = await asyncio.create_subprocess_exec(
        *command, cwd=build.checkout, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await eventually(lambda: _is_half_way(picture, scene), timeout_s=60, what="the batch to be half-way")
        await last_words(scene, _written(picture))
    finally:
        driver.kill()
        await driver.wait()
    for request_id in scene.facts["ended"]:
        response = await scene.http.get(f"{CP}/deliberations/{request_id}/receipt")
        (picture.receipts / f"{request_id}.json").write_bytes(response.raise_for_status().content + b"\n")
    scene.facts |= {"version": build.version, "commit": build.commit, "stopped_at": time.time()}
    await asyncio.to_thread(system.kill_everything)
    verdicts = {file.stem: await asyncio.to_thread(build.verdict, file) for file in picture.receipts.iterdir()}
    return {**scene.facts, "verdicts": verdicts}


def _written(picture: Picture) -> list[str]:
    """Ids of the items whose outcomes the batch has written."""
    return [json.loads(line)["id"] for line in picture.batch_out.read_text().splitlines()]


def _is_half_way(picture: Picture, scene: Scene) -> bool:
    """So many have ended, and the silent agent holds up as many as the driver asks at once."""
    ended = len(_written(picture)) if picture.batch_out.exists() else 0
    held_up = {key for agent, key in scene.agents.calls if agent == "three" and key.startswith("batch-")}
    return ended == crew.BATCH_ENDS and len(held_up) == crew.BATCH_ENDS + crew.BATCH_AT_ONCE


def _store(picture: Picture, layout: Layout, facts: dict[str, Any]) -> None:
    secrets = store_secrets(layout.secrets)
    postgres = EmbeddedPostgres(
        data=layout.postgres, sockets=layout.sockets, log=layout.logs / "postgres.log", password=secrets.postgres
    )
    layout.create()
    postgres.start()
    try:
        # The lease of whoever supervised is named after the host; it has long run out, and no digest covers it.
        facts["log"] = log_facts(postgres.url)
        dump = _dump(postgres.url).replace(f"\t{socket.gethostname()}:", "\tearlier-host:")
    finally:
        postgres.stop()
    _check_anonymous(dump, layout)
    picture.database.write_bytes(gzip.compress(dump.encode(), mtime=0))
    shutil.copy(layout.secrets, picture.secrets)
    shutil.copy(layout.sealing_key, picture.sealing_key)
    picture.facts_file.write_text(_by_lines(facts))


def _by_lines(facts: dict[str, Any]) -> str:
    """JSON with a line for each thing that the API showed, and for every other fact."""
    plain = functools.partial(json.dumps, sort_keys=True, ensure_ascii=False)
    shown = ",\n".join(f"{plain(path)}: {plain(answer)}" for path, answer in facts["shown"].items())
    others = [f"{plain(name)}: {plain(value)}" for name, value in sorted(facts.items()) if name != "shown"]
    return "{\n" + ",\n".join(others) + ',\n"shown": {\n' + shown + "\n}\n}\n"


def _dump(url: str) -> str:
    command = [str(_binaries() / "pg_dump"), "-d", url]
    command += ["--no-owner", "--no-privileges", "--no-comments", f"--restrict-key={RESTRICT_KEY}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _check_anonymous(dump: str, layout: Layout) -> None:
    """Nothing of the machine that it was made on: no path, no host."""
    for word in (socket.gethostname(), str(layout.data_dir), str(layout.sockets), str(Path.home())):
        found = re.search(rf".*(?<!\w){re.escape(word)}(?!\w).*", dump)
        if found:
            raise SystemExit(f"The dump names {word}: {found[0][:200]}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Takes the picture of an earlier build.")
    parser.add_argument("--checkout", type=Path, required=True, help="its checkout, in which `make setup` was run")
    options = parser.parse_args()
    build = Build(options.checkout)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="carry-picture-") as name:
        made = Picture(Path(name) / build.version)
        made.receipts.mkdir(parents=True)
        asyncio.run(make(build, made))
        target = HERE / build.version
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(made.path, target)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    print(f"{target}: {size / 1000:.0f} kB in {time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
