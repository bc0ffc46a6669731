"""LangGraph with its Postgres checkpointer: three agents propose, then criticise and revise in three rounds."""

from __future__ import annotations

import asyncio
import operator
import os
import sys
import time
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from bench.parts.loop import Handlers, run

AGENTS = ("one", "two", "three")
ROUNDS = 3


class Talk(TypedDict):
    said: Annotated[list[str], operator.add]
    calls: Annotated[int, operator.add]


def _node(name: str) -> Any:
    async def say(state: Talk) -> dict[str, Any]:
        return {"said": [f"{name}: Postgres, because it is there."], "calls": 1}

    return say


def _graph(saver: AsyncPostgresSaver) -> Any:
    """A graph of 7 steps, one after another, in each of which the three agents run at once: 21 calls."""
    graph = StateGraph(Talk)
    steps = ["propose"] + [f"{kind}-{n}" for n in range(ROUNDS) for kind in ("criticise", "revise")]
    before: list[str] = []
    for step in steps:
        names = [f"{step}-{agent}" for agent in AGENTS]
        for name in names:
            graph.add_node(name, _node(name))
            graph.add_edge(before or START, name)
        before = names
    graph.add_edge(before, END)
    return graph.compile(checkpointer=saver)


async def make() -> Handlers:
    url, schema = os.environ["BENCH_DATABASE_URL"], sys.argv[1]
    async with await AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f'create schema if not exists "{schema}"')
    options = {
        "autocommit": True,
        "prepare_threshold": 0,
        "row_factory": dict_row,
        "options": f"-c search_path={schema}",
    }
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(url, min_size=4, max_size=10, kwargs=options, open=False)
    await pool.open()
    saver = AsyncPostgresSaver(pool)
    await saver.setup()
    graph = _graph(saver)

    async def deliberate(total: int, at_once: int) -> dict[str, Any]:
        gate = asyncio.Semaphore(at_once)
        started = time.perf_counter()

        async def deliberation(number: int) -> None:
            async with gate:
                config = {"configurable": {"thread_id": f"{started}-{number}"}}
                end = await graph.ainvoke({"said": [], "calls": 0}, config, durability="sync")
                assert end["calls"] == len(AGENTS) * (1 + 2 * ROUNDS)

        await asyncio.gather(*(deliberation(number) for number in range(total)))
        return {"seconds": time.perf_counter() - started}

    return {"deliberate": deliberate}


if __name__ == "__main__":
    run(make)
