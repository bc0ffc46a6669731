"""``python -m tests.regions.chaos``: faults against three regions under load, then every check, then a table.

Exit code 1 if anything was violated. The same ``--seed`` draws the same faults in the same order; it is printed first. What
the kernel and the network of the machine decide is not drawn.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import random
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster.domain.replication.tables import LOG
from cluster.log.audit import verify_part
from cluster.postgres.stores import open_stores
from cluster.settings import Settings
from regions.process import ZONE
from tests.chaos.page import longest_gap, machine
from tests.regions.chaos.checker import Violation, check, lost
from tests.regions.chaos.clients import ChaosClients
from tests.regions.chaos.history import Fault, FinalRegion, History, LogRow
from tests.regions.chaos.nemesis import KINDS, WHOLE_S, Nemesis, NotWhole
from tests.regions.chaos.page import faults_table
from tests.support.probes import eventually
from tests.support.region_mutants import MUTANT
from tests.support.region_processes import NAMES, RegionBench, region_bench
from tests.support.replicating import tables_of

_LOG = "select seq, epoch, at, kind, entity, encode(digest, 'hex') as digest from log order by seq"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.regions.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="draws the same faults again")
    parser.add_argument("--minutes", type=float, default=10.0, help="no fault begins after this")
    parser.add_argument("--faults", type=int, default=10_000, help="at most so many")
    parser.add_argument("--only", nargs="*", default=list(KINDS), help="kinds to draw from")
    parser.add_argument("--mutant", default=None, help="the mistake that the regions are started with")
    parser.add_argument("--json", type=Path, default=None, help="where to write what was found")
    parser.add_argument("--logs", type=Path, default=None, help="a directory for the regions' logs")
    options = parser.parse_args(arguments)
    seed = random.randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}, faults for {options.minutes:g} min", flush=True)
    history = asyncio.run(
        chaos(
            seed,
            seconds=options.minutes * 60,
            faults=options.faults,
            names=options.only,
            mutant=options.mutant,
            logs=options.logs,
        )
    )
    violations = check(history)
    found = report(seed, history, violations)
    print("\n".join([f"\n{machine()}", *faults_table(found["rows"]), "", totals_line(found)]))
    print(f"refused: {history.refused}")
    for violation in violations[:40]:
        print(f"  {violation.invariant}: {violation.message}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1))
    return 1 if violations else 0


async def chaos(
    seed: int,
    *,
    seconds: float = 600.0,
    faults: int = 10_000,
    names: Sequence[str] = tuple(KINDS),
    mutant: str | None = None,
    logs: Path | None = None,
    plan: Sequence[str] | None = None,
    timers: Mapping[str, str] | None = None,
) -> History:
    """A run, to its end: it ends early if the regions do not come back from a fault. ``plan``: these faults in this order, in
    the place of those that the seed draws. ``timers``: variables of all regions."""
    history = History()
    changes = dict(timers or {}) | ({} if mutant is None else {MUTANT: mutant})
    async with region_bench(proxied=True, **changes) as bench:
        try:
            await bench.primary()
            clients = ChaosClients(bench, history)
            nemesis = Nemesis(bench, clients, history, seed)
            async with clients.running():
                drawn = _drawn(nemesis, names) if plan is None else plan
                await _strike(nemesis, history, time.monotonic() + seconds, faults, drawn)
                history.primary = await bench.primary()
            history.regions = await _final(bench)
        except NotWhole:
            print("the regions did not become whole again", flush=True)
            with suppress(AssertionError):  # nobody may be primary
                history.primary = await bench.primary(in_sync=())
                history.regions = [await _region(bench, history.primary)]
        finally:
            if logs is not None:
                _keep_logs(bench, logs)
    return history


def _keep_logs(bench: RegionBench, logs: Path) -> None:
    logs.mkdir(parents=True, exist_ok=True)
    for name, region in bench.regions.items():
        shutil.copyfile(region.folder / "log", logs / f"{name}.log")


def _drawn(nemesis: Nemesis, names: Sequence[str]) -> Iterator[str]:
    while True:
        yield from nemesis.deck(names)


async def _strike(nemesis: Nemesis, history: History, ends: float, faults: int, names: Iterable[str]) -> None:
    for name in names:
        if time.monotonic() > ends or len(history.faults) == faults:
            return
        fault = await nemesis.strike(name)
        print(f"{len(history.faults):4d} {_line(history, fault)}", flush=True)


def _line(history: History, fault: Fault) -> str:
    assert fault.whole is not None
    gap, whole = rto(history, fault), fault.whole - fault.healed
    return f"{fault.name} ({fault.victim}): {gap:.1f} s without an answer, whole after {whole:.1f} s"


def rpo(history: History, gone: Collection[str]) -> list[int]:
    """How many acknowledged writes each fault cost. ``gone``: those that the primary at the end has not got. One counts for the
    first fault that was over after its answer; one that was answered later, for the last fault."""
    counts = [0] * len(history.faults)
    over = [math.inf if fault.whole is None else fault.whole for fault in history.faults]
    for write in history.acknowledged:
        if write.task_id in gone and counts:
            first = next((number for number, at in enumerate(over) if write.answered <= at), len(counts) - 1)
            counts[first] += 1
    return counts


def rto(history: History, fault: Fault) -> float:
    """The longest time in which no write was answered, from the beginning of a fault until the regions were whole again."""
    end = fault.healed + WHOLE_S if fault.whole is None else fault.whole
    return longest_gap([write.answered for write in history.acknowledged], fault.began, end)


# --- the end ----------------------------------------------------------------------------------------------------------


async def _final(bench: RegionBench) -> list[FinalRegion]:
    """All regions, once they hold the same number of rows: nobody writes any more."""

    async def same() -> list[FinalRegion]:
        found = [await _region(bench, name) for name in NAMES]
        return found if len({len(region.log) for region in found}) == 1 else []

    regions: list[FinalRegion] = await eventually(same, WHOLE_S, "all regions hold the same rows")
    return regions


async def _region(bench: RegionBench, name: str) -> FinalRegion:
    region = bench.regions[name]
    schema = str(Settings.model_fields["database_schema"].default)
    stores = await open_stores(region.postgres.url, schema, ZONE, max_connections=2, alone=False)
    try:
        log = [LogRow(**row) for row in await stores.pool.rows(_LOG)]
        rows = await stores.pool.rows("select id, payload::json ->> 'key' as key from tasks")
        tables = {table: _digest(found) for table, found in (await tables_of(stores)).items()}
        chain = await verify_part(stores.log, stores.seals, 1, None)
    finally:
        await stores.close()
    return FinalRegion(
        name=name,
        log=tuple(log),
        tasks={row["id"]: row["key"] or row["id"] for row in rows},
        tables=tables,
        surplus=tuple(row for file in sorted((region.folder / "surplus").glob("*.jsonl")) for row in _surplus(file)),
        chain_fault=None if chain.report.fault is None else str(chain.report.fault),
    )


def _digest(rows: Sequence[Any]) -> str:
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def _surplus(file: Path) -> list[LogRow]:
    head, *lines = map(json.loads, file.read_text().splitlines())
    columns = head["columns"][LOG.name]
    found = []
    for line in lines:
        if line["table"] == LOG.name:
            row = dict(zip(columns, line["row"], strict=True))
            found.append(
                LogRow(
                    seq=int(row["seq"]),
                    epoch=int(row["epoch"]),
                    at=float(row["at"]),
                    kind=row["kind"],
                    entity=row["entity"],
                    digest=row["digest"].removeprefix("\\x"),
                )
            )
    return found


# --- what is printed --------------------------------------------------------------------------------------------------


def report(seed: int, history: History, violations: Sequence[Violation]) -> dict[str, Any]:
    kinds = dict.fromkeys(fault.name for fault in history.faults)
    gone, rows = lost(history), []
    costs = rpo(history, gone)
    for name in (kind for kind in KINDS if kind in kinds):
        mine = [fault for fault in history.faults if fault.name == name]
        times = [rto(history, fault) for fault in mine]
        whole = [fault.whole - fault.healed for fault in mine if fault.whole is not None]
        cost = [cost for cost, fault in zip(costs, history.faults, strict=True) if fault.name == name]
        rows.append({"name": name, "rto_s": times, "whole_s": whole, "lost": cost})
    return {
        "seed": seed,
        "machine": machine(),
        "rows": rows,
        "faults": len(history.faults),
        "acknowledged": len(history.acknowledged),
        "rows_read": sum(len(read.rows) for read in history.reads),
        "epochs": len({write.epoch for write in history.acknowledged}),
        "surplus": sum(len(region.surplus) for region in history.regions),
        "lost": len(gone),
        "violations": [asdict(violation) for violation in violations],
    }


def totals_line(found: dict[str, Any]) -> str:
    named = Counter(violation["invariant"] for violation in found["violations"])
    return (
        f"{found['faults']} faults, {found['acknowledged']} acknowledged writes under {found['epochs']} epochs, {found['lost']} "
        f"lost, {found['rows_read']} rows read, {found['surplus']} surplus rows kept; violations: {dict(named) or 'none'}"
    )
