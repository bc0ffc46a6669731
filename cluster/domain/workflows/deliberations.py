"""Deliberations of runs: what a step asks, and what the end of one means to its step.

A step has the fields of ``POST /deliberations``, any part of which may be a reference. So they are checked twice: without what
is not known yet when the document is applied, and whole when the step starts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from cluster.domain.audit.erasure import SUBJECT_FIELD
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import check_json
from cluster.domain.base.log import Origin
from cluster.domain.base.names import check_name
from cluster.domain.deliberation.config import MATERIAL, make_contract
from cluster.domain.deliberation.contract import DEFAULT_CAPABILITIES, Contract
from cluster.domain.deliberation.state import Terminal
from cluster.domain.deliberation.stored import NewDeliberation
from cluster.domain.workflows.document import FailureCode
from cluster.domain.workflows.values import references, resolved

#: Kinds of the rows that end a deliberation.
DELIBERATION_ENDS: Final = ("deliberation.completed", "deliberation.cancelled", "deliberation.failed")
_UNDECIDED: Final[Mapping[Terminal, FailureCode]] = {
    Terminal.NO_CONSENSUS: FailureCode.NO_CONSENSUS,
    Terminal.CANCELLED: FailureCode.DELIBERATION_CANCELLED,
    Terminal.DEADLINE_EXCEEDED: FailureCode.DELIBERATION_TIMEOUT,
}
#: In seconds.
MOST_TIMEOUT_S: Final = 86_400
MOST_CAPABILITIES: Final = 64
MOST_CAPABILITY_CHARS: Final = 128
_CODE: Final = "invalid_deliberation"


def why_undecided(terminal: str) -> FailureCode | None:
    """Why the step of a deliberation fails that has ended so; None if it does not."""
    if terminal == Terminal.DECIDED:
        return None
    return _UNDECIDED.get(Terminal(terminal), FailureCode.DELIBERATION_FAILED)


def why_refused(error: InvalidRequest) -> str:
    """Why a step cannot ask what its references have become. Readers are shown it who may see no words, and errors of contracts
    quote some."""
    if error.code == _CODE:
        return error.message
    return f"What it would ask is refused ({error.code}); POST /deliberations with the same values says why."


def run_deliberation(
    asked: Mapping[str, Any], *, id: str, origin: Origin, metadata: Mapping[str, Any], now: float
) -> NewDeliberation:
    """The deliberation that a step of a run is. ``asked``: its fields, with all values; ``metadata``: of the run, whose subject
    is the deliberation's too, so that erasures find it.

    Raises: `InvalidRequest` if nothing can be asked so."""
    contract = _contract(asked, hashlib.sha256(id.encode()).hexdigest()[:16], metadata)
    return NewDeliberation(
        request_id=id,
        task_id=id,
        origin=origin,
        admitted_at=now,
        deadline_at=now + contract.timeout_s,
        contract=contract.to_json(),
        contract_digest=contract.digest(),
        mode="async",
    )


def check_deliberation(template: Mapping[str, Any]) -> None:
    """Returns if a step can ask this, as far as it is known before a run.

    Raises: `InvalidRequest` if not."""
    known = {name: resolved(value, {}) for name, value in template.items() if not any(references(value))}
    _contract({"content": "of the run", **known}, "", {})


def _contract(asked: Mapping[str, Any], seed: str, metadata: Mapping[str, Any]) -> Contract:
    """Raises: `InvalidRequest`."""
    check_json(asked, "the deliberation")
    config = _object(asked, "config")
    own = config.get("seed")
    if not isinstance(own, str | None):
        raise InvalidRequest("config.seed must be a text.", _CODE)
    context = _object(asked, "context")
    if SUBJECT_FIELD in metadata:
        context = {SUBJECT_FIELD: metadata[SUBJECT_FIELD], **context}
    return make_contract(
        question=_text(asked, "content", ""),
        decision_type=_text(asked, "decision_type", "auto"),
        config=config,
        required_capabilities=_capabilities(asked),
        timeout_s=_timeout_s(asked),
        seed=seed if own is None else own,
        context=context,
        material={name: _list(asked, name, str if name == "documents" else Mapping) for name in MATERIAL},
    )


def _text(asked: Mapping[str, Any], name: str, default: str) -> str:
    value = asked.get(name, default)
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} of the deliberation must become a text.", _CODE)
    return value


def _object(asked: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = asked.get(name, {})
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{name} of the deliberation must become an object.", _CODE)
    return value


def _list(asked: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    value = asked.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
        of = "texts" if kind is str else "objects"
        raise InvalidRequest(f"{name} of the deliberation must become a list of {of}.", _CODE)
    return value


def _capabilities(asked: Mapping[str, Any]) -> list[str]:
    names = _list({"required_capabilities": list(DEFAULT_CAPABILITIES), **asked}, "required_capabilities", str)
    if len(names) > MOST_CAPABILITIES or not all(0 < len(name) <= MOST_CAPABILITY_CHARS for name in names):
        raise InvalidRequest(
            f"required_capabilities must become at most {MOST_CAPABILITIES} names of 1 to {MOST_CAPABILITY_CHARS} "
            "characters.",
            _CODE,
        )
    for name in names:
        check_name(name, "required_capabilities")
    return names


def _timeout_s(asked: Mapping[str, Any]) -> float | None:
    value = asked.get("timeout_seconds")
    if value is None:
        return None
    # A bool is an int to Python.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MOST_TIMEOUT_S:
        raise InvalidRequest(
            f"timeout_seconds of the deliberation must become a number from 1 to {MOST_TIMEOUT_S:,}.", _CODE
        )
    return float(value)
