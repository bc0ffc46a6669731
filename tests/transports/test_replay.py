"""Answers that were recorded are served again."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.agent_transports.replay import Recorder, ReplayTransport
from cluster.domain.agents.calls import Reply
from cluster.domain.base.errors import (
    AgentUnavailable,
)
from cluster.ports.agent_transport import Ask
from tests.support.asking import question


async def test_what_was_recorded_is_served_again_in_order(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    answers = iter(["first", "second"])

    class Changing:
        async def ask(self, ask: Ask) -> Reply:
            return Reply(text=next(answers), tokens=3)

    recorder = Recorder(Changing(), file)
    asked = [await recorder.ask(question("http://a", key=key)) for key in ("k1", "k2")]
    replay = ReplayTransport.load(file)
    again = [await replay.ask(question("http://b", key=key)) for key in ("x", "y", "z")]
    assert again == [*asked, asked[-1]]
    with pytest.raises(AgentUnavailable, match="never recorded"):
        await replay.ask(question("http://a", model="another"))
