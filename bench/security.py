"""What security costs, beside the same system without it, in turns: authentication, authorisation and the sealed audit; TLS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.harness import Goal, Row, against, bench
from bench.stand import Part, Stand
from cluster.embedded.ports import free_ports
from cluster.process.front import FrontTls
from tests.support.authorities import Issuer
from tests.support.fronts import Front

CALLERS = 16
#: The cheapest route that has a database behind it, so that TLS is as much of the cost as it can be.
ROUTE = "/api/control-plane/tasks?limit=1"


@dataclass(slots=True)
class _System:
    """``run`` measures tasks/s (each is submitted, claimed and completed by a call) and CPU seconds per 1,000 tasks."""

    name: str
    server: Part
    client: Part
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self, stand: Stand, total: int) -> tuple[float, float]:
        cpu = stand.cpu(self.server, self.client)
        answer = self.client.ask(op="batches", total=total, callers=CALLERS, each=1, agent_id="bench")
        return total / answer["seconds"], cpu() / total * 1000

    def measure(self, stand: Stand, total: int) -> None:
        rate, cpu = self.run(stand, total)
        self.rates.append(rate)
        self.cpu.append(cpu)

    def rows(self) -> tuple[Row, Row]:
        return (
            Row(name=self.name, unit="tasks/s", runs=tuple(self.rates)),
            Row(name=f"{self.name}: CPU of all processes", unit="s per 1,000 tasks", runs=tuple(self.cpu)),
        )


@contextmanager
def _system(stand: Stand, mode: str) -> Iterator[_System]:
    http, metrics = free_ports(2)
    schema = stand.name()
    with stand.part("bench.parts.whole", mode, schema, str(stand.base / schema), str(http), str(metrics)) as server:
        key = server.ask(op="key")["key"] if mode == "on" else ""
        url = f"http://127.0.0.1:{http}"
        with stand.part("bench.parts.http", url, schema, env={"BENCH_API_KEY": key}) as client:
            yield _System(f"API over HTTP, authentication and audit {mode}", server, client)


@bench(
    "security.cost", "keys, permissions and the sealer, beside none of them; one task per call, 16 callers, without Ray"
)
def cost(stand: Stand) -> Iterator[Row]:
    total = stand.size(3_000, 50)
    with _system(stand, "on") as secured, _system(stand, "off") as open_to_all:
        for system in (secured, open_to_all):
            system.run(stand, max(1, total // 10))
        for _ in range(stand.runs):
            for system in (secured, open_to_all):
                system.measure(stand, total)
        (rate, cpu), (open_rate, open_cpu) = secured.rows(), open_to_all.rows()
    yield against(rate, open_rate, Goal(bound=0.9))
    yield against(cpu, open_cpu, Goal(bound=1.12, at_most=True))
    yield open_rate
    yield open_cpu


@dataclass(slots=True)
class _Door:
    """``client`` calls the API through ``front``."""

    front: Front
    client: Part
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def measure(self, stand: Stand, requests: int, handshakes: int) -> None:
        seconds = self.client.ask(op="gets", path=ROUTE, total=requests, callers=CALLERS)["seconds"]
        cpu = stand.cpu(*self.front.pids())
        self.client.ask(op="connections", total=handshakes, callers=CALLERS)
        self.rates.append(requests / seconds)
        self.cpu.append(cpu() / handshakes * 1000)


@contextmanager
def _door(stand: Stand, replica: int, issuer: Issuer | None) -> Iterator[_Door]:
    """Serve's HAProxy with our corrections before a replica, with TLS if there is an authority."""
    directory = stand.base / stand.name()
    directory.mkdir(mode=0o700)
    tls, env = None, {}
    if issuer is not None:
        tls = FrontTls(*issuer.issue().write(directory, "server"))
        env = {"BENCH_CA_FILE": issuer.file(directory)}
    front = Front(directory, tls=tls)
    front.write(replica, health="/health")
    front.start()
    try:
        with stand.part("bench.parts.http", front.url, "tls", env=env) as client:
            yield _Door(front, client)
    finally:
        front.close()


@bench(
    "security.tls", "HTTPS beside HTTP, through Serve's HAProxy; 16 callers that keep their connections, without Ray"
)
def tls(stand: Stand) -> Iterator[Row]:
    requests, handshakes = stand.size(5_000, 50), stand.size(1_000, 50)
    http, metrics = free_ports(2)
    schema = stand.name()
    with (
        stand.part("bench.parts.whole", "off", schema, str(stand.base / schema), str(http), str(metrics)),
        _door(stand, http, Issuer()) as secure,
        _door(stand, http, None) as plain,
    ):
        for door in (secure, plain):
            door.client.ask(op="until_serving", path=ROUTE)
        for _ in range(stand.runs):
            for door in (secure, plain):
                door.measure(stand, requests, handshakes)
    calls = [
        Row(name=f"GET {ROUTE} over {kind}", unit="requests/s", runs=tuple(door.rates))
        for kind, door in (("HTTPS", secure), ("HTTP", plain))
    ]
    yield against(calls[0], calls[1], Goal(bound=0.85))
    yield calls[1]
    yield Row(
        name="handshakes: CPU of HAProxy",
        unit="s per 1,000",
        runs=tuple(secure.cpu),
        goal=Goal(bound=4.0, of="median", at_most=True),
        note="ECDSA P-256, no session is resumed",
    )
