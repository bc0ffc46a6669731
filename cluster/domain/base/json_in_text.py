"""Finds the JSON that an agent means in what it says: models wrap it in thoughts, prose and code fences.

The answer is the last complete value that can be read as one. Values within a thought do not count, nor do parts of a
complete value: what a model considers, or quotes, is not what it answers. Thoughts are ``<think>…</think>`` and their like;
one that is not closed goes on to the end, and one that was not opened began with the text, since some servers write the
opening mark into the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import CODE, NotJson, read_json
from cluster.domain.base.names import is_visible

T = TypeVar("T")

#: How many values are tried, from the last one. Each may cost a check against a schema.
MAX_TRIED = 16
#: How many containers may begin outside of another one that ends, whether they end or not. A model may write no more tokens;
#: without this bound, four million brackets would hold the process for a quarter of a minute.
MAX_STARTS = 32_768
#: Containers within containers. Deeper ones could not be stored; with a bound, what is tried again stays short.
_MAX_OPEN = 200

_NAMES = "think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis"
#: Marks of thoughts as reasoning models write them, and where a container may begin.
_MARK = re.compile(
    rf"[<◁](?P<close>/?)(?:\w{{1,20}}:|ant|longcat_)?(?P<tag>{_NAMES})(?:\s[^<>]{{0,100}})?[>▷]"
    r"|\[(?P<close_box>/?)(?P<box>THINK)\]"
    r"|<\|(?P<edge>begin|end|start)(?:_of)?_(?P<turn>thought|thinking)\|>"
    r"|<\|channel\|>(?P<channel>analysis|commentary|final)"
    r"|(?P<begin>\{(?=[ \t\n\r]*+[\"}])|\[(?=[ \t\n\r]*+[\[\]{\"0-9tfnNI-]))",
    re.IGNORECASE,
)
_STRING = r'"(?:[^"\\\x00-\x1f]|\\[^\x00-\x1f])*+"'
# ``json`` takes NaN and Infinity too, so that such a value is refused as a whole and no part of it is taken for the answer.
_SCALAR = r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null|NaN|-?Infinity"
_TOKEN = re.compile(rf"[ \t\n\r]*+(?:([{{}}\[\],:])|({_STRING})|(?:{_SCALAR}))")
_ALONE = re.compile(rf"{_STRING}|{_SCALAR}")
#: Stands for a container in the text around containers. No JSON holds it, and what a model says does not need it.
_HOLE = "\x01"


class Unfit(ValueError):
    """The value is not what was asked for. The message says why."""


def last_value(text: str, read: Callable[[Any], T], what: str, parse_float: Callable[[str], float] | None = None) -> T:
    """What ``read`` makes of the last JSON value in a text of which it makes something; it raises `Unfit` for the others.

    The time is linear in the length of the text, and at most ``MAX_TRIED`` values are read.

    Raises: `Unfit` for the last value if none fits; `NotJson` if there is none; `InvalidRequest` if it cannot be stored."""
    whole = text.strip()
    if whole[:1] in ("{", "["):
        # Most replies are one value as they are. Reading that first spares large ones the walk, and all a second parse.
        try:
            return read(read_json(whole, what, parse_float))
        except NotJson:
            pass
    problem: Unfit | InvalidRequest | None = None
    for found in _candidates(whole):
        try:
            return read(read_json(found, what, parse_float))
        except (Unfit, InvalidRequest) as why:
            problem = problem or why
    raise problem or NotJson(f"{what} is not JSON.")


#: The mark that is also what prompts ask for: "Give your analysis in <analysis>." The others are of thoughts alone.
_ASKED_FOR = "analysis"
_MAY_THINK = re.compile(rf"{_NAMES}|<\|channel\|>", re.IGNORECASE)


def has_answer(text: str) -> bool:
    """Whether a text has something that can be read outside of what its model thought."""
    if not is_visible(text):
        return False
    if not _MAY_THINK.search(text):
        return True
    reply = _Reply(text.replace(_HOLE, "\ufffd"))
    try:
        reply.look()
    except NotJson:  # so many brackets are no thought
        return True
    if reply.containers or is_visible("".join(reply.around)):
        return True
    return all(_family(mark) == _ASKED_FOR for mark in _MARK.finditer(text) if not mark["begin"])


def _candidates(text: str) -> list[str]:
    """The last values in a text, from the last one: containers, and scalars that have a line to themselves."""
    if _ALONE.fullmatch(text):
        return [text]
    reply = _Reply(text.replace(_HOLE, "\ufffd"))
    reply.look()
    return reply.values()[:MAX_TRIED]


@dataclass(slots=True)
class _Reply:
    """Walks once through a text and keeps what is outside of thoughts."""

    text: str
    containers: list[str] = field(default_factory=list)
    #: The text around the containers, with ``_HOLE`` for each.
    around: list[str] = field(default_factory=list)
    #: Starts of containers that are known to end, and where; and those that are known not to.
    ends: dict[int, int] = field(default_factory=dict)
    endless: set[int] = field(default_factory=set)
    #: How many containers were found to end.
    ended: int = 0

    def look(self) -> None:
        """Finds the containers outside of thoughts. Raises: `NotJson` if there are more than ``MAX_STARTS``."""
        at = kept = 0
        while mark := _MARK.search(self.text, at):
            at = mark.end()
            if mark["begin"]:
                end = self._end_of(mark.start())
                self.ended += end is not None
                if self.ended + len(self.endless) > MAX_STARTS:
                    raise NotJson("There are too many brackets to find JSON in.", CODE)
                if end is not None:
                    self.around += (self.text[kept : mark.start()], _HOLE)
                    self.containers.append(self.text[mark.start() : end])
                    at = kept = end
            elif _closes(mark):
                self.containers.clear()
                self.around.clear()
                kept = at
            else:
                self.around.append(self.text[kept : mark.start()])
                kept = at = self._thought_ends(mark)
        self.around.append(self.text[kept:])

    def values(self) -> list[str]:
        """The last values, from the last one."""
        found: list[str] = []
        containers = reversed(self.containers)
        for line in reversed("".join(self.around).split("\n")):
            if len(found) >= MAX_TRIED:
                break
            if _HOLE in line:
                found += [next(containers) for _ in range(line.count(_HOLE))]
            elif _ALONE.fullmatch(bare := line.strip(" \t\r`")):
                found.append(bare)
        return found

    def _thought_ends(self, opening: re.Match[str]) -> int:
        at = opening.end()
        while mark := _MARK.search(self.text, at):
            at = mark.end()
            if _closes(mark) and _family(mark) == _family(opening):
                return at
        return len(self.text)

    def _end_of(self, start: int) -> int | None:
        """Where a container ends, None if it is not complete.

        Whether a container is complete depends on nothing before it. So what is open where one fails is known to fail, and
        what was closed by then is known to end: neither is walked through again.
        """
        if start not in self.ends and start not in self.endless:
            self.endless.update(_walk(self.text, start, self.ends))
        return self.ends.get(start)


def _closes(mark: re.Match[str]) -> bool:
    edge = (mark["edge"] or mark["channel"] or "").lower()
    return bool(mark["close"] or mark["close_box"]) or edge in ("end", "final")


def _family(mark: re.Match[str]) -> str:
    return (mark["tag"] or mark["box"] or mark["turn"] or "channel").lower()


#: What may follow: a value; a value or the end of an array; a name; a name or the end of an object; a colon; a comma or the
#: end of an array, of an object.
_VALUE, _FIRST, _NAME, _FIRST_NAME, _COLON, _IN_ARRAY, _IN_OBJECT = range(7)
_AFTER_COMMA = {_IN_ARRAY: _VALUE, _IN_OBJECT: _NAME}
_MAY_CLOSE = {"]": (_FIRST, _IN_ARRAY), "}": (_FIRST_NAME, _IN_OBJECT)}


def _walk(text: str, start: int, ends: dict[int, int]) -> list[int]:
    """Walks through the container at ``start`` and notes in ``ends`` where it and those within it end. Returns the starts of
    those that are still open where it goes wrong."""
    opened: list[tuple[int, int]] = []
    expected, at = _VALUE, start
    while token := _TOKEN.match(text, at):
        at = token.end()
        sign = token[1]
        if sign in ("{", "["):
            if expected not in (_VALUE, _FIRST) or len(opened) >= _MAX_OPEN:
                break
            inside = _IN_OBJECT if sign == "{" else _IN_ARRAY
            opened.append((at - 1, inside))
            expected = _FIRST_NAME if sign == "{" else _FIRST
        elif sign in ("}", "]"):
            if expected not in _MAY_CLOSE[sign]:
                break
            begun, _ = opened.pop()
            ends[begun] = at
            if not opened:
                return []
            expected = opened[-1][1]
        else:
            following = _follows(expected, sign, bool(token[2]), opened[-1][1])
            if following is None:
                break
            expected = following
    return [begun for begun, _ in opened]


def _follows(expected: int, sign: str | None, is_text: bool, inside: int) -> int | None:
    """What may follow a comma, a colon, a text or another scalar; None if it must not be here."""
    if sign == ",":
        return _AFTER_COMMA.get(expected)
    if sign == ":":
        return _VALUE if expected == _COLON else None
    if expected in (_NAME, _FIRST_NAME):
        return _COLON if is_text else None
    return inside if expected in (_VALUE, _FIRST) else None
