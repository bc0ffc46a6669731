"""Asks the leader of a region over its socket: one line of JSON each way."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from cluster.domain.base.errors import Conflict, ControlPlaneError, InvalidRequest, TryLater

#: Of an answer's line.
_MOST_BYTES = 4 * 2**20
_BY_STATUS: dict[int, type[ControlPlaneError]] = {400: InvalidRequest, 409: Conflict, 503: TryLater}


async def ask_leader(path: Path, command: str, *, timeout_s: float, **arguments: Any) -> Any:
    """The result of a command.

    Raises: `TryLater` if nobody answers there in time; `ControlPlaneError` with the code of the leader's refusal."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(path, limit=_MOST_BYTES)
            try:
                writer.write(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
                await writer.drain()
                line = await reader.readline()
            finally:
                writer.close()
        answer = json.loads(line)
    except (OSError, TimeoutError, ValueError) as error:
        raise TryLater(
            f"The leader of this region does not answer at {path}; it runs where the region has peers "
            "(ARAGORA_REGION_PEERS), on the machine where the command is given.",
            "leader_unreachable",
        ) from error
    if "error" in answer:
        raise _BY_STATUS.get(answer["status"], ControlPlaneError)(answer["error"], answer["code"])
    return answer["result"]
