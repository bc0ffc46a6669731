"""Calls of SQL functions: which functions the schema has, and which value a call gives to each of their parameters, by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from cluster.postgres.columns import flags, numbers, texts
from cluster.postgres.pool import Pool

_CALLED = re.compile(r"\b([a-z_]+)\s*\(")
_PARAMETER = re.compile(r"\$(\d+)")
_FUNCTIONS = """
select p.proname, p.pronargs, p.proargnames[1:p.pronargs] as names,
       array(select format_type(t, null) from unnest(p.proargtypes) with ordinality as u (t, n) order by n) as types
from pg_proc p where p.pronamespace = current_schema()::regnamespace and p.pronargs > 0
"""
_ATTRIBUTES = """
select attname from pg_attribute where attrelid = 'log_rows'::regclass and attnum > 0 order by attnum
"""


@dataclass(frozen=True, slots=True)
class Signature:
    """``types`` are PostgreSQL's names of the parameters' types."""

    names: Sequence[str]
    types: Sequence[str]


@dataclass(slots=True)
class Functions:
    """The functions of the schema by name, for each number of parameters; a name may have several. ``columns``: of the type
    ``log_rows``."""

    of: dict[str, dict[int, list[Signature]]] = field(default_factory=dict)
    columns: Sequence[str] = ()

    @classmethod
    async def read(cls, pool: Pool) -> Functions:
        found = cls(columns=[row["attname"] for row in await pool.rows(_ATTRIBUTES)])
        for row in await pool.rows(_FUNCTIONS):
            signatures = found.of.setdefault(row["proname"], {}).setdefault(row["pronargs"], [])
            signatures.append(Signature(row["names"], row["types"]))
        return found

    def called(self, sql: str) -> Iterator[tuple[str, list[str]]]:
        """(name, texts of the arguments) of each call of one of the functions."""
        for match in _CALLED.finditer(sql):
            if match[1] in self.of:
                yield match[1], _arguments(sql, match.end())

    def signature(self, name: str, count: int) -> Signature:
        """That of the function that takes so many arguments. Of two with as many, the later builds' takes ``log_rows``."""
        found = self.of[name][count]
        newest = [each for each in found if "log_rows" in each.types]
        (signature,) = newest or found
        return signature


@dataclass(slots=True)
class Given:
    """What one call gives: parameter → value, with its type. Those of a row of columns have the names of the columns."""

    values: dict[str, Any] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)


class CallRecorder:
    """Every statement of a pool while it is installed, and what each call of a function gives."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self.calls: list[tuple[str, Given]] = []

    def install(self, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("rows", "value", "execute"):
            monkeypatch.setattr(pool, name, self._noting(getattr(pool, name)))

    def _noting(self, run: Any) -> Any:
        async def noting(sql: str, *args: Any) -> Any:
            for name, arguments in self._functions.called(sql):
                self.calls.append((name, self._given(name, arguments, args)))
            return await run(sql, *args)

        return noting

    def _given(self, name: str, arguments: Sequence[str], args: Sequence[Any]) -> Given:
        signature = self._functions.signature(name, len(arguments))
        given = Given()
        for parameter, kind, text in zip(signature.names, signature.types, arguments, strict=True):
            if text.startswith("row("):
                for column, part in zip(self._functions.columns, _arguments(text, len("row(")), strict=True):
                    _give(given, f"{parameter}.{column}", part.rpartition("::")[2], part, args)
            else:
                _give(given, parameter, kind, text, args)
        return given


def _give(given: Given, parameter: str, kind: str, text: str, args: Sequence[Any]) -> None:
    numbers_of = _PARAMETER.findall(text)
    if numbers_of:
        (number,) = numbers_of
        given.values[parameter], given.types[parameter] = args[int(number) - 1], kind


def _arguments(sql: str, start: int) -> list[str]:
    """The texts between the commas of a bracket that opens before ``start``."""
    depth, parts, part = 0, [], ""
    for letter in sql[start:]:
        if depth == 0 and letter in ",)":
            parts.append(part.strip())
            part = ""
            if letter == ")":
                return [each for each in parts if each]
            continue
        depth += (letter in "([") - (letter in ")]")
        part += letter
    raise AssertionError(f"a bracket is not closed: {sql[start:]}")


def is_that(value: Any, expected: Any) -> bool:
    """Whether an argument is what was expected, in whichever form a column is sent; a function judges it itself."""
    if callable(expected):
        return bool(expected(value))
    if isinstance(expected, list) and isinstance(value, str):
        kinds = {type(each) for each in expected}
        write = flags if kinds == {bool} else texts if kinds == {str} else numbers
        return bool(value == write(expected))
    return bool(value == expected and isinstance(value, bool) == isinstance(expected, bool))


_NUMBERS = {"smallint", "integer", "bigint", "double precision"}


def swappable(given: Given) -> Iterator[tuple[str, str]]:
    """The pairs of parameters whose values PostgreSQL would take for each other."""

    def form(kind: str) -> tuple[str, bool]:
        base = kind.removesuffix("[]")
        return "number" if base in _NUMBERS else base, kind.endswith("[]")

    names = list(given.values)
    for n, first in enumerate(names):
        for second in names[n + 1 :]:
            if form(given.types[first]) == form(given.types[second]):
                yield first, second


def swapped(values: Mapping[str, Any], first: str, second: str) -> dict[str, Any]:
    """The values as they would be after the two were swapped."""
    return {**values, first: values[second], second: values[first]}
