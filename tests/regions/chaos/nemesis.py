"""Faults of three regions: what each takes away, and how it is given back."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass

import psutil

from cluster.embedded.processes import ProcessId, end
from tests.regions.chaos.clients import ChaosClients
from tests.regions.chaos.history import Fault, History
from tests.support.hanging import stopped
from tests.support.links import FaultProxy
from tests.support.probes import eventually
from tests.support.region_processes import NAMES, RegionBench

#: How long nobody may answer a write while another region takes over, and how long the regions may take to be whole again.
TAKEN_OVER_S, WHOLE_S = 30.0, 60.0
PRIMARY, SECONDARY, ANY = "primary", "secondary", "any"
#: Longer than a lease and the campaign after it: whoever could be elected by mistake has the time for it.
NOBODY_S = 8.0
UNFOLLOWED_S = 0.5


@dataclass(frozen=True, slots=True)
class Struck:
    """What a fault acts on. ``others``: the regions beside the victim."""

    bench: RegionBench
    victim: str
    chance: random.Random

    @property
    def others(self) -> list[str]:
        return [name for name in NAMES if name != self.victim]

    def processes(self, parts: Sequence[str]) -> list[ProcessId]:
        region = self.bench.regions[self.victim]
        found = {"process": region.process, "postgres": region.postgres.process}
        found["etcd"] = self.bench.etcd_of(self.victim).process
        return [process for part in parts if (process := found[part]) is not None]

    def both_ways(self, others: Sequence[str]) -> list[FaultProxy]:
        """The links between the victim and others."""
        pairs = [pair for other in others for pair in ((self.victim, other), (other, self.victim))]
        return [self.bench.links[pair] for pair in pairs]

    def to_etcd(self) -> list[FaultProxy]:
        return [self.bench.etcd_links[self.victim, name] for name in NAMES]


Act = Callable[[Struck], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKind:
    """``victim``: which region. ``replaces``: it lasts until another region answers."""

    victim: str
    act: Act
    replaces: bool = False


def _killed(*parts: str) -> Act:
    @asynccontextmanager
    async def act(struck: Struck) -> AsyncIterator[None]:
        region, member = struck.bench.regions[struck.victim], struck.bench.etcd_of(struck.victim)
        leaders = [psutil.Process(process.pid) for process in struck.processes(parts)]
        # A backend of PostgreSQL outlives its server for as long as its statement takes: so each is killed.
        victims = [*leaders, *(child for leader in leaders for child in leader.children(recursive=True))]
        found = [process for victim in victims if (process := ProcessId.of(victim.pid)) is not None]
        await asyncio.to_thread(end, found, first=signal.SIGKILL)
        try:
            yield
        finally:
            if "etcd" in parts:
                member.start()
            if "postgres" in parts:
                await asyncio.to_thread(region.postgres.start)
            if "process" in parts:
                region.start()

    return act


def _frozen(*parts: str) -> Act:
    @asynccontextmanager
    async def act(struck: Struck) -> AsyncIterator[None]:
        with ExitStack() as stack:
            for process in struck.processes(parts):
                stack.enter_context(stopped(process))
            yield

    return act


def _cut(*, links: str | None = None, etcd: str | None = None) -> Act:
    """``links`` and ``etcd``: the fault of each connection of the victim's with its peers, and with any member of etcd."""

    @asynccontextmanager
    async def act(struck: Struck) -> AsyncIterator[None]:
        faults = {struck.bench.links[struck.victim, other]: links for other in struck.others}
        # What a network loses one way are the questions of one link and the answers of the other.
        faults |= {struck.bench.links[other, struck.victim]: _turned(links) for other in struck.others}
        faults |= dict.fromkeys(struck.to_etcd(), etcd)
        async with _healed(list(faults)):
            for proxy, fault in faults.items():
                proxy.begin(fault)
            yield

    return act


def _turned(fault: str | None) -> str | None:
    return {"hold asks": "hold answers", "hold answers": "hold asks"}.get(fault or "", fault)


