"""From what was asked to a contract: which names ``config`` may hold, their defaults and bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_schema import check_schema
from cluster.domain.base.names import is_visible
from cluster.domain.base.nearest import hint
from cluster.domain.consensus.ballots import Denominator
from cluster.domain.consensus.effort import Effort
from cluster.domain.consensus.kind_names import checked_kind
from cluster.domain.consensus.rule import Mode, TieBreak, parse_mode
from cluster.domain.deliberation.answers import AnswerKind, AnswerType
from cluster.domain.deliberation.asking import parse_ask_person
from cluster.domain.deliberation.bounds import MAX_QUESTION_CHARS
from cluster.domain.deliberation.contract import (
    DEFAULT_MAX_AGENTS,
    DEFAULT_MAX_TOKENS,
    DEFAULT_ROUNDS,
    DEFAULT_TIMEOUT_S,
    Contract,
)
from cluster.domain.deliberation.ledger import Budget, parse_budget

MAX_ROUNDS = 9
MAX_OPTIONS = 26
#: The kinds of material that may be given with a question, the most items of each, and the most bytes of JSON in all.
MATERIAL = ("documents", "attachments", "evidence")
MAX_MATERIAL = 50
MAX_MATERIAL_BYTES = 65_536

#: What ``config`` may hold.
CONFIG_NAMES = frozenset(
    {
        "agents",
        "answer_type",
        "ask_person",
        "budget",
        "budget_tokens",
        "budget_usd",
        "consensus",
        "debate_on",
        "denominator",
        "effort",
        "escalate_to",
        "judge",
        "k",
        "kind",
        "max_agents",
        "max_tokens",
        "min_agents",
        "options",
        "peers",
        "q",
        "quorum_ratio",
        "rounds",
        "schema",
        "seed",
        "tau",
        "tie_break",
        "timeout_seconds",
        "tolerance",
        "unit",
    }
)
#: Names that users of the released server send and that mean nothing here. They are ignored, so that their code still runs.
_OF_THE_RELEASED_SERVER = re.compile("early_stopping|decision_integrity|(workflow|gauntlet|evidence)_?.*")

#: When a debate is held, if the contract has rounds for it. Docs print this table.
DEBATE_ON = {
    "auto": "the rule reaches no decision; and, while no weights have been learned for the panel, on any disagreement",
    "undecided": "the rule reaches no decision",
    "disagreement": "not everybody answers alike",
    "always": "always, for all rounds (to compare with fixed protocols)",
}


def make_contract(
    *,
    question: str,
    decision_type: str,
    config: Mapping[str, Any],
    required_capabilities: Sequence[str],
    timeout_s: float | None,
    seed: str,
    context: Mapping[str, Any] | None = None,
    material: Mapping[str, Sequence[Any]] | None = None,
) -> Contract:
    """Checks what was asked and freezes it. Raises: ``InvalidRequest``, with one sentence, if it cannot be run as asked."""
    if decision_type not in ("auto", "debate", "quick"):
        raise InvalidRequest(
            "decision_type must be auto, debate or quick; it is never guessed from the words of the question.",
            "unsupported_decision_type",
        )
    if not is_visible(question) or len(question) > MAX_QUESTION_CHARS:
        raise InvalidRequest(f"content must be 1 to {MAX_QUESTION_CHARS} characters, and not blank.", "invalid_content")
    _check_names(config)
    budget = _budget(config)
    quick = decision_type == "quick"
    answer_type = _answer_type(config)
    if quick and config.get("rounds") not in (None, 0):
        raise InvalidRequest(
            "decision_type quick and config.rounds contradict each other, since quick has no rounds; send one of them.",
            "contradictory_rounds",
        )
    rounds = 0 if quick else _whole(config, "rounds", DEFAULT_ROUNDS, 0, MAX_ROUNDS)
    effort = Effort(_one_of(config, "effort", "", tuple(Effort))) if config.get("effort") is not None else None
    contract = Contract(
        question=question,
        context=_context(context or {}),
        material=_material(material or {}),
        answer_type=answer_type,
        agents=_agents(config),
        required_capabilities=tuple(sorted(set(required_capabilities))),
        mode=parse_mode(_text(config, "consensus", Mode.AGREE_K.value)),
        denominator=Denominator(_one_of(config, "denominator", "eligible", tuple(Denominator))),
        q=_number(config, "q", 2 / 3, 0, 1),
        k=_whole(config, "k", 2, 1, 64),
        escalate_to=parse_mode(_text(config, "escalate_to", Mode.LEARNED.value)),
        tie_break=TieBreak(_one_of(config, "tie_break", "no_consensus", tuple(TieBreak))),
        tau=_number(config, "tau", 0.9, 0, 1),
        rounds=rounds,
        debate_on=_one_of(config, "debate_on", "auto", tuple(DEBATE_ON)),
        peers=_whole(config, "peers", 2, 1, 8),
        judge=check_id(config["judge"], "config.judge") if config.get("judge") is not None else "",
        min_votes=_whole(config, "min_agents", 2 if effort in (None, Effort.ALL) else 1, 1, 64),
        quorum_ratio=_number(config, "quorum_ratio", 0.5, 0, 1),
        max_agents=_whole(config, "max_agents", DEFAULT_MAX_AGENTS, 1, 64),
        max_tokens=_whole(config, "max_tokens", DEFAULT_MAX_TOKENS, 16, 8192),
        timeout_s=_timeout_s(config, timeout_s),
        budget_tokens=budget.tokens,
        budget_nanos=budget.nanos,
        seed=seed,
        kind=_kind(config, context or {}),
        effort=effort,
        ask_person=parse_ask_person(config.get("ask_person"), answer_type),
    )
    _check(contract)
    return contract


def _check(contract: Contract) -> None:
    _ = contract.rule  # thresholds are checked there
    if contract.judge and contract.judge in contract.agents:
        raise InvalidRequest("config.judge must not be a member of the panel.", "invalid_judge")
    if contract.min_votes > contract.max_agents:
        raise InvalidRequest(
            f"config.min_agents {contract.min_votes} is more than config.max_agents {contract.max_agents}; raise max_agents.",
            "invalid_config",
        )
    if contract.escalate_to is Mode.JUDGE:
        raise InvalidRequest("agree_k cannot escalate to a judge; use consensus judge.", "invalid_consensus_mode")


def _check_names(config: Mapping[str, Any]) -> None:
    """Refuses a name that is not of ``config``, because a misspelt one would silently decide by the default."""
    for name in config:
        if name not in CONFIG_NAMES and _OF_THE_RELEASED_SERVER.fullmatch(name) is None:
            meant = hint(name, CONFIG_NAMES)
            raise InvalidRequest(f"config.{name[:64]} is not a setting of a deliberation; {meant}", "invalid_config")


def _kind(config: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    """What kind of question it is: ``config.kind``, else the first tag of the context, else "". Tags that are no names of
    kinds are no error: they were free before there were kinds."""
    if config.get("kind") is not None:
        return checked_kind(config["kind"], "config.kind") or ""
    tags = context.get("tags")
    first = tags[0] if isinstance(tags, list) and tags else None
    try:
        return checked_kind(first, "context.tags") or ""
    except InvalidRequest:
        return ""


def _agents(config: Mapping[str, Any]) -> tuple[str, ...]:
    agents = tuple(check_id(word, "config.agents") for word in _words(config, "agents", 64))
    if len(set(agents)) != len(agents):
        raise InvalidRequest("config.agents names an agent twice; each is asked once.", "invalid_agents")
    return agents


def _timeout_s(config: Mapping[str, Any], timeout_s: float | None) -> float:
    """The deadline. The body's own wins, but that of ``config`` has to be one too."""
    of_config = _number(config, "timeout_seconds", DEFAULT_TIMEOUT_S, 0.1, 86_400)
    return float(of_config if timeout_s is None else timeout_s)


