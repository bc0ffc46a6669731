"""Who said what of an agent, written as simply as possible: what its operator said, what it said itself, and no more.

It knows nothing of stores, rows, copies and shards.
"""

from __future__ import annotations

from dataclasses import dataclass

#: What an agent may say of itself, and what that makes it.
WORDS = {"draining": "draining", "paused": "paused", "ready": None}
#: What an operator may say, and what that makes the agent.
VERBS = {"drain": "draining", "pause": "paused", "resume": None}


@dataclass
class Said:
    operator: str | None = None
    itself: str | None = None

    def registers(self) -> None:
        self.itself = None

    def says(self, word: str) -> None:
        self.itself = WORDS[word]

    def operated(self, verb: str) -> None:
        self.operator = VERBS[verb]

    @property
    def intent(self) -> str:
        return self.operator or self.itself or "active"

    @property
    def by(self) -> str | None:
        return "operator" if self.operator else "agent" if self.itself else None
