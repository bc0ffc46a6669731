"""A process that commits batches of tasks until it is told to stop, killed or fenced.

Prints ``ack SEQ ID`` for every row that was answered, ``fenced`` when its epoch was replaced. Some batches fail on
purpose in the middle and roll back.
"""

from __future__ import annotations

import asyncio
import random
import sys

from cluster.domain.base.errors import Fenced, Unstorable
from cluster.ports.tasks import SubmitItem
from cluster.postgres.stores import open_stores
from tests.support.samples import new_task


async def write(url: str, schema: str, name: str, batches: int) -> None:
    stores = await open_stores(url, schema, "test-region", max_connections=2)
    chance = random.Random(name)
    taken = f"task_{name}_taken"
    await stores.tasks.submit([SubmitItem(task=new_task(id=taken))])
    for batch in range(batches):
        ids = [f"task_{name}_{batch}_{index}" for index in range(chance.randint(1, 20))]
        if chance.random() < 0.2:
            ids.insert(chance.randint(0, len(ids)), taken)
        try:
            outcomes = await stores.tasks.submit([SubmitItem(task=new_task(id=task_id)) for task_id in ids])
        except Unstorable:
            continue
        except Fenced:
            print("fenced", flush=True)
            return
        for outcome in outcomes:
            print("ack", outcome.seq, outcome.task_id, flush=True)


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
