"""Ten thousand agents over HTTP: registering and listing them, their heartbeats, and what their loss costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from bench.harness import Goal, Row, bench
from bench.stand import Part, Stand
from bench.system import Running, alone, shared
from cluster.domain.agents.placement import owner_host
from cluster.domain.agents.selection import Strategy

HEARTBEATS_PER_S = 5_000
HOSTS = 2
#: Tasks a second, and how long each takes. Their product is the number of tasks in flight when the host is killed.
LOAD_PER_S, LOAD_MS = 50, 500
CONNECTIONS = 100
#: Longest wait for anything that should happen; whatever has not happened by then counts as lost.
PATIENCE_S = 120.0
#: Time between two queries for whether it has happened. Each query takes CPU from what is measured. The rows of the
#: database say when it happened, so a long pause costs no precision.
LOOK_S = 0.5


@bench("agents.registry", "10,000 agents registered in batches, then a filtered list of them", ray=True)
def registry(stand: Stand) -> Iterator[Row]:
    running = shared(stand)
    number = stand.size(10_000, 100)
    seconds, p50, p99 = [], [], []
    with stand.part("bench.parts.http", running.api_url, stand.name()) as client:
        for turn in range(stand.runs):
            answer = client.ask(op="register", agents=number, each=500, prefix=f"fleet-{turn}" if turn else "fleet")
            seconds.append(answer["seconds"])
            if turn == 0:  # the lists expect exactly these agents
                for _ in range(stand.runs):
                    answer = client.ask(op="lists", times=stand.size(300, 10), capability="rare-7")
                    assert answer["agents"] == number // 100
                    p50.append(answer["p50"])
                    p99.append(answer["p99"])
    label = f"{number:,} agents"
    yield Row(
        name=f"register {label} over HTTP, 500 per call",
        unit="s",
        runs=tuple(seconds),
        goal=Goal(bound=30, of="median", at_most=True),
    )
    name = f"list by capability over HTTP, 1 % of {label}"
    yield Row(name=f"{name}, p50", unit="ms", runs=tuple(p50))
    yield Row(name=f"{name}, p99", unit="ms", runs=tuple(p99), goal=Goal(bound=20, of="median", at_most=True))


@bench("agents.heartbeats", "5,000 heartbeats a second in batches of 500", ray=True)
def heartbeats(stand: Stand) -> Iterator[Row]:
    running = shared(stand)
    number, seconds = stand.size(10_000, 500), stand.size(5, 1)
    cores, shares = [], []
    with stand.part("bench.parts.http", running.api_url, stand.name()) as client:
        client.ask(op="register", agents=number, each=500, prefix="beating")
        for _ in range(stand.runs):
            idle = running.cpu(stand)
            client.ask(op="rest", seconds=2)
            at_rest = idle()["all"] / 2
            spent = running.cpu(stand, client)
            answer = client.ask(
                op="heartbeats", agents=number, each=500, rate=HEARTBEATS_PER_S, seconds=seconds, prefix="beating"
            )
            used = spent()
            cores.append((used["all"] - used["client"]) / answer["seconds"])
            shares.append(at_rest)
    yield Row(
        name=f"CPU of the control plane at {HEARTBEATS_PER_S:,} heartbeats/s",
        unit="cores",
        runs=tuple(cores),
        goal=Goal(bound=0.5, of="median", at_most=True),
        note="all of Ray, the actors, Postgres and Redis",
    )
    yield Row(name="CPU of the control plane at rest", unit="cores", runs=tuple(shares))


@bench("agents.selection", "who gets the next task, among 10,000 agents that are called")
def selection(stand: Stand) -> Iterator[Row]:
    number, choices = stand.size(10_000, 100), stand.size(20_000, 500)
    with stand.part("bench.parts.choosing") as part:
        for strategy in Strategy:
            answers = [
                part.ask(op="choose", strategy=strategy.value, agents=number, choices=choices)
                for _ in range(stand.runs)
            ]
            yield Row(
                name=f"choose among {number:,} agents, {strategy.value}, p99",
                unit="ms",
                runs=tuple(answer["p99"] for answer in answers),
                goal=Goal(bound=20, of="median", at_most=True),
                note=f"p50 {answers[0]['p50']:.4f} ms, ranking everybody {answers[0]['first']:.0f} ms",
            )


@bench("agents.silence", "1,000 agents that hold a task each fall silent at once", ray=True)
def silence(stand: Stand) -> Iterator[Row]:
    running = shared(stand)
    number = stand.size(1_000, 20)
    timeout_s = running.settings.heartbeat_timeout
    sweep_s = min(running.settings.cleanup_interval, timeout_s / 3)
    seconds, requeues, not_once = [], [], []
    with stand.part("bench.parts.http", running.api_url, stand.name()) as client:
        for turn in range(stand.runs):
            prefix = f"silent-{turn}"
            client.ask(op="hold", agents=number, prefix=prefix)
            spoke = client.ask(op="heartbeats", agents=number, each=500, rate=number, seconds=3, prefix=prefix)["last"]
            answer = client.ask(op="until_offline", agents=number, prefix=prefix, within_s=PATIENCE_S)
            seconds.append(answer["at"] - spoke if answer["offline"] == number else float("inf"))
            client.ask(op="rest", seconds=2)  # requeues that come now are second ones
            times = _times(running, "task.requeued", prefix)
            requeues.append(float(sum(times)))
            not_once.append(float(sum(count != 1 for count in times)))
    label = f"{number:,} agents silent at once"
    yield Row(
        name=f"{label}: all offline after",
        unit="s",
        runs=tuple(seconds),
        goal=Goal(bound=timeout_s + sweep_s, of="median", at_most=True),
        note=f"heartbeat timeout {timeout_s:g} s, a sweep every {sweep_s:g} s",
    )
    yield Row(
        name=f"{label}: requeues of their tasks",
        unit="tasks",
        runs=tuple(requeues),
        goal=Goal(bound=number, of="median", at_most=False),
    )
    yield Row(
        name=f"{label}: tasks not requeued exactly once",
        unit="tasks",
        runs=tuple(not_once),
        goal=Goal(bound=0, of="median", at_most=True),
    )


def _times(running: Running, kind: str, task_type: str) -> list[int]:
    """For each task of a type, the number of its log rows of a kind."""
    sql = """
        select count(l.seq)::integer as times
        from tasks t left join log l on l.entity = t.id and l.kind = $1
        where t.task_type = $2 group by t.id"""
    return [row["times"] for row in running.rows(sql, kind, task_type)]


@bench("agents.host-kill", "kill -9 of a host that owns 2,000 agents at work", ray=True)
def host_kill(stand: Stand) -> Iterator[Row]:
    number = stand.size(2_000, 40) * HOSTS
    seconds, lost = [], []
    with (
        # The load alone keeps 25 calls open, and all of these agents are of one provider.
        alone(stand, agent_hosts=HOSTS, http_pool_size=CONNECTIONS) as running,
        stand.part("bench.parts.called", running.api_url, stand.name()) as agents,
    ):
        ids = [f"called-{index}" for index in range(number)]
        agents.ask(op="register", agents=ids, each=500, groups=100)
        for turn in range(stand.runs):
            _until(lambda: _hosts(running) == HOSTS, agents)
            workspace, host = running.settings.workspace, turn % HOSTS
            of_host = [agent_id for agent_id in ids if owner_host(workspace, agent_id, range(HOSTS)) == host]
            kill = _Kill(running, agents, f"kill-{turn}", ids, of_host)
            seconds.append(kill.seconds(host))
            lost.append(kill.lost())
    label = f"kill -9 of a host with {number // HOSTS:,} agents"
    yield Row(
        name=f"{label}: all of them served again after",
        unit="s",
        runs=tuple(seconds),
        goal=Goal(bound=10, of="median", at_most=True),
        note=f"{HOSTS} hosts, {LOAD_PER_S} tasks/s of {LOAD_MS} ms beside it, {CONNECTIONS} connections a host",
    )
    yield Row(
        name=f"{label}: leases lost, in all runs",
        unit="tasks",
        runs=(float(sum(lost)),),
        goal=Goal(bound=0, of="median", at_most=True),
        note="tasks that were not completed, or twice, or needed a second attempt",
    )


class _Kill:
    """One kill under load. An agent is served again when a task that names it has been completed."""

    def __init__(
        self, running: Running, agents: Part, name: str, everybody: Sequence[str], of_host: Sequence[str]
    ) -> None:
        self._running = running
        self._agents = agents
        self._load, self._each = f"{name}-load", f"{name}-each"
        self._everybody = everybody
        self._of_host = of_host

    def seconds(self, host: int) -> float:
        """From the kill to the end of the last agent's task."""
        agents, running = self._agents, self._running
        agents.ask(op="each", agents=self._everybody, task_type=f"{self._each}-before")
        _until(lambda: _completed(running, f"{self._each}-before") == len(self._everybody), agents)
        agents.ask(op="load", agents=self._everybody, task_type=self._load, rate=LOAD_PER_S, ms=LOAD_MS)
        agents.ask(op="rest", seconds=3)
        (process,) = (actor for name, actor in running.actors("agent-host").items() if f"-agent-host-{host}-" in name)
        process.kill()
        killed_at = time.time()
        agents.ask(op="each", agents=self._of_host, task_type=self._each)
        _until(lambda: _completed(running, self._each) == len(self._of_host), agents)
        submitted = agents.ask(op="end_load")["tasks"]
        _until(lambda: _completed(running, self._load) == submitted, agents)
        return self._last_end() - killed_at

    def _last_end(self) -> float:
        sql = """
            select case when bool_and(status = 'completed') then max(completed_at) else 'infinity' end as at
            from tasks where task_type = $1"""
        return float(self._running.rows(sql, self._each)[0]["at"])

    def lost(self) -> float:
        sql = "select count(*) as number from tasks where task_type = any($1) and attempt > 1"
        types = (self._load, self._each)
        ends = [times for task_type in types for times in _times(self._running, "task.completed", task_type)]
        again = self._running.rows(sql, list(types))[0]["number"]
        return float(sum(times != 1 for times in ends) + again)


