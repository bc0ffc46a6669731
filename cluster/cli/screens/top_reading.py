"""What the screen of ``aragora-cp top`` shows, read from the API at one time. It knows nothing of terminals."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aragora_worker.api import ControlPlaneClient
from cluster.cli.commands.agents import marked_status
from cluster.cli.commands.deliberate import WITHHELD
from cluster.cli.commands.story import explanation_lines, story_lines
from cluster.cli.output import on_one_line
from cluster.domain.base.errors import ControlPlaneError
from cluster.domain.base.ids import path_segment
from cluster.rpc.control import ask_leader

#: Rows of a panel. Who looks for one of 10,000 agents filters a list; a screen is for what is going on.
MOST_ROWS: Final = 200
REGION_S: Final = 2.0
_NUMBERS: Final = dict.fromkeys(("pending", "running", "completed_today", "failed_today"), int)
_HEALTH: Final = {"status": str, "version": str, "components": list}
_OTHER_FORM: Final = "The answer has another form: the control plane may be of another version (aragora-cp status)."


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A table: names of its columns, and rows by the key that opens one (`detail`). ``problem`` is a sentence that says why it
    could not be read; the other panels are shown all the same."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Everything that is shown at once. ``summary`` is one line."""

    summary: str
    queue: Panel
    agents: Panel
    deliberations: Panel
    regions: Panel

    @property
    def panels(self) -> Mapping[str, Panel]:
        return {
            "queue": self.queue,
            "agents": self.agents,
            "deliberations": self.deliberations,
            "regions": self.regions,
        }


async def read(api: ControlPlaneClient, region_socket: Path) -> Reading:
    """Reads all panels side by side. What cannot be read becomes its panel's problem, so this raises nothing of the API's."""
    numbers, jobs, agents, deliberations, health, region = await asyncio.gather(
        _answer(lambda: api.request("GET", "/queue/metrics", has=_NUMBERS)),
        _answer(lambda: api.request("GET", "/queue", params={"limit": MOST_ROWS})),
        _answer(lambda: api.request("GET", "/agents", params={"available": "false", "limit": MOST_ROWS})),
        _answer(lambda: api.request("GET", "/deliberations", params={"limit": 50})),
        _answer(lambda: api.request("GET", "//health/detailed", has=_HEALTH)),
        _region(region_socket),
    )
    return Reading(
        summary=_summary(health, numbers),
        queue=_queue(jobs, numbers),
        agents=_agents(agents),
        deliberations=_deliberations(deliberations),
        regions=_regions(health, agents, region),
    )


async def _answer(ask: Callable[[], Awaitable[Any]]) -> Any:
    """An answer, or the error in its stead."""
    try:
        return await ask()
    except ControlPlaneError as error:
        return error


async def _region(socket: Path) -> Any:
    """What this machine's region leader says; None where there is none, as on an operator's own machine."""
    try:
        return await ask_leader(socket, "status", timeout_s=REGION_S)
    except ControlPlaneError:
        return None


def _cell(value: object) -> str:
    return on_one_line(value)


def _panel(title: str, head: Sequence[str], found: Any, rows: Callable[[Any], Sequence[Sequence[object]]]) -> Panel:
    """A panel whose rows begin with their keys."""
    if isinstance(found, ControlPlaneError):
        return Panel(title=title, head=tuple(head), problem=on_one_line(found.message))
    try:
        cells = tuple((_cell(row[0]), tuple(_cell(value) for value in row)) for row in rows(found))
    except (KeyError, TypeError, AttributeError):
        return Panel(title=title, head=tuple(head), problem=_OTHER_FORM)
    return Panel(title=title, head=tuple(head), rows=cells)


def _summary(health: Any, numbers: Any) -> str:
    if isinstance(health, ControlPlaneError):
        return on_one_line(health.message)
    ailing = [each.get("name", "?") for each in health["components"] if each.get("status") != "healthy"]
    words = [health["status"] + (f" ({', '.join(ailing)})" if ailing else ""), f"version {health['version']}"]
    if not isinstance(numbers, ControlPlaneError):
        words += [
            f"{numbers['pending']} wait, {numbers['running']} run",
            f"{numbers.get('throughput_per_minute', 0):g} done a minute",
            f"today {numbers['completed_today']} done, {numbers['failed_today']} failed",
            f"mean wait {numbers.get('avg_wait_time_ms', 0) / 1000:.1f} s",
        ]
    return on_one_line(" · ".join(words))


