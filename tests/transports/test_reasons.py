"""What a call that reached nobody says: in words, without the name of a class."""

from __future__ import annotations

import re
import ssl

import pytest

from aragora_worker.api import ControlPlaneClient
from aragora_worker.errors import OutcomeUnknown
from aragora_worker.reasons import reason
from cluster.agent_transports.a2a import A2ATransport
from cluster.domain.agents.agent import TransportKind
from cluster.domain.base.errors import AgentUnavailable
from tests.support.asking import LOOPBACK, question, transports
from tests.support.listening import listening, port_of

_CLASS = re.compile(r"[A-Za-z]*(?:[a-z]Error|Exception|[a-z]Timeout)|gaierror")


async def _closed_port() -> int:
    async with listening(lambda reader, writer: None) as server:  # type: ignore[arg-type, return-value]
        return port_of(server)


@pytest.mark.parametrize("kind", [TransportKind.HTTP, TransportKind.A2A], ids=str)
@pytest.mark.parametrize("name", ["closed", "unknown"])
async def test_an_agent_that_cannot_be_reached_says_why_in_words(kind: TransportKind, name: str) -> None:
    url = f"http://127.0.0.1:{await _closed_port()}/" if name == "closed" else "http://no-such-host.invalid/"
    ours = transports(LOOPBACK)
    asker = A2ATransport(ours.client) if kind is TransportKind.A2A else ours
    with pytest.raises(AgentUnavailable) as refused:
        await asker.ask(question(url, transport=kind, tries=1))
    await ours.close()
    assert not _CLASS.search(refused.value.message), refused.value.message
    if name == "closed":
        assert "connection refused" in refused.value.message


async def test_a_control_plane_that_cannot_be_reached_says_why_in_words() -> None:
    async with ControlPlaneClient(f"http://127.0.0.1:{await _closed_port()}", None) as client:
        with pytest.raises(OutcomeUnknown) as refused:
            await client.get("/tasks")
    assert not _CLASS.search(str(refused.value)), str(refused.value)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ssl.SSLError(1, "bad certificate"), "TLS fails"),
        (TimeoutError(), "no answer in time"),
        (RuntimeError("x"), "the connection was lost"),
        (ConnectionResetError(104, "reset"), "connection reset by peer"),
    ],
)
def test_a_reason_is_the_end_of_a_sentence(error: Exception, says: str) -> None:
    assert reason(error) == says