def _completed(running: Running, task_type: str) -> int:
    sql = "select count(*) as number from tasks where task_type = $1 and status = 'completed'"
    return int(running.rows(sql, task_type)[0]["number"])


def _hosts(running: Running) -> int:
    """The number of hosts that hold their leases and whose processes live."""
    sql = "select count(distinct split_part(name, ':', 2)) as number from leases where name like 'carrier:%' and until > now()"
    return min(int(running.rows(sql)[0]["number"]), len(running.actors("agent-host")))


def _until(condition: Callable[[], bool], part: Part) -> None:
    """Waits until the condition holds, or for `PATIENCE_S`; the figures then show what is missing. The part does the waiting."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        part.ask(op="rest", seconds=LOOK_S)


@bench("agents.host-memory", "the hosts' memory with 10,000 agents that are called", ray=True)
def host_memory(stand: Stand) -> Iterator[Row]:
    number, served = stand.size(10_000, 100), stand.size(1_000, 10)
    memory, sizes = [], []
    with alone(stand) as running, stand.part("bench.parts.called", running.api_url, stand.name()) as agents:
        empty = sum(_pss(running))
        ids = [f"called-{index}" for index in range(number)]
        agents.ask(op="register", agents=ids, each=500, groups=100)
        for turn in range(stand.runs):  # with work, because memory that claims and calls leave behind counts too
            name = f"memory-{turn}"
            agents.ask(op="each", agents=ids[turn * served : (turn + 1) * served], task_type=name)
            _until(lambda: _completed(running, name) == served, agents)  # noqa: B023
            sizes = _pss(running)
            memory.append(sum(sizes))
    yield Row(
        name=f"memory of all agent hosts with {number:,} agents",
        unit="MiB",
        runs=tuple(memory),
        goal=Goal(bound=1024, of="median", at_most=True),
        note=f"PSS of {len(sizes)} process(es), {empty:.0f} without agents",
    )


def _pss(running: Running) -> list[float]:
    """MiB of each host, with its share of the pages that several processes use (PSS)."""
    return [process.memory_full_info().pss / 2**20 for process in running.actors("agent-host").values()]