def _queue(jobs: Any, numbers: Any) -> Panel:
    counts = "" if isinstance(numbers, ControlPlaneError) else f": {numbers['pending']} wait, {numbers['running']} run"
    return _panel(
        f"Queue{counts}",
        ("task", "status", "priority", "type", "agent", "submitted (UTC)"),
        jobs,
        lambda found: [
            (
                *(job[name] for name in ("id", "status_detail", "priority", "type")),
                ", ".join(job["agents_assigned"]),
                str(job["created_at"])[:19].replace("T", " "),
            )
            for job in found["jobs"]
        ],
    )


def _agents(agents: Any) -> Panel:
    total = "" if isinstance(agents, ControlPlaneError) else f": {agents['total']}"
    return _panel(
        f"Agents{total}",
        ("agent", "status", "running", "done", "failed", "ms", "region"),
        agents,
        lambda found: [
            (
                agent["agent_id"],
                marked_status(agent),
                f"{agent['running_tasks']}/{agent['max_concurrency']}",
                agent["tasks_completed"],
                agent["tasks_failed"],
                "" if not agent["avg_latency_ms"] else round(agent["avg_latency_ms"]),
                agent["region_id"],
            )
            for agent in found["agents"]
        ],
    )


def _deliberations(deliberations: Any) -> Panel:
    return _panel(
        "Deliberations",
        ("deliberation", "status", "asked (UTC)", "question"),
        deliberations,
        lambda found: [
            (
                record["request_id"],
                record["deliberation_status"],
                str(record["created_at"])[:19].replace("T", " "),
                record.get("question", WITHHELD),
            )
            for record in found["deliberations"]
        ],
    )


def _regions(health: Any, agents: Any, region: Any) -> Panel:
    return _panel(
        "Regions and components", ("part", "status", "figure"), health, lambda found: _parts(found, agents, region)
    )


def _parts(health: Any, agents: Any, region: Any) -> list[tuple[object, ...]]:
    """Regions as this machine's leader has them, and by the agents in them; then the parts of the control plane."""
    rows: list[tuple[object, ...]] = []
    if region is not None:
        in_sync = ", ".join(region.get("in_sync") or ()) or "-"
        role = f"{region['role']} ({region['phase']})"
        rows.append((f"region {region['region']}", role, f"epoch {region['epoch']}, in sync: {in_sync}"))
        for name, lag in (region.get("lag") or {}).items():
            rows.append((f"lag of {name}", "", ", ".join(f"{what} {value}" for what, value in lag.items())))
        if region.get("problem"):
            rows.append(("problem", "", region["problem"]))
    if not isinstance(agents, ControlPlaneError):
        counts = Counter(agent["region_id"] for agent in agents["agents"])
        alive = Counter(agent["region_id"] for agent in agents["agents"] if agent["liveness"] == "alive")
        for name, count in sorted(counts.items()):
            rows.append((f"agents in {name}", f"{alive[name]} alive", f"of the {count} that are shown"))
    for part in health["components"]:
        figure = part.get("error") or f"{part.get('latency_ms', '')} ms"
        rows.append((part["name"], part["status"], "; ".join([figure, *part.get("warnings", ())])))
    return rows


async def detail(api: ControlPlaneClient, panel: str, key: str) -> str:
    """What is known of a row: of a task why it waits and its story, of others their stories. Raises nothing of the API's: an
    error is what there is to tell."""
    lines: list[str] = []
    try:
        if panel == "queue":
            found = await api.request("GET", f"/tasks/{path_segment(key)}/explain")
            lines += [*explanation_lines(found), ""]
        story = await api.request("GET", f"/story/{path_segment(key)}")
        lines += story_lines(story["events"], key)
        if story["has_more"]:
            lines.append(f"(There is more: aragora-cp story {key})")
    except ControlPlaneError as error:
        lines.append(error.message)
    return "\n".join(on_one_line(line) for line in lines)
