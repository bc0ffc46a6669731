"""``python -m tests.chaos.run``: faults against a whole system under load, then every check, then a table.

Exit code 1 if anything was violated. The same ``--seed`` gives the same plan of faults and the same decisions of
every client; it is printed first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos.checker import Violation, check, share_error
from tests.chaos.history import FAILED, Answer, Fault, History, Outcome
from tests.chaos.nemesis import DECK, Nemesis, Planned, plan
from tests.chaos.odd_agents import odd_agents
from tests.chaos.page import faults_table, longest_gap, machine, spread, totals_line
from tests.chaos.shipped_workers import shipped_workers
from tests.chaos.target import running_target
from tests.chaos.workload import Load, Workload

SHIPPED_WORKERS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how many faults")
    parser.add_argument("--seed", type=int, default=None, help="repeats a run")
    parser.add_argument("--seconds", type=float, default=1500.0, help="no fault begins after this")
    parser.add_argument("--only", nargs="*", default=list(DECK), help="faults to draw from")
    parser.add_argument("--outage", type=float, default=0.0, help="seconds without PostgreSQL, as the last fault")
    parser.add_argument("--json", type=Path, default=None, help="where to write the rows")
    options = parser.parse_args(arguments)
    seed = random.randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}, up to {options.kills} faults within {options.seconds:g} s", flush=True)
    history = asyncio.run(chaos(seed, options.kills, options.seconds, options.only, options.outage))
    violations = check(history)
    rows = rows_of(history, violations)
    print(report(history, violations, rows))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        found = {
            "seed": seed,
            "machine": machine(),
            "totals": totals_of(history),
            "rows": rows,
            "violations": [asdict(v) for v in violations],
        }
        options.json.write_text(json.dumps(found, indent=1))
    return 1 if violations else 0


async def chaos(seed: int, kills: int, seconds: float, names: Sequence[str] = DECK, outage_s: float = 0.0) -> History:
    duration_s = min(seconds, kills * 12.0)
    waiting = max(150, min(2400, int(duration_s * 3)))
    load = Load(seed=seed, duration_s=duration_s, ordered=waiting, shared=waiting, outsiders=0.3)
    target_manager = running_target()
    target = await asyncio.to_thread(target_manager.__enter__)
    try:
        async with Workload.open(target.target, load) as workload:
            nemesis = Nemesis(target)
            ends = time.monotonic() + seconds

            async def faults() -> None:
                planned_faults = plan(seed, kills, names)
                if outage_s:
                    planned_faults.append(Planned(name="postgres-outage", wait_s=1.0, hold_s=outage_s))
                for number, planned in enumerate(planned_faults, 1):
                    if time.monotonic() > ends and planned.name != "postgres-outage":
                        continue
                    fault = await nemesis.strike(planned)
                    workload.history.faults.append(fault)
                    print(
                        f"{number:4d} {fault.name:20s} {fault.healed - fault.began:5.1f} s  {fault.detail}", flush=True
                    )
                await asyncio.sleep(1.0)

            with shipped_workers(target.system.api_url, workload.history, SHIPPED_WORKERS, load.run) as shipped:
                async with odd_agents(seed) as registration:
                    await workload.register_called(registration)
                    await workload.run(faults, at_the_end=shipped.end)
            return workload.history
    finally:
        await asyncio.to_thread(target_manager.__exit__, None, None, None)


# --- what is printed --------------------------------------------------------------------------------------------------


def gaps(history: History, fault: Fault, until: float) -> dict[str, float]:
    """Longest time without an acknowledged submit, and without an acknowledged write of the scheduler (a lease, a
    report), from the fault's beginning until the next one's."""
    submits = [call.ended for call in history.calls if call.name == "submit" and call.answer is Answer.OK]
    leases = [claim.answered for claim in history.claims]
    leases += [call.ended for call in history.calls if call.name == "report" and call.answer is Answer.OK]
    return {"submit": longest_gap(submits, fault.began, until), "lease": longest_gap(leases, fault.began, until)}


def rows_of(history: History, violations: Sequence[Violation]) -> list[dict[str, Any]]:
    """One row per kind of fault. Calls and violations count for the fault that began last before them."""
    end = max((call.ended for call in history.calls), default=0.0)
    faults = sorted(history.faults, key=lambda fault: fault.began)
    spans = [(f, faults[i + 1].began if i + 1 < len(faults) else end) for i, f in enumerate(faults)]
    rows = []
    for name in dict.fromkeys([*DECK, *(fault.name for fault in faults)]):
        mine = [(fault, until) for fault, until in spans if fault.name == name]
        if not mine:
            continue
        sent = [c for c in history.calls if any(f.began <= c.sent < until for f, until in mine)]
        longest = [gaps(history, fault, until) for fault, until in mine]
        rows.append(
            {
                "name": f"chaos/{name}",
                "faults": len(mine),
                "calls": len(sent),
                "failed": sum(c.answer in FAILED for c in sent),
                "healed_s": spread([fault.healed - fault.began for fault, _ in mine]),
                "submit_gap_s": spread([gap["submit"] for gap in longest]),
                "lease_gap_s": spread([gap["lease"] for gap in longest]),
                "violations": sum(
                    v.at is not None and any(f.began <= v.at < until for f, until in mine) for v in violations
                ),
            }
        )
    return rows


def totals_of(history: History) -> dict[str, Any]:
    return {
        "faults": len(history.faults),
        "calls": len(history.calls),
        "tasks": len({s.task_id for s in history.submits if s.task_id is not None}),
        "log_rows": len(history.log),
        "leases": sum(len(c.leases) for c in history.claims),
        "lease_lost": sum(report.outcome is Outcome.LEASE_LOST for report in history.reports),
        "share_error": share_error(history),
    }


def report(history: History, violations: Sequence[Violation], rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"\n{machine()}", *faults_table(rows)]
    failed = Counter(f"{c.name} {c.answer}" for c in history.calls if c.answer in FAILED)
    outcomes = Counter(f"{report.kind} {report.outcome}" for report in history.reports)
    lines += [
        "\n" + totals_line(totals_of(history)),
        f"reports: {dict(outcomes)}",
        f"failed calls: {dict(failed)}",
        f"violations: {dict(Counter(v.check for v in violations))}",
        *(f"  {v.check}: {v.message}" for v in violations[:40]),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