@asynccontextmanager
async def _healed(proxies: Sequence[FaultProxy]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for proxy in proxies:
            proxy.heal()


@asynccontextmanager
async def _two_apart(struck: Struck) -> AsyncIterator[None]:
    """The victim and one other do not reach each other; both reach the third, and etcd."""
    proxies = struck.both_ways([struck.chance.choice(struck.others)])
    async with _healed(proxies):
        for proxy in proxies:
            proxy.begin("hold")
        yield


@asynccontextmanager
async def _slow(struck: Struck) -> AsyncIterator[None]:
    """A standby behind a bad line: whoever answers waits for it, or it leaves the in-sync set."""
    proxies = struck.both_ways(struck.others)
    async with _healed(proxies):
        for proxy in proxies:
            proxy.slow(struck.chance.uniform(0.05, 0.4), 0.2, 20_000.0)
        yield


@asynccontextmanager
async def _far(struck: Struck) -> AsyncIterator[None]:
    """All regions are 100 ms from each other, and from etcd."""
    proxies = [*struck.bench.links.values(), *struck.bench.etcd_links.values()]
    async with _healed(proxies):
        for proxy in proxies:
            proxy.slow(0.05, 0.02)
        yield


@asynccontextmanager
async def _only_a_stale_heir(struck: Struck) -> AsyncIterator[None]:
    """One region has left the in-sync set. The primary dies while the other one, which has every acknowledged row, sleeps: so
    nobody may be elected."""
    behind, heir = struck.chance.sample(struck.others, 2)
    bench = struck.bench
    proxies = struck.both_ways([behind])
    async with _healed(proxies):
        for proxy in proxies:
            proxy.begin("hold")

        async def left() -> bool:
            return behind not in (await bench.status(struck.victim))["in_sync"]

        await eventually(left, WHOLE_S, f"{behind} has left the in-sync set")
        answered = bench.asked
        await bench.write([struck.victim])
        await bench.write([struck.victim])
        assert bench.asked > answered
        process = bench.regions[heir].process
        assert process is not None
        with stopped(process):
            async with _killed("process")(struck):
                await asyncio.sleep(NOBODY_S)
        yield


@asynccontextmanager
async def _killed_unfollowed(struck: Struck) -> AsyncIterator[None]:
    """The primary dies with rows that nobody else has: both others sleep, for less than the sync interval."""
    async with AsyncExitStack() as stack:
        with ExitStack() as asleep:
            for name in struck.others:
                process = struck.bench.regions[name].process
                assert process is not None
                asleep.enter_context(stopped(process))
            await asyncio.sleep(UNFOLLOWED_S)
            await stack.enter_async_context(_killed("process")(struck))
        await asyncio.sleep(NOBODY_S)
        yield


KINDS = {
    "kill the primary's process": FaultKind(victim=PRIMARY, act=_killed("process"), replaces=True),
    "kill the primary's process and etcd member": FaultKind(
        victim=PRIMARY, act=_killed("process", "etcd"), replaces=True
    ),
    "kill all of the primary's region": FaultKind(
        victim=PRIMARY, act=_killed("process", "postgres", "etcd"), replaces=True
    ),
    "kill the primary's PostgreSQL": FaultKind(victim=PRIMARY, act=_killed("postgres")),
    "kill a secondary's process": FaultKind(victim=SECONDARY, act=_killed("process")),
    "kill a secondary's PostgreSQL": FaultKind(victim=SECONDARY, act=_killed("postgres")),
    "kill a member of etcd": FaultKind(victim=ANY, act=_killed("etcd")),
    "freeze the primary's process": FaultKind(victim=PRIMARY, act=_frozen("process"), replaces=True),
    "freeze all of the primary's region": FaultKind(
        victim=PRIMARY, act=_frozen("process", "postgres", "etcd"), replaces=True
    ),
    "freeze the primary's PostgreSQL": FaultKind(victim=PRIMARY, act=_frozen("postgres")),
    "freeze a secondary's process": FaultKind(victim=SECONDARY, act=_frozen("process")),
    "freeze a secondary's PostgreSQL": FaultKind(victim=SECONDARY, act=_frozen("postgres")),
    "freeze a member of etcd": FaultKind(victim=ANY, act=_frozen("etcd")),
    "isolate the primary": FaultKind(victim=PRIMARY, act=_cut(links="hold", etcd="hold"), replaces=True),
    "isolate the primary, packets lost": FaultKind(
        victim=PRIMARY, act=_cut(links="blackhole", etcd="blackhole"), replaces=True
    ),
    "isolate a secondary": FaultKind(victim=SECONDARY, act=_cut(links="hold", etcd="hold")),
    "cut the primary from etcd": FaultKind(victim=PRIMARY, act=_cut(etcd="hold"), replaces=True),
    "cut the primary from its peers": FaultKind(victim=PRIMARY, act=_cut(links="hold")),
    "cut two regions from each other": FaultKind(victim=ANY, act=_two_apart),
    "one way: nothing leaves a region": FaultKind(victim=ANY, act=_cut(links="hold asks", etcd="hold asks")),
    "one way: nothing reaches a region": FaultKind(victim=ANY, act=_cut(links="hold answers", etcd="hold answers")),
    "half open": FaultKind(victim=ANY, act=_cut(links="half open", etcd="half open")),
    "reset": FaultKind(victim=ANY, act=_cut(links="reset", etcd="reset")),
    "a slow standby": FaultKind(victim=SECONDARY, act=_slow),
    "all regions far from each other": FaultKind(victim=ANY, act=_far),
    "kill the primary while both others sleep": FaultKind(victim=PRIMARY, act=_killed_unfollowed),
    "only a stale heir": FaultKind(victim=PRIMARY, act=_only_a_stale_heir),
}


class NotWhole(Exception):
    """The regions did not come back from a fault."""


class Nemesis:
    def __init__(self, bench: RegionBench, clients: ChaosClients, history: History, seed: int) -> None:
        self._bench = bench
        self._clients = clients
        self._history = history
        self._chance = random.Random(f"{seed}/nemesis")

    def deck(self, names: Sequence[str]) -> list[str]:
        """Every kind once, in an order that the seed decides."""
        return self._chance.sample(list(names), len(names))

    async def strike(self, name: str) -> Fault:
        """Strikes at regions that are whole, heals, and returns when they are whole again.

        Raises: `NotWhole`, with the fault in the history."""
        kind = KINDS[name]
        primary = await self._bench.primary()
        whole_at = time.time()
        await eventually(lambda: self._clients.acknowledged_since(whole_at), WHOLE_S, "a write is answered")
        victims = {PRIMARY: [primary], ANY: list(NAMES)}
        victim = self._chance.choice(victims.get(kind.victim, [other for other in NAMES if other != primary]))
        hold_s = self._chance.uniform(0.5, 4.0)
        began = time.time()
        answers = True
        async with kind.act(Struck(self._bench, victim, self._chance)):
            if kind.replaces:
                answers = await self._another_answers(began, victim)
                hold_s /= 4
            await asyncio.sleep(hold_s)
        healed = time.time()
        await self._clients.stubborn(primary)
        whole = await self._whole(healed) if answers else None
        fault = Fault(name=name, victim=victim, began=began, healed=healed, whole=whole)
        self._history.faults.append(fault)
        if whole is None:
            raise NotWhole
        return fault

    async def _another_answers(self, began: float, victim: str) -> bool:
        try:
            await eventually(
                lambda: self._clients.acknowledged_since(began, besides=victim), TAKEN_OVER_S, "another region answers"
            )
        except AssertionError:
            return False
        return True

    async def _whole(self, healed: float) -> float | None:
        try:
            await self._bench.primary()
            await eventually(lambda: self._clients.acknowledged_since(healed), WHOLE_S, "a write is answered")
        except AssertionError:
            return None
        return time.time()
