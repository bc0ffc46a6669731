"""What an agent's server says instead of an answer: the words of its errors, whose fault they are, how long to wait. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from cluster.domain.base.errors import AgentFailed, AgentLimited, AgentRefused, AgentUnavailable, PeerError
from cluster.domain.base.json_values import NotJson, parse_json, shown_text
from cluster.domain.base.names import is_visible

#: How many characters of a server's words are kept.
MAX_WORDS = 240
#: A wait that is longer counts as this.
_MAX_WAIT_S = 366 * 86_400.0
_UNAVAILABLE = (408, 502, 503, 504)
_REFUSED = (401, 403, 404)
#: Where the words of an error are, in the order in which they say most.
_WORDS = (
    "message",
    "msg",
    "detail",
    "details",
    "description",
    "error_description",
    "error_message",
    "error_msg",
    "status_msg",
    "error",
    "errors",
    "reason",
    "title",
    "type",
    "code",
    "status",
)
#: The names under which an object that is no answer tells of an error, though it does not call itself one.
_TELLING = ("errors", "message", "msg", "detail", "error_description", "error_message", "error_msg", "base_resp")
_MAX_DEPTH = 6


def error_in(value: Any) -> str | None:
    """The words of an error that stands in an answer; None if there is none. ``"error": null``, blank texts, and objects
    and lists with nothing else are none: some servers send them with every answer."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, Mapping):
        return None
    error = value.get("error")
    if _holds(error):
        return words_of(error) or words_of({**value, "error": None}) or "it does not say which"
    if any(value.get(name) == "error" for name in ("object", "type", "status")):
        return words_of({name: item for name, item in value.items() if item != "error"}) or "it does not say which"
    return None


def complaint_in(value: Any) -> str | None:
    """The words of an object that is no answer; None if it does not tell of an error in any common way."""
    known = error_in(value)
    if known is not None or not isinstance(value, Mapping):
        return known
    return words_of({name: value.get(name) for name in _TELLING}) or None


def _holds(error: Any) -> bool:
    """Whether anything in an error says something. Without recursion: an error may be nested as deeply as JSON is read."""
    left = [error]
    while left:
        item = left.pop()
        if isinstance(item, Mapping):
            left += item.values()
        elif isinstance(item, str):
            if is_visible(item):
                return True
        elif isinstance(item, list):
            left += item
        elif item:
            return True
    return False


def words_of(value: Any, depth: int = 0) -> str:
    """The words of an error of any shape; empty if it has none."""
    if isinstance(value, str):
        return " ".join(value.split()) if is_visible(value) else ""
    if depth >= _MAX_DEPTH:
        return ""
    if isinstance(value, Mapping):
        nested = (words_of(value.get(name), depth + 1) for name in (*_WORDS, "base_resp"))
        return next((words for words in nested if words), "")
    if isinstance(value, list):
        return "; ".join(words for item in value[:3] if (words := words_of(item, depth + 1)))
    return ""


def body_words(content: bytes) -> str:
    """The words of an error's body: those of its JSON, or the text itself without marks of HTML."""
    try:
        value = parse_json(content, "It")
    except NotJson:
        return words_of(re.sub(r"<[^>]{0,200}>", " ", content[:2000].decode(errors="replace")))
    except Exception:  # noqa: BLE001 - a number that Python does not read: there are no words worth keeping then
        return ""
    return complaint_in(value) or words_of(value)


def told(beginning: str, words: str) -> str:
    """A sentence with a server's words, as far as they are kept and with what cannot be stored replaced."""
    kept = shown_text(words, MAX_WORDS).strip().rstrip(".")
    return f"{beginning}: {kept}." if kept else f"{beginning}."


def reported(where: str, words: str) -> AgentFailed:
    """The error for a server that answers, by an error: the request's fault, so the agent's breaker does not move."""
    return AgentFailed(told(f"{where} reports an error", words))


def refused_by_status(where: str, status: int, headers: Mapping[str, str], content: bytes, now: float) -> PeerError:
    """The error for an answer whose status is not 2xx. ``headers`` have names in lower case; ``now`` is in epoch seconds."""
    words, wait_s = body_words(content), wait_of(headers, now)
    if status == 429:
        return AgentLimited(told(f"{where} answers {status}", words), None, wait_s)
    if status in _UNAVAILABLE:
        return AgentUnavailable(told(f"{where} answers {status}", words), None, wait_s)
    if status < 400 or status in _REFUSED:
        return AgentRefused(told(f"{where} refuses with {status}", words))
    return AgentFailed(told(f"{where} answers {status}", words), None, wait_s)


