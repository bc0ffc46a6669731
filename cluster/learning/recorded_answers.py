"""Serves recorded answers of real models again, on an OpenAI-compatible server on loopback, and asks it over the real
transport.

Every answer goes through HTTP, the transport's checks and a parser, as a live agent's answer does; its text is the
recorded one. Latencies are those of this path, since the models' own were not recorded. Tokens are estimated from lengths.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.domain.agents.agent import TransportKind
from cluster.domain.base.errors import AgentMalformed, InvalidRequest
from cluster.domain.consensus import effort as consensus
from cluster.domain.consensus.asked import next_by_effort
from cluster.domain.consensus.rule import Mode
from cluster.domain.consensus.waves import next_wave
from cluster.domain.evaluation.modes import BEST_SINGLE, EFFORT_MODES, MODES, Court
from cluster.domain.evaluation.records import AnsweredQuestion, Panel, is_calibration, split
from cluster.domain.evaluation.table import Effort, EvaluationReport, court_of
from cluster.learning.evaluation import chosen_panels, evaluate, read_panel_file, read_questions
from cluster.ports.agent_transport import AgentTransport, Ask

CHARS_PER_TOKEN = 4
CALL_TIMEOUT_S = 30.0
#: Questions that are asked at a time.
CONCURRENCY = 4
#: Calls at a time: the agents of a question are asked together, and 32 of them are room enough.
MAX_CALLS = CONCURRENCY * 32
MAX_BODY_BYTES = 1_000_000
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#: How the recorded models were told to end their answers, and how the dataset's own evaluation reads them.
_ANSWER = re.compile(r"answer is \(?([A-Z])\)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedQuestion:
    """A question with the text of each agent's answer. ``recorded``: the option that was read from each text when it was
    recorded."""

    id: str
    prompt: str
    options: tuple[str, ...]
    right: str
    texts: Mapping[str, str]
    recorded: Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """An answer as it came over HTTP. ``seconds``: from the call to the answer."""

    option: str | None
    tokens: int
    seconds: float


def read_replay(path: Path) -> list[RecordedQuestion]:
    """Reads recorded questions, one JSON object a line. Raises: ``InvalidRequest`` if the file cannot be read, holds none,
    or a line is no recorded question."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}.", "unreadable_file") from None
    found = [_recorded(line, number) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise InvalidRequest(f"{path} must hold at least one recorded question.", "invalid_replay")
    return found


def _recorded(line: str, number: int) -> RecordedQuestion:
    try:
        value = json.loads(line)
        options = tuple(_LETTERS[: len(value["options"])])
        listed = "\n".join(f"{letter}. {text}" for letter, text in zip(options, value["options"], strict=True))
        return RecordedQuestion(
            id=str(value["qid"]),
            prompt=f"{value['question']}\n\n{listed}\n\nThink step by step, then end with: The answer is (X).",
            options=options,
            right=str(value["gold"]),
            texts={agent: str(answer["text"]) for agent, answer in value["agents"].items()},
            recorded={agent: answer.get("answer") for agent, answer in value["agents"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InvalidRequest(
            f"Line {number} is not a recorded question with qid, question, options, gold and agents ({error!r}).",
            "invalid_replay",
        ) from None


def parse_answer(text: str, options: Sequence[str]) -> str | None:
    """The option that a text names as its answer; None if it names none of the options."""
    found = _ANSWER.search(text)
    return found.group(1) if found is not None and found.group(1) in options else None


# --- the server -------------------------------------------------------------------------------------------------------


class ReplayServer:
    """Answers chat completions from memory, by model and prompt, with as much of HTTP/1.1 as a pooled client needs."""

    def __init__(self, questions: Sequence[RecordedQuestion]) -> None:
        self._answers = {
            (agent, _fingerprint(question.prompt)): text
            for question in questions
            for agent, text in question.texts.items()
        }
        self.served = 0
        self.connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections[task] = writer
        try:
            while body := await _request(reader):
                status, answer = self._answer(body)
                content = json.dumps(answer).encode()
                head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
                writer.write(head.encode() + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            pass  # the client closed the connection, or sent no request: the connection ends
        finally:
            writer.close()
            del self.connections[task]

    def _answer(self, body: bytes) -> tuple[str, dict[str, Any]]:
        try:
            asked = json.loads(body)
            prompt = str(asked["messages"][-1]["content"])
            text = self._answers[str(asked["model"]), _fingerprint(prompt)]
        except (KeyError, IndexError, TypeError, ValueError):
            return "404 Not Found", {"error": {"message": "nothing was recorded for this model and prompt"}}
        self.served += 1
        usage = {"prompt_tokens": tokens_of(prompt), "completion_tokens": tokens_of(text)}
        return "200 OK", {
            "object": "chat.completion",
            "model": asked["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {**usage, "total_tokens": sum(usage.values())},
        }


async def _request(reader: asyncio.StreamReader) -> bytes | None:
    """The body of the next request; None at the end of the connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    size = int(length.group(1)) if length is not None else 0
    if not 0 < size <= MAX_BODY_BYTES:
        return None
    return await reader.readexactly(size)


def _fingerprint(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()


def tokens_of(text: str) -> int:
    return -(-len(text) // CHARS_PER_TOKEN)


@asynccontextmanager
async def replay_server(questions: Sequence[RecordedQuestion]) -> AsyncIterator[str]:
    """Runs the server on a free port of loopback, and yields its base URL."""
    replay = ReplayServer(questions)
    server = await asyncio.start_server(replay.serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    for writer in replay.connections.values():
        writer.close()
    await asyncio.gather(*replay.connections)


# --- asking -----------------------------------------------------------------------------------------------------------


#: Opens the transport to agents over HTTP, for as long as the context lasts.
OpenTransport = Callable[[], AbstractAsyncContextManager[AgentTransport]]


async def ask_everybody(questions: Sequence[RecordedQuestion], open_transport: OpenTransport) -> list[dict[str, Heard]]:
    """Asks every agent every question over HTTP, ``CONCURRENCY`` questions at a time."""
    slot = asyncio.Semaphore(CONCURRENCY)
    async with replay_server(questions) as url, open_transport() as transport:

        async def ask_all(question: RecordedQuestion) -> dict[str, Heard]:
            async with slot:
                agents = list(question.texts)
                heard = await asyncio.gather(*(_ask(transport, url, agent, question) for agent in agents))
                return dict(zip(agents, heard, strict=True))

        return list(await asyncio.gather(*(ask_all(question) for question in questions)))


async def _ask(transport: AgentTransport, url: str, agent: str, question: RecordedQuestion) -> Heard:
    started = time.perf_counter()
    ask = Ask(
        transport=TransportKind.OPENAI,
        endpoint=url,
        model=agent,
        messages=[{"role": "user", "content": question.prompt}],
        schema={"type": "string"},
        max_tokens=2048,
        timeout_s=CALL_TIMEOUT_S,
        key=f"{question.id}:{agent}",
    )
    try:
        reply = await transport.ask(ask)
    except AgentMalformed:
        return Heard(option=None, tokens=0, seconds=time.perf_counter() - started)
    option = parse_answer(reply.text, question.options)
    return Heard(option=option, tokens=reply.tokens, seconds=time.perf_counter() - started)


# --- figures ----------------------------------------------------------------------------------------------------------


def evaluate_replay(
    replay: Path,
    votes: Path | None = None,
    panels: Path | None = None,
    *,
    open_transport: OpenTransport,
    only: Sequence[str] = (),
    prices: Path | None = None,
    seed: int = 0,
) -> EvaluationReport:
    """Evaluates recorded answers. Weights are learned from the calibration questions of ``votes`` if it is given, else from
    those of the replay. Raises: ``InvalidRequest`` if a file cannot be read, does not fit, or has too few questions."""
    recorded = read_replay(replay)
    heard = asyncio.run(ask_everybody(recorded, open_transport))
    agents = set.intersection(*(set(question.texts) for question in recorded))
    asked = [_question(question, answers) for question, answers in zip(recorded, heard, strict=True)]
    calibration = split(read_questions(votes))[0] if votes is not None else split(asked)[0]
    by_id = dict(zip((question.id for question in recorded), heard, strict=True))
    test = [question for question in asked if not is_calibration(question.id)]
    found = _panels(panels, agents, only)
    price = _prices(prices)
    efforts = {
        panel.name: _efforts(court_of(panel, calibration), [by_id[question.id] for question in test], price)
        for panel in found
    }
    return evaluate(calibration, test, found, seed=seed, efforts=efforts)


def _question(recorded: RecordedQuestion, heard: Mapping[str, Heard]) -> AnsweredQuestion:
    return AnsweredQuestion(
        id=recorded.id,
        votes={agent: answer.option for agent, answer in heard.items()},
        right=recorded.right,
        options=recorded.options,
    )


def _panels(path: Path | None, agents: set[str], only: Sequence[str]) -> list[Panel]:
    """The panels of the file whose members all have recorded answers; without a file, one panel of all agents."""
    if path is None:
        return chosen_panels([Panel(name="REPLAY", agents=tuple(sorted(agents)))], only)
    found = [panel for panel in chosen_panels(read_panel_file(path), only) if set(panel.agents) <= agents]
    if not found:
        raise InvalidRequest(
            "No panel has only agents with recorded answers; name a panel of such agents.", "unknown_agent"
        )
    return found


def _prices(path: Path | None) -> dict[str, float] | None:
    """USD per million tokens by agent."""
    if path is None:
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return {str(agent): float(price) for agent, price in value.items()}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InvalidRequest(f"{path} must be a JSON object with USD per million tokens by agent ({error}).") from None


def _efforts(
    court: Court, heard: Sequence[Mapping[str, Heard]], price: Mapping[str, float] | None
) -> dict[str, Effort]:
    together = [[list(court.agents)]] * len(heard)
    alone = [[[court.agents[court.best]]]] * len(heard)
    in_waves = [_waves(court, answers) for answers in heard]
    by_mode = {BEST_SINGLE: alone, Mode.AGREE_K.value: in_waves}
    for effort, mode in EFFORT_MODES.items():
        by_mode[mode] = [_waves(court, answers, effort) for answers in heard]
    return {mode: _effort(by_mode.get(mode, together), heard, price) for mode in MODES}


def _waves(court: Court, heard: Mapping[str, Heard], effort: consensus.Effort | None = None) -> list[list[str]]:
    """Whom the default protocol asks, wave by wave, or this effort."""
    snapshot = court.snapshot
    rule = Mode.LEARNED if effort is None else snapshot.gate.choice
    weights = dict(zip(court.agents, court.weights(rule).tolist(), strict=True))
    order = [agent for agent in snapshot.order() if agent in weights]
    then = None if effort is None else next_by_effort(effort, weights, order, snapshot.precedents, None)
    answers: dict[str, str | None] = {}
    found: list[list[str]] = []

    def following() -> tuple[str, ...]:
        if then is not None:
            return then(answers, len(found))
        return next_wave(order=order, answers=answers, weights=weights, waves=len(found))

    while wave := following():
        answers.update((agent, heard[agent].option) for agent in wave)
        found.append(list(wave))
    return found


def _effort(
    plans: Sequence[Sequence[Sequence[str]]],
    heard: Sequence[Mapping[str, Heard]],
    price: Mapping[str, float] | None,
) -> Effort:
    """Mean cost and latencies of the questions. A wave takes as long as its slowest answer; waves run one after another."""
    tokens, costs, latencies = [], [], []
    for waves, answers in zip(plans, heard, strict=True):
        called = [agent for wave in waves for agent in wave]
        tokens.append(sum(answers[agent].tokens for agent in called))
        costs.append(sum(answers[agent].tokens * (price or {}).get(agent, 0.0) / 1e6 for agent in called))
        latencies.append(1000 * sum(max(answers[agent].seconds for agent in wave) for wave in waves))
    return Effort(
        tokens=round(float(np.mean(tokens)), 1),
        cost=round(float(np.mean(costs)), 8) if price is not None else None,
        latency_p50_ms=round(float(np.quantile(latencies, 0.5)), 2),
        latency_p95_ms=round(float(np.quantile(latencies, 0.95)), 2),
    )
