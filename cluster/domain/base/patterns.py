"""Regular expressions that somebody else wrote, matched in a time that is bounded by pattern and text.

A pattern of a JSON Schema runs in processes that serve everybody. Python's ``re`` backtracks: ``(a+)+$`` takes for ever on 40
letters, however short pattern and text are bounded, and holds the interpreter meanwhile. So ``re`` never sees such a pattern.
Here a pattern becomes a program whose states all go through the text together: each state looks at each character once.
What needs backtracking (references to a group, looking ahead or behind) is refused, since no such bound exists for it.

The syntax is that of JSON Schema (ECMA-262): ``\\d`` and ``\\w`` are ASCII, ``$`` is the end of the text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

MAX_CHARS = 1000
#: States of a program. A repetition with a count is written out, so ``.{1,1000}`` takes 2,000.
MAX_STATES = 4000
MAX_NESTING = 50
#: A number in braces that is larger would not fit the states either.
MAX_COUNT = 4000

_LINE_ENDS = frozenset("\n\r\u2028\u2029")
_DIGITS = frozenset("0123456789")
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}
_HEX = {"x": 2, "u": 4}

Test = Callable[[str], bool]


class BadPattern(ValueError):
    """The pattern is wrong, or its time cannot be bounded. The text is the end of a sentence."""


def _is_space(char: str) -> bool:
    return char.isspace() or char == "\ufeff"


_CLASSES: dict[str, Test] = {
    "d": lambda char: char in _DIGITS,
    "D": lambda char: char not in _DIGITS,
    "w": lambda char: char in _WORD,
    "W": lambda char: char not in _WORD,
    "s": _is_space,
    "S": lambda char: not _is_space(char),
}


# --- the tree ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Char:
    test: Test


@dataclass(frozen=True, slots=True)
class _At:
    """A place between characters: ``^``, ``$``, ``b`` or ``B``."""

    kind: str


@dataclass(frozen=True, slots=True)
class _Row:
    items: list[_Node]


@dataclass(frozen=True, slots=True)
class _Choice:
    rows: list[_Node]


@dataclass(frozen=True, slots=True)
class _Repeat:
    item: _Node
    least: int
    most: int | None


_Node = _Char | _At | _Row | _Choice | _Repeat


@dataclass(slots=True)
class _Parser:
    text: str
    at: int = 0
    depth: int = 0

    def whole(self) -> _Node:
        node = self._choice()
        if self.at < len(self.text):
            raise BadPattern("has a bracket that was not opened")
        return node

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _next(self) -> str:
        char = self._peek()
        if not char:
            raise BadPattern("ends too early")
        self.at += 1
        return char

    def _took(self, start: str) -> bool:
        if not self.text.startswith(start, self.at):
            return False
        self.at += len(start)
        return True

    def _choice(self) -> _Node:
        rows = [self._row()]
        while self._took("|"):
            rows.append(self._row())
        return rows[0] if len(rows) == 1 else _Choice(rows)

    def _row(self) -> _Node:
        items: list[_Node] = []
        while self._peek() not in ("", "|", ")"):
            item = self._atom()
            items.append(self._repeated(item))
        return _Row(items)

    def _repeated(self, item: _Node) -> _Node:
        bounds = self._bounds()
        if bounds is None:
            return item
        if isinstance(item, _At):
            raise BadPattern("repeats an anchor")
        self._took("?")  # lazy or not: only whether it matches counts
        if self._peek() in ("*", "+") or self._bounds() is not None:
            raise BadPattern("repeats a repetition")
        return _Repeat(item, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._took(sign):
                return bounds
        return self._counted() if self._peek() == "{" else None

    def _counted(self) -> tuple[int, int | None] | None:
        """``{2}``, ``{2,}`` or ``{2,5}``; any other brace is a character."""
        end = self.text.find("}", self.at)
        least, comma, most = self.text[self.at + 1 : max(end, self.at + 1)].partition(",")
        if not _is_number(least) or (most and not _is_number(most)):
            return None
        self.at = end + 1
        low = int(least)
        high = low if not comma else int(most) if most else None
        if low > MAX_COUNT or (high is not None and not low <= high <= MAX_COUNT):
            raise BadPattern(f"repeats more than {MAX_COUNT} times, or with its bounds in the wrong order")
        return low, high

    def _atom(self) -> _Node:
        char = self._next()
        if char == "(":
            return self._group()
        if char == "[":
            return _Char(self._class())
        if char == ".":
            return _Char(lambda inner: inner not in _LINE_ENDS)
        if char in "^$":
            return _At(char)
        if char == "\\":
            return _At(self._next()) if self._peek() in ("b", "B") else _Char(self._escape())
        if char in "*+?":
            raise BadPattern("repeats nothing")
        return _Char(_is(char))

    def _group(self) -> _Node:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise BadPattern(f"is nested deeper than {MAX_NESTING} groups")
        if self._took("?"):
            self._group_kind()
        node = self._choice()
        if not self._took(")"):
            raise BadPattern("has a group that is not closed")
        self.depth -= 1
        return node

    def _group_kind(self) -> None:
        if self._took(":"):
            return
        named = self._took("<") or self._took("P<")
        end = self.text.find(">", self.at)
        if not named or end < 0 or not self.text[self.at : end].isidentifier():
            raise BadPattern("looks ahead or behind, or has flags, which cannot be bounded")
        self.at = end + 1

    def _escape(self) -> Test:
        char = self._peek()
        if char in _CLASSES:
            self.at += 1
            return _CLASSES[char]
        return _is(self._escaped())

    def _escaped(self) -> str:
        """The character that an escape stands for."""
        char = self._next()
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char in _HEX:
            return self._hex(_HEX[char])
        if char.isdigit() or char == "k":
            raise BadPattern("refers to a group, which cannot be bounded")
        if char.isascii() and char.isalpha():
            raise BadPattern(f"has the escape \\{char}, which is not known")
        return char

    def _hex(self, size: int) -> str:
        if size == 4 and self._took("{"):
            size = self.text.find("}", self.at) - self.at
            digits = self.text[self.at : self.at + max(0, size)]
            self.at += len(digits) + 1
        else:
            digits = self.text[self.at : self.at + size]
            self.at += size
        if not 1 <= len(digits) <= 6 or set(digits) - set("0123456789abcdefABCDEF") or int(digits, 16) > 0x10FFFF:
            raise BadPattern("has a code of a character that is none")
        return chr(int(digits, 16))

    def _class(self) -> Test:
        negated = self._took("^")
        tests: list[Test] = []
        while not self._took("]"):
            tests.append(self._class_item())
        if negated:
            return lambda char: not any(test(char) for test in tests)
        return lambda char: any(test(char) for test in tests)

    def _class_item(self) -> Test:
        if self._peek() == "\\" and self.text[self.at + 1 : self.at + 2] in _CLASSES:
            self.at += 1
            return self._escape()
        low = self._class_char()
        if self._peek() != "-" or self.text[self.at + 1 : self.at + 2] in ("]", ""):
            return _is(low)
        self.at += 1
        if self._peek() == "\\" and self.text[self.at + 1 : self.at + 2] in _CLASSES:
            self.at -= 1  # as in [+-\d]: the sign is a character
            return _is(low)
        high = self._class_char()
        if high < low:
            raise BadPattern("has a range in the wrong order")
        return lambda char: low <= char <= high

    def _class_char(self) -> str:
        char = self._next()
        if char != "\\":
            return char
        return "\b" if self._took("b") else self._escaped()


def _is(char: str) -> Test:
    return lambda other: other == char


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9


# --- the program ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Pattern:
    """A pattern that was read. Raises: `BadPattern` if it is wrong, too large, or cannot be bounded."""

    text: str
    #: By state: the test of a character or the place that leads to the next state, or the states to go on with.
    _code: list[Test | _At | list[int]] = field(default_factory=list)
    _visits: int = 0

    def __post_init__(self) -> None:
        if len(self.text) > MAX_CHARS:
            raise BadPattern(f"is longer than {MAX_CHARS} characters")
        self._write(_Parser(self.text).whole())

    @property
    def states(self) -> int:
        return len(self._code)

    def found_in(self, text: str, spend: Callable[[int], None]) -> bool:
        """Whether the pattern matches anywhere in a text. ``spend`` is told how many states look at each character."""
        waiting: set[int] = set()
        for at in range(len(text) + 1):
            reached = self._reached({*waiting, 0}, text, at)
            spend(1 + len(reached))
            if len(self._code) in reached:
                return True
            if at == len(text):
                break
            char = text[at]
            waiting = {state + 1 for state in reached if self._passes(state, char)}
        return False

    def _passes(self, state: int, char: str) -> bool:
        step = self._code[state]
        return not isinstance(step, list | _At) and step(char)

    def _reached(self, states: set[int], text: str, at: int) -> set[int]:
        """The states that can be reached from these without a character."""
        found: set[int] = set()
        left = list(states)
        while left:
            state = left.pop()
            if state in found:
                continue
            found.add(state)
            step = self._code[state] if state < len(self._code) else None
            if isinstance(step, list):
                left.extend(step)
            elif isinstance(step, _At) and _holds(step.kind, text, at):
                left.append(state + 1)
        return found

    def _add(self, step: Test | _At | list[int]) -> int:
        if len(self._code) >= MAX_STATES:
            raise BadPattern(f"has more than {MAX_STATES} states when its repetitions are written out")
        self._code.append(step)
        return len(self._code) - 1

    def _write(self, node: _Node) -> None:
        self._visits += 1
        if self._visits > 2 * MAX_STATES:  # repetitions of nothing write no state
            raise BadPattern(f"has more than {MAX_STATES} states when its repetitions are written out")
        if isinstance(node, _Char):
            self._add(node.test)
        elif isinstance(node, _At):
            self._add(node)
        elif isinstance(node, _Row):
            for item in node.items:
                self._write(item)
        elif isinstance(node, _Choice):
            self._write_choice(node)
        else:
            self._write_repeat(node)

    def _write_choice(self, node: _Choice) -> None:
        fork: list[int] = []
        self._add(fork)
        ends: list[list[int]] = []
        for row in node.rows:
            fork.append(len(self._code))
            self._write(row)
            ends.append([])
            self._add(ends[-1])
        for end in ends:
            end.append(len(self._code))

    def _write_repeat(self, node: _Repeat) -> None:
        for _ in range(node.least):
            self._write(node.item)
        if node.most is None:
            fork: list[int] = []
            start = self._add(fork)
            self._write(node.item)
            self._add([start])
            fork.extend((start + 1, len(self._code)))
            return
        forks = []
        for _ in range(node.most - node.least):
            fork = [len(self._code) + 1]
            self._add(fork)
            forks.append(fork)
            self._write(node.item)
        for fork in forks:
            fork.append(len(self._code))


def _holds(kind: str, text: str, at: int) -> bool:
    if kind == "^":
        return at == 0
    if kind == "$":
        return at == len(text)
    before, after = text[at - 1 : at] if at else "", text[at : at + 1]
    edge = (before in _WORD) != (after in _WORD)
    return edge == (kind == "b")
