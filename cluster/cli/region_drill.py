"""A drill of a planned failover: the zone goes to another region and back while a client writes, and what was seen meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from aragora_worker.api import ControlPlaneClient
from cluster.domain.base.errors import Conflict, ControlPlaneError, InternalError, NotFound, TryLater

#: Asks this region's leader: a command with its arguments.
Ask = Callable[..., Awaitable[Any]]
#: Nobody has it, so no agent gets a probe.
CAPABILITY: Final = "aragora-region-drill"
#: Between two probes, two tries of one, and two looks.
APART_S: Final = 0.1
#: Longer than any answer of a region that lives.
ANSWER_S: Final = 8.0
#: How long a copy may be behind at the end.
CATCH_UP_S: Final = 30.0
#: Rows before the drill that are compared too.
ROWS_BEFORE: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One transfer, in seconds after the command: when the leader said that it had ended, and when the first write was
    acknowledged that began after that. ``closed_s``: the longest time without an acknowledged write."""

    to: str
    handed_over_s: float
    first_write_s: float
    closed_s: float


@dataclass(kw_only=True)
class Drill:
    """What a drill has seen. ``lost``: probes that were acknowledged and are not there. ``rows``: by region, what it has of the
    compared range of the log, or its problem. ``new_surplus``: files of surplus rows that the drill has made. ``broken``: what
    kept it from going on, in a sentence."""

    region: str
    to: str
    legs: list[Leg] = field(default_factory=list)
    acknowledged: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    lost: Sequence[str] = ()
    compared: tuple[int, int] = (0, 0)
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    new_surplus: int = 0
    broken: str | None = None

    def problems(self, most_closed_s: float) -> list[str]:
        """What is not as it should be, in sentences."""
        found = [] if self.broken is None else [self.broken]
        found += [f"Probe {task_id} was acknowledged and is not there." for task_id in self.lost]
        found += [
            f"The zone was closed for writes for {leg.closed_s:.1f} s on its way to {leg.to}, longer than {most_closed_s:g} s."
            for leg in self.legs
            if leg.closed_s > most_closed_s
        ]
        own = self.rows.get(self.region)
        for region, sums in self.rows.items():
            if "problem" in sums:
                found.append(f"The log of {region} could not be compared ({sums['problem']}).")
            elif own is not None and _sums(sums) != _sums(own):
                found.append(f"The log of {region} differs from that of {self.region} in the rows that were compared.")
        if self.new_surplus:
            found.append(f"{self.new_surplus} new files have surplus rows; see aragora-cp region status.")
        return found

    def markdown(self, at: str, most_closed_s: float) -> str:
        """The report for people."""
        problems = self.problems(most_closed_s)
        lines = [
            f"# Region drill, {at}",
            "",
            f"From {self.region} to {self.to} and back, planned. {'Failed.' if problems else 'Nothing was lost.'}",
            "",
            *(f"- {problem}" for problem in problems),
            *([""] if problems else []),
            "| To | Handed over | First acknowledged write | Closed for writes |",
            "|---|---|---|---|",
            *(
                f"| {leg.to} | {leg.handed_over_s:.1f} s | {leg.first_write_s:.1f} s | {leg.closed_s:.1f} s |"
                for leg in self.legs
            ),
            "",
            f"{self.acknowledged} probes acknowledged, {len(self.lost)} lost. Refusals meanwhile: "
            f"{', '.join(f'{count} {code}' for code, count in sorted(self.refused.items())) or 'none'}.",
            "",
            f"Rows {self.compared[0] + 1} to {self.compared[1]} of the log:",
            "",
            "| Region | Rows | Digest | Files of surplus rows |",
            "|---|---|---|---|",
            *(
                f"| {region} | {sums.get('count', sums.get('problem'))} | {sums.get('digest', '')} | {sums.get('surplus', '')} |"
                for region, sums in self.rows.items()
            ),
        ]
        return "\n".join(lines) + "\n"


def _sums(found: Mapping[str, Any]) -> tuple[Any, Any]:
    return found.get("count"), found.get("digest")