# --- how long to wait -------------------------------------------------------------------------------------------------

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
#: 1d2h3m4.5s6ms, each part optional.
_DURATION = re.compile(
    "".join(rf"(?:([0-9]{{1,15}}(?:\.[0-9]{{1,9}})?){unit})?" for unit in ("d", "h", "m(?!s)", "s", "ms")),
    re.IGNORECASE,
)
_UNITS_S = (86_400.0, 3600.0, 60.0, 1.0, 0.001)
#: x-ratelimit-reset-requests, anthropic-ratelimit-tokens-reset, ratelimit-reset and their like, if ``reset`` is one of the
#: words. One pattern that also looks for that word would try again at each of its repetitions.
_LIMIT = re.compile(r"(?:[a-z]+-)?rate-?limit-([a-z-]+)")
#: Headers whose names or values are longer say nothing of waits.
_MAX_HEADER = 1000
_EPOCH_FROM, _EPOCH_MS_FROM = 1e9, 1e11


def wait_of(headers: Mapping[str, str], now: float) -> float | None:
    """How many seconds a server wants to be left alone; None if it does not say. ``Retry-After`` in milliseconds or seconds
    says it for this call; without one, the limits that are used up do, by when they are reset."""
    headers = {name: value for name, value in headers.items() if max(len(name), len(value)) <= _MAX_HEADER}
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _SECONDS.fullmatch(milliseconds):
        return _bounded(float(milliseconds) / 1000)
    asked = retry_after(headers.get("retry-after"), now)
    if asked is not None:
        return asked
    known = [
        (_is_left(headers, name), wait_s)
        for name, value in headers.items()
        if _is_reset(name) and (wait_s := _reset(value, now)) is not None
    ]
    used_up = [wait_s for left, wait_s in known if not left]
    return max(used_up or [wait_s for _, wait_s in known], default=None)


def _is_reset(name: str) -> bool:
    """Whether a header of this name tells when a limit is reset."""
    limit = _LIMIT.fullmatch(name) if len(name) <= _MAX_HEADER else None
    return limit is not None and "reset" in limit[1].split("-")


def _is_left(headers: Mapping[str, str], reset: str) -> bool:
    """Whether something is left of the limit whose reset the header tells."""
    remaining = headers.get(reset.replace("reset", "remaining"), "").strip()
    return _SECONDS.fullmatch(remaining) is not None and float(remaining) > 0


def _reset(value: str, now: float) -> float | None:
    text = value.strip()
    if _SECONDS.fullmatch(text) and float(text) >= _EPOCH_FROM:
        at = float(text)
        return _bounded((at / 1000 if at >= _EPOCH_MS_FROM else at) - now)
    try:
        moment = datetime.fromisoformat(text) if "T" in text and not text.startswith("T") else None
        if moment is not None:
            return _until(moment, now)
    except (ValueError, OverflowError):
        pass
    return retry_after(text, now)


def retry_after(value: str | None, now: float) -> float | None:
    """Reads a Retry-After: seconds, a duration with units or an HTTP date, at most a year; None for anything else."""
    text = (value or "").strip()
    if not text or len(text) > _MAX_HEADER:
        return None
    if _SECONDS.fullmatch(text):
        return _bounded(float(text))
    if duration := _DURATION.fullmatch(text):
        return _bounded(sum(float(part or 0) * unit for part, unit in zip(duration.groups(), _UNITS_S, strict=True)))
    try:
        return _until(parsedate_to_datetime(text), now)
    except (ValueError, TypeError, IndexError, OverflowError):  # the standard library's reader raises all of them
        return None


def _until(moment: datetime, now: float) -> float:
    at = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return _bounded((at - datetime.fromtimestamp(now, UTC)).total_seconds())


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), _MAX_WAIT_S)


# --- parameters that a server refuses ---------------------------------------------------------------------------------

