"""Conditions that somebody else wrote in CEL, the Common Expression Language (https://cel.dev, language definition of 2026).

The library (``common-expression-language``) bounds neither what an expression costs nor what it may call, takes a number for an
integer or a double by how it came, and says in its errors what a value holds. All four are met here:

- the language is a part of CEL: what `_FUNCTIONS` and `_MACROS` name. ``map`` makes lists of any size, ``matches`` reads a
  pattern anew for each item, and neither decides what ``exists`` and ``contains`` do not;
- the length, the nesting and the work of an expression are bounded (`MOST_CHARACTERS`, `MOST_NESTED`, `MOST_WORK`), the work by
  the size of the values that it reads, before anything is evaluated;
- every number of a variable is a double, whatever door it came by. In CEL an integer and a double compare and do not add;
- an error names what is wrong with the expression, never a value.

``size`` of a text counts bytes of UTF-8, where the language says characters: 0.10.0 takes no function of ours in its place.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import MAX_DEPTH

CODE: Final = "invalid_condition"
MOST_CHARACTERS: Final = 1_000
#: Brackets within brackets.
MOST_BRACKETS: Final = 32
#: Macros within macros: each goes over a list again.
MOST_NESTED: Final = 2
#: Operations of one evaluation; a million take some 0.3 seconds.
MOST_WORK: Final = 1_000_000
#: Integers above are not exact as doubles (RFC 8259, section 6).
MOST_INTEGER: Final = 2**53 - 1
KEPT: Final = 1_024
#: Characters of a text that cost as much as one operation.
_CHARACTERS_A_STEP: Final = 200

_OPERATORS: Final = "!_ -_ _&&_ _||_ _?_:_ _==_ _!=_ _<_ _<=_ _>_ _>=_ _+_ _-_ _*_ _/_ _%_ _[_] @in @not_strictly_false"
_FUNCTIONS: Final = frozenset(
    [*_OPERATORS.split(), "size", "contains", "startsWith", "endsWith", "int", "double", "string"]
)
_MACROS: Final = ("all", "exists", "exists_one", "filter")
_TOKEN: Final = re.compile(
    r"""(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<macro>\.\s*(?:exists_one|exists|all|filter)\s*\()"""
    r"""|(?P<map>\.\s*map\s*\()|(?P<word>\w+)|(?P<space>\s+)|(?P<comment>//)|(?P<other>.)""",
)


class ConditionFailed(Exception):
    """An expression could not be evaluated with these values; the text says why, and shows no value."""


class Expression:
    """A condition that was read. ``names``: the variables that it reads."""

    __slots__ = ("_nested", "_operations", "_program", "names", "source")

    def __init__(self, source: str, program: Any, names: frozenset[str], *, nested: int, operations: int) -> None:
        self.source = source
        self.names = names
        self._program = program
        self._nested = nested
        self._operations = operations

    def holds(self, variables: Mapping[str, Any]) -> bool:
        """Whether it is true of JSON values by name; those that it does not read cost nothing.

        Raises: `ConditionFailed`."""
        taken = self._taken(variables)
        self._work(_extent(taken.values()))
        return self._outcome(taken)

    def kept(self, items: Sequence[Any], variables: Mapping[str, Any], most_work: int = 10 * MOST_WORK) -> list[Any]:
        """The items of which it is true, with ``item`` and ``index`` besides the other variables. ``most_work`` is of all items
        together; ten million operations take some three seconds.

        Raises: `ConditionFailed`, which names the first item that it cannot be evaluated for."""
        shared = self._taken({name: value for name, value in variables.items() if name not in ("item", "index")})
        nodes, longest = _extent(shared.values())
        # The library takes all values over for each item.
        work = len(items) * nodes
        found = []
        for index, item in enumerate(items):
            try:
                own = self._taken({"item": item, "index": index})
                own_nodes, own_longest = _extent(own.values())
                work += self._work((nodes + own_nodes, max(longest, own_longest)))
                if work > most_work:
                    raise ConditionFailed("it is too much work for so long a list: refer to less, or compare less.")
                if self._outcome(shared | own):
                    found.append(item)
            except ConditionFailed as error:
                raise ConditionFailed(f"for item {index}, {error}") from None
        return found

    def _taken(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _doubles(variables[name], 0) for name in self.names if name in variables}

    def _outcome(self, variables: Mapping[str, Any]) -> bool:
        try:
            value = self._program.execute(variables)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - what the library calls a panic is no Exception
            raise ConditionFailed(_why(error)) from None
        if not isinstance(value, bool):
            raise ConditionFailed("it is neither true nor false: end it with a comparison.")
        return value

    def _work(self, extent: tuple[int, int]) -> int:
        """Operations that one evaluation may take with values of this extent. Raises: `ConditionFailed` if they are too many."""
        nodes, longest = extent
        # A `+` makes one list of two, and an expression has lists of its own.
        lists = (nodes + len(self.source)) * (1 + self.source.count("+"))
        work: int = self._operations * lists**self._nested * (1 + longest // _CHARACTERS_A_STEP)
        if work > MOST_WORK:
            raise ConditionFailed("it is too much work with values of this size: compare less, or nest less.")
        return work


@lru_cache(KEPT)
def expression(source: str, variables: frozenset[str]) -> Expression:
    """Reads a condition that may name these variables.

    Raises: `InvalidRequest` (``invalid_condition``) if it is none, is too long or names what there is not."""
    # It takes 0.4 s and 30 MB to import, which a process without conditions does not pay.
    import cel

    if len(source) > MOST_CHARACTERS:
        raise _invalid(f"has {len(source)} characters, and {MOST_CHARACTERS} are allowed")
    bound, nested, operations = _read(source)
    try:
        program = cel.compile(source)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - as above
        position = re.search(r"<input>:(\d+):(\d+)", str(error))
        where = f" near character {position[2]} of line {position[1]}" if position else ""
        raise _invalid(f"is not CEL{where}") from None
    names = frozenset(program.variables()) - bound
    if hidden := sorted(bound & variables):
        raise _invalid(f"has a macro with the name {hidden[0]}, which is a variable: use another one")
    if unknown := sorted(names - variables):
        raise _invalid(f"names {unknown[0]}, and there is only {_listed(variables)}")
    if foreign := sorted(set(program.functions()) - _FUNCTIONS):
        raise _invalid(f"uses {foreign[0]}, which is not among what conditions may use")
    return Expression(source, program, names, nested=nested, operations=operations)


def _read(source: str) -> tuple[set[str], int, int]:
    """The names that macros bind, how deep macros are nested, and how many operations there are at most."""
    bound: set[str] = set()
    #: Of each open bracket whether it is a macro's.
    brackets: list[bool] = []
    nested = operations = 0
    for token in _TOKEN.finditer(source):
        kind, text = token.lastgroup, token.group()
        if kind == "comment":
            raise _invalid("has a comment: say it beside the condition")
        if kind == "text" and (
            re.search(r"\w$", source[: token.start()]) or source[token.end() :].startswith(('"', "'"))
        ):
            raise _invalid("has a text with a prefix or three quotes: write it plainly")
        if kind == "macro":
            bound.add(_binds(source[token.end() :]))
        elif kind == "map":
            raise _invalid("uses map, which is not among what conditions may use")
        if kind == "macro" or text in "([{":
            brackets.append(kind == "macro")
        elif text in ")]}" and brackets:
            brackets.pop()
        if len(brackets) > MOST_BRACKETS:
            raise _invalid(f"has more than {MOST_BRACKETS} brackets within each other")
        nested = max(nested, sum(brackets))
        operations += kind != "space"
    if nested > MOST_NESTED:
        raise _invalid(f"has more than {MOST_NESTED} of {', '.join(_MACROS)} within each other")
    return bound, nested, operations


def _binds(rest: str) -> str:
    """The name that a macro binds. With two of them it goes over keys and values, which is not allowed."""
    found = re.match(r"\s*([A-Za-z_]\w*)\s*,", rest)
    if found is None:
        raise _invalid(
            f"has a macro without a name: write it as list.exists(each, each > 1), also {', '.join(_MACROS)}"
        )
    return found[1]


def _doubles(value: Any, depth: int) -> Any:
    """The value with every number as a double. Raises: `ConditionFailed`."""
    if isinstance(value, bool | str | float) or value is None:
        return value
    if isinstance(value, int):
        if abs(value) > MOST_INTEGER:
            raise ConditionFailed("an integer that it reads is beyond 2^53-1: send it as a text.")
        return float(value)
    if depth >= MAX_DEPTH:
        raise ConditionFailed("a value that it reads is nested too deeply.")
    if isinstance(value, Mapping):
        return {key: _doubles(each, depth + 1) for key, each in value.items()}
    return [_doubles(each, depth + 1) for each in value]


def _parts(value: Any) -> Iterator[Any]:
    open_parts = [value]
    while open_parts:
        part = open_parts.pop()
        yield part
        if isinstance(part, Mapping):
            open_parts += part.values()
        elif isinstance(part, list):
            open_parts += part


def _extent(values: Collection[Any]) -> tuple[int, int]:
    """How many parts values have, and how long the longest text among them is."""
    nodes = longest = 0
    for value in values:
        for part in _parts(value):
            nodes += 1
            if isinstance(part, str):
                longest = max(longest, len(part))
    return nodes, longest


def _why(error: BaseException) -> str:
    """The library's errors hold values, which not everybody who sees this may see."""
    if isinstance(error, KeyError):
        return "it reads a field that is not there: ask with has(…) first."
    if isinstance(error, IndexError):
        return "it reads a place of a list that is not there: ask with size(…) first."
    if isinstance(error, ZeroDivisionError):
        return "it divides by zero."
    if isinstance(error, TypeError):
        return (
            "an operation has values that do not go together. Numbers of variables are doubles: write x + 1.0, and int(x) for "
            "the place in a list."
        )
    return "it cannot be evaluated with these values."


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) if names else "no variable"


def _invalid(problem: str) -> InvalidRequest:
    return InvalidRequest(f"The condition {problem}.", CODE)