@dataclass
class Probes:
    """Tasks that no agent takes, submitted one after the other, each repeated under its key until it is acknowledged. ``run``
    tells drills apart. Times are of the machine's steady clock."""

    api: ControlPlaneClient
    run: str
    ids: list[str] = field(default_factory=list)
    #: When each was begun and acknowledged.
    times: list[tuple[float, float]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    async def write_forever(self) -> None:
        """Raises: `CallerError` if the API refuses the probe itself."""
        for number in itertools.count():
            await self._submit(f"drill-{self.run}-{number}")
            await asyncio.sleep(APART_S)

    async def _submit(self, key: str) -> None:
        body = {"task_type": "region-drill", "payload": {}, "required_capabilities": [CAPABILITY]}
        while True:
            began = time.monotonic()
            try:
                found = await self.api.request("POST", "/tasks", body, idempotency_key=key, timeout_s=ANSWER_S)
            except (TryLater, InternalError) as error:
                self.refused[error.code] += 1
                await asyncio.sleep(APART_S)
                continue
            self.ids.append(str(found["task_id"]))
            self.times.append((began, time.monotonic()))
            return

    def begun_after(self, moment: float) -> float | None:
        """When the first was acknowledged that was begun after a moment; None if none was."""
        return next((ended for began, ended in self.times if began > moment), None)

    def longest_gap_s(self, since: float) -> float:
        """The longest time between two acknowledgements, the second of which came after ``since``."""
        ends = [ended for _, ended in self.times]
        return max((after - before for before, after in itertools.pairwise(ends) if after > since), default=0.0)

    async def lost(self) -> list[str]:
        """Those that are not there. The others are cancelled."""
        return [task_id for task_id in self.ids if not await self._is_there(task_id)]

    async def _is_there(self, task_id: str) -> bool:
        deadline = time.monotonic() + CATCH_UP_S
        while time.monotonic() < deadline:
            with suppress(NotFound, TryLater):
                await self.api.request("POST", f"/tasks/{task_id}/cancel", idempotency_key=f"drill-{task_id}")
                return True
            await asyncio.sleep(APART_S)
        return False


async def drill(ask: Ask, api: ControlPlaneClient, to: str | None, run: str) -> Drill:
    """Hands the zone over to ``to`` (None: the first other member of the in-sync set) and takes it back.

    Raises: `Conflict` if this region is not the primary, or nobody can take the zone; `CallerError` if the API refuses probes;
    `TryLater` if the leader does not answer, or no probe is acknowledged. All before anything was handed over."""
    status = await ask("status")
    if status["phase"] != "primary":
        raise Conflict("This region is not the zone's primary; begin the drill there.", "not_primary")
    others = [region for region in status["in_sync"] if region != status["region"]]
    if not others or (to is not None and to not in others):
        raise Conflict(
            "The region that shall take the zone is not in the in-sync set; see aragora-cp region status.",
            "not_in_sync",
        )
    found = Drill(region=status["region"], to=to or others[0])
    first = max(0, status["head"] - ROWS_BEFORE)
    before = await ask("sums", after=first, upto=first)
    probes = Probes(api, run)
    writing = asyncio.create_task(probes.write_forever())
    try:
        await _until(writing, lambda: probes.begun_after(0.0))
        await _there_and_back(found, ask, probes, writing)
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    found.lost = await probes.lost()
    found.acknowledged, found.refused = len(probes.ids), dict(probes.refused)
    await _compare(found, ask, first)
    found.new_surplus = _surplus(found.rows) - _surplus(before)
    return found


async def _there_and_back(found: Drill, ask: Ask, probes: Probes, writing: asyncio.Task[None]) -> None:
    try:
        for to, command in ((found.to, {"command": "failover", "to": found.to}), (found.region, {"command": "take"})):
            began = time.monotonic()
            await ask(**command)
            handed_over = time.monotonic()
            first_write = await _until(writing, lambda: probes.begun_after(handed_over))  # noqa: B023 - it is awaited here
            found.legs.append(
                Leg(
                    to=to,
                    handed_over_s=handed_over - began,
                    first_write_s=first_write - began,
                    closed_s=probes.longest_gap_s(began),
                )
            )
    except ControlPlaneError as error:
        found.broken = f"The drill broke off, and the zone may be elsewhere: {error.message}"


async def _until(writing: asyncio.Task[None], look: Callable[[], float | None]) -> float:
    """What ``look`` finds. Raises: `CallerError` if the API refuses probes; `TryLater` if none is acknowledged in time."""
    deadline = time.monotonic() + CATCH_UP_S
    while time.monotonic() < deadline:
        if writing.done():
            writing.result()
        found = look()
        if found is not None:
            return found
        await asyncio.sleep(APART_S / 10)
    raise TryLater("No probe was acknowledged in time; look at aragora-cp region status, and at ARAGORA_API_URL.")


async def _compare(found: Drill, ask: Ask, first: int) -> None:
    """Compares the logs up to this region's last row, as soon as the others have it."""
    deadline = time.monotonic() + CATCH_UP_S
    upto = (await ask("status"))["head"]
    found.compared = first, upto
    while True:
        found.rows = await ask("sums", after=first, upto=upto)
        if len({_sums(sums) for sums in found.rows.values()}) == 1 or time.monotonic() > deadline:
            return
        await asyncio.sleep(APART_S)


def _surplus(rows: Mapping[str, Mapping[str, Any]]) -> int:
    return sum(sums.get("surplus", 0) for sums in rows.values())