def _budget(config: Mapping[str, Any]) -> Budget:
    given = config.get("budget")
    flat = {"tokens": config.get("budget_tokens"), "usd": config.get("budget_usd")}
    flat = {name: value for name, value in flat.items() if value is not None}
    if given is not None and flat:
        raise InvalidRequest(
            "config has budget and budget_tokens or budget_usd, of which one would be ignored; send one.",
            "invalid_budget",
        )
    return parse_budget(flat if given is None else given)


def _context(context: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        size = len(canonical_bytes(dict(context)))
    except (ValueError, TypeError):
        raise InvalidRequest("context holds a number that JSON cannot carry exactly.", "invalid_context") from None
    if size > MAX_QUESTION_CHARS:
        raise InvalidRequest(f"context must be at most {MAX_QUESTION_CHARS} bytes of JSON.", "invalid_context")
    return context


def _material(material: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
    """The material by kind, without the kinds of which there is none."""
    given = {name: list(material[name]) for name in MATERIAL if material.get(name)}
    many = next((name for name, items in given.items() if len(items) > MAX_MATERIAL), None)
    if many is not None:
        raise InvalidRequest(f"{many} must be a list of at most {MAX_MATERIAL}.", f"invalid_{many}")
    try:
        size = len(canonical_bytes(given))
    except (ValueError, TypeError):
        raise InvalidRequest(
            f"{', '.join(given)}: there is a number that JSON cannot carry exactly.", "invalid_material"
        ) from None
    if size > MAX_MATERIAL_BYTES:
        raise InvalidRequest(
            f"{', '.join(given)}: must be at most {MAX_MATERIAL_BYTES} bytes of JSON together.", "material_too_large"
        )
    return given


def _answer_type(config: Mapping[str, Any]) -> AnswerType:
    options = _words(config, "options", MAX_OPTIONS)
    if len({option.casefold() for option in options}) != len(options):
        raise InvalidRequest("config.options names an option twice.", "invalid_options")
    if len(options) == 1:
        raise InvalidRequest("config.options needs at least two options, or none for a free answer.", "invalid_options")
    default = AnswerKind.CHOICE if options else AnswerKind.TEXT
    kind = AnswerKind(_one_of(config, "answer_type", default.value, tuple(AnswerKind)))
    if kind is AnswerKind.CHOICE and not options:
        raise InvalidRequest("answer_type choice needs config.options.", "invalid_options")
    if options and kind not in (AnswerKind.CHOICE, AnswerKind.SET):
        raise InvalidRequest(f"config.options do not go with answer_type {kind.value}.", "invalid_options")
    schema = {} if config.get("schema") is None else config["schema"]
    if not isinstance(schema, Mapping):
        raise InvalidRequest("config.schema must be a JSON schema.", "invalid_config")
    schema = _context(schema)
    check_schema(schema, "config.schema")
    unit = _text(config, "unit", "")
    if len(unit) > 40:
        raise InvalidRequest("config.unit must be a short text.", "invalid_config")
    return AnswerType(
        kind=kind,
        options=options if kind is not AnswerKind.BOOLEAN else (),
        unit=unit,
        tolerance=_number(config, "tolerance", 0.0, 0, 1e12),
        schema=schema,
    )


def _words(config: Mapping[str, Any], name: str, most: int) -> tuple[str, ...]:
    value = [] if config.get(name) is None else config[name]
    fits = isinstance(value, list) and len(value) <= most
    if not fits or not all(isinstance(word, str) and is_visible(word) and len(word.strip()) <= 500 for word in value):
        raise InvalidRequest(f"config.{name} must be a list of at most {most} non-empty strings.", f"invalid_{name}")
    return tuple(word.strip() for word in value)


def _text(config: Mapping[str, Any], name: str, default: str) -> str:
    value = default if config.get(name) is None else config[name]
    if not isinstance(value, str):
        raise InvalidRequest(f"config.{name} must be a text.", "invalid_config")
    return value


def _one_of(config: Mapping[str, Any], name: str, default: str, allowed: Sequence[str]) -> str:
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, str) or value not in [str(choice) for choice in allowed]:
        raise InvalidRequest(f"config.{name} must be one of {', '.join(map(str, allowed))}.", "invalid_config")
    return value


def _number(config: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidRequest(f"config.{name} must be a number from {low:g} to {high:g}.", "invalid_config")
    return float(value)


def _whole(config: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    """A number without a fraction, which is refused as it is in the other fields of bodies: it would be cut off silently."""
    value = _number(config, name, default, low, high)
    if value != int(value):
        raise InvalidRequest(f"config.{name} must be a whole number from {low} to {high}.", "invalid_config")
    return int(value)
