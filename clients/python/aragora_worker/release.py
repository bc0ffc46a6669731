"""Gives tasks back after the worker that held them has ended: ``python -m aragora_worker.release``.

A job that cannot be ended (a plain function, a coroutine that swallows its cancellation) ends with its process, so the
process itself cannot give its task back: another worker might start it while it still runs. So the worker starts this one
last, and tells it on its input what to send. The input ends with the worker, and with every process that the job has
forked; only then are the reports sent. If this process is ended with the worker's (as a container's are), the leases run out
instead, which costs a retry.
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from aragora_worker.api import ControlPlaneClient
from aragora_worker.repeating import Patience
from aragora_worker.reports import Report, ReportQueue, encoded
from aragora_worker.tls import ClientTls

_logger = logging.getLogger(__name__)

#: How long the reports are repeated. The leases are over by then.
REPEAT_S = 30.0
#: How many reports of one worker may be left; the input is written at once, before the worker ends.
MOST_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Left:
    """What an ending worker could not do: ``reports`` are of tasks whose code still ran."""

    base_url: str
    api_key: str | None
    reports: Sequence[Report]
    tls: Mapping[str, str | None] = field(default_factory=dict)
    workspace: str | None = None
    other_urls: Sequence[str] = ()


def release_later(left: Left) -> None:
    """Starts the process that sends the reports when this process has ended. Never raises: the leases run out then."""
    content = json.dumps(asdict(left)).encode() + b"\n"
    if len(content) > MOST_BYTES:  # a pipe may hold no more, and the worker must not wait
        return
    try:
        # A session of its own: Ctrl-C reaches every process of a terminal's.
        heir = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert heir.stdin is not None
        heir.stdin.write(content)
        heir.stdin.flush()  # it stays open: its end tells that this process has ended
        _HEIRS.append(heir)
    except OSError as error:
        _logger.warning("tasks go back to the queue when their leases end: %s", error)


#: Keeps the pipes open until the process ends.
_HEIRS: list[subprocess.Popen[bytes]] = []


async def _send(left: Left) -> None:
    tls = ClientTls(**left.tls)
    async with ControlPlaneClient(
        left.base_url, left.api_key, tls=tls, workspace=left.workspace, other_urls=left.other_urls
    ) as client:

        async def send(reports: Sequence[bytes]) -> Sequence[Report]:
            body = b'{"reports":[' + b",".join(reports) + b"]}"
            answer = await client.request("POST", "/tasks/complete", body, has={"results": list})
            results: list[Report] = answer["results"]
            return results

        queue = ReportQueue(send, Patience())
        puts = [asyncio.create_task(queue.put(encoded(report))) for report in left.reports]
        await asyncio.wait(puts, timeout=REPEAT_S)
        await queue.drain(0)


def main() -> None:
    """Reads what is left, waits until the worker has ended, and sends it."""
    left = Left(**json.loads(sys.stdin.readline()))
    while sys.stdin.read(1024):
        pass
    asyncio.run(_send(left))


if __name__ == "__main__":
    main()
