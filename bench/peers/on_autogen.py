"""AutoGen's gRPC runtime: ``agents`` hosts three agents, ``caller`` asks each of them seven times per deliberation."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import Any

from autogen_core import AgentId, MessageContext, RoutedAgent, message_handler
from autogen_core._serialization import try_get_known_serializers_for_type
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime, GrpcWorkerAgentRuntimeHost

from bench.parts.loop import Handlers, run

AGENTS = ("one", "two", "three")
STEPS = 7
ADDRESS = f"127.0.0.1:{sys.argv[2]}"


@dataclass
class Ask:
    text: str


@dataclass
class Said:
    text: str


class Agent(RoutedAgent):
    def __init__(self) -> None:
        super().__init__("an agent that answers at once")

    @message_handler
    async def answer(self, message: Ask, ctx: MessageContext) -> Said:
        return Said("Postgres, because it is there.")


def _runtime() -> GrpcWorkerAgentRuntime:
    runtime = GrpcWorkerAgentRuntime(host_address=ADDRESS)
    for kind in (Ask, Said):
        runtime.add_message_serializer(try_get_known_serializers_for_type(kind))
    return runtime


async def agents() -> Handlers:
    host = GrpcWorkerAgentRuntimeHost(address=ADDRESS)
    host.start()
    runtime = _runtime()
    await runtime.start()
    for name in AGENTS:
        await Agent.register(runtime, name, Agent)
    return {}


async def caller() -> Handlers:
    runtime = _runtime()
    await runtime.start()

    async def deliberate(total: int, at_once: int) -> dict[str, Any]:
        gate = asyncio.Semaphore(at_once)
        started = time.perf_counter()

        async def deliberation(number: int) -> None:
            async with gate:
                for _ in range(STEPS):
                    asks = (runtime.send_message(Ask("Which?"), AgentId(name, str(number))) for name in AGENTS)
                    await asyncio.gather(*asks)

        await asyncio.gather(*(deliberation(number) for number in range(total)))
        return {"seconds": time.perf_counter() - started}

    return {"deliberate": deliberate}


if __name__ == "__main__":
    run(agents if sys.argv[1] == "agents" else caller)
