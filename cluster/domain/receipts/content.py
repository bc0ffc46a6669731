"""Words and structure of an event: which part of it can be withheld later, and how the two are put together again.

A verifier does not apply this rule: it hashes the two parts as it finds them. So the rule may change without a new format.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.merkle import leaf_hash

#: Names of what agents wrote, and of what quotes it. The value under such a name is text, whatever its type.
TEXT_NAMES = frozenset(
    {
        "text",
        "rationale",
        "detail",
        "problem",
        "persona",
        "reasoning",
        "quote",
        "claim_quote",
        "defect",
        "fix",
        "evidence",
    }
)
#: Names of what repeats an answer. It is text if answers are in the agents' own words.
ANSWER_NAMES = frozenset({"answer", "choice", "value", "round_0", "final", "refused"})
#: Objects whose every value is such an answer.
ANSWER_MAPS = frozenset({"candidates"})
#: Names of what the decision is computed from. It stays whole, or nobody could compute the decision again.
WHOLE_NAMES = frozenset({"aggregation", "snapshot", "weights"})
#: An erased event is its number and, under this name, its leaf. Else its structure would stay, in which choices are words too.
ERASED = "erased"
#: A string this long is text under any name.
LONG_CHARS = 200

_LABEL = re.compile(r"#[0-9]+")

Path = tuple[str | int, ...]


def answers_are_free(contract: Mapping[str, Any]) -> bool:
    """Whether an answer is in the agent's own words, and not a choice among what the contract names."""
    kind = (contract.get("answer_type") or {}).get("kind")
    return kind == "text" if kind is not None else not contract.get("options")


def split(data: Mapping[str, Any], free_answers: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """(structure, JSON pointer → text)."""
    rest: dict[str, Any] = copy.deepcopy(dict(data))
    names = TEXT_NAMES | ANSWER_NAMES | ANSWER_MAPS if free_answers else TEXT_NAMES
    texts = {}
    for path in list(_texts(rest, names, ())):
        holder: Any = rest
        for step in path[:-1]:
            holder = holder[step]
        texts[_pointer(path)] = holder[path[-1]]
        if isinstance(holder, dict):
            del holder[path[-1]]
        else:
            holder[path[-1]] = None  # a list keeps its length
    return rest, texts


def _texts(value: Any, names: frozenset[str], path: Path) -> Iterator[Path]:
    """Paths of the texts, none inside another."""
    if isinstance(value, str):
        if len(value) > LONG_CHARS:
            yield path
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, names, (*path, index))
    elif isinstance(value, dict):
        for name, item in value.items():
            if name in WHOLE_NAMES:
                continue
            if name in names and (_is_text(item) or (name in ANSWER_MAPS and item)):
                yield (*path, name)
            else:
                yield from _texts(item, names, (*path, name))


def _is_text(value: Any) -> bool:
    """Whether a value is text. The label of an anonymous proposal (``#2``) is a vote, so it stays with the structure."""
    if isinstance(value, str):
        return _LABEL.fullmatch(value) is None
    return value is not None and not isinstance(value, dict | bool)


def _pointer(path: Path) -> str:
    """JSON pointer (RFC 6901) of a path."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def merge(rest: Mapping[str, Any], texts: Mapping[str, Any]) -> dict[str, Any]:
    """The data as it was journalled. Raises: ``ValueError`` if a pointer leads nowhere."""
    whole: dict[str, Any] = copy.deepcopy(dict(rest))
    for pointer, text in texts.items():
        holder: Any = whole
        *steps, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
        for step in steps:
            holder = _into(holder, step)
        if isinstance(holder, list):
            holder[_item_index(holder, last)] = text
        elif isinstance(holder, dict):
            holder[last] = text
        else:
            raise ValueError(f"{pointer} leads nowhere")
    return whole


def _into(holder: Any, step: str) -> Any:
    if isinstance(holder, list):
        return holder[_item_index(holder, step)]
    if isinstance(holder, dict) and step in holder:
        return holder[step]
    raise ValueError(f"no {step!r} to put a text into")


def _item_index(holder: list[Any], step: str) -> int:
    if not step.isdecimal() or int(step) >= len(holder):
        raise ValueError(f"no item {step!r} in a list of {len(holder)}")
    return int(step)


def commitment(salt: bytes, texts: Mapping[str, Any]) -> bytes:
    """A hash that binds the texts and hides them: without the salt nobody can try out what they were."""
    return hashlib.sha256(salt + canonical_bytes(texts)).digest()


def event_leaf(event: Mapping[str, Any]) -> bytes:
    """Leaf of an event of a receipt, redacted, erased or not. Raises: ``ValueError`` or ``KeyError`` if it is no event."""
    if ERASED in event:
        return bytes.fromhex(event[ERASED])
    withheld = event.get("redacted")
    committed = withheld if withheld is not None else commitment(bytes.fromhex(event["salt"]), event["text"]).hex()
    covered = {name: event[name] for name in ("n", "at", "kind", "data")}
    return leaf_hash(canonical_bytes({**covered, "text": committed}))