#: The statuses with which servers refuse a parameter.
_MAY_REFUSE = (400, 404, 415, 422, 501)
#: A complaint about a value: without the parameter the answer would be unbounded, and the caller is to be told instead.
_OF_VALUE = re.compile(
    r"too (large|high|big|long|small|low|many)|at most|at least|exceed|maximum|minimum|greater than|less than|between"
    r"|context (length|window)|out of range|positive",
    re.IGNORECASE,
)
#: A complaint about a parameter that is not named.
_OF_PARAMETER = re.compile(
    r"unsupported|not support|n't support|unrecogni[sz]ed|unknown (param|arg|field|name|key)|unexpected (param|arg|field|key)"
    r"|extra (input|field|param)|not permitted|additional propert|not implemented|not available",
    re.IGNORECASE,
)
#: Other words for a parameter.
_ALSO: Mapping[str, str] = {
    "response_format": r"json_schema|json schema|structured|strict|schema|guided|grammar|json mode",
    "tools": r"tools?|functions?|function calling",
}


def refused_parameter(status: int, content: bytes, sent: tuple[str, ...]) -> str | None:
    """Which of the parameters that were ``sent``, and that an answer can do without, an error refuses; None if it is about
    something else. An error that names none and complains of parameters is about the first, if that is how the answer is
    structured: servers refuse that in many words."""
    if status not in _MAY_REFUSE or not sent:
        return None
    words, named = body_words(content), _named(content)
    for parameter in sent:
        if any(parameter == name or name.startswith(parameter + ".") for name in named):
            return None if _is_bound(parameter) and _OF_VALUE.search(words) else parameter
    for parameter in sent:
        if re.search(rf"(?<![\w]){parameter}(?![\w])", words):
            return None if _is_bound(parameter) and _OF_VALUE.search(words) else parameter
    for parameter in sent:
        if parameter in _ALSO and re.search(rf"\b({_ALSO[parameter]})\b", words, re.IGNORECASE):
            return parameter
    unnamed = not named and (_OF_PARAMETER.search(words) if words else status != 404)
    return sent[0] if unnamed and sent[0] in _ALSO else None


#: A server that does not know a parameter, or cannot do what it asks for, says so in these words.
_NOT_KNOWN = re.compile(
    r"unsupported|not? (be )?support|n't support|only support|unrecogni[sz]ed|unavailable"
    r"|(unknown|unexpected|no such) (request |keyword |body )?(param|arg|field|name|key|option|property)"
    r"|extra (input|field|param|arg|key)|not (allowed|permitted|implemented|available|recogni[sz]ed|enabled)",
    re.IGNORECASE,
)
#: The caller's own part of what was sent: a schema, or something within it. Its faults are told in the words above too. The
#: name of the feature, ``json_schema`` or JSON schema, is none.
_OF_CALLER = re.compile(
    r"(?<!json[_ ])\b(input_|response_)?schema\b|(invalid|malformed|unrecogni[sz]ed|bad) json[_ ]schema|in context ?="
    r"|json[_ ]schema['`\"]? (is (invalid|malformed|not valid|too)|contains|has|uses|must|conversion|could|cannot|can't)"
    r"|could not understand|\bkeywords?\b(?! arg)|\bfeatures? (that|not|which)|\.parameters\b|too (large|many|deep|long|complex)"
    r"|additionalProperties|patternProperties|prefixItems|\b(one|any|all)Of\b|\$(ref|defs)\b",
    re.IGNORECASE,
)
_SCHEMA_NAME = re.compile(r"(^|[.\]])(schema|input_schema|parameters)([.\[]|$)")


def is_unknown(content: bytes) -> bool:
    """Whether an error that refuses a parameter would meet any other question too: the server does not know the parameter.

    A complaint about a value concerns the question that has it, and so does one that does not say: to learn that again costs
    a call, and to believe it would take structured output from everybody who uses the model."""
    words = body_words(content)
    if _OF_CALLER.search(words) or any(_SCHEMA_NAME.search(name) for name in _named(content)):
        return False
    return _NOT_KNOWN.search(words) is not None


def _is_bound(parameter: str) -> bool:
    return parameter.startswith("max_")


def _named(content: bytes) -> list[str]:
    """The parameters that an error names in a field of its own: ``param``, or the last texts of a ``loc``."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return []
    found: list[str] = []
    stack = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if isinstance(item, Mapping):
            path = item.get("loc")
            texts = [key for key in path if isinstance(key, str)] if isinstance(path, list) else []
            found += [name for name in (item.get("param"), item.get("parameter"), *texts) if isinstance(name, str)]
            inner = [item.get(name) for name in ("error", "errors", "detail", "details")]
        else:
            inner = item[:20] if isinstance(item, list) else []
        if depth < _MAX_DEPTH:
            stack += [(value, depth + 1) for value in inner]
    return [name for name in found if name != "body"]
