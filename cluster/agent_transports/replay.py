"""Recorded answers: a recorder around any transport, and a transport that serves what was recorded.

One JSON object per line: the question's digest and the reply. The same question recorded more than once is answered
in the order of the recording; the last answer is given again after that.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from cluster.domain.agents.calls import Reply
from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.errors import AgentUnavailable
from cluster.ports.agent_transport import AgentTransport, Ask


def digest(ask: Ask) -> str:
    """Digest of the agent and the question. Leaves out all that differs between runs, such as keys and deadlines."""
    asked = {
        "agent_id": ask.agent_id,
        "model": ask.model,
        "messages": [dict(message) for message in ask.messages],
        "schema": dict(ask.schema),
        "task": None if ask.task is None else ask.task.get("payload"),
    }
    return hashlib.sha256(canonical_bytes(asked)).hexdigest()


class ReplayTransport:
    """Answers each question as it was recorded."""

    def __init__(self, lines: Iterable[str]) -> None:
        #: Digest of a question → replies that are still to be given. The last one stays.
        self._replies: dict[str, deque[Reply]] = {}
        for line in lines:
            if line.strip():
                entry = json.loads(line)
                self._replies.setdefault(entry["digest"], deque()).append(Reply(**entry["reply"]))

    @classmethod
    def load(cls, path: Path) -> ReplayTransport:
        """Reads a file that `Recorder` wrote."""
        with path.open(encoding="utf-8") as lines:
            return cls(lines)

    async def ask(self, ask: Ask) -> Reply:
        """Returns the next recorded reply. Raises: `AgentUnavailable` if the question was never recorded."""
        replies = self._replies.get(digest(ask))
        if not replies:
            raise AgentUnavailable(f"Agent {ask.agent_id} was never recorded answering this question.")
        return replies.popleft() if len(replies) > 1 else replies[0]


class Recorder:
    """Appends every answer to a file; errors are not recorded."""

    def __init__(self, inner: AgentTransport, path: Path) -> None:
        self._inner = inner
        self._path = path

    async def ask(self, ask: Ask) -> Reply:
        """Returns the inner transport's answer, and records it. Raises what that one raises."""
        reply = await self._inner.ask(ask)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"digest": digest(ask), "reply": asdict(reply)}, ensure_ascii=False) + "\n")
        return reply
