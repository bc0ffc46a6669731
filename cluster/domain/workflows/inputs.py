"""What the tasks of a step are given: large values by reference, all else in full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cluster.domain.base.json_writing import canonical_json
from cluster.domain.workflows.document import FailureCode, Step
from cluster.domain.workflows.large_values import MOST_COPIED, LargeValue, Origin, Referring
from cluster.domain.workflows.machine import Run, source_of
from cluster.domain.workflows.values import (
    INPUT,
    ITEM,
    Reference,
    Unresolved,
    found_at,
    located,
    reference_of,
    resolved,
    without,
)

#: Characters of JSON that are copied into the input of an item, and of a step that stands alone.
MOST_ITEM_CHARS: Final = 65_536
MOST_INPUT_CHARS: Final = 1_000_000
#: The same with the values that it refers to.
MOST_WHOLE_ITEM_CHARS: Final = 1_000_000
MOST_WHOLE_CHARS: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Input:
    """``whole``: what the task is given; ``stored``: the same, or what refers to its large values."""

    whole: Any
    stored: Any


class InputMaker:
    """Makes the inputs of one step. ``values``: by source, those that have one."""

    def __init__(self, step: Step, run: Run, run_id: str, values: Mapping[str, Any]) -> None:
        self._step = step
        self._run = run
        self._run_id = run_id
        self._values = values
        self._most, self._most_whole = (
            (MOST_ITEM_CHARS, MOST_WHOLE_ITEM_CHARS) if step.is_map else (MOST_INPUT_CHARS, MOST_WHOLE_CHARS)
        )
        self._references = [] if step.deliberates else list(located(step.input))
        #: What the items of a fan-out are found by, if each is found by its place.
        self._list = self._list_of_items()
        #: Characters of what references find, which are the same for each item.
        self._chars: dict[Reference, int] = {}

    def of(self, index: int, item: Any) -> Input:
        """What the task of an item is given, or the one of the step.

        Raises: `Unresolved` if a reference finds nothing, or it is too large."""
        values = {**self._values, ITEM: item} if self._step.is_map else self._values
        if all(self._large(reference, values) is None for _, reference in self._references if reference.source != ITEM):
            whole = resolved(self._step.input, values)
            chars = len(canonical_json(whole))
            if chars <= MOST_COPIED:
                return Input(whole, whole)
        large: list[LargeValue] = []
        chars = 0
        for at, reference in self._references:
            found = self._large(reference, values)
            origin = self._origin(reference, index)
            if found is not None and origin is not None:
                large.append(LargeValue(at=at, origin=origin[0], path=origin[1]))
                chars += found
        copied = resolved(without(self._step.input, {value.at for value in large}), values)
        own = len(canonical_json(copied))
        if own > self._most:
            raise _too_large(self._most)
        if own + chars > self._most_whole:
            raise _too_large(self._most_whole)
        if not large:
            return Input(copied, copied)
        return Input(resolved(self._step.input, values), Referring(payload=copied, values=large, chars=own + chars))

    def _large(self, reference: Reference, values: Mapping[str, Any]) -> int | None:
        """The characters of what a reference finds, if they are too many to be copied."""
        chars = None if reference.source == ITEM else self._chars.get(reference)
        if chars is None:
            try:
                chars = len(canonical_json(found_at(values[reference.source], reference.path)))
            except LookupError:
                return None
            if reference.source != ITEM:
                self._chars[reference] = chars
        return chars if chars > MOST_COPIED else None

    def _origin(self, reference: Reference, index: int) -> tuple[Origin, str] | None:
        """(where the value is, the path there); None if nobody finds it there later."""
        if reference.source != ITEM:
            origin = self._source(reference.source)
            return None if origin is None else (origin, reference.path)
        if self._list is None:
            return None
        origin, path = self._list
        return origin, f"{path}/{index}{reference.path}"

    def _source(self, source: str) -> Origin | None:
        if source == INPUT:
            return Origin(run=self._run_id)
        holder = source_of(self._run, source) if source in self._run.steps else None
        if holder is None:
            return None
        state = self._run.steps[holder]
        if state.total is None:
            return None
        return Origin(
            run=state.run or self._run_id,
            step=holder,
            total=state.total,
            fan_out=state.fan_out,
            failed=state.failed,
        )

    def _list_of_items(self) -> tuple[Origin, str] | None:
        reference = reference_of(self._step.over)
        if reference is None or self._step.filter is not None:
            return None
        origin = self._source(reference.source)
        try:
            found_at(self._values[reference.source], reference.path)
        except LookupError:
            return None
        return None if origin is None else (origin, reference.path)


def _too_large(most: int) -> Unresolved:
    return Unresolved(f"The input has more than {most:,} characters of JSON.", FailureCode.INPUT_TOO_LARGE)
