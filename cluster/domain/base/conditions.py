"""The conditions of a search, as callers write them: ``metadata.pr=17``, ``tag=nightly``, ``created>=2026-11-01``.

One form for the API, the clients and the command line, so that only this module knows it. All conditions of a search hold for
what it finds. A condition is a field, an operator and a value, which is everything behind the operator: nothing is quoted, and
spaces count. ``CONDITIONS`` has them all; the docs print it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import check_json, shown_text
from cluster.domain.base.nearest import MAX_SHOWN

#: Most conditions of a search, and most characters of one.
MAX_CONDITIONS = 16
MAX_CONDITION_CHARS = 512
#: The last second of the year 9999.
_MAX_EPOCH_S = 253_402_300_799
_CODE = "invalid_condition"

#: Condition → what it finds. The order is that of the docs.
CONDITIONS: Mapping[str, str] = {
    "metadata.KEY=VALUE": "its metadata have this plain value (a text, a number, true, false, null) under this key",
    "tag=TEXT": "the list `tags` of its metadata has this text",
    "tenant=TEXT": "it is done for this tenant",
    "agent=ID": "this agent has it, or had it last",
    "id~TEXT": "its id contains this text",
    "type~TEXT": "its type contains this text",
    "created>=TIME": "it was submitted then or later",
    "created<TIME": "it was submitted before",
    "ended>=TIME": "it ended then or later",
    "ended<TIME": "it ended before",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A value that something was given when it was made. ``kind``: m of metadata, g a tag, t a tenant, a an agent; the letters
    are stored. ``key`` is that of metadata, else empty."""

    kind: str
    key: str = ""
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What the conditions say, None where they say nothing. Times are epoch seconds; each range has its begin and not its end."""

    terms: tuple[Term, ...] = ()
    agent: str | None = None
    id_contains: str | None = None
    type_contains: str | None = None
    created_from: float | None = None
    created_to: float | None = None
    ended_from: float | None = None
    ended_to: float | None = None

    @property
    def of_words(self) -> bool:
        """Whether it asks for what somebody wrote, so that its answer tells of that."""
        return any(term.kind in _WORDS for term in self.terms)


_WORDS = ("m", "g")


def _moment(text: str, name: str) -> float:
    """Epoch seconds of a number of them, or of an ISO 8601 date or time; UTC if it names no zone."""
    try:
        at = float(text) if text.replace(".", "", 1).isascii() and text.replace(".", "", 1).isdigit() else _iso(text)
    except ValueError:
        at = -1.0
    if not 0 <= at <= _MAX_EPOCH_S:
        raise InvalidRequest(
            f"{name} takes a time such as 2026-11-29, 2026-11-29T20:00:00Z or 1795980000 (epoch seconds), "
            f"not {shown_text(text, MAX_SHOWN)}.",
            _CODE,
        )
    return at


def _iso(text: str) -> float:
    at = datetime.fromisoformat(text)
    try:
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except OverflowError as far:
        raise ValueError("before the first year") from far


def _text(text: str, name: str) -> str:
    return text


#: Field and operator → the name in `Search`, and what reads the value.
_FIELDS: Mapping[str, tuple[str, Callable[[str, str], Any]]] = {
    "agent=": ("agent", check_id),
    "id~": ("id_contains", _text),
    "type~": ("type_contains", _text),
    "created>=": ("created_from", _moment),
    "created<": ("created_to", _moment),
    "ended>=": ("ended_from", _moment),
    "ended<": ("ended_to", _moment),
}
_TERMS: Mapping[str, str] = {"tag=": "g", "tenant=": "t"}
_OF_METADATA = "metadata."


def parse_search(conditions: Sequence[str]) -> Search:
    """Reads the conditions of a search.

    Raises: `InvalidRequest` with one sentence about the first that cannot be meant."""
    if len(conditions) > MAX_CONDITIONS:
        raise InvalidRequest(f"where takes at most {MAX_CONDITIONS} conditions; there are {len(conditions)}.", _CODE)
    search = Search()
    for condition in conditions:
        search = _with(search, condition)
    return search


def _with(search: Search, condition: str) -> Search:
    check_json(condition, "where")
    if len(condition) > MAX_CONDITION_CHARS:
        raise InvalidRequest(f"A condition of where has at most {MAX_CONDITION_CHARS} characters.", _CODE)
    if condition.startswith(_OF_METADATA):
        key, equals, value = condition.removeprefix(_OF_METADATA).partition("=")
        if not key or not equals:
            raise _unknown(condition)
        return replace(search, terms=(*search.terms, Term(kind="m", key=key, value=value)))
    for begin, kind in _TERMS.items():
        if condition.startswith(begin):
            return replace(search, terms=(*search.terms, Term(kind=kind, value=_given(condition, begin))))
    for begin, (name, read) in _FIELDS.items():
        if condition.startswith(begin):
            if getattr(search, name) is not None:
                raise InvalidRequest(f"where has two conditions {begin}; of which one would do; send one.", _CODE)
            return replace(search, **{name: read(_given(condition, begin), begin)})
    raise _unknown(condition)


def _given(condition: str, begin: str) -> str:
    value = condition.removeprefix(begin)
    if not value:
        raise InvalidRequest(f"{begin} needs a value, such as {begin}…; leave the condition out to have all.", _CODE)
    return value


def _unknown(condition: str) -> InvalidRequest:
    return InvalidRequest(
        f"{shown_text(condition, MAX_SHOWN)} is no condition; where takes {', '.join(CONDITIONS)}.", _CODE
    )
