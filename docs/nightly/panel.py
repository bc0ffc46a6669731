"""Three agents who decide on the doubtful items: each a function here, a language model in earnest."""

import asyncio

from aragora_worker import Job, Worker


def member(name: str, choice: str) -> Worker:
    worker = Worker(name, capabilities=["deliberation"])

    @worker.handles("deliberation.turn")
    async def turn(job: Job) -> dict:
        return {"answer": choice, "rationale": f"{name} would {choice} it.", "confidence": "high"}

    return worker


async def main() -> None:
    await asyncio.gather(*(member(name, choice).run() for name, choice in PANEL.items()))


PANEL = {"ann": "keep", "bob": "keep", "cid": "drop"}
asyncio.run(main())
