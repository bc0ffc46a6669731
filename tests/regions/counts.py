"""How often each fault of three regions is tried, in sessions that can be broken off and gone on with.

A session starts new regions, plays a part of what is left, checks what its clients saw, and writes what it found into a file of
its own. So a run of hours loses one session at most, and the next call does the rest.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.regions.chaos.checker import check
from tests.regions.chaos.nemesis import KINDS
from tests.regions.chaos.page import faults_table, with_runs
from tests.regions.chaos.run import chaos, report, totals_line

#: The fault that the goals are about.
LOSS: Final = "kill all of the primary's region"
#: Faults of one session: some ten minutes.
SESSION: Final = 20
#: So many sessions one after the other may play nothing, before the run gives up.
MOST_IDLE: Final = 3
GUIDE_TIMERS: Final = {
    "ARAGORA_LEADER_ELECTION_TIMEOUT": "10",
    "ARAGORA_STALE_LEADER_THRESHOLD": "60",
    "ARAGORA_SYNC_INTERVAL": "5",
    "ARAGORA_REGION_HEARTBEAT": "1",
}


def wanted(losses: int, others: int, only: Sequence[str] = ()) -> dict[str, int]:
    """Fault → how often. ``only``: no other faults than these; empty for all."""
    return {name: losses if name == LOSS else others for name in KINDS if not only or name in only}


def left(counts: Mapping[str, int], done: Mapping[str, int], seed: int) -> list[str]:
    """What is still to be played, in an order that the seed and what is done decide."""
    rest = [name for name, count in counts.items() for _ in range(count - done.get(name, 0))]
    random.Random(f"{seed}/{sum(done.values())}").shuffle(rest)
    return rest


def runs_in(folder: Path) -> list[dict[str, Any]]:
    """What the sessions so far have found, the first one first."""
    return [json.loads(file.read_text()) for file in sorted(folder.glob("session-*.json"))]


def done(runs: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Fault → how often it was played."""
    found: Counter[str] = Counter()
    for row in (row for run in runs for row in run["rows"]):
        found[row["name"]] += len(row["rto_s"])
    return found


def count(
    folder: Path, counts: Mapping[str, int], seed: int, timers: Mapping[str, str], page: Path | None = None
) -> int:
    """Plays what is left, session by session; returns the number of violations of all sessions. ``page``: gets the table after
    each."""
    folder.mkdir(parents=True, exist_ok=True)
    idle = 0
    while rest := left(counts, done(runs_in(folder)), seed):
        number = len(runs_in(folder)) + 1
        print(f"session {number}: {min(SESSION, len(rest))} of {len(rest)} faults left", flush=True)
        history = asyncio.run(chaos(seed * 10_000 + number, seconds=3600.0, plan=rest[:SESSION], timers=timers))
        found = report(seed, history, check(history))
        (folder / f"session-{number:04d}.json").write_text(json.dumps(found, indent=1))
        print(totals_line(found), flush=True)
        idle = 0 if history.faults else idle + 1
        if page is not None:
            page.write_text(with_runs(page.read_text(), runs_in(folder)))
        if idle == MOST_IDLE:
            print(f"{MOST_IDLE} sessions played nothing; given up", flush=True)
            return 1
    runs = runs_in(folder)
    rows: dict[str, dict[str, Any]] = {}
    for row in (row for run in runs for row in run["rows"]):
        mine = rows.setdefault(row["name"], {"name": row["name"], "rto_s": [], "whole_s": [], "lost": []})
        for field in ("rto_s", "whole_s", "lost"):
            mine[field] += row[field]
    print("\n".join(faults_table(list(rows.values()))))
    violations = [violation for run in runs for violation in run["violations"]]
    for violation in violations[:40]:
        print(f"  {violation['invariant']}: {violation['message']}")
    return len(violations)
