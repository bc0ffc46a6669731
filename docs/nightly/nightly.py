"""The work of the nightly run: each function does the tasks of one type."""

import json
import time
from pathlib import Path

from aragora_worker import Job


def fetch(job: Job) -> dict:
    """The list of tonight. In earnest this is a call of some service."""
    lines = Path(job.payload["list"]).read_text().splitlines()
    return {"items": [{"n": n, "text": line} for n, line in enumerate(lines, 1)]}


def review(job: Job) -> dict:
    """What an agent thinks of an item. In earnest this is a call of a language model."""
    time.sleep(0.3)
    item = job.payload
    if "?" in item["text"]:
        return {**item, "verdict": "doubtful", "question": f"Is this to be kept: {item['text']}"}
    return {**item, "verdict": "good"}


def post(job: Job) -> dict:
    """Posts what was kept. A task may come again if its worker was killed: by the id of the task it is known as the same."""
    decided = iter(job.payload["decisions"])  # in the order of the doubtful items
    kept = [
        review["text"]
        for review in job.payload["reviews"]
        if review["verdict"] == "good" or next(decided)["answer"] == "keep"
    ]
    posted = Path("posted") / f"{job.id}.json"
    posted.parent.mkdir(exist_ok=True)
    unfinished = posted.with_suffix(".part")
    unfinished.write_text(json.dumps(kept))
    unfinished.replace(posted)
    return {"posted": len(kept)}


tasks = {"fetch": fetch, "review": review, "post": post}
